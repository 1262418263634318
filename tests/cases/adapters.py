"""Adapters for tiny models, and the NLL that peft gives on each by `PeftModel.from_pretrained`;
null where it does not load.

`keys`: one adapter, and every field of `LoraConfig` at a value that is not its default, one folder
a value.
`kinds`: adapters that peft makes itself, moved away from their start.
"""

import contextlib
import copy
import dataclasses
import io
import json
import logging
import sys
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import config as lora
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)
torch.set_num_threads(1)
HOME = Path(sys.argv[1])
VOCABULARY = 48


def base(name, **options):
    torch.manual_seed(len(name))
    sizes = dict(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=40, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(LlamaConfig(**{
        **sizes, "tie_word_embeddings": False, **options
    })).float()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    model.save_pretrained(HOME / name)
    words = {f"w{i}": i for i in range(VOCABULARY)}
    Tokenizer(models.WordLevel(words, unk_token="w2")).save(str(HOME / name / "tokenizer.json"))
    return AutoModelForCausalLM.from_pretrained(HOME / name, dtype=torch.float32).eval()


BASES = {
    "plain": base("plain"),
    "biased": base("biased", attention_bias=True, mlp_bias=True),
    "tied": base("tied", tie_word_embeddings=True),
}
IDS = torch.randint(3, VOCABULARY, (1, 40), generator=torch.Generator().manual_seed(0))


def nll(model):
    with torch.no_grad():
        return model(input_ids=IDS, labels=IDS).loss.item()


def measured(name, folder, **options):
    """What peft gives, or None and what it said."""
    torch.manual_seed(5)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            model = PeftModel.from_pretrained(copy.deepcopy(BASES[name]), folder, **options).eval()
            return nll(model), None
    except Exception as e:
        return None, f"{type(e).__name__}: {e}"[:200]


def write(folder, config, tensors):
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")


def moved(model):
    torch.manual_seed(9)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.08)
    return model


expected = {
    "ids": IDS[0].tolist(), "bases": {name: nll(model) for name, model in BASES.items()},
    "keys": [], "kinds": [],
}

# Every key.
torch.manual_seed(3)
plain = get_peft_model(
    copy.deepcopy(BASES["plain"]),
    LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM"
    ),
)
moved(plain).save_pretrained(HOME / "whole")
CONFIG = json.loads((HOME / "whole/adapter_config.json").read_text())
FACTORS = load_file(HOME / "whole/adapter_model.safetensors")

VALUES = {
    "task_type": ["SEQ_CLS", "FEATURE_EXTRACTION"],
    "peft_type": ["LOHA", "IA3"],
    "auto_mapping": [{"base_model_class": "LlamaForCausalLM"}],
    "peft_version": ["0.5.0"],
    "base_model_name_or_path": ["some/other"],
    "revision": ["main"],
    "inference_mode": [False],
    "r": [8, 2],
    "target_modules": [
        ["q_proj"], "all-linear", ".*(q_proj|v_proj|down_proj)", ".*nothing",
        ["q_proj", "v_proj", "down_proj", "up_proj"], None,
    ],
    "exclude_modules": [["down_proj"], ".*layers.0.*", ["lm_head"]],
    "lora_alpha": [32, 0, -4, 7.5],
    "lora_dropout": [0.5],
    "fan_in_fan_out": [True],
    "bias": ["all", "lora_only"],
    "use_rslora": [True],
    "modules_to_save": [["lm_head"], ["norm"], ["score"]],
    "init_lora_weights": [
        False, "gaussian", "eva", "olora", "pissa", "pissa_niter_2", "corda", "loftq", "orthogonal",
        "mica", "lora_ga", "unheard",
    ],
    "layers_to_transform": [[0], 1, [0, 1]],
    "layers_pattern": ["layers", "blocks"],
    "rank_pattern": [{"q_proj": 2}, {"q_proj": 4}],
    "alpha_pattern": [
        {"v_proj": 64}, {"^model.layers.0.self_attn.q_proj": 64}, {r"layers\.[1-9]\..*": 1},
        {"proj": 99},
    ],
    "megatron_config": [{"hidden_size": 32}],
    "megatron_core": ["other.core"],
    "trainable_token_indices": [[3, 4], {"embed_tokens": [1]}],
    "loftq_config": [{"loftq_bits": 4}],
    "eva_config": [dataclasses.asdict(lora.EvaConfig())],
    "corda_config": [dataclasses.asdict(lora.CordaConfig())],
    "lora_ga_config": [dataclasses.asdict(lora.LoraGAConfig())],
    "use_dora": [True],
    "velora_config": [dataclasses.asdict(lora.VeloraConfig(num_groups=4))],
    "alora_invocation_tokens": [[5, 6]],
    "use_qalora": [True],
    "qalora_group_size": [8],
    "monteclora_config": [dataclasses.asdict(lora.MontecloraConfig())],
    "layer_replication": [[[0, 2], [0, 2]]],
    "runtime_config": [{"ephemeral_gpu_offload": True}],
    "lora_bias": [True],
    "target_parameters": [["mlp.up_proj.weight"]],
    "use_bdlora": [dataclasses.asdict(lora.BdLoraConfig(
        target_modules_bd_a=["down_proj"], target_modules_bd_b=["q_proj", "v_proj"], nblocks=2
    ))],
    "arrow_config": [dataclasses.asdict(lora.ArrowConfig())],
    "kasa_config": [dataclasses.asdict(lora.KasaConfig())],
    "ensure_weight_tying": [True],
}
fields = {field.name for field in dataclasses.fields(LoraConfig)}
assert fields == set(VALUES), f"fields without a value: {fields ^ set(VALUES)}"

