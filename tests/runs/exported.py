"""What transformers and peft make of a run's exports.

Reads {"base", "adapter", "merged", "gguf", "text", "tokens"} as JSON from standard input. Answers
with the logits after the text of base + adapter and of the merged folder, and the text of the
greedy tokens that follow it, by merged folder and GGUF file.
"""

import json
import os
import sys

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(2)
job = json.load(sys.stdin)


def load(folder, **more):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **more).eval()


def tokenizer_of(folder, **more):
    return AutoTokenizer.from_pretrained(folder, **more)


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].tolist()


def greedy(model, tokenizer, ids):
    out = model.generate(
        torch.tensor([ids]),
        max_new_tokens=job["tokens"],
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
    )
    return tokenizer.decode(out[0, len(ids):], skip_special_tokens=True)


ids = tokenizer_of(job["base"])(job["text"], add_special_tokens=False)["input_ids"]
answer = {
    "ids": ids, "adapter": logits(PeftModel.from_pretrained(load(job["base"]), job["adapter"]), ids)
}
merged, tokenizer = load(job["merged"]), tokenizer_of(job["merged"])
answer["merged"] = logits(merged, ids)
answer["merged_text"] = greedy(merged, tokenizer, ids)
folder, file = os.path.split(job["gguf"])
merged, tokenizer = load(folder, gguf_file=file), tokenizer_of(folder, gguf_file=file)
answer["gguf_ids"] = tokenizer(job["text"], add_special_tokens=False)["input_ids"]
answer["gguf"] = logits(merged, ids)
answer["gguf_text"] = greedy(merged, tokenizer, ids)
json.dump(answer, sys.stdout)
