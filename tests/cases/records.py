"""Texts that transformers renders of records with keys beside those that are usual.

    python records.py FOLDER
"""
import json, os, sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

home = sys.argv[1]
TEMPLATE = """{% if tools %}<|tools|>{{ tools | tojson }}
{% endif %}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\
{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}{{ eos_token }}
{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}{% if shout %}!{% endif %}"""
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
inner = Tokenizer(models.BPE(
    vocab={letter: i for i, letter in enumerate(["<s>", "</s>", *letters])}, merges=[]
))
inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
inner.decoder = decoders.ByteLevel()
inner.add_special_tokens(["<s>", "</s>"])
tok = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
tok.chat_template = TEMPLATE
tok.save_pretrained(os.path.join(home, "model"))


def turn(role, content):
    return {"role": role, "content": content}


TOOLS = [{
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
}]
talk = [turn("user", "What is snow?"), turn("assistant", "White.")]
# How each kind of record is written, and the conversation that it is.
SHAPES = {
    "messages": {"messages": talk},
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": "What is snow?"}, {"from": "gpt", "value": "White."}
        ]
    },
    "turns": {"prompt": talk[:1], "completion": talk[1:]},
    "instruction": {"instruction": "What is snow?", "input": "", "output": "White."},
    "completion": {"prompt": "What is snow?", "completion": "White."},
}
system = [turn("system", "Be brief.")]
before = [turn("user", "And fire?"), turn("assistant", "Hot.")]
every = list(SHAPES)
# Keys that are worded: in which shapes, and the conversation and tools that they make.
WORDED = [
    ({"system": "Be brief."}, every, system + talk, None, {}),
    ({"system_prompt": "Be brief."}, every, system + talk, None, {}),
    ({"tools": TOOLS}, every, talk, TOOLS, {}),
    ({"tools": json.dumps(TOOLS)}, every, talk, TOOLS, {}),
    ({"history": [["And fire?", "Hot."]]}, ["instruction", "completion"], before + talk, None, {}),
    (
        {"history": [["And fire?", "Hot."]], "system": "Be brief."}, ["instruction", "completion"],
        system + before + talk, None, {},
    ),
    (
        {"chat_template_kwargs": {"shout": True}}, ["messages", "sharegpt", "turns"], talk, None,
        {"shout": True},
    ),
]
cases = []
for more, shapes, messages, tools, variables in WORDED:
    text = tok.apply_chat_template(messages, tools=tools, tokenize=False, **variables)
    cases += [
        {
            "shape": shape, "record": {**SHAPES[shape], **more},
            "ids": tok(text, add_special_tokens=False)["input_ids"],
        }
        for shape in shapes
    ]
plain = tok(tok.apply_chat_template(talk, tokenize=False), add_special_tokens=False)["input_ids"]
with open(os.path.join(home, "expected.json"), "w", encoding="utf-8") as f:
    json.dump({"shapes": SHAPES, "worded": cases, "plain": plain}, f)
