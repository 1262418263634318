"""Tokenizer folders whose files disagree, with what AutoTokenizer makes of them.

    python tokenizer_folders.py FOLDER
"""
import itertools, json, logging, os, random, shutil, sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import transformers
from transformers import AutoTokenizer

logging.disable(logging.WARNING)
transformers.logging.set_verbosity_error()
home = Path(sys.argv[1])
random.seed(7)

WORDS = (
    "the cat sat on a mat and dog's fast over hills; it was 2024 good day 12 345 naïve café hello "
    "world!"
).split()
CORPUS = [" ".join(random.choice(WORDS) for _ in range(9)) for _ in range(300)]
TEXTS = [
    "the cat  sat", " hello 12  345", "it was <|end|>good<|begin|> day", "naïve e\u0301 🙂\n\tq ",
    "", "a <new> b<tool>c  <Tool> <tool>", "▁the<s> cat</s> x<unk>", "don't ' do . it , you ?",
    "ﬁ ①２ A<pad>", "xTHE<mask> y", "<|begin|>", "  ",
]
SPECIAL = ["<|begin|>", "<|end|>", "<|endoftext|>"]
expected = {}


def byte_level(pre, normalizer=None, **model):
    tok = Tokenizer(models.BPE(**model))
    tok.pre_tokenizer = pre
    tok.decoder = decoders.ByteLevel()
    if normalizer:
        tok.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tok.train_from_iterator(CORPUS, trainer)
    return tok


def template(tok, before, after=None):
    names = [t for t in (before, after) if t]
    single = " ".join(([before] if before else []) + ["$A"] + ([after] if after else []))
    tok.post_processor = processors.TemplateProcessing(
        single=single,
        pair=single + " $B:1",
        special_tokens=[(t, tok.token_to_id(t)) for t in names],
    )
    return tok


gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
BYTES = {"gpt2": byte_level(gpt2).to_str(), "digits": byte_level(digits).to_str()}


def spm(kind, name, **options):
    (home / "c.txt").write_text("\n".join(CORPUS))
    usual = dict(
        input=str(home / "c.txt"),
        model_prefix=str(home / name),
        model_type=kind,
        vocab_size=340,
        minloglevel=2,
        hard_vocab_limit=False,
        character_coverage=1.0,
    )
    sentencepiece.SentencePieceTrainer.train(**{**usual, **options})
    return home / f"{name}.model"


def llama_like(legacy):
    """A tokenizer.json as Llama 2 has it."""
    tok = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tok.pre_tokenizer = pre_tokenizers.Metaspace(split=True)
    alphabet = sorted(set("".join(CORPUS)) - {" "})
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tok.train_from_iterator(CORPUS, trainer)
    state = json.loads(tok.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["id"] < 3]
    state["pre_tokenizer"] = None if legacy else {
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False
    }
    if legacy:
        state["normalizer"] = {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        }
    state["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    return Tokenizer.from_str(json.dumps(state))


LLAMA = llama_like(True).to_str()


def add(name, config="llama", settings=None, files=(), file="tokenizer.json", may_refuse=False):
    """Writes a folder, and what AutoTokenizer says on it."""
    folder = home / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(
        config if isinstance(config, dict) else {"model_type": config}
    ))
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for path, content in dict(files).items():
        if isinstance(content, Path):
            shutil.copy(content, folder / path)
        else:
            (folder / path).write_text(content if isinstance(content, str) else json.dumps(content))
    said = {"file": file, "may_refuse": may_refuse}
    try:
        tok = AutoTokenizer.from_pretrained(folder)
        plain = [tok(text, add_special_tokens=False).input_ids for text in TEXTS]
        said |= {
            "ids": plain, "whole": [tok(text).input_ids for text in TEXTS],
            "class": type(tok).__name__, "size": len(tok), "bos": tok.bos_token_id,
            "eos": tok.eos_token_id, "roles": tok.special_tokens_map,
            "decoded": [tok.decode(ids) for ids in plain],
            "skipped": [tok.decode(ids, skip_special_tokens=True) for ids in plain],
        }
    except Exception as e:
        said["error"] = f"{type(e).__name__}: {e}"[:200]
    expected[name] = said


