"""The commonsense protocol's strings, written from its description alone and without a look at the
program.

    python3 render.py FILE INDEX...   ->   JSON: for each item [llm-adapters training,
        llm-adapters test, alpaca training, alpaca test]
"""
import json, sys

SENTENCE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
PAD = 16 * " "


def training(item):
    lines = [
        SENTENCE + 2 * " ", "", PAD + "### Instruction:", PAD + item["instruction"], PAD,
        PAD + "### Response:", PAD + item["output"],
    ]
    return "\n".join(lines)


def testing(item):
    lines = [
        SENTENCE + " ", "", PAD + "### Instruction:", PAD + item["instruction"], "",
        PAD + "### Response:", PAD,
    ]
    return "\n".join(lines)


def alpaca(item):
    return "\n".join([
        SENTENCE, "", "### Instruction:", item["instruction"], "", "### Response:", ""
    ])


rows = json.load(open(sys.argv[1], encoding="utf-8"))
picked = [rows[int(i)] for i in sys.argv[2:]]
print(json.dumps([
    [training(item), testing(item), alpaca(item) + item["output"], alpaca(item)] for item in picked
]))
