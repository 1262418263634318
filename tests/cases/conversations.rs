//! Conversations: their shapes in files, and templates that rewrite what stands before.

use std::path::Path;

use serde_json::Value;
use xgbrun::data::LossOn;
use xgbrun::data::chat::ChatTemplate;
use xgbrun::data::encode::{Encoded, encode_train};
use xgbrun::data::{EncodeOptions, Item, Layout, Template, formats, inspect};
use xgbrun::source::Tokenizer;

use crate::harness::{case, eval, made, recipe};

/// The examples of a file under the chat template of the tokenizer in `folder`.
fn encoded(folder: &Path, data: &Path) -> anyhow::Result<Encoded> {
    let tokenizer = Tokenizer::from_file(&folder.join("tokenizer.json"))?;
    let items = formats::read(data, &Layout::default())?;
    encode_train(
        &items,
        Template::Chat,
        &tokenizer,
        &EncodeOptions { max_length: 4096, loss: LossOn::Answer },
    )
}

#[test]
fn ids_and_masks_are_those_of_transformers() {
    let Some((home, expected)) = made("conversations.py") else { return };
    let cases = expected["cases"].as_array().unwrap();
    assert!(cases.len() > 30);
    for case in cases {
        let text = |key: &str| case[key].as_str().unwrap();
        let name = text("name");
        let out = encoded(
            &home.path().join(text("template")),
            &home.path().join(format!("{name}.jsonl")),
        );
        let out = out.unwrap_or_else(|e| panic!("{name}: {e:#}"));
        let got: Vec<Value> = out
            .examples
            .iter()
            .map(|e| serde_json::json!({ "ids": e.ids, "supervised": e.supervised }))
            .collect();
        let examples = case["examples"].as_array().unwrap();
        for (i, (got, want)) in got.iter().zip(examples).enumerate() {
            assert_eq!(got["ids"], want["ids"], "{name} {i}: ids");
            assert_eq!(got["supervised"], want["supervised"], "{name} {i}: what is learnt");
        }
        assert_eq!(got.len(), examples.len(), "{name}");
        let report = out.report.to_string();
        assert!(report.contains(text("says")), "{name}: {report}");
        assert_eq!(report.contains("chat template"), !text("says").is_empty(), "{name}: {report}");
        if name == "qwen3_thoughts" {
            stats_and_show_tell_of_each_turn(
                &home.path().join("qwen3"),
                &home.path().join("qwen3_thoughts.jsonl"),
            );
        }
    }
    values_are_written_as_python_does(home.path(), &expected["renders"]);
}

fn stats_and_show_tell_of_each_turn(folder: &Path, data: &Path) {
    let tokenizer = Tokenizer::from_file(&folder.join("tokenizer.json")).unwrap();
    let items = formats::read(data, &Layout::default()).unwrap();
    let options = EncodeOptions { max_length: 256, loss: LossOn::Answer };
    let figures =
        inspect::stats(&[("train", &items)], Template::Chat, &tokenizer, &options).unwrap();
    let notes = figures["train"]["notes"].as_object().unwrap();
    assert!(
        notes.iter().any(|(what, n)| what.contains("gave an example a turn") && *n == 1),
        "{figures:?}"
    );
    assert_eq!(figures["train"]["examples"], 2);
    let shown = inspect::show(&items[0], Template::Chat, &tokenizer, &options).unwrap();
    assert_eq!(shown.matches("training text").count(), 2, "{shown}");
}

fn values_are_written_as_python_does(home: &Path, renders: &Value) {
    let Item::Chat(chat) =
        formats::read(&home.join("render.jsonl"), &Layout::default()).unwrap().remove(0)
    else {
        panic!()
    };
    for render in renders.as_array().unwrap() {
        let template = render["template"].as_str().unwrap();
        let text =
            ChatTemplate::new(template, "<s>", "</s>").unwrap().render(&chat, false).unwrap();
        assert_eq!(text, render["text"].as_str().unwrap(), "{template}");
    }
}

