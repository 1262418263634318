"""Weights that people have, over one tiny model, and the losses that transformers has of them.

`weights.py HOME` writes the folders and expected.json; null where transformers begins with random
numbers for some weight.
`weights.py HOME FOLDER...` writes losses.json: those of folders that another program wrote.
"""

import json
import os
import shutil
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig

transformers.logging.set_verbosity(100)
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)
HOME, FOLDERS = sys.argv[1], sys.argv[2:]
VOCABULARY = 264


def loss(folder, rows, strict=True):
    model, told = AutoModelForCausalLM.from_pretrained(
        f"{HOME}/{folder}", dtype=torch.float32, output_loading_info=True
    )
    if strict and told["missing_keys"]:
        raise ValueError(told)
    with torch.no_grad():
        parts = [
            torch.nn.functional.cross_entropy(
                model(torch.tensor([r])).logits[0, :-1], torch.tensor(r[1:]), reduction="sum"
            )
            for r in rows
        ]
    return float(sum(parts)) / sum(len(r) - 1 for r in rows)


if FOLDERS:
    rows = json.load(open(f"{HOME}/expected.json"))["rows"]
    json.dump({folder: loss(folder, rows) for folder in FOLDERS}, open(f"{HOME}/losses.json", "w"))
    sys.exit()

torch.manual_seed(0)
ROWS = [torch.randint(2, 256, (n,)).tolist() for n in (40, 30)]
open(f"{HOME}/rows.jsonl", "w").writelines(json.dumps({"ids": r}) + "\n" for r in ROWS)


def tokenizer(folder):
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    t = Tokenizer(models.BPE(vocab={**vocabulary, "th": 256}, merges=[("t", "h")]))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens(["<end>"])
    t.save(f"{folder}/tokenizer.json")
    json.dump({"eos_token": "<end>"}, open(f"{folder}/tokenizer_config.json", "w"))


model = AutoModelForCausalLM.from_config(LlamaConfig(
    vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, bos_token_id=None,
    eos_token_id=257, tie_word_embeddings=False,
))
for p in model.parameters():
    p.data.add_(torch.randn_like(p), alpha=0.1)
model.save_pretrained(f"{HOME}/plain")
tokenizer(f"{HOME}/plain")
PLAIN = load_file(f"{HOME}/plain/model.safetensors")
CONFIG = json.load(open(f"{HOME}/plain/config.json"))
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
LAYER = "model.layers.1.self_attn."


