"""A classifier of a run in transformers and peft: what it says of a text.

Reads a job from standard input: folders of the base, the adapter over it, the merged model and the
one that the run saved; the text. Writes the probabilities of each to standard output.
"""
import json
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

job = json.load(sys.stdin)
load = lambda folder: AutoModelForSequenceClassification.from_pretrained(
    folder, num_labels=2, dtype=torch.float32).eval()


def shares(model):
    ids = AutoTokenizer.from_pretrained(job["merged"])(job["text"], return_tensors="pt")["input_ids"]
    model.config.pad_token_id = None
    with torch.no_grad():
        return model(ids).logits[0].softmax(-1).tolist()


merged = load(job["merged"])
found = {"merged": shares(merged), "saved": shares(load(job["saved"])),
         "labels": {str(i): label for i, label in merged.config.id2label.items()}}
base = AutoModelForSequenceClassification.from_pretrained(
    job["base"], num_labels=2, dtype=torch.float32)
found["adapter"] = shares(PeftModel.from_pretrained(base, job["adapter"]).eval())
json.dump(found, sys.stdout)
