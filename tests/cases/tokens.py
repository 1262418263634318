"""Prompts and what follows them, under tokenizers that treat spaces in three ways; answers by
transformers and the rule of lm-evaluation-harness (`TemplateLM._encode_pair`).
"""
import json
import pathlib
import random
import sys

import torch

from tiny_tokenizers import all_kinds, llama

HOME = pathlib.Path(sys.argv[1])
TASK = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
WORDS = (
    "fish seeds meat snow fire sky grass cat fox king Paris France people hot white blue green"
).split()


class Text:
    def __init__(self, name, tokenizer):
        self.tokenizer, self.model = tokenizer, llama(tokenizer, HOME / name)
        self.bos = [] if name == "bytes" else [tokenizer.token_to_id("<s>")]
        self.eos = [tokenizer.token_to_id("</s>")]

    def ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def pair(self, context, continuation):
        """As lm-evaluation-harness has it."""
        spaces = len(context) - len(context.rstrip())
        if spaces > 0:
            continuation, context = context[-spaces:] + continuation, context[:-spaces]
        before = self.ids(context)
        return before, self.ids(context + continuation)[len(before):]

    def scored(self, prompt, choices):
        apart = [(self.ids(prompt), self.ids(choice)) for choice in choices]
        if all(a + b == self.ids(prompt + c) for (a, b), c in zip(apart, choices)):
            return apart
        return [self.pair(prompt, choice) for choice in choices]

    def trained(self, prompt, answer):
        """White space with tokens of its own is not learnt."""
        before, whole = self.ids(prompt), self.ids(prompt + answer)
        return (before, whole[len(before):]) if whole[:len(before)] == before else self.pair(
            prompt, answer
        )

    def sum(self, before, after):
        before = self.bos + before
        with torch.no_grad():
            p = self.model(torch.tensor([before + after])).logits.double().log_softmax(-1)[0]
        return sum(p[len(before) + i - 1, token].item() for i, token in enumerate(after))

    def accuracy(self, items):
        """`acc` and `acc_norm` of (prompt, choices, right)."""
        plain = normed = 0
        for prompt, choices, right in items:
            sums = [self.sum(*pair) for pair in self.scored(prompt, choices)]
            lengths = [len(choice.strip()) for choice in choices]
            best = lambda values: max(range(len(values)), key=lambda i: values[i])
            plain, normed = plain + (best(sums) == right), normed + (
                best([s / n for s, n in zip(sums, lengths)]) == right
            )
        return [plain / len(items), normed / len(items)]

    def nll(self, pairs):
        """Mean over answers with their end, and how many tokens they have."""
        pairs = [
            (before, after + self.eos) for before, after in (self.trained(*pair) for pair in pairs)
        ]
        tokens = sum(len(after) for _, after in pairs)
        return [-sum(self.sum(*pair) for pair in pairs) / tokens, tokens]


def items():
    random.seed(3)
    for _ in range(16):
        texts = random.sample(WORDS, 3)
        question = f"Which one does the {random.choice(WORDS)} like?"
        right = random.randrange(3)
        names = [f"answer{i + 1}" for i in range(3)]
        listed = " ".join(f"Answer{i + 1}: {text}" for i, text in enumerate(texts))
        instruction = (
            f"Please choose the correct answer to the question: {question}\n\n{listed}\n\n"
            f"Answer format: {'/'.join(names)}"
        )
        yield question, texts, right, instruction, [
            f"the correct answer is {name}" for name in names
        ]


ALL = list(items())
rows = [
    {"instruction": i, "input": "", "output": c[right], "answer": f"answer{right + 1}"}
    for _, _, right, i, c in ALL
]
(HOME / "items.json").write_text(json.dumps(rows))
# Ends in a line end, in one space and in two, in a letter that the answer goes on, in no text of
# the vocabulary.
PAIRS = [
    ("Question: What is snow?\nAnswer:", " white"), ("True or False?\n", "yes"),
    ("Question: snow\nAnswer: ", "white"), ("The cat eats  ", "fish"), ("Quest", "ion: is"),
    ("The fox likes", " 雪 und Käse 🙂"), ("Œuf:\u3000", "fish"), ("sky\n\n", "hot\nblue"),
]
(HOME / "pairs.jsonl").write_text(
    "".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in PAIRS)
)
OWN = [
    ("True or False?", ["\nyes", "\nno"]), ("What is snow? ", ["white", "blue"]),
    ("The cat eats:\n", ["fish", "seeds"]), ("Sky is", [" blue", " hot"]),
]
OWN = [(p, c, i % 2) for i, (p, c) in enumerate(OWN * 2)]
(HOME / "own.jsonl").write_text(
    "".join(
        json.dumps({"q": p, "a": c[0], "b": c[1], "label": right}) + "\n" for p, c, right in OWN
    )
)

expected = {}
for name, tokenizer in all_kinds().items():
    text = Text(name, tokenizer)
    alpaca = lambda i: f"{TASK}\n\n### Instruction:\n{i}\n\n### Response:\n"
    pad = " " * 16
    published = lambda i: f"{TASK} \n\n{pad}### Instruction:\n{pad}{i}\n\n{pad}### Response:\n{pad}"
    expected[name] = {
        "cloze": text.accuracy([
            (f"Question: {q}\nAnswer:", [f" {t}" for t in texts], right)
            for q, texts, right, _, _ in ALL
        ]),
        "alpaca": text.accuracy([(alpaca(i), choices, right) for _, _, right, i, choices in ALL]),
        "llm-adapters": text.accuracy([
            (published(i), choices, right) for _, _, right, i, choices in ALL
        ]),
        "own": text.accuracy(OWN),
        "pairs": text.nll(PAIRS),
        "trained": text.nll([(alpaca(i), choices[right]) for _, _, right, i, choices in ALL]),
    }
(HOME / "expected.json").write_text(json.dumps(expected))
