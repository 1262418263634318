"""Steps of a LoRA classifier in PyTorch and PEFT, from an adapter and batches that are given.

    python trained.py MODEL ADAPTER JOB OUT

JOB is a JSON file: batches of sequences with their types and labels, the learning rates of factors
and head by step. Writes the losses before each step. The reference is AdamW without decay.
"""
import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

model, adapter, job, out = sys.argv[1:]
job = json.load(open(job))
base = AutoModelForSequenceClassification.from_pretrained(
    model, dtype=torch.float32, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
model = PeftModel.from_pretrained(base, adapter, is_trainable=True)
named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
head = [p for name, p in named if "modules_to_save" in name]
factors = [p for name, p in named if "modules_to_save" not in name]
optimizer = torch.optim.AdamW(
    [{"params": factors}, {"params": head}], lr=job["lr"], weight_decay=0.0)
losses = []
for batch, lr in zip(job["batches"], job["rates"]):
    width = max(map(len, batch["ids"]))
    pad = lambda rows: torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = pad([[1] * len(row) for row in batch["ids"]])
    loss = model(
        input_ids=pad(batch["ids"]), token_type_ids=pad(batch["types"]), attention_mask=mask,
        labels=torch.tensor(batch["labels"])).loss
    losses.append(loss.item())
    for group, ratio in zip(optimizer.param_groups, (1.0, job["head_lr_ratio"])):
        group["lr"] = lr * ratio
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
json.dump(losses, open(out, "w"))
