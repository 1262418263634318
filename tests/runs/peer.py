"""What transformers and peft make of folders that xgbrun wrote.

Reads a list of {"model", "adapter" or null, "text", "dtype"} as JSON from standard input and
answers with a list of {"ids", "nll"}: the text's token ids, and the mean negative log-likelihood of
all but the first.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def measure(job):
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    model, loading = AutoModelForCausalLM.from_pretrained(
        job["model"], dtype=torch.float32, output_loading_info=True
    )
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not loading[key], (job["model"], key, loading[key])
    if job["adapter"]:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, job["adapter"])
    model.eval()
    ids = tokenizer(job["text"], add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1].double()
    nll = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]))
    return {"ids": ids, "nll": nll.item()}


torch.set_num_threads(2)
json.dump([measure(job) for job in json.load(sys.stdin)], sys.stdout)