# Flags against post-processors, for each class.
ROLES = {"bos_token": "<|begin|>", "eos_token": "<|end|>"}
CLASSES = [
    None, "PreTrainedTokenizerFast", "LlamaTokenizer", "LlamaTokenizerFast", "Qwen2TokenizerFast",
    "GPT2TokenizerFast", "GPT2Tokenizer", "GPTNeoXTokenizerFast", "CodeLlamaTokenizerFast",
    "TokenizersBackend", "SomeTokenizer",
]
for at, (cls, model, (before, after)) in enumerate(itertools.product(
    CLASSES,
    ["llama", "qwen2", "qwen3", "mistral"],
    [(None, None), ("<|begin|>", None), ("<|begin|>", "<|end|>"), ("<|endoftext|>", None)],
)):
    tok = Tokenizer.from_str(BYTES[["gpt2", "digits"][at % 2]])
    if before:
        template(tok, before, after)
    settings = dict(ROLES)
    if cls:
        settings["tokenizer_class"] = cls
    flags = [{}, {"add_bos_token": True}, {"add_bos_token": False, "add_eos_token": True}]
    settings |= flags[at % 3]
    add(
        f"flags/{at}", model, settings, {"tokenizer.json": tok.to_str()},
        may_refuse=cls == "CodeLlamaTokenizerFast",
    )

# Keys of tokenizer_config.json, one or two at a time.
KEYS = [
    {"add_prefix_space": True},
    {"add_prefix_space": False},
    {"legacy": True},
    {"legacy": False},
    {"legacy": None},
    {"split_special_tokens": True},
    {"clean_up_tokenization_spaces": True},
    {
        "clean_up_tokenization_spaces": True,
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": True,
    },
    {"model_max_length": 4},
    {"padding_side": "left", "truncation_side": "left"},
    {
        "errors": "replace", "use_default_system_prompt": False,
        "sp_model_kwargs": {"enable_sampling": True},
    },
    {"fix_mistral_regex": True},
    {"additional_special_tokens": ["<new>", "<|begin|>"]},
    {"extra_special_tokens": {"image_token": "<new>", "tool": "<tool>"}},
    {"extra_special_tokens": ["<tool>"], "additional_special_tokens": ["<new>"]},
    {"image_token": "<mask>", "pad_token": "<pad>"},
    {"unk_token": "<unk>", "mask_token": None},
    {
        "bos_token": {
            "__type": "AddedToken", "content": "<new>", "lstrip": True, "rstrip": True,
            "normalized": False, "single_word": False,
        }
    },
    {"eos_token": "the"},
    {"bos_token": None},
    {"eos_token": None, "pad_token": None},
    {
        "added_tokens_decoder": {
            "0": {
                "content": "<|begin|>", "lstrip": True, "rstrip": True, "normalized": False,
                "special": True, "single_word": False,
            }
        }
    },
    {
        "added_tokens_decoder": {
            "900": {
                "content": "<tool>", "special": False, "normalized": True, "lstrip": False,
                "rstrip": True, "single_word": False,
            },
            "700": {"content": "<new>", "special": True, "lstrip": True},
        }
    },
    {"added_tokens_decoder": {"5": {"content": "cat", "single_word": True}}, "pad_token": "<pad>"},
    {"do_lower_case": True},
    {"tokenizer_file": "elsewhere.json", "name_or_path": "x/y", "chat_template": "T"},
    {"model_input_names": ["input_ids"], "use_fast": False, "processor_class": "P"},
    {"response_schema": {}, "backend": "tokenizers", "is_local": True, "local_files_only": True},
]
for at, (keys, (cls, state)) in enumerate(itertools.product(
    KEYS,
    [
        ("PreTrainedTokenizerFast", BYTES["digits"]), ("GPT2Tokenizer", BYTES["gpt2"]),
        ("Qwen2Tokenizer", BYTES["gpt2"]), ("LlamaTokenizer", LLAMA),
        ("PreTrainedTokenizerFast", LLAMA),
    ],
)):
    roles = ROLES if state is not LLAMA else {
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"
    }
    add(f"keys/{at}", "llama", {"tokenizer_class": cls, **roles, **keys}, {"tokenizer.json": state})