#[test]
fn what_a_template_does_not_word_is_refused_by_its_name() {
    let Some((home, _)) = made("conversations.py") else { return };
    let messages = |more: &str| {
        let question = r#"{"role": "user", "content": "q"}"#;
        let answer = format!(r#"{{"role": "assistant", "content": "a"{more}}}"#);
        format!(r#"{{"messages": [{question}, {answer}]}}"#)
    };
    let calls =
        r#", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]"#;
    for (template, record, want) in [
        (
            "chatml",
            messages(calls),
            "the model's chat template leaves out `tool_calls` of message 2 of the conversation",
        ),
        (
            "chatml",
            messages(r#", "reasoning_content": "t""#),
            "leaves out `reasoning_content` of message 2",
        ),
        (
            "chatml",
            messages("").replace("}]}", r#"}], "tools": [{"type": "function"}]}"#),
            "the model's chat template has no place for `tools`",
        ),
        (
            "r1",
            messages("").replace("[{", r#"[{"role": "developer", "content": "Be brief."}, {"#),
            "leaves out message 1 of the conversation, which is of the role `developer`",
        ),
        (
            "mistral",
            messages("").replace("[{", r#"[{"role": "developer", "content": "Be brief."}, {"#),
            "refuses the conversation: Only user and assistant roles are supported",
        ),
        ("chatml", messages(r#", "images": ["x"]"#), "`messages[1].images` holds what is no text"),
        ("chatml", messages(r#", "weight": 0.5"#), "`messages[1].weight` is 0.5, expected 0 or 1"),
        (
            "chatml",
            r#"{"prompt": "q", "completion": [{"role": "assistant", "content": "a"}]}"#.into(),
            "both are texts, or both lists",
        ),
        (
            "chatml",
            r#"{"messages": [{"role": "user", "content": "q"}], "response": "a"}"#.into(),
            "`messages` ends in a question, and `response` beside it would be left out",
        ),
    ] {
        let data = home.path().join("refused.jsonl");
        std::fs::write(&data, record + "\n").unwrap();
        let error = encoded(&home.path().join(template), &data)
            .err()
            .unwrap_or_else(|| panic!("{want}: accepted"));
        assert!(error.to_string().contains(want), "{error}");
    }
}

#[test]
fn conversations_of_files_are_read_as_what_they_mean() {
    let (Some(shapes), Some(columns)) =
        (case("refused-data-shapes"), case("silent-columns-dropped"))
    else {
        return;
    };
    let model = columns.join("model").display().to_string();
    let chat = ["--template", "chat"];
    for file in ["sharegpt", "conversations-role-content", "content-parts", "empty-tool-calls"] {
        eval(&shapes, &model, &format!("{file}.jsonl"), &chat).has_nll(6.026907);
    }
    eval(&shapes, &model, "message-name-weight.jsonl", &chat).has_nll(6.008103);
    eval(&shapes, &model, "developer-role.jsonl", &chat).has_nll(6.065852);
    eval(&shapes, &model, "input_ids-labels.jsonl", &[]).has_nll(5.998918);
    let taken = eval(&shapes, &model, "input_ids-labels.jsonl", &chat);
    taken.says(&["holds token ids, which are taken as they are"]).has_nll(5.998918);
    eval(&shapes, &model, "tool-role.jsonl", &chat)
        .refused(3, &["leaves out `tool_calls` of message 2", "template: #{ text:"]);
    eval(&shapes, &model, "preference.jsonl", &chat)
        .refused(3, &["is a preference (`chosen`)", "answer: \"{{ chosen }}\""]);
    // The hint of one template leads to another that words it, or to the recipe's own.
    eval(&shapes, &model, "sharegpt.jsonl", &[]).refused(
        3,
        &["the template `alpaca` does not word", "`template: \"chat\"`", "template: #{ text:"],
    );
}

#[test]
fn templates_that_rewrite_what_stands_before() {
    for (folder, nll, says) in [
        (
            "refused-chat-qwen3-two-turns",
            6.612989,
            "conversations rendered once and their turns found in them",
        ),
        ("refused-chat-r1-think-prompt", 6.134938, "1 item gave 1 example"),
    ] {
        let Some(case) = case(folder) else { return };
        eval(&case, "model", "talk.jsonl", &["--template", "chat"]).says(&[says]).has_nll(nll);
    }
}

/// What `show` prints of the first item under the template `wording` of a recipe.
fn shown(data: &str, wording: &str) -> Option<String> {
    let model = case("silent-columns-dropped")?.join("model").display().to_string();
    let home = tempfile::tempdir().unwrap();
    let (script, file) = (home.path().join("show.rhai"), home.path().join("talk.jsonl"));
    std::fs::write(&file, data).unwrap();
    let text = format!(
        "let p = params(#{{ model: \"\", data: \"\" }});\nlet m = model::load(p.model);\n\
         let t = data::load(p.data, #{{ template: {wording} }});\nt.train.show(m, 0);\n"
    );
    std::fs::write(&script, text).unwrap();
    let ran = recipe(&script, &[("model", &model), ("data", &file.display().to_string())], &[]);
    Some(ran.stdout + ran.stderr.as_str())
}

const SHAREGPT: &str = concat!(
    r#"{"conversations": [{"from": "human", "value": "Hi"}, "#,
    r#"{"from": "gpt", "value": "Yes \"so\""}, "#,
    r#"{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "No"}], "n": 1}"#,
);

#[test]
fn a_template_of_the_recipe_words_conversations() {
    let text = "`{% for t in conversations %}{% if t.from == 'human' %}Q: {{ t.value }}\n\
                A:{% else %}{% generation %} {{ t.value }}\n\
                {% endgeneration %}{% endif %}{% endfor %}`";
    let Some(own) = shown(SHAREGPT, &format!("#{{ text: {text} }}")) else { return };
    assert!(own.contains("Q: Hi\nA:⟦ Yes \"so\"\n⟧Q: Why?\nA:⟦ No\n<|end|>⟧\n"), "{own}");
    // The model's own chat template over messages that the recipe makes.
    let messages = "`[{% for t in conversations %}\
                    {\"role\": \"{{ 'user' if t.from == 'human' else 'assistant' }}\", \
                    \"content\": {{ t.value | tojson }}}{{ ',' if not loop.last }}{% endfor %}]`";
    let own = shown(SHAREGPT, &format!("#{{ messages: {messages} }}")).unwrap();
    let want = "<|im_start|>user\nHi<|im_end|>\n\
                <|im_start|>assistant\n⟦Yes \"so\"<|im_end|>⟧\n\
                <|im_start|>user\nWhy?<|im_end|>\n\
                <|im_start|>assistant\n⟦No<|im_end|>⟧\n";
    assert!(own.contains(want), "{own}");
    let plain = shown(SHAREGPT, "#{ messages: `{{ conversations | tojson }}` }").unwrap();
    assert!(plain.contains(want), "{plain}");
    let odd = r#"{"question": "Hi", "reply": "No", "calls": [{"type": "function"}]}"#;
    let made = "#{ messages: `[{\"role\": \"user\", \"content\": {{ question | tojson }}}, \
                {\"role\": \"assistant\", \"content\": {{ reply | tojson }}}]`, \
                tools: `{{ calls | tojson }}` }";
    let own = shown(odd, made).unwrap();
    assert!(
        own.contains("<|im_start|>tools\n[{\"type\": \"function\"}]\n")
            && own.contains("⟦No<|im_end|>⟧"),
        "{own}"
    );
    for (wording, want) in [
        ("#{ messages: `{{ conversations }}` }", "`messages` of the template makes no JSON"),
        ("#{ text: `{{ n }}` }", "option `text` of `template` has no `{% generation %}` block"),
        ("#{ text: `{% generation %}{{ m }}{% endgeneration %}` }", "has no column `m`"),
        (
            "#{ text: `{% generation %}x{% endgeneration %}`, prompt: `x` }",
            "options `messages` and `text` of `template` stand alone",
        ),
        (
            "#{ prompt: `x`, answer: `x`, tools: `[]` }",
            "option `tools` of `template` needs `messages`",
        ),
        (
            "#{ messages: `[{\"role\": \"judge\", \"content\": \"x\"}]` }",
            "`messages[0].role` is `judge`",
        ),
    ] {
        let said = shown(SHAREGPT, wording).unwrap();
        assert!(said.contains(want), "{said}");
    }
}
