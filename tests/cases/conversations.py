"""Chat templates that act like published ones, conversations in the shapes that files have, and
what transformers makes of them.

    python conversations.py FOLDER

Each template is a folder with a tokenizer; each case has a data file, and of each example that it
gives the ids and the mask. Spans that are to be learnt are written out here, and found in what
`apply_chat_template` renders.
"""
import json, os, sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

home = sys.argv[1]
SPECIAL = [
    "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "[INST]", "[/INST]",
    "<|eot|>",
]
# Llama 3.1's tokens would do no other thing than these.
TEMPLATES = {
    "chatml": """{% for m in messages %}\
{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}\
{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}""",
    # Qwen3's, shortened: tools, thoughts of the last turns only, and an empty block where there are
    # none.
    "qwen3": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string \
and not(message.content.startswith('<tool_response>') \
and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n')\
.split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' \
+ reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    # DeepSeek-R1-Distill's: the system text in front, thoughts cut off, `<think>` where the
    # assistant is asked.
    "r1": """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}\
{% endif %}{% set ns = namespace(is_first=false, system_prompt='') %}
{%- for message in messages %}{%- if message['role'] == 'system' %}\
{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}
{{- bos_token }}{{ ns.system_prompt }}
{%- for message in messages %}
{%- if message['role'] == 'user' %}{{ '<|User|>' + message['content'] }}{%- endif %}
{%- if message['role'] == 'assistant' and message['content'] is not none %}\
{% set content = message['content'] %}{% if '</think>' in content %}\
{% set content = content.split('</think>')[-1] %}{% endif %}\
{{ '<|Assistant|>' + content + eos_token }}{%- endif %}
{%- endfor -%}{% if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}""",
    # Mistral's of v0.3: the system text in the last question, as long as that is the last message.
    "mistral": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] + eos_token }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, \
