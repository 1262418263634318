"""LoRA with a classifier's head in PyTorch and PEFT: the peer of the way `lora` of
`recipes/glue.rhai`, with its settings, for RTE and SST-2.

    python glue_peer.py MODEL DATA TASK SEED

Prints the accuracy on dev. Needs torch, transformers and peft.
"""
import csv
import math
import os
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model, data, task, seed = sys.argv[1:]
STEPS, BATCH, LR, RANK, LENGTH = 200, 16, 5e-4, 8, 128
HEADS = {"rte": ["entailment", "not_entailment"], "sst2": ["0", "1"]}[task]


def rows(split):
    if task == "sst2":
        lines = open(os.path.join(data, f"stsa.binary.{split}"), encoding="utf-8")
        return [(line[2:].strip(), None, HEADS.index(line[0])) for line in lines]
    with open(os.path.join(data, f"{split}.tsv"), encoding="utf-8") as file:
        read = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(r["sentence1"], r["sentence2"], HEADS.index(r["label"])) for r in read]


torch.manual_seed(int(seed))
tokenizer = AutoTokenizer.from_pretrained(model)
network = AutoModelForSequenceClassification.from_pretrained(
    model, num_labels=2, dtype=torch.float32, hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0)
network = get_peft_model(network, LoraConfig(
    r=RANK, lora_alpha=RANK, task_type="SEQ_CLS", modules_to_save=["classifier", "pooler"],
    target_modules=["query", "key", "value", "attention.output.dense", "intermediate.dense",
                    "output.dense"]))


def batch(some):
    texts, pairs = [r[0] for r in some], [r[1] for r in some]
    return tokenizer(
        texts, pairs if pairs[0] is not None else None, padding=True, truncation=True,
        max_length=LENGTH, return_tensors="pt")


trained = [p for p in network.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=LR, weight_decay=0.0)
train, order = rows("train"), []
for step in range(STEPS):
    if len(order) < BATCH:
        order += torch.randperm(len(train)).tolist()
    some = [train[i] for i in order[:BATCH]]
    order = order[BATCH:]
    loss = network(**batch(some), labels=torch.tensor([r[2] for r in some])).loss
    for group in optimizer.param_groups:
        group["lr"] = LR * 0.5 * (1 + math.cos(math.pi * step / STEPS))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

network.eval()
dev, right = rows("dev"), 0
with torch.no_grad():
    for i in range(0, len(dev), 32):
        some = dev[i:i + 32]
        right += sum(int(z.argmax()) == r[2] for z, r in zip(network(**batch(some)).logits, some))
print(f"{100 * right / len(dev):.2f}")
