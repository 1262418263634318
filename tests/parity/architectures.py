"""Tiny random models of every known architecture, and what transformers computes with them.

    python architectures.py FOLDER

Writes FOLDER/NAME (a model folder) and FOLDER/NAME.json (`ids`, and `logits` after every token) for
each.
"""
import json, os, sys
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, decoders
from transformers import (
    AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config
)

SIZES = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, vocab_size=300, max_position_embeddings=256, eos_token_id=0,
    bos_token_id=0, pad_token_id=0, initializer_range=0.3,
)
LLAMA3 = dict(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
GPT2 = dict(
    n_embd=32, n_layer=3, n_head=4, vocab_size=300, n_positions=256, eos_token_id=0,
    bos_token_id=0, pad_token_id=0, initializer_range=0.3,
)
CASES = {
    "llama": LlamaConfig(**SIZES),
    "llama-tied-biases": LlamaConfig(
        **SIZES, tie_word_embeddings=True, attention_bias=True, mlp_bias=True
    ),
    "llama3-rope": LlamaConfig(**SIZES, rope_theta=500.0, rope_scaling=LLAMA3),
    "llama-linear-rope": LlamaConfig(**SIZES, rope_scaling=dict(rope_type="linear", factor=4.0)),
    "llama-head-dim": LlamaConfig(**SIZES, head_dim=16),
    "mistral-window": MistralConfig(**SIZES, sliding_window=7),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=12),
    "gpt2": GPT2Config(**GPT2),
    "gpt2-untied": GPT2Config(
        **GPT2, tie_word_embeddings=False, n_inner=40, activation_function="relu"
    ),
}


def tokenizer(path):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<|end|>": 0} | {c: i + 1 for i, c in enumerate(alphabet)}
    t = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens(["<|end|>"])
    t.save(path)


for seed, (name, config) in enumerate(CASES.items()):
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    for parameter_name, p in model.named_parameters():
        with torch.no_grad():
            if p.dim() == 1:  # norms and biases start at 1 and 0, which hides mistakes
                p.add_(0.3 * torch.randn_like(p))
    ids = torch.randint(0, 300, (1, 60))
    with torch.no_grad():
        logits = model(ids).logits[0]
    folder = os.path.join(sys.argv[1], name)
    model.save_pretrained(folder)
    tokenizer(os.path.join(folder, "tokenizer.json"))
    json.dump({"ids": ids[0].tolist(), "logits": logits.tolist()}, open(folder + ".json", "w"))
