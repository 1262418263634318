"""Tiny models with heads: what transformers and peft compute with them, and with what was written.

    python encoders.py make FOLDER
    python encoders.py check FOLDER

`make` writes FOLDER/NAME/model for every type and head, FOLDER/NAME/adapter (LoRA with the head in
`modules_to_save`, of classifiers) and FOLDER/NAME/expected.json: sequences of different lengths,
what was wanted, logits, the mean loss and its gradients. `check` reads FOLDER/NAME/saved and
FOLDER/NAME/written and writes their logits to FOLDER/NAME/checked.json.
"""
import json
import os
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModel, AutoModelForMaskedLM, AutoModelForMultipleChoice,
    AutoModelForSequenceClassification, AutoTokenizer, BertConfig, DistilBertConfig, GPT2Config,
    LlamaConfig, RobertaConfig,
)

mode, home = sys.argv[1:]

sizes = dict(
    vocab_size=300, hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
    intermediate_size=40, initializer_range=0.3, max_position_embeddings=66,
)
dropouts = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
configs = {
    "bert": lambda **more: BertConfig(**sizes, **dropouts, **more),
    "roberta": lambda **more: RobertaConfig(
        **sizes, **dropouts, type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5, **more),
    "distilbert": lambda **more: DistilBertConfig(
        vocab_size=300, dim=24, n_layers=3, n_heads=4, hidden_dim=40, initializer_range=0.3,
        max_position_embeddings=66, dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0,
        **more),
    "llama": lambda **more: LlamaConfig(
        **sizes, num_key_value_heads=2, pad_token_id=1, bos_token_id=0, eos_token_id=0, **more),
    "gpt2": lambda **more: GPT2Config(
        vocab_size=300, n_positions=66, n_embd=24, n_layer=3, n_head=4, n_inner=40,
        initializer_range=0.3, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, pad_token_id=1,
        bos_token_id=0, eos_token_id=0, **more),
}
labels = {"id2label": {0: "no", 1: "yes", 2: "maybe"}, "label2id": {"no": 0, "yes": 1, "maybe": 2}}
heads = {
    "base": (AutoModel, {}),
    "masked": (AutoModelForMaskedLM, {}),
    "classes": (AutoModelForSequenceClassification, labels),
    "number": (AutoModelForSequenceClassification, {"num_labels": 1}),
    "choice": (AutoModelForMultipleChoice, {}),
}
targets = {
    "bert": ["query", "key", "value", "attention.output.dense", "intermediate.dense",
             "output.dense"],
    "distilbert": ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"],
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}
targets["roberta"] = targets["bert"]
kinds = [
    (kind, head) for kind in configs for head in heads
    if head in ("classes", "number") or kind in ("bert", "roberta", "distilbert")
]


def sequences(head):
    """Sequences of different lengths, or of choices [item][choice], and token types of pairs."""
    torch.manual_seed(3)
    one = lambda n: torch.randint(5, 300, (n,)).tolist()
    if head == "choice":
        return [[one(n) for n in lengths] for lengths in ((5, 9, 7), (12, 3, 4))]
    return [one(n) for n in (7, 13, 4)]


def types_of(ids):
    return [int(i > len(ids) // 2) for i in range(len(ids))]


def padded(lists, value):
    width = max(map(len, lists))
    return torch.tensor([one + [value] * (width - len(one)) for one in lists])


def inputs(kind, head):
    """What the model is called with, and where the logits of each sequence are."""
    ids = sequences(head)
    flat = [one for item in ids for one in item] if head == "choice" else ids
    mask = padded([[1] * len(s) for s in flat], 0)
    given = {"input_ids": padded(flat, 1), "attention_mask": mask}
    if kind == "bert":
        given["token_type_ids"] = padded([types_of(s) for s in flat], 0)
    if head == "choice":
        given = {key: value.view(len(ids), -1, value.shape[1]) for key, value in given.items()}
    return given


masked = [(0, 2, 17), (0, 5, 40), (1, 1, 299), (2, 0, 5)]


def wanted(head):
    if head == "masked":
        labels = torch.full(inputs("roberta", head)["input_ids"].shape, -100)
        for row, at, token in masked:
            labels[row, at] = token
        return labels
    return {
        "classes": torch.tensor([2, 0, 1]),
        "number": torch.tensor([0.5, 3.25, -1.0]),
        "choice": torch.tensor([1, 2]),
    }[head]


def run(model, kind, head):
    """Logits of sequences, as one list of rows."""
    with torch.no_grad():
        out = model(**inputs(kind, head))
    if head == "base":
        rows = out.last_hidden_state
        return [rows[i, j].tolist() for i, s in enumerate(sequences(head)) for j in range(len(s))]
    if head == "masked":
        return [out.logits[row, at].tolist() for row, at, _ in masked]
    return out.logits.reshape(-1, 1).tolist() if head == "choice" else out.logits.tolist()


def gradients(model, kind, head, named):
    model.zero_grad()
    loss = model(**inputs(kind, head), labels=wanted(head)).loss
    loss.backward()
    return loss.item(), {
        name: p.grad.flatten().tolist() for name, p in named if p.grad is not None}


def tokenizer(folder, kind):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocab = {token: i for i, token in enumerate(special + alphabet)}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(special)
    if kind in ("llama", "gpt2"):
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)])
    else:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1",
            special_tokens=[("<s>", 0), ("</s>", 2)])
    made.save(os.path.join(folder, "tokenizer.json"))
    types = ["token_type_ids"] if kind == "bert" else []
    json.dump(
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
         "pad_token": "<pad>", "unk_token": "<unk>",
         "model_input_names": ["input_ids", "attention_mask"] + types},
        open(os.path.join(folder, "tokenizer_config.json"), "w"))