for key, values in VALUES.items():
    for number, value in enumerate(values):
        folder = HOME / "keys" / f"{key}-{number}"
        write(folder, {**CONFIG, key: value}, FACTORS)
        answer, error = measured("plain", folder)
        expected["keys"].append({
            "key": key, "value": value, "folder": f"keys/{key}-{number}", "nll": answer,
            "error": error,
        })

# Every kind.
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KINDS = {
    "dora": ("plain", dict(use_dora=True, target_modules=ALL)),
    "dora-biased-rslora": (
        "biased", dict(use_dora=True, use_rslora=True, target_modules=["q_proj", "down_proj"])
    ),
    "dora-embedding-head": (
        "plain", dict(use_dora=True, target_modules=["embed_tokens", "lm_head", "v_proj"])
    ),
    "dora-pissa": (
        "plain",
        dict(use_dora=True, init_lora_weights="pissa", target_modules=["o_proj", "up_proj"]),
    ),
    "pissa-all": ("plain", dict(init_lora_weights="pissa", target_modules=ALL, lora_alpha=3)),
    "pissa-patterns": (
        "biased",
        dict(
            init_lora_weights="pissa",
            target_modules=ALL,
            rank_pattern={"up_proj": 7},
            alpha_pattern={r"layers\.1\..*": 20},
        ),
    ),
    "olora-head": (
        "plain",
        dict(init_lora_weights="olora", target_modules=["lm_head", "embed_tokens", "gate_proj"]),
    ),
    "olora-rslora": ("tied", dict(init_lora_weights="olora", target_modules=ALL, use_rslora=True)),
    "orthogonal": ("plain", dict(init_lora_weights="orthogonal", target_modules=ALL)),
    "gaussian": ("plain", dict(init_lora_weights="gaussian", target_modules="all-linear")),
    "mica": ("plain", dict(init_lora_weights="mica", target_modules=["q_proj", "up_proj"])),
    "lora-bias": ("biased", dict(lora_bias=True, target_modules=["q_proj", "o_proj", "down_proj"])),
    "lora-bias-and-bias": (
        "biased", dict(lora_bias=True, bias="all", target_modules=["q_proj", "o_proj", "down_proj"])
    ),
    "lora-bias-without": ("plain", dict(lora_bias=True, target_modules=["q_proj"])),
    "bias-all": ("biased", dict(bias="all", target_modules=["q_proj", "down_proj"])),
    "bias-lora-only": ("biased", dict(bias="lora_only", target_modules=["q_proj", "down_proj"])),
    "saved-norms": ("plain", dict(modules_to_save=["norm"], target_modules=["q_proj"])),
    "saved-part": ("plain", dict(modules_to_save=["mlp"], target_modules=["q_proj"])),
    "saved-both": (
        "plain", dict(modules_to_save=["lm_head", "embed_tokens"], target_modules=["v_proj"])
    ),
    "saved-embedding-tied": (
        "tied", dict(modules_to_save=["embed_tokens"], target_modules=["v_proj"])
    ),
    "saved-head-tied": ("tied", dict(modules_to_save=["lm_head"], target_modules=["v_proj"])),
    "saved-both-tied": (
        "tied", dict(modules_to_save=["lm_head", "embed_tokens"], target_modules=["v_proj"])
    ),
    "saved-tying": (
        "tied",
        dict(modules_to_save=["embed_tokens"], target_modules=["v_proj"], ensure_weight_tying=True),
    ),
    "head-tied": ("tied", dict(target_modules=["lm_head", "v_proj"])),
    "embedding-tied": ("tied", dict(target_modules=["embed_tokens", "v_proj"])),
    "embedding-tying": (
        "tied", dict(target_modules=["embed_tokens", "v_proj"], ensure_weight_tying=True)
    ),
    "tokens": ("plain", dict(trainable_token_indices=[3, 40, 7], target_modules=["q_proj"])),
    "tokens-head": (
        "plain",
        dict(
            trainable_token_indices={"lm_head": [5], "embed_tokens": [6, 5]},
            target_modules=["q_proj"],
        ),
    ),
    "tokens-tied": ("tied", dict(trainable_token_indices=[3, 40, 7], target_modules=["q_proj"])),
    "tokens-both-tied": (
        "tied",
        dict(
            trainable_token_indices={"lm_head": [5, 9], "embed_tokens": [5, 9]},
            target_modules=["q_proj"],
        ),
    ),
    "tokens-apart-tied": (
        "tied",
        dict(
            trainable_token_indices={"lm_head": [5], "embed_tokens": [9]}, target_modules=["q_proj"]
        ),
    ),
    "velora": (
        "plain", dict(velora_config=lora.VeloraConfig(num_groups=4), target_modules=["q_proj"])
    ),
    "kasa": ("plain", dict(kasa_config=lora.KasaConfig(), target_modules=["q_proj"])),
    "layers": (
        "plain",
        dict(
            target_modules=["q_proj", "up_proj"], layers_to_transform=[1], layers_pattern="layers"
        ),
    ),
    "exclude": ("plain", dict(target_modules="all-linear", exclude_modules=r".*\.0\.mlp.*")),
    "lookahead": ("plain", dict(target_modules=r"^(?!.*mlp)model(?=\.).*(q_proj|o_proj)$")),
    "names": (
        "plain", dict(target_modules=["layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj"])
    ),
    "parameters": ("plain", dict(target_parameters=["mlp.up_proj.weight"], target_modules=[])),
    "replicated": ("plain", dict(target_modules=["q_proj"], layer_replication=[[0, 2], [1, 2]])),
    "bdlora": (
        "plain",
        dict(
            target_modules=["q_proj"],
            use_bdlora=lora.BdLoraConfig(target_modules_bd_b=["q_proj"], nblocks=2),
        ),
    ),
}
for name, (which, options) in KINDS.items():
    torch.manual_seed(11)
    folder = HOME / "kinds" / name
    model = get_peft_model(
        copy.deepcopy(BASES[which]),
        LoraConfig(**{"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", **options}),
    )
    moved(model).save_pretrained(folder)
    answer, error = measured(which, folder)
    expected["kinds"].append({
        "name": name, "base": which, "folder": f"kinds/{name}", "nll": answer, "error": error
    })