# Files beside tokenizer.json.
MAPS = [
    {
        "special_tokens_map.json": {
            "bos_token": "<|end|>",
            "eos_token": {
                "content": "<|begin|>", "lstrip": True, "rstrip": False, "normalized": False,
                "single_word": False,
            },
        }
    },
    {
        "special_tokens_map.json": {
            "additional_special_tokens": ["<tool>", "<new>"], "pad_token": "<pad>"
        }
    },
    {"special_tokens_map.json": {"extra_special_tokens": ["<tool>"]}},
    {"added_tokens.json": {"<tool>": 401, "<new>": 400}},
    {"added_tokens.json": {"<tool>": 800}, "special_tokens_map.json": {"pad_token": "<tool>"}},
    {"special_tokens_map.json": {"image_token": "<new>", "bos_token": "<s>"}},
]
for at, (files, cls, decoder) in enumerate(itertools.product(
    MAPS, ["PreTrainedTokenizerFast", "Qwen2Tokenizer", "GPT2Tokenizer"], [False, True]
)):
    settings = {"tokenizer_class": cls, **ROLES}
    if decoder:
        settings["added_tokens_decoder"] = {
            "1": {
                "content": "<|end|>", "special": True, "lstrip": False, "rstrip": False,
                "normalized": False, "single_word": False,
            }
        }
    add(f"beside/{at}", "llama", settings, {"tokenizer.json": BYTES["gpt2"], **files})
bare = json.loads(BYTES["gpt2"])
bare["padding"] = {
    "strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None, "pad_id": 2,
    "pad_type_id": 0, "pad_token": "<pad>",
}
bare["truncation"] = {
    "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0
}
add("beside/padding", "llama", ROLES, {"tokenizer.json": bare})
add(
    "beside/config-class", {"model_type": "llama", "tokenizer_class": "GPT2Tokenizer"}, ROLES,
    {"tokenizer.json": BYTES["digits"]},
)
add("beside/nothing", "llama", None, {"tokenizer.json": BYTES["digits"]})

# Only a SentencePiece model.
MODELS = {
    "bpe": spm(
        "bpe",
        "bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=["<tool>", "<t"],
    ),
    "bpe-nmt": spm("bpe", "bpe-nmt", vocab_size=90, pad_id=3),
    "bpe-plain": spm(
        "bpe",
        "bpe-plain",
        vocab_size=90,
        add_dummy_prefix=False,
        bos_id=-1,
        control_symbols=["<|begin|>"],
    ),
    "unigram": spm("unigram", "unigram", byte_fallback=True),
    "unigram-own": spm(
        "unigram", "unigram-own", user_defined_symbols=["<tool>"], bos_piece="<|begin|>", unk_id=2,
        bos_id=0, eos_id=1, normalization_rule_name="nfkc",
    ),
}
PIECES = [
    None,
    {},
    {"tokenizer_class": "LlamaTokenizer"},
    {
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": True,
        "legacy": True,
    },
    {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True, "add_prefix_space": False},
    {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True},
    {"legacy": False, "pad_token": "<pad>", "extra_special_tokens": ["<new>"]},
    {"tokenizer_class": "CodeLlamaTokenizer"},
    {
        "added_tokens_decoder": {
            "0": {"content": "<pad>", "special": True},
            "400": {"content": "<new>", "special": False, "normalized": True},
            "7": {"content": "<Tool>", "special": False},
        }
    },
    {
        "tokenizer_class": "LlamaTokenizer",
        "added_tokens_decoder": {
            "0": {"content": "<unk>", "special": True},
            "1": {"content": "<s>", "special": True, "normalized": True},
        },
    },
]
for at, ((name, path), settings, model) in enumerate(itertools.product(
    MODELS.items(), PIECES, ["llama", "mistral"]
)):
    cls = (settings or {}).get("tokenizer_class", "")
    add(
        f"pieces/{name}-{at}", model, settings, {"tokenizer.model": path}, "tokenizer.model",
        may_refuse=model == "llama" and "Llama" in cls and "unigram" in name,
    )
