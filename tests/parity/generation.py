"""Beam search by transformers.

Reads {"model", "prompts": lists of ids, "beams", "max_tokens"} as JSON from standard input and
answers with the generated ids of every prompt, without end-of-sequence tokens.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)  # two would wait for each other on a busy machine
job = json.load(sys.stdin)
model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval()
answer = []
for ids in job["prompts"]:
    with torch.no_grad():
        out = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            num_beams=job["beams"],
            do_sample=False,
            early_stopping=False,
            length_penalty=1.0,
            max_new_tokens=job["max_tokens"],
        )
    answer.append([i for i in out[0, len(ids) :].tolist() if i != model.config.eos_token_id])
json.dump(answer, sys.stdout)
