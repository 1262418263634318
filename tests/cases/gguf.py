"""Tiny GGUF files of every kind, written by gguf-py, with what transformers makes of the same
weights and tokens.
"""

import json
import sys
from pathlib import Path

sys.path.pop(0)  # This file bears the package's name.
import gguf
import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

HOME = Path(sys.argv[1])
torch.manual_seed(7)
rng = np.random.default_rng(7)
expected = {}

# The rules as the published tokenizer.json files have them.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORD = r"[^\r\n\p{L}\p{N}]?"
SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
TEKKEN = rf"{WORD}{UPPER}*{LOWER}+|{WORD}{UPPER}+{LOWER}*|\p{{N}}|{SIGNS}"
GPT4O = rf"{WORD}{UPPER}*{LOWER}+{SHORT}|{WORD}{UPPER}+{LOWER}*{SHORT}|\p{{N}}{{1,3}}|{SIGNS}"
DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def digits():
    return pre_tokenizers.Digits(individual_digits=True)


def bytes_(regex=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)


CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
RULES = {
    "llama-bpe": [split(LLAMA3), bytes_()],
    "smaug-bpe": [split(LLAMA3), bytes_()],
    "qwen2": [split(QWEN2), bytes_()],
    "stablelm2": [split(QWEN2), bytes_()],
    "gpt-2": [bytes_(True)],
    "smollm": [digits(), bytes_(True)],
    "command-r": [digits(), bytes_(True)],
    "tekken": [split(TEKKEN), bytes_()],
    "gpt-4o": [split(GPT4O), bytes_()],
    "deepseek-coder": [
        split(r"[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(CJK), digits(), bytes_()
    ],
    "deepseek-v3": [
        split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"), split(DEEPSEEK3),
        bytes_(),
    ],
    "falcon": [pre_tokenizers.Punctuation("contiguous"), bytes_(True), split("[0-9][0-9][0-9]")],
    "bloom": [split(r" ?[^(\s|[.,!?…。，、।۔،])]+"), bytes_()],
}
WHOLE = {"llama-bpe", "tekken"}

CORPUS = """The owl's nest isn't far. It's 1234567 metres; we'll see 2024, 1999 and 123 owls \
(foo) [bar] x = getElementById(i);
    if (a == 10) { return "b";  }\n\n\tdon't  STOP: HTMLParser, I'M here; you'RE there. \
20 % of 3.14159; http://a.b/c?d=e\r\n
naïve café 東京 こんにちは 你好，世界。 Привет, мир! 12 345 6789 ... --- !!! 'quoted' \
"double" (see [1]).\n\n\n  y   z\n""" * 3
TEXTS = [
    "IT'S 1234567 (foo)\n\n\ny  'quoted' I'll see 20242025.",
    "HTMLParser getElement (bar)[1]; http://a.b/c don't  STOP\r\n\t12 345 %",
    "naïve 東京，こんにちは 世界。 Привет!!! ...\n  y   z 3.14159",
]


def trained(rule, special=("<|end|>",), size=520):
    tokenizer = Tokenizer(models.BPE(ignore_merges=rule in WHOLE))
    steps = RULES[rule]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if rule == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([CORPUS], trainer)
    return tokenizer


class Model:
    """A Llama with random weights, and its tensors under GGUF's names."""

    def __init__(self, width=64, ff=96, rows=520, kv=2, **more):
        self.config = LlamaConfig(
            vocab_size=rows, hidden_size=width, intermediate_size=ff, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=kv, max_position_embeddings=256,
            rms_norm_eps=1e-6, tie_word_embeddings=False, attn_implementation="eager", **more,
        )
        self.net = LlamaForCausalLM(self.config).eval()
        with torch.no_grad():
            for p in self.net.parameters():
                p.copy_(
                    torch.randn_like(p) * (0.3 if p.dim() > 1 else 0.1)
                    + (1.0 if p.dim() == 1 else 0.0)
                )

    def names(self):
        inside = {
            "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
            "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
            "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
            "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
            "model.layers": "blk",
        }
        plain = {
            "model.embed_tokens.weight": "token_embd.weight",
            "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight",
        }
        for name, tensor in self.net.state_dict().items():
            own = plain.get(name, name)
            for published, gguf_name in inside.items():
                own = own.replace(published, gguf_name)
            yield name, own, tensor

    def heads(self, name):
        return {"attn_q": 4, "attn_k": self.config.num_key_value_heads}.get(name.split(".")[-2])

    def permuted(self, own, array, back=False):
        heads = self.heads(own)
        if heads is None:
            return array
        half = array.shape[0] // heads // 2
        middle = (half, 2) if back else (2, half)
        return array.reshape(heads, *middle, -1).swapaxes(1, 2).reshape(array.shape)

    def nll(self, ids):
        with torch.no_grad():
            ids = torch.tensor([ids])
            return self.net(ids, labels=ids).loss.item()


def meta(writer, model, changes):
    c = model.config
    told = {
        "context_length": 256, "embedding_length": c.hidden_size, "block_count": 2,
        "feed_forward_length": c.intermediate_size, "attention.head_count": 4,
        "attention.head_count_kv": c.num_key_value_heads, "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.dimension_count": c.head_dim, "attention.key_length": c.head_dim,
        "attention.value_length": c.head_dim, "rope.freq_base": 10000.0,
    }
    own = {f"llama.{key}": value for key, value in told.items()} | changes
    for key, value in own.items():
        if value is None:
            continue
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)


