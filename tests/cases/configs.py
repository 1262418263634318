"""Configs with one key changed each, over the same weights, and what transformers makes of them.

expected.json: rows of token ids; for each config its folder, the key, the loss, or null where
transformers does not load it or begins with random numbers for some weight; greedy continuations;
likelihoods of choices. `configs.py HOME FOLDER...` writes the losses of folders that another
program wrote into losses.json.
"""

import dataclasses
import json
import os
import sys

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config
)

transformers.logging.set_verbosity(100)
transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)
HOME, FOLDERS = sys.argv[1], sys.argv[2:]
VOCABULARY = 300
BASE = dict(
    vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=64,
    bos_token_id=0, eos_token_id=1, tie_word_embeddings=False,
)
GPT2 = dict(
    vocab_size=VOCABULARY, n_embd=32, n_inner=48, n_layer=3, n_head=4, n_positions=128,
    bos_token_id=0, eos_token_id=1, tie_word_embeddings=False,
)
CLASSES = {
    "llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config,
    "gpt2": GPT2Config,
}
torch.manual_seed(0)
ROWS = [torch.randint(2, VOCABULARY, (n,)).tolist() for n in (90, 40)]

# Values of keys whose class or default says too little of what people write there.
VALUES = {
    "vocab_size": [200, -1],
    "hidden_size": [16, "32", 32.0],
    "intermediate_size": [24, None],
    "num_hidden_layers": [2, 4, -3],
    "num_attention_heads": [2, 3],
    "hidden_act": ["gelu", "relu", "gelu_new", "quick_gelu", "swish", "gelu_fast"],
    "rms_norm_eps": [0.1, "1e-5", None],
    "n_embd": [16, "32", 32.0],
    "n_inner": [24, None],
    "n_layer": [2, -3],
    "n_head": [2, 3],
    "n_positions": [64, 0],
    "activation_function": ["gelu", "relu", "quick_gelu", "gelu_pytorch_tanh"],
    "layer_norm_epsilon": [0.1, "1e-5", None],
    "max_position_embeddings": [256, 0],
    "tie_word_embeddings": [True, None],
    "num_key_value_heads": [4, None],
    "head_dim": [16, None],
    "attention_bias": [True],
    "attention_dropout": [0.5],
    "architectures": [
        ["LlamaModel"], ["MistralForCausalLM"], ["LlamaForSequenceClassification"], []
    ],
    "dtype": ["float32"],
    "torch_dtype": ["float32"],
    "id2label": [{"0": "a"}],
    "label2id": [{"a": 0}],
    "problem_type": ["regression"],
    "transformers_version": ["4.0.0"],
    "pretraining_tp": [2],
    "layer_types": [
        ["full_attention"] * 3, ["sliding_attention"] * 3,
        ["full_attention", "sliding_attention", "full_attention"], ["attention"] * 3,
        ["full_attention"], ["chunked_attention"] * 3,
    ],
    "sliding_window": [16, 0, -1, None, 1000],
    "use_sliding_window": [True],
    "max_window_layers": [0, 1, -1],
    "rope_theta": [500.0, "10000", None],
    "partial_rotary_factor": [0.5, 1.0],
    "original_max_position_embeddings": [16],
    "rope_parameters": [
        {"rope_type": "default", "rope_theta": 500.0},
        {"full_attention": {"rope_type": "default", "rope_theta": 500.0}},
    ],
    "rope_scaling": [
        {"type": "linear", "factor": 2.0},
        {"rope_type": "dynamic", "factor": 2.0},
        {"type": "dynamic", "factor": 3.5, "alpha": 7},
        {"rope_type": "yarn", "factor": 2.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        {
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
            "mscale": 0.7, "mscale_all_dim": 1.3,
        },
        {
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
            "attention_factor": 0.8,
        },
        {
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
            "beta_fast": 4, "beta_slow": 2, "truncate": False,
        },
        {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 16},
        {
            "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0, 3.0, 2.0, 9.0],
            "original_max_position_embeddings": 32,
        },
        {
            "rope_type": "longrope", "short_factor": [1.5] * 4, "long_factor": [4.0] * 4,
            "factor": 4.0, "attention_factor": 1.3,
        },
        {"rope_type": "longrope", "short_factor": [1.5] * 3, "long_factor": [4.0] * 3},
        {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        {"rope_type": "proportional", "partial_rotary_factor": 0.5, "factor": 2.0},
        {"rope_type": "default", "mrope_section": [1, 1, 2]},
        {"type": "su", "factor": 2.0},
        {"type": "mrope"},
        {"type": "linear", "factor": 2.0, "rope_theta": 77.0},
        {"rope_type": "linear"},
        {"rope_type": "linear", "factor": "2"},
        {},
        7,
    ],
    "eos_token_id": [[1, 2], None],
    "bos_token_id": [None],
    "pad_token_id": [3],
    "is_causal": [False],
    "attn_logit_softcapping": [5.0],
    "final_logit_softcapping": [5.0],
    "logit_scale": [0.5],
    "embedding_multiplier": [3.0],
    "attention_chunk_size": [16],
    "per_layer_config": [{"0": {"intermediate_size": 24}}],
    "text_config": [{"hidden_size": 16}],
    "auto_map": [{"AutoModelForCausalLM": "modeling_x.Y"}],
    "quantization_config": [{"quant_method": "gptq", "bits": 4}],
    "num_labels": [5],
    "unsloth_fixed": [True],
}
# Together: keys that say something only beside others.
TOGETHER = [
    (
        "rope_scaling",
        {
            "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
            "rope_scaling": {"type": "linear", "factor": 4.0},
        },
    ),
    (
        "rope_scaling",
        {
            "rope_parameters": {"rope_type": "linear", "factor": 2.0},
            "rope_scaling": {"type": "dynamic", "factor": 4.0}, "rope_theta": 300.0,
        },
    ),
    (
        "rope_scaling",
        {
            "rope_scaling": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 48,
            },
            "original_max_position_embeddings": 16,
        },
    ),
    (
        "rope_scaling",
        {
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0},
            "original_max_position_embeddings": 16,
        },
    ),
    (
        "rope_parameters",
        {"rope_parameters": {"rope_theta": 500.0}, "rope_scaling": {}, "rope_theta": 7.0},
    ),
    ("layer_types", {"use_sliding_window": True, "sliding_window": 8}),
    ("layer_types", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    ("layer_types", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 3}),
    (
        "layer_types",
        {
            "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0,
            "layer_types": ["sliding_attention", "full_attention", "attention"],
        },
    ),
    ("layer_types", {"use_sliding_window": True, "max_window_layers": 0, "sliding_window": None}),
    ("layer_types", {"sliding_window": 8, "layer_types": ["full_attention"] * 3}),
    (
        "layer_types",
        {
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention", "full_attention"],
        },
    ),
    ("use_sliding_window", {"sliding_window": 8, "use_sliding_window": False}),
]
MISSING = [
    "num_key_value_heads", "head_dim", "max_position_embeddings", "num_attention_heads",
    "intermediate_size", "bos_token_id",
]


