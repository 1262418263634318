"""MMLU by transformers: the log-likelihoods of the four letters behind each question.

Reads {"model", "data": folder of MMLU's files, "runs": list of {"shots", "subjects": list, "items":
number or null}} as JSON from standard input. Answers with, for each run and by subject, the sums of
the letters behind each question of the test and its right letter. What all prompts of a subject
begin with goes through the model once. The prompt is that of lm-evaluation-harness: a line about
the subject, the first questions of dev with their answers, and the question.
"""

import copy
import csv
import json
import os
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(2)
job = json.load(sys.stdin)
tokenizer = AutoTokenizer.from_pretrained(job["model"])
model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval()
LETTERS = "ABCD"


def rows(subject, split):
    path = os.path.join(job["data"], split, f"{subject}_{split}.csv")
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def asked(row):
    choices = "".join(f"\n{letter}. {text}" for letter, text in zip(LETTERS, row[1:5]))
    return f"{row[0].strip()}{choices}\nAnswer:"


def encode(text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def sums(prompts):
    """log p of each letter behind each prompt; all are one token, predicted from the same place."""
    letters = [encode(f" {letter}") for letter in LETTERS]
    assert all(len(letter) == 1 for letter in letters)
    tokens = [encode(prompt) for prompt in prompts]
    for prompt, ids in zip(prompts, tokens):
        assert all(encode(f"{prompt} {letter}")[: len(ids)] == ids for letter in LETTERS)
    common = len(os.path.commonprefix(tokens))
    if len(tokens) == 1:
        common -= 1
    with torch.no_grad():
        begun = model(torch.tensor([tokens[0][:common]]), use_cache=True).past_key_values
        for ids in tokens:
            cache = copy.deepcopy(begun)
            rest = torch.tensor([ids[common:]])
            out = model(rest, past_key_values=cache, logits_to_keep=1)
            found = out.logits[0, -1].double().log_softmax(-1)
            yield [found[letter[0]].item() for letter in letters]


def answers(run, subject):
    shown = rows(subject, "dev")[: run["shots"]]
    about = " ".join(subject.split("_"))
    start = f"The following are multiple choice questions (with answers) about {about}.\n\n"
    start += "".join(f"{asked(row)} {row[5]}\n\n" for row in shown)
    test = rows(subject, "test")[: run["items"]]
    found = sums([start + asked(row) for row in test])
    return [{"sums": own, "right": LETTERS.index(row[5])} for own, row in zip(found, test)]


runs = [{subject: answers(run, subject) for subject in run["subjects"]} for run in job["runs"]]
json.dump(runs, sys.stdout)
