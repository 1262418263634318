"""What recipes/classify.rhai does with SST-2, done with PyTorch + transformers + peft on the CPU.

    python benches/classify_peer.py --model DIR --data FOLDER [--steps 512] [--batch 8] [--rank 8]
        [--lr 1e-3] [--items 0] [--seed 0]

One LoRA adapter on all seven linear modules of all layers (alpha = rank), AdamW, cosine learning
rate to 0, loss on the answer and the end-of-sequence token, the prompt "Review: …\\nSentiment:"
with the answers " negative" and " positive"; scored on dev by the larger log-probability. `--steps
0` measures the base alone. One JSON line on standard output.
"""
import argparse, json, math, resource, time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ANSWERS = [" negative", " positive"]


def rows(path):
    for line in open(path, encoding="utf-8"):
        label, sentence = line.rstrip("\n").split(" ", 1)
        yield f"Review: {sentence}\nSentiment:", int(label)


def padded(sequences, value):
    width = max(map(len, sequences))
    return torch.tensor([s + [value] * (width - len(s)) for s in sequences])


def accuracy(model, tok, data, batch=32):
    right, answers = 0, [tok(a, add_special_tokens=False)["input_ids"] for a in ANSWERS]
    assert all(len(a) == 1 for a in answers)
    first = torch.tensor([a[0] for a in answers])
    order = sorted(range(len(data)), key=lambda i: len(data[i][0]))
    with torch.no_grad():
        for start in range(0, len(order), batch):
            some = [data[i] for i in order[start:start + batch]]
            ids = padded([p for p, _ in some], 0)
            lengths = torch.tensor([len(p) for p, _ in some])
            hidden = model(
                input_ids=ids,
                attention_mask=(torch.arange(ids.shape[1])[None] < lengths[:, None]).long(),
            ).logits
            last = hidden[torch.arange(len(some)), lengths - 1][:, first]
            right += (last.argmax(1) == torch.tensor([y for _, y in some])).sum().item()
    return right / len(data)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--steps", type=int, default=512)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--rank", type=int, default=8)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--items", type=int, default=0)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int)
    a = p.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    tok = AutoTokenizer.from_pretrained(a.model)
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32)
    ids = lambda text: tok(text, add_special_tokens=False)["input_ids"]
    read = lambda name: [(ids(text), label) for text, label in rows(f"{a.data}/stsa.binary.{name}")]
    dev = read("dev")[:a.items or None]
    out = {
        "engine": "peft", "steps": a.steps, "batch": a.batch, "rank": a.rank, "lr": a.lr,
        "seed": a.seed, "items": len(dev),
    }
    if a.steps == 0:
        out["accuracy"] = accuracy(model.eval(), tok, dev)
    else:
        from peft import LoraConfig, get_peft_model
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        model = get_peft_model(
            model, LoraConfig(r=a.rank, lora_alpha=a.rank, target_modules=targets)
        ).train()
        trained = [q for q in model.parameters() if q.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=a.lr, weight_decay=0.0)
        train, tokens, start = read("train"), 0, time.time()
        order = []
        for step in range(a.steps):
            for g in optimizer.param_groups:
                g["lr"] = a.lr * 0.5 * (1 + math.cos(math.pi * step / a.steps))
            if len(order) < a.batch:
                order += torch.randperm(len(train)).tolist()
            some, order = [train[i] for i in order[:a.batch]], order[a.batch:]
            full = [prompt + ids(ANSWERS[y]) + [tok.eos_token_id] for prompt, y in some]
            x = padded(full, 0)
            lengths = torch.tensor([len(s) for s in full])
            labels = padded(
                [[-100] * len(prompt) + s[len(prompt):] for (prompt, _), s in zip(some, full)], -100
            )
            loss = model(
                input_ids=x,
                attention_mask=(torch.arange(x.shape[1])[None] < lengths[:, None]).long(),
                labels=labels,
            ).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            tokens += int(lengths.sum())
        out |= {
            "train_seconds": round(time.time() - start, 1), "tokens": tokens, "loss": loss.item(),
            "trainable": sum(q.numel() for q in trained),
            "accuracy": accuracy(model.eval(), tok, dev),
        }
    out["peak_rss_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