def tokenizer(folder):
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    t = Tokenizer(models.BPE(vocab={**vocabulary, "th": 256}, merges=[("t", "h")]))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens(["<end>"])
    t.save(f"{folder}/tokenizer.json")
    json.dump({"eos_token": "<end>"}, open(f"{folder}/tokenizer_config.json", "w"))


def loss(model):
    with torch.no_grad():
        parts = [
            torch.nn.functional.cross_entropy(
                model(torch.tensor([r])).logits[0, :-1], torch.tensor(r[1:]), reduction="sum"
            )
            for r in ROWS
        ]
    return float(sum(parts)) / sum(len(r) - 1 for r in ROWS)


def loaded(folder):
    model, told = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    if told["missing_keys"] or told["unexpected_keys"]:
        raise ValueError(told)
    return model.eval()


def base(kind):
    folder = f"{HOME}/{kind}"
    torch.manual_seed(1)
    config = CLASSES[kind](**(GPT2 if kind == "gpt2" else BASE))
    model = AutoModelForCausalLM.from_config(config).eval()
    for name, p in model.named_parameters():
        p.data.mul_(8.0 if "norm" not in name else 1.0).add_(torch.randn_like(p), alpha=0.05)
    model.save_pretrained(folder)
    tokenizer(folder)
    return json.load(open(f"{folder}/config.json"))