def encoded(folder):
    """Texts and pairs as the tokenizer encodes them, cut at 16 tokens."""
    made = AutoTokenizer.from_pretrained(folder)
    out = []
    for text, pair in [("one", None), ("a sentence", "and its end"),
                       ("x", "much longer than x, so cut"),
                       ("rather long, and cut at the end", None), ("a long first text", "short")]:
        got = made(text, pair, truncation="longest_first", max_length=16)
        types = got.get("token_type_ids", [0] * len(got["input_ids"]))
        out.append({"text": text, "pair": pair, "ids": got["input_ids"], "types": types})
    return out


def make():
    for kind, head in kinds:
        path = lambda name: os.path.join(home, f"{kind}-{head}", name)
        auto, more = heads[head]
        torch.manual_seed(7)
        config = configs[kind](**more)
        model = auto.from_config(config, attn_implementation="eager").float().eval()
        with torch.no_grad():
            for p in model.parameters():
                if p.dim() == 1:  # norms and biases start at 1 and 0, which hides mistakes
                    p.add_(0.3 * torch.randn_like(p))
        model.save_pretrained(path("model"))
        tokenizer(path("model"), kind)
        expected = {"ids": sequences(head), "logits": run(model, kind, head)}
        flat = expected["ids"]
        if head == "choice":
            flat = [s for item in flat for s in item]
        expected["types"] = [types_of(s) if kind == "bert" else [0] * len(s) for s in flat]
        expected["encoded"] = encoded(path("model"))
        if head == "masked":
            expected["masked"] = masked
        if head != "base":
            expected["wanted"] = wanted(head).flatten().tolist()
            expected["loss"], expected["gradients"] = gradients(
                model, kind, head, model.named_parameters())
        if head in ("classes", "number"):
            head_name = "score" if kind in ("llama", "gpt2") else "classifier"
            lora = LoraConfig(
                r=2, lora_alpha=3, target_modules=targets[kind], task_type="SEQ_CLS",
                fan_in_fan_out=kind == "gpt2", modules_to_save=[head_name])
            adapted = get_peft_model(model, lora).eval()
            with torch.no_grad():
                for name, p in adapted.named_parameters():
                    if "lora_B" in name or "modules_to_save" in name:
                        p.copy_(0.2 * torch.randn_like(p))
            adapted.save_pretrained(path("adapter"))
            expected["adapted"] = run(adapted, kind, head)
            trained = [(n.replace(".default", ""), p) for n, p in adapted.named_parameters()]
            expected["adapted_loss"], expected["adapted_gradients"] = gradients(
                adapted, kind, head, [(n, p) for n, p in trained if p.requires_grad])
        json.dump(expected, open(path("expected.json"), "w"))


def check():
    for kind, head in kinds:
        path = lambda name: os.path.join(home, f"{kind}-{head}", name)
        load = lambda name: heads[head][0].from_pretrained(path(name), dtype=torch.float32).eval()
        saved = load("saved")
        checked = {"saved": run(saved, kind, head), "labels": saved.config.id2label}
        if os.path.exists(path("written")):
            written = PeftModel.from_pretrained(load("model"), path("written")).eval()
            checked["written"] = run(written, kind, head)
        json.dump(checked, open(path("checked.json"), "w"))


{"make": make, "check": check}[mode]()
