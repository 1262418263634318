"""MiniLM with a classifier's head and LoRA of rank 1 on two of its layers, in PyTorch and PEFT.

    python minilm.py MODEL FOLDER

Reads the encoder in MODEL and writes FOLDER/expected.json: texts in pairs with their tokens, the
hidden states of all of them, and of a LoRA on layers 1 and 4 with a head, in FOLDER/adapter and
FOLDER/model, the loss and its gradients. The batch is padded here and ragged there.
"""
import json
import os
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

model, home = sys.argv[1:]
path = lambda name: os.path.join(home, name)
pairs = [
    ("A man is playing a guitar.", "Somebody makes music."),
    ("The weather is fine today, and nobody wants to stay inside.", "It rains."),
    ("Prices rose by 3.5 % in May.", "Ils sont allés au marché à São Paulo."),
    ("Unrelated", "completely different and rather long, so that padding is needed here"),
]
labels = torch.tensor([0, 1, 1, 0])
tokenizer = AutoTokenizer.from_pretrained(model)
batch = tokenizer([a for a, _ in pairs], [b for _, b in pairs], padding=True, return_tensors="pt")
rows = [int(n) for n in batch["attention_mask"].sum(1)]
cut = lambda key: [batch[key][i, :n].tolist() for i, n in enumerate(rows)]

encoder = AutoModel.from_pretrained(model, dtype=torch.float32).eval()
with torch.no_grad():
    hidden = encoder(**batch).last_hidden_state
expected = {
    "pairs": pairs, "ids": cut("input_ids"), "types": cut("token_type_ids"),
    "labels": labels.tolist(),
    "hidden": [hidden[i, :n].tolist() for i, n in enumerate(rows)],
}

torch.manual_seed(5)
classifier = AutoModelForSequenceClassification.from_pretrained(
    model, num_labels=2, dtype=torch.float32).eval()
classifier.save_pretrained(path("model"))
tokenizer.save_pretrained(path("model"))
lora = LoraConfig(
    r=1, lora_alpha=1, task_type="SEQ_CLS", layers_to_transform=[1, 4],
    target_modules=["query", "key", "value", "attention.output.dense", "intermediate.dense",
                    "output.dense"],
    modules_to_save=["classifier"])
adapted = get_peft_model(classifier, lora).eval()
with torch.no_grad():
    for name, p in adapted.named_parameters():
        if "lora_B" in name:
            p.copy_(0.05 * torch.randn_like(p))
adapted.save_pretrained(path("adapter"))
loss = adapted(**batch, labels=labels).loss
loss.backward()
expected["loss"] = loss.item()
expected["gradients"] = {
    name.replace(".default", ""): p.grad.flatten().tolist()
    for name, p in adapted.named_parameters() if p.requires_grad}
json.dump(expected, open(path("expected.json"), "w"))