def made(kind, config, number):
    name = f"{kind}-{number}"
    os.mkdir(f"{HOME}/{name}")
    for file in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        os.link(f"{HOME}/{kind}/{file}", f"{HOME}/{name}/{file}")
    json.dump(config, open(f"{HOME}/{name}/config.json", "w"))
    return name


def answer(folder):
    try:
        return loss(loaded(f"{HOME}/{folder}"))
    except Exception:
        return None


def other(value):
    """A value that is not the class's own."""
    if isinstance(value, bool):
        return [not value, "yes"]
    if isinstance(value, int):
        return [2 * value + 2, -1]
    if isinstance(value, float):
        return [value + 0.25]
    return ["x"]


def greedy(folder, prompt, count):
    model = loaded(f"{HOME}/{folder}")
    model.generation_config.eos_token_id = None
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=count,
        pad_token_id=0,
    )
    return out[0, len(prompt):].tolist()


def choices(folder, prompt, rests):
    model, sums = loaded(f"{HOME}/{folder}"), []
    for rest in rests:
        ids = prompt + rest
        with torch.no_grad():
            logp = model(torch.tensor([ids[:-1]])).logits[0].log_softmax(-1)
        sums.append(float(sum(logp[len(prompt) - 1 + i, t] for i, t in enumerate(rest))))
    return sums


if FOLDERS:
    ROWS = json.load(open(f"{HOME}/expected.json"))["rows"]
    json.dump(
        {folder: loss(loaded(f"{HOME}/{folder}")) for folder in FOLDERS},
        open(f"{HOME}/losses.json", "w"),
    )
    sys.exit()

cases, number = [], 0
for kind, cls in CLASSES.items():
    config = base(kind)
    keys = {f.name: f.default for f in dataclasses.fields(cls) if not f.name.startswith("_")}
    changes = [
        (key, {key: v}) for key in {**keys, **VALUES} for v in VALUES.get(key, other(keys.get(key)))
    ]
    changes += TOGETHER + [(key, {key: ...}) for key in MISSING]
    for key, change in changes:
        changed = {k: v for k, v in {**config, **change}.items() if v is not ...}
        if key in (
            "rope_theta", "rope_scaling", "partial_rotary_factor"
        ) and "rope_parameters" not in change:
            changed.pop("rope_parameters", None)
        # A class writes layer types that it worked out from the other keys.
        if key in (
            "use_sliding_window", "max_window_layers", "sliding_window", "layer_types"
        ) and "layer_types" not in change:
            changed.pop("layer_types", None)
        folder = made(kind, changed, number)
        cases.append({"folder": folder, "key": key, "change": str(change), "loss": answer(folder)})
        number += 1

PROMPT = ROWS[0][:30]
generated = []
for kind, change in [
    ("mistral", {"sliding_window": 8}),
    (
        "qwen3",
        {
            "use_sliding_window": True, "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    (
        "llama",
        {
            "rope_parameters": None,
            "rope_scaling": {
                "rope_type": "longrope", "short_factor": [1.0] * 4,
                "long_factor": [4.0, 3.0, 2.0, 9.0], "original_max_position_embeddings": 40,
            },
        },
    ),
    (
        "llama",
        {
            "rope_parameters": None,
            "rope_scaling": {
                "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16
            },
        },
    ),
    (
        "llama",
        {
            "rope_parameters": None, "rope_scaling": {"rope_type": "dynamic", "factor": 4.0},
            "max_position_embeddings": 40,
        },
    ),
]:
    config = {**json.load(open(f"{HOME}/{kind}/config.json")), **change}
    if "layer_types" not in change:
        config.pop("layer_types", None)
    folder = made(kind, config, number)
    number += 1
    rests = [ROWS[1][:20], ROWS[1][20:24]]
    generated.append({
        "folder": folder, "prompt": PROMPT, "ids": greedy(folder, PROMPT, 24), "choices": rests,
        "sums": choices(folder, PROMPT, rests),
    })

json.dump(
    {"rows": ROWS, "cases": cases, "generated": generated}, open(f"{HOME}/expected.json", "w")
)
