"""Perplexity of a text and the log-likelihoods of choices, by transformers.

Reads {"model", "text": path, "block", "blocks": number or null, "questions": list of {"prompt",
"choices", "label"}} as JSON from standard input. Answers with "perplexity" and "tokens" of the
text's first blocks, each block on its own and its first token not predicted; and with "sums" of
every question's choices, "acc" and "acc_norm".
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(2)
job = json.load(sys.stdin)
tokenizer = AutoTokenizer.from_pretrained(job["model"])
model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval()


def log_probabilities(ids):
    """log p of every token of ids but the first, [len - 1]."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1].double()
    return logits.log_softmax(-1).gather(1, torch.tensor(ids[1:]).unsqueeze(1)).squeeze(1)


def encode(text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


ids = encode(open(job["text"], encoding="utf-8", newline="").read())
block = job["block"]
blocks = [ids[i : i + block] for i in range(0, len(ids), block)][: job["blocks"]]
found = torch.cat([log_probabilities(b) for b in blocks if len(b) > 1])

sums, right, right_norm = [], 0, 0
for question in job["questions"]:
    prompt = encode(question["prompt"])
    own = []
    for choice in question["choices"]:
        choice = encode(choice)
        own.append(log_probabilities(prompt + choice)[-len(choice) :].sum().item())
    norm = [s / len(choice) for s, choice in zip(own, question["choices"])]
    right += own.index(max(own)) == question["label"]
    right_norm += norm.index(max(norm)) == question["label"]
    sums.append(own)
count = len(job["questions"])
answer = {"perplexity": (-found.mean()).exp().item(), "tokens": len(found), "sums": sums}
json.dump({**answer, "acc": right / count, "acc_norm": right_norm / count}, sys.stdout)