def folder(name, tensors, config=None, shards=None, index=None):
    """A folder; of `shards`, a list of dicts, each is a file, and the index is what `index` says
    over what they hold.
    """
    os.mkdir(f"{HOME}/{name}")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(f"{HOME}/plain/{file}", f"{HOME}/{name}/{file}")
    json.dump({**CONFIG, **(config or {})}, open(f"{HOME}/{name}/config.json", "w"))
    if shards is None:
        save_file(
            {k: v.contiguous().clone() for k, v in tensors.items()},
            f"{HOME}/{name}/model.safetensors",
            metadata={"format": "pt"},
        )
        return name
    places = {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        save_file(
            {k: v.contiguous().clone() for k, v in shard.items()},
            f"{HOME}/{name}/{file}",
            metadata={"format": "pt"},
        )
        places.update({k: file for k in shard})
    json.dump(
        {"metadata": {}, "weight_map": {**places, **(index or {})}},
        open(f"{HOME}/{name}/model.safetensors.index.json", "w"),
    )
    return name


def without(*names):
    return {k: v for k, v in PLAIN.items() if k not in names}


def prefixed(prefix):
    return {prefix + k: v for k, v in PLAIN.items()}


def to(dtype):
    return {k: v.to(dtype) for k, v in PLAIN.items()}


TIED = {"tie_word_embeddings": True}
names = list(PLAIN)
first, second = {k: PLAIN[k] for k in names[::2]}, {k: PLAIN[k] for k in names[1::2]}
copied = names[0]
other = {copied: PLAIN[copied] + 1}
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"

folder("base", {k.removeprefix("model."): v for k, v in PLAIN.items()})
folder("twice", {k.replace("model.", "model.model."): v for k, v in PLAIN.items()})
folder("model-head", {("model." + k if k == HEAD else k): v for k, v in PLAIN.items()})
for prefix in ("base_model.model.", "language_model.", "_orig_mod.", "module."):
    folder("prefix-" + prefix.strip("._").replace(".", "-"), prefixed(prefix))
folder("both-prefixes", {**PLAIN, "norm.weight": PLAIN["model.norm.weight"] + 1})
folder("tied-only-head", without(EMBEDDING), TIED)
folder("tied-f64-own-head", to(torch.float64), TIED)
folder("tied-only-embedding", without(HEAD), TIED)
folder("tied-equal", {**PLAIN, HEAD: PLAIN[EMBEDDING]}, TIED)
folder("tied-own-head", PLAIN, TIED)
folder("tied-own-head-base", {k.removeprefix("model."): v for k, v in PLAIN.items()}, TIED)
folder("tied-rounded-head", {**PLAIN, HEAD: PLAIN[EMBEDDING].to(torch.bfloat16)}, TIED)
folder("tied-same-in-f64", {**PLAIN, HEAD: PLAIN[EMBEDDING].double()}, TIED)
folder("untied-no-head", without(HEAD))
folder("f64", to(torch.float64))
folder(
    "bf16-and-f64",
    {k: v.to(torch.bfloat16 if i % 2 else torch.float64) for i, (k, v) in enumerate(PLAIN.items())},
)
folder("e4m3", to(torch.float8_e4m3fn))
folder("e5m2", to(torch.float8_e5m2))
folder("int8", {k: (v * 100).to(torch.int8) if "proj" in k else v for k, v in PLAIN.items()})
folder(
    "cache-scales",
    {**PLAIN, LAYER + "k_scale": torch.ones(1), LAYER + "v_proj.v_scale": torch.ones(1)},
)
folder("fewer-layers", PLAIN, {"num_hidden_layers": 2})
folder("more-layers", PLAIN, {"num_hidden_layers": 4})
folder(
    "value-head",
    {**PLAIN, "v_head.summary.weight": torch.ones(1, 32), "score.weight": torch.ones(2, 32)},
)
folder("frequencies", {**PLAIN, LAYER + "rotary_emb.inv_freq": torch.ones(4)})
folder("a-bias", {**PLAIN, LAYER + "q_proj.bias": torch.ones(32)})
folder("an-adapter", {**PLAIN, LAYER + "q_proj.lora_A.weight": torch.ones(1, 32)})
folder("a-norm", {**PLAIN, LAYER + "q_norm.weight": torch.ones(8)})
folder("gptq", {**PLAIN, LAYER + "q_proj.qweight": torch.ones(4, 4, dtype=torch.int32)})
folder("bnb", {**PLAIN, LAYER + "q_proj.weight.absmax": torch.ones(4)})
folder("two-equal", None, shards=[first, {**second, copied: PLAIN[copied]}])
folder("two-index-names-last", None, shards=[{**first, **other}, {**second, copied: PLAIN[copied]}])
folder(
    "two-index-names-first",
    None,
    shards=[{**first, **other}, {**second, copied: PLAIN[copied]}],
    index={copied: ONE},
)
folder("index-wrong-shard", None, shards=[first, second], index={names[0]: TWO, names[1]: ONE})
folder(
    "index-of-nothing",
    None,
    shards=[{k: v for k, v in first.items() if k != copied}, second],
    index={copied: ONE},
)
folder(
    "index-of-more",
    None,
    shards=[first, second],
    index={"model.layers.3.mlp.up_proj.weight": ONE, "model.extra": TWO},
)
tied = [{k: v for k, v in shard.items() if k != HEAD} for shard in (first, second)]
folder("index-of-tied-head", None, TIED, shards=tied, index={HEAD: ONE})
folder("shard-beside", None, shards=[first, second])
save_file(other, f"{HOME}/shard-beside/model-00003-of-00003.safetensors", metadata={"format": "pt"})
folder("adapter-beside", PLAIN)
json.dump(
    {"peft_type": "LORA", "base_model_name_or_path": "nowhere"},
    open(f"{HOME}/adapter-beside/adapter_config.json", "w"),
)
folder("pointer", PLAIN)
open(f"{HOME}/pointer/model.safetensors", "w").write(
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
)


def answer(name):
    try:
        return loss(name, ROWS)
    except Exception:
        return None


losses = {
    name: answer(name) for name in sorted(os.listdir(HOME)) if os.path.isdir(f"{HOME}/{name}")
}
json.dump({"rows": ROWS, "losses": losses}, open(f"{HOME}/expected.json", "w"))
