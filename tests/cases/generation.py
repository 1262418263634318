"""What ends a generated text, and how it follows its prompt; answers by transformers' generate and
the tokenizer's decode of prompt and text together.
"""
import functools
import json
import pathlib
import shutil
import sys

import torch
import transformers

from tiny_tokenizers import chain, sentence_piece, bytes_level

HOME = pathlib.Path(sys.argv[1])


def text(tokenizer, prompt, ids):
    """What prompt and ids decoded together give, less the prompt."""
    whole, before = tokenizer.decode(prompt + ids), tokenizer.decode(prompt)
    assert whole.startswith(before), (whole, before)
    return whole[len(before):]


@functools.cache
def loaded(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        HOME / folder, dtype=torch.float32
    ).eval()


def generated(folder, tokenizer, prompt, **how):
    model = loaded(folder)
    ids = tokenizer.encode(prompt).ids
    out = model.generate(
        torch.tensor([ids]), **{"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, **how}
    )[0].tolist()
    return text(tokenizer, ids, out[len(ids):])


def cut(whole, stops):
    return whole[: min([whole.find(stop) for stop in stops if stop in whole], default=len(whole))]


def ids(tokenizer, *tokens):
    found = [tokenizer.token_to_id(token) for token in tokens]
    assert None not in found and len(set(found)) == len(found), (tokens, found)
    return found


expected = {"texts": [], "ends": []}
# ` fish`, a smiling face in four bytes, `!`, ` white` in pieces, then an end.
legacy, level = sentence_piece("legacy"), bytes_level()
said = ids(legacy, "▁fish", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>", "▁is", "▁white", "</s>")
chain(legacy, HOME / "legacy", said)
shutil.copytree(HOME / "legacy", HOME / "metaspace")
metaspace = json.loads(legacy.to_str())
metaspace["normalizer"], metaspace["pre_tokenizer"] = None, {
    "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False
}
(HOME / "metaspace/tokenizer.json").write_text(json.dumps(metaspace))
said = ids(level, "Ġfish", "ð", "Ł", "Ļ", "Ĥ", "Ġis", "Ġwhite", "</s>")
chain(level, HOME / "bytes", said)
kinds = {
    "legacy": legacy,
    "metaspace": transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(HOME / "metaspace/tokenizer.json")
    ).backend_tokenizer,
    "bytes": level,
}
long = "The king's cat eats fish and seeds and meat. " * 4 + "The cat eats"
for kind, tokenizer in kinds.items():
    for prompt, how in [
        ("The cat eats", {}), ("The cat eats:\n", {}), ("🙂", {}), (long, {}), ("<s>", {}),
        ("The cat eats", {"max_new_tokens": 3}), ("The cat eats\n", {"max_new_tokens": 2}),
        ("The cat eats", {"num_beams": 3}),
    ]:
        if how.get("max_new_tokens") == 2 and kind != "bytes":
            # A letter that is not whole spoils the line end, a byte too: `startswith` is not met.
            continue
        whole = generated(kind, tokenizer, prompt, **how)
        for stop in [[], [" fish"], [" nope", " is"], ["🙂"], [" white", "h"]]:
            expected["texts"].append({
                "model": kind, "prompt": prompt, "stop": stop,
                "max_tokens": how.get("max_new_tokens", 12), "beams": how.get("num_beams", 1),
                "text": cut(whole, stop),
            })

# `white <|im|> is <|eot|> hot </s> snow`: who ends where.
said = ids(legacy, "▁white", "<|im|>", "▁is", "<|eot|>", "▁hot", "</s>", "▁snow")
eot, im = ids(legacy, "<|eot|>", "<|im|>")
chain(legacy, HOME / "ends", said)
for number, (generation, config) in enumerate([
    ({"eos_token_id": [2, eot]}, {}), ({"eos_token_id": eot, "bos_token_id": 1}, {}),
    ({"eos_token_id": [2, im, eot, 9999]}, {}), ({"eos_token_id": 2}, {"eos_token_id": eot}),
    ({}, {"eos_token_id": eot}), ({"temperature": 0.6}, {}), (None, {"eos_token_id": [im, 2]}),
    (None, {"eos_token_id": None}), ({"eos_token_id": [eot, -1]}, {}), ({"eos_token_id": 9999}, {}),
]):
    folder = HOME / f"ends{number}"
    shutil.copytree(HOME / "ends", folder)
    told = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(told))
    if generation is None:
        (folder / "generation_config.json").unlink()
    else:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    own = loaded(folder.name).generation_config.eos_token_id
    own = [] if own is None else own if isinstance(own, list) else [own]
    for stop in [[], ["<|eot|>"], [" nope", "<|im|>"], ["<|eot|>", "</s>"]]:
        for beams in [1, 3]:
            ends = own + [legacy.token_to_id(token) for token in stop if token.startswith("<")]
            whole = generated(
                folder.name, legacy, "The fox", num_beams=beams, eos_token_id=ends or None
            )
            expected["ends"].append({
                "model": folder.name, "prompt": "The fox", "stop": stop, "max_tokens": 12,
                "beams": beams, "text": whole,
            })
(HOME / "expected.json").write_text(json.dumps(expected))
