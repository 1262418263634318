"""The two parts of identity.sh that are no calls of xgbrun.

identity.py models HOME: writes tiny models and adapters, with the tokenizer of HOME/micro.
identity.py compare LABEL OLD NEW ...: compares pairs of folders, writes a line of the table, and
exits with 1 on a difference.
"""

import json
import math
import re
import shutil
import struct
import sys
from collections import Counter
from pathlib import Path

WIDTH, FF, LAYERS, HEADS, GROUPS, HEAD, VOCABULARY = 32, 48, 3, 4, 2, 8, 1536
ATTENTION = {"q_proj": (HEADS * HEAD, WIDTH), "k_proj": (GROUPS * HEAD, WIDTH),
             "v_proj": (GROUPS * HEAD, WIDTH), "o_proj": (WIDTH, HEADS * HEAD)}
MLP = {"gate_proj": (FF, WIDTH), "up_proj": (FF, WIDTH), "down_proj": (WIDTH, FF)}
LINEAR = {**{f"self_attn.{name}": shape for name, shape in ATTENTION.items()},
          **{f"mlp.{name}": shape for name, shape in MLP.items()}}


def numbers(seed):
    """Numbers in [-1, 1), of a linear congruential generator."""
    while True:
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        yield (seed >> 40) / 2**23 - 1


def safetensors(path, shapes, seed):
    """Writes tensors of such numbers; those of norms and magnitudes lie around 1."""
    header, data, source = {}, b"", numbers(seed)
    for name, shape in shapes.items():
        centre = 1 if "norm" in name or "magnitude" in name else 0
        values = [centre + 0.4 * next(source) for _ in range(math.prod(shape))]
        values = struct.pack(f"<{len(values)}f", *values)
        offsets = [len(data), len(data) + len(values)]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        data += values
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def model(home, kind, name, tied, **more):
    """A folder in Hugging Face's format."""
    shapes = {"model.embed_tokens.weight": [VOCABULARY, WIDTH], "model.norm.weight": [WIDTH]}
    for at in (f"model.layers.{layer}" for layer in range(LAYERS)):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{at}.{norm}.weight"] = [WIDTH]
        for module, (rows, columns) in LINEAR.items():
            shapes[f"{at}.{module}.weight"] = [rows, columns]
            if kind == "qwen2" and module[-6:] in ("q_proj", "k_proj", "v_proj"):
                shapes[f"{at}.{module}.bias"] = [rows]
        if kind == "qwen3":
            for norm in ("q_norm", "k_norm"):
                shapes[f"{at}.self_attn.{norm}.weight"] = [HEAD]
    if not tied:
        shapes["lm_head.weight"] = [VOCABULARY, WIDTH]
    config = {
        "architectures": [name], "model_type": kind, "hidden_size": WIDTH, "intermediate_size": FF,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": GROUPS,
        "head_dim": HEAD, "vocab_size": VOCABULARY, "max_position_embeddings": 512,
        "rope_theta": 10000.0, "rms_norm_eps": 1e-6, "hidden_act": "silu", "bos_token_id": None,
        "eos_token_id": 0, "tie_word_embeddings": tied, "torch_dtype": "float32", **more,
    }
    (home / kind).mkdir()
    (home / kind / "config.json").write_text(json.dumps(config))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(home / "micro" / file, home / kind)
    safetensors(home / kind / "model.safetensors", shapes, seed=len(kind))


def adapter(home, name, **more):
    """A PEFT adapter of rank 2 for the tiny Llama."""
    targets, shapes = ["q_proj", "v_proj", "down_proj"], {}
    for layer in range(LAYERS):
        for module, (rows, columns) in LINEAR.items():
            at = f"base_model.model.model.layers.{layer}.{module}"
            if module.split(".")[1] in targets:
                shapes[f"{at}.lora_A.weight"] = [2, columns]
                shapes[f"{at}.lora_B.weight"] = [rows, 2]
                if more.get("use_dora"):
                    shapes[f"{at}.lora_magnitude_vector"] = [rows]
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 3,
              "target_modules": targets, "base_model_name_or_path": "", **more}
    (home / name).mkdir()
    (home / name / "adapter_config.json").write_text(json.dumps(config))
    safetensors(home / name / "adapter_model.safetensors", shapes, seed=7)


def write_models(home):
    model(home, "llama", "LlamaForCausalLM", tied=False)
    model(home, "mistral", "MistralForCausalLM", tied=False, sliding_window=6)
    model(home, "qwen2", "Qwen2ForCausalLM", tied=True)
    model(home, "qwen3", "Qwen3ForCausalLM", tied=False)
    adapter(home, "dora", use_dora=True)
    adapter(home, "pissa", init_lora_weights="pissa")
    adapter(home, "olora", init_lora_weights="olora")


# What clocks and places give; `sum` is a checksum over it.
CLOCK = {"timing", "begun", "sum"}
CLOCK_HTML = re.compile(r'<span class="timing">[^<]*</span>')
# A journal's records of states within a fit, which are as many as the clock says.
CLOCK_RECORD = '"record":{"checkpoint"'
KINDS = [  # in the order in which a difference tells most
    ("exit codes", r"\.(exit|killed)$"), ("metrics", r"/metrics\.jsonl$"),
    ("digests", r"/summary\.json$"), ("boosters", r"/boosters/\d+\.safetensors$"),
    ("ensembles", r"/ensemble\.json$"), ("outputs", r"\.(out|err)$"), ("GGUF", r"\.gguf$"),
    ("weights", r"\.safetensors$"), ("journals", r"/journal\.jsonl$"), ("other files", ""),
]


