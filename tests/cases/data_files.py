"""Data files as pyarrow, gzip and zstandard write them; `expected.json` lists those that hold the
two texts.

python data_files.py FOLDER
"""

import datetime
import decimal
import gzip
import json
import pathlib
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

home = pathlib.Path(sys.argv[1])
TEXTS = ["Snow is white.", "Fire is hot and the sky is blue."]
LINES = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
LIST = json.dumps([{"text": text} for text in TEXTS])
read = []


def put(name, data, is_read=True):
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    if is_read:
        read.append(name)


def parquet(name, table=None, is_read=True, **options):
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table if table is not None else pa.table({"text": TEXTS}), path, **options)
    if is_read:
        read.append(name)


def zstd(text):
    return zstandard.ZstdCompressor().compress(text.encode())


# Lists and lines, whatever they are called.
put("lines.json", LINES)
put("list.jsonl", LIST)
put("pretty.jsonl", json.dumps([{"text": text} for text in TEXTS], indent=2))
put("values.json", "".join(json.dumps({"text": text, "n": [1]}, indent=1) + "\n" for text in TEXTS))
put("texts.json", json.dumps(TEXTS))
put("mark.json", "\ufeff" + LINES.replace("\n", "\r\n"))
put(
    "python.json",
    json.dumps([
        {"text": TEXTS[0], "x": float("nan")}, {"text": TEXTS[1], "x": "\ud83d", "y": -float("inf")}
    ]),
)
# Compressed ones.
put("a.jsonl.gz", gzip.compress(LINES.encode()))
put("members.jsonl.gz", b"".join(gzip.compress(line.encode()) for line in LINES.splitlines(True)))
put("a.json.zst", zstd(LIST))
put("a.csv.gz", gzip.compress(("text\n" + "\n".join(TEXTS) + "\n").encode()))
put("a.tsv.zst", zstd("n\ttext\n" + "".join(f"1\t{text}\n" for text in TEXTS)))
put("named_otherwise.jsonl", gzip.compress(LINES.encode()))
put("not_packed.jsonl.gz", LINES)
put("folder/test.jsonl.gz", gzip.compress(LINES.encode()), False)
put("folder/train.jsonl.zst", zstd('{"text": "another"}\n'), False)
put("shards/test-00000-of-00002.json.gz", gzip.compress(LINES.splitlines()[0].encode()), False)
put("shards/test-00001-of-00002.json.gz", gzip.compress(LINES.splitlines()[1].encode()), False)
# What the hub makes of a data set.
parquet("hub/default/test/0000.parquet", pa.table({"text": TEXTS[:1]}), False)
parquet("hub/default/test/0001.parquet", pa.table({"text": TEXTS[1:]}), False)
parquet("hub/default/train/0000.parquet", pa.table({"text": ["another"]}), False)
parquet("whole/default/0000.parquet", is_read=False)
parquet("plain/data/test-00000-of-00001-0a1b2c3d.parquet", is_read=False)
read += ["folder", "shards", "hub", "hub/default", "whole", "plain"]
# Codecs of Parquet, and columns that hold no text.
for codec in ["none", "snappy", "gzip", "brotli", "zstd", "lz4"]:
    parquet(f"codec/{codec}.parquet", compression=codec)
put("a.parquet.gz", gzip.compress((home / "codec/none.parquet").read_bytes()))
odd = {
    "text": TEXTS,
    "image": pa.array([{"bytes": b"\x89PNG\xff", "path": None}] * 2),
    "binary": pa.array([b"\xff\xfe"] * 2),
    "fixed": pa.array([b"\xff\xfe"] * 2, pa.binary(2)),
    "day": pa.array([datetime.date(2024, 1, 1)] * 2),
    "time": pa.array([datetime.time(1, 2, 3)] * 2),
    "stamp": pa.array([datetime.datetime(2024, 1, 1)] * 2, pa.timestamp("us")),
    "span": pa.array([datetime.timedelta(seconds=1)] * 2),
    "decimal": pa.array([decimal.Decimal("1.50")] * 2),
    "wide": pa.array([decimal.Decimal("1.50")] * 2, pa.decimal256(50, 2)),
    "half": pa.array([1.5, float("nan")], pa.float16()),
    "nan": [float("nan"), float("inf")],
    "tags": pa.array([["a"], []]),
    "nested": pa.array([[[1], []], None]),
    "map": pa.array([[("a", b"\xff")], []], pa.map_(pa.string(), pa.binary())),
    "nothing": pa.array([None, None]),
    "dictionary": pa.array(["a", "b"]).dictionary_encode(),
    "large": pa.array(["a", "b"], pa.large_string()),
    "unsigned": pa.array([1, 2], pa.uint64()),
    "structs": pa.array([[{"a": b"\xff"}], []]),
}
parquet("odd.parquet", pa.table(odd))
parquet(
    "old_stamps.parquet",
    pa.table({k: odd[k] for k in ["text", "stamp", "decimal"]}),
    use_deprecated_int96_timestamps=True,
)
# What is refused.
parquet("nan_text.parquet", pa.table({"text": [1.5, float("nan")]}), False)
parquet("bytes_text.parquet", pa.table({"text": [b"\xff", b"a"]}), False)
random = "".join(
    json.dumps({"text": f"{i * 2654435761 % 4294967291} snow"}) + "\n" for i in range(2000)
)
packed = gzip.compress(random.encode())
put("cut.jsonl.gz", packed[: len(packed) // 2], False)
put("damaged.jsonl.gz", packed[:500] + b"\0" * 50 + packed[550:], False)
put("cut.jsonl.zst", zstd(random)[:2000], False)
put("utf16.jsonl", LINES.encode("utf-16"), False)
put("bomb.jsonl.gz", gzip.compress(b" " * (257 << 20), 9), False)
table = pa.table({"text": TEXTS})
with pa.OSFile(str(home / "file.arrow"), "wb") as sink, pa.ipc.new_file(
    sink, table.schema
) as writer:
    writer.write_table(table)
for folder in ["disk", "dict/train", "dict/test"]:
    (home / folder).mkdir(parents=True)
    with pa.OSFile(
        str(home / folder / "data-00000-of-00001.arrow"), "wb"
    ) as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    put(f"{folder}/dataset_info.json", "{}", False)
    put(f"{folder}/state.json", "{}", False)
put("dict/dataset_dict.json", '{"splits": ["train", "test"]}', False)
chat = [{"role": "user", "content": "What is snow?"}, {"role": "assistant", "content": "White."}]
calls = pa.struct({
    "role": pa.string(), "content": pa.string(), "tool_calls": pa.list_(pa.string()),
    "name": pa.string(),
})
put("chat.jsonl", json.dumps({"messages": chat}) + "\n", False)
parquet(
    "chat.parquet",
    pa.table({
        "messages": pa.array([[{**turn, "tool_calls": []} for turn in chat]], pa.list_(calls))
    }),
    False,
)
# Functions of other parameters: each row has the keys of all.
functions = [
    [{"type": "function", "function": {"name": n, "parameters": {n: {"type": "number"}}}}]
    for n in "fg"
]
put(
    "tools.jsonl",
    "".join(json.dumps({"messages": chat, "tools": tools}) + "\n" for tools in functions),
    False,
)
parquet("tools.parquet", pa.table({"messages": [chat] * 2, "tools": functions}), False)
called = [{**chat[0], "tool_calls": ["f()"]}, chat[1]]
parquet("called.parquet", pa.table({"messages": pa.array([called], pa.list_(calls))}), False)
(home / "expected.json").write_text(json.dumps({"read": read}))
