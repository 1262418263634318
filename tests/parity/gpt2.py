"""A tiny GPT-2: what transformers and peft compute with it, and with what was written from it.

    python gpt2.py make FOLDER
    python gpt2.py check FOLDER

`make` writes FOLDER/model, FOLDER/adapter (LoRA on all its linears) and FOLDER/expected.json:
logits of both, the mean loss, and its gradients. `check` reads FOLDER/saved, a model, and
FOLDER/written, an adapter of FOLDER/model, and writes their logits to FOLDER/checked.json.
"""
import json
import os
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GPT2Config

mode, home = sys.argv[1:]
path = lambda name: os.path.join(home, name)


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].tolist()


def gradients(model, ids, named):
    """The mean loss over one sequence, and the gradients of named parameters."""
    model.zero_grad()
    tokens = torch.tensor([ids])
    loss = model(tokens, labels=tokens).loss
    loss.backward()
    return loss.item(), {name: p.grad.flatten().tolist() for name, p in named}


def tokenizer(folder):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<|end|>": 0} | {c: i + 1 for i, c in enumerate(alphabet)}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|end|>"])
    made.save(os.path.join(folder, "tokenizer.json"))


def make():
    torch.manual_seed(7)
    config = GPT2Config(
        vocab_size=300, n_positions=64, n_embd=24, n_layer=3, n_head=4, n_inner=40,
        bos_token_id=0, eos_token_id=0, initializer_range=0.3,
        attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1:  # norms and biases start at 1 and 0, which hides mistakes
                p.add_(0.3 * torch.randn_like(p))
    model.save_pretrained(path("model"))
    tokenizer(path("model"))
    ids = torch.randint(0, 300, (40,)).tolist()
    expected = {"ids": ids, "logits": logits(model, ids)}
    expected["loss"], expected["gradients"] = gradients(model, ids, model.named_parameters())
    lora = LoraConfig(
        r=2, lora_alpha=3, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True,
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, lora).eval()
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                p.copy_(0.2 * torch.randn_like(p))
    adapted.save_pretrained(path("adapter"))
    expected["adapted"] = logits(adapted, ids)
    trained = [(n.replace(".default", ""), p) for n, p in adapted.named_parameters()]
    trained = [(n, p) for n, p in trained if p.requires_grad]
    expected["adapted_loss"], expected["adapted_gradients"] = gradients(adapted, ids, trained)
    json.dump(expected, open(path("expected.json"), "w"))


def check():
    ids = json.load(open(path("expected.json")))["ids"]
    checked = {"saved": logits(load(path("saved")), ids)}
    written = PeftModel.from_pretrained(load(path("model")), path("written")).eval()
    checked["written"] = logits(written, ids)
    json.dump(checked, open(path("checked.json"), "w"))


{"make": make, "check": check}[mode]()