def kind(name, which, config, tensors, **options):
    folder = HOME / "kinds" / name
    write(folder, config, tensors)
    answer, error = measured(which, folder, **options)
    expected["kinds"].append({
        "name": name, "base": which, "folder": f"kinds/{name}", "nll": answer, "error": error
    })


# What others write of the same factors.
for dtype in [torch.float16, torch.bfloat16]:
    kind(
        f"factors-{str(dtype)[6:]}", "plain", CONFIG,
        {key: tensor.to(dtype) for key, tensor in FACTORS.items()},
    )
kind(
    "default-names", "plain", CONFIG,
    {key.replace(".weight", ".default.weight"): tensor for key, tensor in FACTORS.items()},
)
for name in ("dora", "tokens"):
    config = json.loads((HOME / "kinds" / name / "adapter_config.json").read_text())
    tensors = load_file(HOME / "kinds" / name / "adapter_model.safetensors")
    put = lambda key, factor: key.replace(f"_{factor}.weight", f"_{factor}.default.weight")
    named = {put(put(key, "A"), "B"): tensor for key, tensor in tensors.items()}
    kind(f"default-names-{name}", "plain", config, named)
    old = {
        key + ".default" if key.endswith("magnitude_vector") else key: tensor
        for key, tensor in named.items()
    }
    if name == "dora":
        kind("default-names-magnitude", "plain", config, old)
        kind(
            "default-names-magnitude-weight", "plain", config,
            {key + ".weight" if "magnitude" in key else key: tensor for key, tensor in old.items()},
        )
named = {key.replace(".weight", ".mine.weight"): tensor for key, tensor in FACTORS.items()}
kind("other-names", "plain", CONFIG, named, adapter_name="mine")
kind(
    "several-names", "plain", CONFIG,
    {**named, **{key: tensor.clone() for key, tensor in FACTORS.items()}}, adapter_name="mine",
)
own = {
    f"base_model.model.{key}": tensor.clone()
    for key, tensor in BASES["plain"].state_dict().items()
    if key.startswith(("lm_head", "model.embed"))
}
kind("embeddings-of-the-base", "plain", CONFIG, {**FACTORS, **own})
kind(
    "embeddings-of-their-own", "plain", CONFIG,
    {**FACTORS, **{key: tensor * 1.1 for key, tensor in own.items()}},
)
tied = BASES["tied"].state_dict()["lm_head.weight"] * 1.1
kind(
    "embeddings-tied", "tied", CONFIG,
    {
        **FACTORS, "base_model.model.lm_head.weight": tied.clone(),
        "base_model.model.model.embed_tokens.weight": tied.clone(),
    },
)
kind(
    "norm-unasked", "plain", CONFIG,
    {**FACTORS, "base_model.model.model.norm.weight": torch.full((32,), 1.5)},
)
grown = {key: torch.cat([tensor, tensor[:2]]) for key, tensor in own.items()}
kind("grown-vocabulary", "plain", CONFIG, {**FACTORS, **grown})
some = {key: tensor for key, tensor in FACTORS.items() if "down_proj" not in key}
kind("factors-missing", "plain", CONFIG, some)

(HOME / "expected.json").write_text(json.dumps(expected))