def write(name, model, tokenizer, pre, changes=None, quant=None, **more):
    """Writes a file; `quant` gives bytes and type of a tensor's numbers, or None."""
    path = HOME / name
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama", **more)
    meta(writer, model, changes or {})
    told = json.loads(tokenizer.to_str())
    ids = tokenizer.get_vocab()
    tokens = sorted(ids, key=ids.get)
    special = {token["content"] for token in told["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([
        m if isinstance(m, str) else " ".join(m) for m in told["model"]["merges"]
    ])
    writer.add_add_bos_token(False)
    for published, own, tensor in model.names():
        array = model.permuted(own, tensor.numpy().astype(np.float32))
        made = quant(own, array) if quant else None
        if made is None:
            writer.add_tensor(own, np.ascontiguousarray(array))
            continue
        data, kind = made
        writer.add_tensor(own, data, raw_dtype=kind)
        back = gguf.quants.dequantize(data, kind).reshape(array.shape)
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(model.permuted(
                own, back, back=True
            ))))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def blocks(kind):
    """Random blocks of a type that gguf-py decodes but does not encode."""
    numbers, size = gguf.GGML_QUANT_SIZES[kind]

    def quant(own, array):
        if array.ndim < 2 or own.startswith(("token_embd", "output")) or array.shape[1] % numbers:
            return None
        data = rng.integers(
            0, 256, (array.shape[0], array.shape[1] // numbers, size), dtype=np.uint8
        )
        if kind == gguf.GGMLQuantizationType.MXFP4:
            data[:, :, 0] = rng.integers(0, 2, data.shape[:2]) + 122
        else:
            scale = rng.uniform(0.0005, 0.002, data.shape[:2]).astype(np.float16)
            if kind != gguf.GGMLQuantizationType.IQ4_NL:
                scale = (scale / 16).astype(np.float16)
            data[:, :, :2] = scale.view(np.uint8).reshape(*data.shape[:2], 2)
        return np.ascontiguousarray(data.reshape(array.shape[0], -1)), kind

    return quant


def texts(name, model, tokenizer):
    out = []
    for i, text in enumerate(TEXTS):
        (HOME / f"text{i}.jsonl").write_text(json.dumps({"text": text}) + "\n")
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        out.append({"nll": model.nll(ids), "ids": len(ids)})
    expected[name] = out


model = Model()
tokenizers = {rule: trained(rule) for rule in RULES}
for rule, tokenizer in tokenizers.items():
    write(f"{rule}.gguf", model, tokenizer, rule)
    texts(f"{rule}.gguf", model, tokenizer)
    write(f"no-{rule}.gguf", model, tokenizer, None)

llama3 = trained("llama-bpe", ("<|begin_of_text|>", "<|end_of_text|>"))
write("begin.gguf", model, llama3, None)
write("begin-unknown.gguf", model, llama3, "llama-bpe-2031")
write("unknown-pre.gguf", model, tokenizers["smollm"], "smolm")
write("begin-default.gguf", model, llama3, "default")
texts("begin.gguf", model, llama3)

rows = [{"ids": rng.integers(0, 400, n).tolist()} for n in (60, 40, 50)]
(HOME / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_nll(model):
    total = sum(model.nll(row["ids"]) * (len(row["ids"]) - 1) for row in rows)
    return total / sum(len(row["ids"]) - 1 for row in rows)


plain = tokenizers["smollm"]
expected["plain"] = rows_nll(model)
for kind in ("IQ4_NL", "IQ4_XS", "MXFP4"):
    wide = Model(256, 512)
    write(f"{kind}.gguf", wide, plain, "smollm", quant=blocks(gguf.GGMLQuantizationType[kind]))
    expected[kind] = rows_nll(wide)
narrow = Model(96, 160)
write(
    "mixed.gguf", narrow, plain, "smollm",
    quant=lambda own, array: blocks(gguf.GGMLQuantizationType[
        "MXFP4" if "ffn" in own else "IQ4_NL"
    ])(own, array),
)
expected["mixed"] = rows_nll(narrow)
write("IQ2_S.gguf", Model(256, 512), plain, "smollm", quant=blocks(gguf.GGMLQuantizationType.IQ2_S))

write("three/m.gguf", model, plain, "smollm", split_max_tensors=8)
write("bare/m.gguf", model, plain, "smollm", split_max_tensors=11, small_first_shard=True)
write("one/only.gguf", model, plain, "smollm")
write("two/a.gguf", model, plain, "smollm")
write("two/b.gguf", model, plain, "smollm")

same = {
    "llama.attention.head_count": [4, 4], "llama.attention.head_count_kv": [2, 2],
    "llama.feed_forward_length": [96, 96],
}
write("meta/arrays.gguf", model, plain, "smollm", same)
scaled = Model(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0})
write("meta/scale_linear.gguf", scaled, plain, "smollm", {"llama.rope.scale_linear": 2.0})
expected["scale_linear"] = rows_nll(scaled)
passed = {
    "neutral": {
        "llama.attention.clamp_kqv": 0.0, "llama.logit_scale": 1.0, "llama.attention.scale": 0.25,
        "llama.expert_count": 0, "llama.expert_used_count": 0, "llama.attention.causal": True,
        "llama.pooling_type": 0, "llama.rope.scale_linear": 1.0,
        "llama.tensor_data_layout": "Meta AI original pth", "llama.vocab_size": 520,
        "general.type": "model", "other.key": 3,
    },
    "window": {"llama.attention.sliding_window": 16},
    "unknown": {"llama.attention.colour": "red"},
    "tokenizer-unknown": {"tokenizer.ggml.add_bos": True},
}
refused = {
    "heads": {"llama.attention.head_count_kv": [2, 1]},
    "ff": {"llama.feed_forward_length": [96, 64]},
    "experts": {"llama.expert_count": 8, "llama.expert_used_count": 2},
    "clamp": {"llama.attention.clamp_kqv": 8.0},
    "logits": {"llama.logit_scale": 0.0625},
    "scale": {"llama.attention.scale": 0.5},
    "embedding": {"llama.embedding_scale": 12.0},
    "residual": {"llama.residual_scale": 0.22},
    "cap": {"llama.final_logit_softcapping": 30.0},
    "encoder": {"llama.attention.causal": False},
    "values": {"llama.attention.value_length": 8},
    "rotated": {"llama.rope.dimension_count": 8},
    "adapter": {"general.type": "adapter", "adapter.type": "lora"},
    "mmproj": {"general.type": "mmproj"},
    "imatrix": {"general.type": "imatrix"},
}
for name, changes in (passed | refused).items():
    write(f"meta/{name}.gguf", model, plain, "smollm", changes)

(HOME / "expected.json").write_text(json.dumps(expected))
