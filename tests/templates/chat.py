"""Conversations as transformers words and tokenises them.

    python chat.py MODEL_FOLDER TEMPLATE...   ->   JSON
"""
import json, sys

from transformers import AutoTokenizer

tok = AutoTokenizer.from_pretrained(sys.argv[1])
turn = lambda role, content: {"role": role, "content": content}
conversations = [
    ([turn("user", "Hi")], True),
    ([turn("system", "Be brief."), turn("user", "Why is the sky blue?")], True),
    ([turn("user", "2 + 2?"), turn("assistant", "4")], False),
    (
        [turn("user", "2 + 2?"), turn("assistant", "4"), turn("user", "and 3  + 30?\n\nShow it.")],
        True,
    ),
    (
        [
            turn("system", "  Zwei  Leerzeichen  "), turn("user", "Grüße, 你好 <b>\"x\"</b>"),
            turn("assistant", "ok\n"),
        ],
        False,
    ),
    ([turn("user", "a"), turn("assistant", "b"), turn("user", "c"), turn("assistant", "d")], False),
]
templates = [open(path, encoding="utf-8").read() for path in sys.argv[2:]]
out = []
for messages, ask in conversations:
    text = tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
    others = [
        tok.apply_chat_template(
            messages, chat_template=t, tokenize=False, add_generation_prompt=ask
        )
        for t in templates
    ]
    ids = tok(text, add_special_tokens=False)["input_ids"]
    out.append({"messages": messages, "ask": ask, "text": text, "ids": ids, "others": others})
print(json.dumps(out))
