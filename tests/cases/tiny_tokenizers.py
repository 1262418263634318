"""Small tokenizers of the three ways to treat spaces, and tiny models."""
import json
import pathlib

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)
TEXTS = [
    "Question: What is snow?\nAnswer: white",
    "The king's cat eats fish and seeds and meat.",
    "True or False?\nyes no",
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.",
    "### Instruction:\n\n### Response:\nthe correct answer is answer1 answer2 answer3",
    "hot fire blue sky green grass white snow",
    "Which one does the fox like? Paris France people is hot",
]
SPECIAL = ["<unk>", "<s>", "</s>", "<|eot|>", "<|im|>"]


def trained(first, size):
    """BPE of words that begin with a space."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = first
    alphabet = pre_tokenizers.ByteLevel.alphabet() if isinstance(
        first, pre_tokenizers.ByteLevel
    ) else []
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            show_progress=False, vocab_size=size, special_tokens=SPECIAL, initial_alphabet=alphabet
        ),
    )
    return tokenizer


def sentence_piece(prepend):
    """`legacy`: a space is put before each text; `first`: by Metaspace; each with bytes for letters
    that are no token.
    """
    told = json.loads(trained(pre_tokenizers.Metaspace(), 220).to_str())
    vocabulary = told["model"]["vocab"]
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    # Line ends are bytes, as in Llama's.
    merges = [m for m in told["model"]["merges"] if "\n" not in "".join(m)]
    kept = [t for t in vocabulary if "\n" not in t]
    vocabulary = {t: i for i, t in enumerate(kept)}
    tokenizer = Tokenizer(models.BPE(
        vocabulary, [tuple(m) for m in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True
    ))
    if prepend == "legacy":
        tokenizer.normalizer = normalizers.Sequence([
            normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")
        ])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def bytes_level():
    tokenizer = trained(pre_tokenizers.ByteLevel(add_prefix_space=False), 420)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def all_kinds():
    return {
        "legacy": sentence_piece("legacy"), "first": sentence_piece("first"), "bytes": bytes_level()
    }


def llama(tokenizer, folder, **more):
    """A random model beside its tokenizer."""
    torch.manual_seed(1)
    ids = {
        role: tokenizer.token_to_id(token)
        for role, token in [("bos_token_id", "<s>"), ("eos_token_id", "</s>")]
    }
    sizes = dict(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    sizes.update(
        vocab_size=tokenizer.get_vocab_size(),
        max_position_embeddings=512,
        initializer_range=0.3,
        **ids,
    )
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**sizes, **more})).eval()
    return saved(model, tokenizer, folder)


def chain(tokenizer, folder, tokens):
    """A model that says `tokens` one after the other, whatever token of the prompt was the last."""
    size = tokenizer.get_vocab_size()
    config = transformers.LlamaConfig(
        hidden_size=size + size % 2, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1, vocab_size=size, max_position_embeddings=256,
        bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.zero_()
        following = {i: tokens[0] for i in range(size)} | dict(zip(tokens, tokens[1:] + tokens[:1]))
        for token, then in following.items():
            model.model.embed_tokens.weight[token, token] = 1.0
            model.lm_head.weight[then, token] = 1.0
    return saved(model, tokenizer, folder)


def saved(model, tokenizer, folder):
    folder = pathlib.Path(folder)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
        "unk_token": "<unk>", "clean_up_tokenization_spaces": False,
    }))
    return model