add(
    "pieces/added", "llama", {},
    {"tokenizer.model": MODELS["bpe"], "added_tokens.json": {"<new>": 340}}, "tokenizer.model",
)
add(
    "pieces/map", "llama", {},
    {
        "tokenizer.model": MODELS["bpe"],
        "special_tokens_map.json": {
            "bos_token": "<|begin|>", "additional_special_tokens": ["<new>"]
        },
    },
    "tokenizer.model",
)

# Only vocab.json and merges.txt.
for name, settings, model in [
    ("gpt2", {"tokenizer_class": "GPT2Tokenizer", **ROLES}, "llama"),
    ("qwen2", {"tokenizer_class": "Qwen2Tokenizer"}, "qwen2"),
    ("qwen3", None, "qwen3"),
    (
        "gpt2-bos",
        {
            "tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "add_prefix_space": True,
            **ROLES,
        },
        "llama",
    ),
    (
        "qwen2-added",
        {
            "added_tokens_decoder": {
                "2": {"content": "<|endoftext|>", "special": True},
                "410": {"content": "<tool>", "special": True},
            }
        },
        "qwen2",
    ),
]:
    tok = Tokenizer.from_str(BYTES["gpt2"])
    tok.model.save(str(home))
    add(
        f"vocab/{name}", model, settings,
        {
            "vocab.json": (home / "vocab.json").read_text(),
            "merges.txt": (home / "merges.txt").read_text(),
        },
        "vocab.json",
    )

# Models: the mean NLL of texts, each with its end.
import torch
from transformers import LlamaConfig, LlamaForCausalLM

LINES = ["the cat  sat on a mat", " hello it was 2024", "naïve dog's 12 345; it"]
(home / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in LINES))
(home / "held.jsonl").write_text(json.dumps({"text": "the [PAD] cat"}) + "\n")
measured = {}
PAD = {"tokenizer_class": "PreTrainedTokenizerFast", **ROLES, "pad_token": "[PAD]"}
BOS = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}
ROWS = Tokenizer.from_str(BYTES["digits"]).get_vocab_size()
FOLDERS = [
    (
        "larger", ROWS, PAD,
        {"tokenizer.json": template(Tokenizer.from_str(BYTES["digits"]), "<|begin|>").to_str()},
    ),
    ("larger-end", ROWS, {**PAD, "eos_token": "[PAD]"}, {"tokenizer.json": BYTES["digits"]}),
    (
        "larger-begin", 300, {**PAD, "bos_token": "[PAD]", "tokenizer_class": "CodeLlamaTokenizer"},
        {"tokenizer.json": LLAMA},
    ),
    ("pieces", 340, BOS, {"tokenizer.model": MODELS["bpe"]}),
    ("pieces-unigram", 340, None, {"tokenizer.model": MODELS["unigram"]}),
    (
        "flag", 400, {"tokenizer_class": "GPT2Tokenizer", **ROLES, "add_bos_token": True},
        {"tokenizer.json": BYTES["digits"]},
    ),
]
for name, rows, settings, files in FOLDERS:
    folder = home / "models" / name
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=rows, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=128,
        bos_token_id=None, eos_token_id=None, initializer_range=0.4,
    )
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if settings is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for path, content in files.items():
        if isinstance(content, Path):
            shutil.copy(content, folder / path)
        else:
            (folder / path).write_text(content)
    tok = AutoTokenizer.from_pretrained(folder)
    total, count = 0.0, 0
    for text in LINES:
        ids = tok(text).input_ids + [tok.eos_token_id]
        if max(ids) >= rows:
            total = None
            break
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, :-1].double()
        total += torch.nn.functional.cross_entropy(
            logits, torch.tensor(ids[1:]), reduction="sum"
        ).item()
        count += len(ids) - 1
    measured[name] = None if total is None else total / count

(home / "expected.json").write_text(json.dumps({
    "texts": TEXTS, "folders": expected, "models": measured
}))