with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}""",
    # Llama 3.1's: tools in the first question, one call a turn, results as `ipython`, and what is
    # no text as JSON.
    "llama31": """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}\
{%- set messages = messages[1:] %}{%- else %}{%- set system_message = "" %}{%- endif %}
{{- "<|im_start|>system\\n" }}{%- if tools is not none %}{{- "Environment: ipython\\n" }}\
{%- endif %}{{- system_message }}{{- "<|eot|>" }}
{%- if tools is not none %}
    {%- set first_user_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
    {{- '<|im_start|>user\\n\\n' }}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}
    {{- first_user_message + "<|eot|>" }}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|im_start|>' + message['role'] + '\\n\\n' + message['content'] | trim + '<|eot|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}\
{{- raise_exception("This model only supports single tool-calls at once!") }}{%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|im_start|>assistant\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", "parameters": ' }}\
{{- tool_call.arguments | tojson }}{{- "}" }}{{- "<|eot|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|im_start|>ipython\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}\
{{- message.content | tojson }}{%- else %}{{- message.content }}{%- endif %}
        {{- "<|eot|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n\\n' }}{%- endif %}""",
    # Llama 3's: what begins a text stands before the first message.
    "llama3": """{% for message in messages %}\
{% set content = '<|im_start|>' + message['role'] + '\\n\\n' \
+ message['content'] | trim + '<|eot|>' %}
{%- if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}\
{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n\\n' }}{% endif %}""",
    # Zephyr's: what is asked stands in the loop.
    "zephyr": """{% for message in messages %}\
{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}
{%- if loop.last and add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}{% endfor %}""",
    # A template that says itself what is generated.
    "generation": """{%- for m in messages -%}
    {%- if m.role == 'assistant' -%}
        <|im_start|>assistant
{% generation %}
        {{- m.content + '<|im_end|>' -}}
        {% endgeneration %}

    {%- else -%}
        {{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}""",
}

texts = [
    "What is snow? White and cold.", "Be brief. And fire? It is hot.", "assistant user system tool",
    '{"name": "f", "arguments": {"x": 1}}',
]
inner = Tokenizer(models.BPE())
inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
inner.decoder = decoders.ByteLevel()
inner.train_from_iterator(
    texts,
    trainers.BpeTrainer(
        vocab_size=330, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    ),
)
made = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")
tokenizers = {}
for name, template in TEMPLATES.items():
    folder = os.path.join(home, name)
    if name in ("chatml", "qwen3", "generation"):
        made.eos_token = "<|im_end|>"
    else:
        made.eos_token = "<|eot|>" if name.startswith("llama3") else "</s>"
    made.chat_template = template
    made.save_pretrained(folder)
    tokenizers[name] = AutoTokenizer.from_pretrained(folder)

# ChatML beside a tokenizer that begins each text, as TinyLlama's.
inner.post_processor = processors.TemplateProcessing(
    single="<s> $A", special_tokens=[("<s>", inner.token_to_id("<s>"))]
)
begun = PreTrainedTokenizerFast(
    tokenizer_object=inner,
    bos_token="<s>",
    eos_token="<|im_end|>",
    chat_template=TEMPLATES["chatml"],
)
begun.save_pretrained(os.path.join(home, "begun"))
tokenizers["begun"] = AutoTokenizer.from_pretrained(os.path.join(home, "begun"))
assert tokenizers["begun"]("a").input_ids[0] == 0

cases, renders = [], []


def row(tok, text, spans):
    """Ids of a text, and a mask of what overlaps the spans, found one behind the other."""
    out = tok(text, add_special_tokens=False, return_offsets_mapping=True)
    at, places = 0, []
    for span in spans:
        start = text.index(span, at)
        at = start + len(span)
        places.append((start, at))
    mask = [any(a < end and b > start for start, end in places) for a, b in out["offset_mapping"]]
    return {"ids": out["input_ids"], "supervised": [m and i > 0 for i, m in enumerate(mask)]}


def case(name, template, record, rows, says=""):
    with open(os.path.join(home, name + ".jsonl"), "w", encoding="utf-8") as f:
        f.write(json.dumps(record) + "\n")
    cases.append({"name": name, "template": template, "examples": rows, "says": says})


def whole(name, template, record, messages, spans, says="", **more):
    """A case whose text is what transformers renders of `messages`."""
    tok = tokenizers[template]
    case(
        name, template, record,
        [row(tok, tok.apply_chat_template(messages, tokenize=False, **more), spans)], says,
    )


def turn(role, content, **more):
    return {"role": role, "content": content, **more}


S, Q, A = turn("system", "Be brief."), turn("user", "What is snow?"), turn("assistant", "White.")
Q2, A2 = turn("user", "And fire?"), turn("assistant", "Hot.")
Q3, A3 = turn("user", "White?"), turn("assistant", "White.")
END = "White.<|im_end|>"
FOUND, EACH = "rendered once and their turns found", "gave an example a turn"

# Shapes of files.
talk = [S, Q, A, Q2, A2]
share = {"system": "system", "user": "human", "assistant": "gpt"}
from_value = [{"from": share[m["role"]], "value": m["content"]} for m in talk]
both = ["White.<|im_end|>", "Hot.<|im_end|>"]
whole("sharegpt", "chatml", {"id": "x_1", "conversations": from_value}, talk, both)
whole(
    "sharegpt_system", "chatml", {"system": "Be brief.", "conversations": from_value[1:]}, talk,
    both,
)
whole("sharegpt_messages", "chatml", {"messages": from_value}, talk, both)
others = [
    {"from": "system", "value": "Be brief."}, {"from": "user", "value": "What is snow?"},
    {"from": "chatgpt", "value": "White."}, {"from": "human", "value": "And fire?"},
    {"from": "bing", "value": "Hot."},
]
whole("sharegpt_others", "chatml", {"conversations": others}, talk, both)
whole(
    "conversation", "chatml",
    {"conversation": talk, "model": "x", "turn": 2, "language": "English"}, talk, both,
)
whole(
    "spoken_roles", "chatml",
    {
        "conversations": [
            turn("system", "Be brief."), turn("human", "What is snow?"), turn("gpt", "White.")
        ]
    },
    talk[:3], both[:1],
)
whole("json_text", "chatml", {"messages": json.dumps(talk)}, talk, both)
whole(
    "prompt_completion", "chatml", {"prompt": [S, Q, A, Q2], "completion": [A2]}, talk,
    ["Hot.<|im_end|>"],
)
whole(
    "weights", "chatml", {"messages": [S, Q, {**A, "weight": 0}, Q2, {**A2, "weight": 1}]}, talk,
    ["Hot.<|im_end|>"],
)
whole(
    "weight_last", "chatml", {"messages": [S, Q, {**A, "weight": 1}, Q2, {**A2, "weight": 0}]},
    talk, ["White.<|im_end|>"],
)
parts = [
    turn(
        "user",
        [
            {"type": "text", "text": "What is "},
            {"type": "text", "text": "snow?", "image_url": None},
        ],
    ),
    turn("assistant", [{"type": "text", "text": "White."}]),
]
whole("parts", "chatml", {"messages": parts}, [Q, A], [END])
nulls = [
    {**Q, "name": None, "tool_calls": [], "weight": None},
    {**A, "tool_calls": None, "function_call": None, "refusal": None, "weight": 1},
]
whole("nulls", "chatml", {"messages": nulls, "tools": [], "system": ""}, [Q, A], [END])
whole(
    "names", "chatml", {"messages": [{**Q, "name": "ann"}, A]}, [Q, A], [END],
    "`name` that the chat template does not word",
)
whole(
    "developer", "chatml", {"messages": [turn("developer", "Be brief."), Q, A]},
    [turn("developer", "Be brief."), Q, A], [END],
)
whole(
    "ultrachat", "chatml", {"prompt": "What is snow?", "prompt_id": "ab", "messages": [Q, A]},
    [Q, A], [END],
)

# Templates that rewrite.
T = "<think>\n\n</think>\n\n"
whole("qwen3_one", "qwen3", {"messages": [S, Q, A]}, [S, Q, A], [T + END])
whole(
    "qwen3_two", "qwen3", {"messages": talk}, talk, ["White.<|im_end|>", T + "Hot.<|im_end|>"],
    FOUND,
)
whole(
    "qwen3_same", "qwen3", {"messages": [Q3, A, Q3, A3, Q3, A3]}, [Q3, A, Q3, A3, Q3, A3],
    [END, END, T + END], FOUND,
)
whole(
    "qwen3_sharegpt", "qwen3", {"conversations": from_value[1:]}, talk[1:],
    ["White.<|im_end|>", T + "Hot.<|im_end|>"], FOUND,
)
tok = tokenizers["qwen3"]
thinking = [Q, {**A, "reasoning_content": "Cold."}, Q2, {**A2, "thinking": "Red?"}]
texts = [tok.apply_chat_template(thinking[:n], tokenize=False) for n in (2, 4)]
spans = [
    ["<think>\nCold.\n</think>\n\nWhite.<|im_end|>"], ["<think>\nRed?\n</think>\n\nHot.<|im_end|>"]
]
case(
    "qwen3_thoughts", "qwen3", {"messages": thinking},
    [row(tok, t, s) for t, s in zip(texts, spans)], EACH,
)
inside = [Q, turn("assistant", "<think>\nCold.\n</think>\n\nWhite."), Q2, A2]
texts = [tok.apply_chat_template(inside[:n], tokenize=False) for n in (2, 4)]
spans = [["<think>\nCold.\n</think>\n\nWhite.<|im_end|>"], [T + "Hot.<|im_end|>"]]
case(
    "qwen3_inside", "qwen3", {"messages": inside}, [row(tok, t, s) for t, s in zip(texts, spans)],
    EACH,
)
quick = [Q, A]
case(
    "qwen3_kwargs",
    "qwen3",
    {"messages": quick, "chat_template_kwargs": {"enable_thinking": False}},
    [row(tok, tok.apply_chat_template(quick, tokenize=False, enable_thinking=False), [END])],
)
TOOL = {
    "type": "function",
    "function": {
        "name": "f", "description": "Ünit <b>",
        "parameters": {"type": "object", "properties": {"x": {"type": "number", "default": 1e-05}}},
    },
}
CALL = {
    "type": "function", "function": {"name": "f", "arguments": {"x": 1, "y": [True, None, 0.5]}}
}
tools = [
    S, Q, {"role": "assistant", "tool_calls": [CALL], "content": None},
    turn("tool", "White.", tool_call_id="1"), A,
]
called = (
    '<tool_call>\n{"name": "f", "arguments": {"x": 1, "y": [true, null, 0.5]}}\n'
    "</tool_call><|im_end|>"
)
texts = [tok.apply_chat_template(tools[:n], tools=[TOOL], tokenize=False) for n in (3, 5)]
whole_text = texts[1]
case("qwen3_tools", "qwen3", {"messages": tools, "tools": [TOOL], "parallel_tool_calls": False},
     [row(tok, whole_text, [called, T + END])], FOUND)
case(
    "qwen3_tools_text", "qwen3", {"messages": tools, "tools": json.dumps([TOOL])},
    [row(tok, whole_text, [called, T + END])], FOUND,
)
spoken = [
    {"from": "system", "value": "Be brief."},
    {"from": "human", "value": "What is snow?"},
    {"from": "function_call", "value": json.dumps(CALL["function"])},
    {"from": "observation", "value": "White."},
    {"from": "gpt", "value": "White."},
]
case(
    "qwen3_tools_sharegpt", "qwen3", {"conversations": spoken, "tools": json.dumps([TOOL])},
    [row(tok, whole_text, [called, T + END])], FOUND,
)

whole("r1_one", "r1", {"messages": [Q, A]}, [Q, A], ["White.</s>"])
whole("r1_two", "r1", {"messages": talk}, talk, ["White.</s>", "Hot.</s>"])
angle = [Q, turn("assistant", "<b>White.")]
whole("r1_angle", "r1", {"messages": angle}, angle, ["<b>White.</s>"])
cut = [Q, turn("assistant", "<think>Cold.</think>White.")]
whole("r1_cut", "r1", {"messages": cut}, cut, ["White.</s>"], "leaves out a part")

whole("mistral_plain", "mistral", {"messages": talk[1:]}, talk[1:], [" White.</s>", " Hot.</s>"])
tok = tokenizers["mistral"]
asked = [
    tok.apply_chat_template(talk[:n], tokenize=False, add_generation_prompt=True) for n in (2, 4)
]
assert all("Be brief." in text for text in asked)
case(
    "mistral_system", "mistral", {"messages": talk},
    [
        row(tok, asked[0] + " White.</s>", [" White.</s>"]),
        row(tok, asked[1] + " Hot.</s>", [" Hot.</s>"]),
    ],
    EACH,
)
case(
    "mistral_system_one", "mistral", {"system": "Be brief.", "messages": [Q, A]},
    [row(tok, asked[0] + " White.</s>", [" White.</s>"])], EACH,
)

LL = "<|eot|>"
whole("llama31_plain", "llama31", {"messages": talk}, talk, ["White." + LL, "Hot." + LL])
call = [S, Q, {"role": "assistant", "tool_calls": [CALL]}, turn("tool", "White."), A, Q2, A2]
whole(
    "llama31_tools", "llama31", {"messages": call, "tools": [TOOL]}, call,
    [
        '{"name": "f", "parameters": {"x": 1, "y": [true, null, 0.5]}}' + LL, "White." + LL,
        "Hot." + LL,
    ],
    tools=[TOOL],
)

# The assistant speaks first.
first = [A, Q2, A2]
spoken = [{"from": share[m["role"]], "value": m["content"]} for m in first]
whole("first_chatml", "chatml", {"conversations": spoken}, first, both)
whole(
    "first_qwen3", "qwen3", {"conversations": spoken}, first,
    ["White.<|im_end|>", T + "Hot.<|im_end|>"],
)
whole("first_r1", "r1", {"conversations": spoken}, first, ["White.</s>", "Hot.</s>"])
whole("first_mistral", "mistral", {"conversations": spoken}, first, [" White.</s>", " Hot.</s>"])
whole("first_zephyr", "zephyr", {"conversations": spoken}, first, ["White.</s>", "Hot.</s>"])
for name in ["llama3", "llama31"]:
    whole(f"first_{name}", name, {"conversations": spoken}, first, ["White." + LL, "Hot." + LL])
# A template that writes no beginning: as in `apply_chat_template`, there is none.
tok = tokenizers["begun"]
out = tok.apply_chat_template(talk, return_dict=True)["input_ids"]
begun_row = row(tok, tok.apply_chat_template(talk, tokenize=False), both)
assert begun_row["ids"] == out and out[0] != tok.bos_token_id
case(
    "begun", "begun", {"messages": talk}, [begun_row],
    "without the beginning-of-sequence token of other texts, which the chat template",
)

tok = tokenizers["generation"]
out = tok.apply_chat_template(talk, return_dict=True, return_assistant_tokens_mask=True)
case(
    "generation", "generation", {"messages": talk},
    [{"ids": out["input_ids"], "supervised": [m == 1 for m in out["assistant_masks"]]}],
)

# What templates write of values.
nested = {"a": [1, 1.0, 1e20, 1e-05, True, None, "it's", 'say "x"', "é\n"], "b": {}, "c": []}
for text in [
    "{{ messages[0].content }}|{{ tools[0] }}|{{ tools[0].a }}",
    "{{ tools[0] | tojson }}",
    "{{ tools[0] | tojson(indent=2) }}",
    "{{ tools[0] | tojson(ensure_ascii=true, sort_keys=true) }}",
    "{{ tools[0] | tojson(separators=(',', ':')) }}",
    "{{ tools[0].a[0] }} {{ tools[0].a[2] }} {{ tools[0].a[3] | string }} "
    "{{ tools[0].a[4] }} {{ tools[0].a[5] }}",
    "{{ messages[0] | tojson }}{{ messages[1].keys() | list }}",
]:
    messages = [
        turn("user", "What is snow?"),
        {"role": "assistant", "content": "White.", "reasoning": "Cold."},
    ]
    renders.append({
        "template": text,
        "text": tokenizers["chatml"].apply_chat_template(
            messages, tools=[nested], chat_template=text, tokenize=False
        ),
    })
with open(os.path.join(home, "render.jsonl"), "w", encoding="utf-8") as f:
    f.write(json.dumps({"messages": messages, "tools": [nested]}) + "\n")

with open(os.path.join(home, "expected.json"), "w", encoding="utf-8") as f:
    json.dump({"cases": cases, "renders": renders}, f)