def short(value):
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def leaves(value, path=""):
    """Paths and values of a JSON text, in its order."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in CLOCK:
                yield from leaves(inner, f"{path}.{key}".strip("."))
    elif isinstance(value, list):
        yield f"{path}.length", len(value)
        for i, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{i}]")
    else:
        yield path, value


class Number(str):
    """A number of a JSON text, as it is written."""


def json_difference(*texts):
    """The first path whose value differs."""
    old, new = ([*leaves(json.loads(text, parse_float=Number))] for text in texts)
    for (path, a), (other, b) in zip(old + [("the end", "")], new + [("the end", "")]):
        if path != other:
            return f"keys {path}, {other}"
        if (type(a), a) != (type(b), b):
            return f"{path}: {short(a)}, {short(b)}"
    return None


def line_difference(name, *texts):
    old, new = ([line for line in t.splitlines() if CLOCK_RECORD not in line] for t in texts)
    for i, (a, b) in enumerate(zip(old, new), 1):
        if a != b:
            is_json = name.endswith(".jsonl")
            told = json_difference(a, b) if is_json else f"{short(a)}, {short(b)}"
            if told:
                return f"line {i}: {told}"
    return None if len(old) == len(new) else f"{len(old)} lines, {len(new)}"


def tensors(data):
    """By name, in the header's order: type, shape, bytes."""
    start = 8 + struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    spans = {name: slice(*(start + o for o in t["data_offsets"])) for name, t in header.items()}
    return {n: (t["dtype"], t["shape"], data[spans[n]]) for n, t in header.items()}


def tensor_difference(*files):
    old, new = map(tensors, files)
    if [*old] != [*new]:
        return "names of tensors, or their order"
    for name, (dtype, shape, a) in old.items():
        other, other_shape, b = new[name]
        if (dtype, shape) != (other, other_shape):
            return f"{name}: {dtype} {shape}, {other} {other_shape}"
        if a != b:
            count = math.prod(shape)
            size = len(a) // count
            pairs = [(a[i:i + size], b[i:i + size]) for i in range(0, len(a), size)]
            wrong = [i for i, (x, y) in enumerate(pairs) if x != y]
            shown = [struct.unpack("<f", x)[0] if dtype == "F32" else x[::-1].hex()
                     for x in pairs[wrong[0]]]
            return f"{name}[{wrong[0]}]: {shown[0]}, {shown[1]}; {len(wrong)} of {count} differ"
    return "the header"


def file_difference(old, new):
    """What differs between two files, or None."""
    if not (old.exists() and new.exists()):
        return f"only {'OLD' if old.exists() else 'NEW'} has it"
    name, files = old.name, [old.read_bytes(), new.read_bytes()]
    if files[0] == files[1]:
        return None
    if name.endswith(".safetensors"):
        return tensor_difference(*files)
    try:
        texts = [file.decode() for file in files]
    except UnicodeDecodeError:
        same = [a == b for a, b in zip(*files)] + [False]
        return f"byte {same.index(False)} of {len(files[0])}, {len(files[1])}"
    if name.endswith(".json") or name.endswith(".out") and all(t[:1] == "{" for t in texts):
        return json_difference(*texts)
    if name.endswith(".html"):
        texts = [CLOCK_HTML.sub("", text) for text in texts]
    told = line_difference(name, *texts)
    error = new.with_suffix(".err")
    if told and new.suffix == ".exit" and error.exists():
        said = [line for line in error.read_text().splitlines() if line.startswith("error")]
        return " ".join([told, *said[:1]])
    return told


def compare(label, folders):
    """Writes a line of the table; whether all pairs of folders are equal."""
    counts, found = Counter(), []
    for old, new in zip(folders[::2], folders[1::2]):
        names = {file.relative_to(folder).as_posix() for folder in (old, new)
                 for file in folder.rglob("*") if file.is_file()}
        for name in sorted(names):
            kind = next(i for i, (_, ends) in enumerate(KINDS) if re.search(ends, f"/{name}"))
            lines = KINDS[kind][0] == "metrics" and (old / name).exists()
            counts[kind] += (old / name).read_text().count("\n") if lines else 1
            told = file_difference(old / name, new / name)
            if told:
                found.append((kind, f"{new.parent.name}/{new.name}/{name}: {told}"))
    seen = ", ".join(f"{count} {KINDS[kind][0]}" for kind, count in sorted(counts.items()))
    told = f"DIFFERENT (files: {len(found)}): {min(found)[1]}" if found else "equal"
    print(f"{label} | {seen} | {told}")
    return not found


if __name__ == "__main__":
    if sys.argv[1] == "models":
        write_models(Path(sys.argv[2]))
    else:
        sys.exit(0 if compare(sys.argv[2], [Path(folder) for folder in sys.argv[3:]]) else 1)
