//! Templates of the commonsense protocol, byte for byte, against a rendering that knows nothing of
//! this program; and chat templates against transformers, SmolLM2's own and two that ask for more
//! of Jinja.

#[path = "../common/mod.rs"]
mod common;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use xgbrun::data::chat::ChatTemplate;
use xgbrun::data::item::{Chat, ItemPlace, Message};
use xgbrun::data::{
    Encode, EncodeOptions, Item, Layout, LossOn, Template, encode_one, formats, inspect,
};
use xgbrun::source::{Gguf, Tokenizer};

fn python(program: &Path, script: &str, arguments: &[String]) -> Option<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates").join(script);
    let output = match Command::new(program).arg(script).args(arguments).output() {
        Ok(output) => output,
        Err(e) => {
            common::skip(&format!("`{}` cannot be started: {e}", program.display()));
            return None;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn strings_of_24_items_are_those_published() {
    let files = [
        "ARC-Easy/train",
        "ARC-Easy/test",
        "ARC-Challenge/train",
        "ARC-Challenge/test",
        "boolq/train",
        "boolq/test",
        "piqa/test",
        "winogrande/test",
    ];
    let mut seen = 0;
    for file in files {
        let Some(path) = common::shared(&format!("data/commonsense/{file}.json")) else { return };
        let items = formats::read(&path, &Layout::default()).unwrap();
        let picked = [0, items.len() / 2, items.len() - 1];
        let arguments: Vec<String> = std::iter::once(path.display().to_string())
            .chain(picked.map(|i| i.to_string()))
            .collect();
        let Some(want) = python(Path::new("python3"), "render.py", &arguments) else { return };
        for (i, want) in picked.into_iter().zip(want.as_array().unwrap()) {
            let Item::Instruction(item) = &items[i] else { panic!("{file} {i}") };
            let trained = |template: Template| {
                template
                    .train_text(item)
                    .map(|(prompt, answer)| format!("{prompt}{answer}"))
                    .unwrap()
            };
            let ours = [
                trained(Template::LlmAdapters),
                Template::LlmAdapters.test_prompt(item).unwrap(),
                trained(Template::Alpaca),
                Template::Alpaca.test_prompt(item).unwrap(),
            ];
            assert_eq!(ours.map(Value::from).to_vec(), *want.as_array().unwrap(), "{file} {i}");
            seen += 1;
        }
    }
    assert_eq!(seen, 24);
}

fn messages(case: &Value) -> Vec<Message> {
    let field = |m: &Value, name: &str| m[name].as_str().unwrap().to_owned();
    case["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| Message::new(&field(m, "role"), &field(m, "content")))
        .collect()
}

fn place() -> ItemPlace {
    ItemPlace { file: Path::new("chat").into(), unit: "item", number: 1 }
}

/// What transformers makes of six conversations, and the tokenizer of the same model.
fn peer() -> Option<(Vec<Value>, Tokenizer)> {
    let (folder, program) = (common::model(common::FOLDER)?, common::model("peer/bin/python")?);
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates");
    let templates =
        ["headers.jinja", "thinking.jinja"].map(|name| templates.join(name).display().to_string());
    let want = python(
        &program,
        "chat.py",
        &[vec![folder.display().to_string()], templates.to_vec()].concat(),
    )?;
    let want = want.as_array().unwrap().clone();
    assert_eq!(want.len(), 6);
    Some((want, Tokenizer::from_file(&folder.join("tokenizer.json")).unwrap()))
}

#[test]
fn chat_templates_render_as_in_transformers() {
    let (Some((want, from_file)), Some(gguf)) = (peer(), common::model(common::GGUF)) else {
        return;
    };
    for tokenizer in [from_file, Tokenizer::from_gguf(&Gguf::open(&gguf).unwrap()).unwrap()] {
        let template = ChatTemplate::of(&tokenizer).unwrap();
        for (i, case) in want.iter().enumerate() {
            let text = template
                .render(&Chat::new(place(), messages(case)), case["ask"].as_bool().unwrap())
                .unwrap();
            assert_eq!(Value::from(text.as_str()), case["text"], "conversation {i}");
            assert_eq!(
                Value::from(Encode::encode(&tokenizer, &text).unwrap()),
                case["ids"],
                "conversation {i}"
            );
        }
    }
    let others = [include_str!("headers.jinja"), include_str!("thinking.jinja")];
    for (t, text) in others.into_iter().enumerate() {
        let template = ChatTemplate::new(text, "<|im_start|>", "<|im_end|>").unwrap();
        for (i, case) in want.iter().enumerate() {
            let rendered = template
                .render(&Chat::new(place(), messages(case)), case["ask"].as_bool().unwrap())
                .unwrap();
            assert_eq!(Value::from(rendered), case["others"][t], "template {t}, conversation {i}");
        }
    }
}

#[test]
fn what_is_trained_is_what_transformers_tokenises() {
    let Some((want, tokenizer)) = peer() else { return };
    // This model pads with its end of sequence; the end that is to be learnt counts nevertheless.
    assert_eq!(tokenizer.token(tokenizer.eos().unwrap()).as_deref(), Some("<|im_end|>"));
    let options = EncodeOptions { max_length: 999, loss: LossOn::Answer };
    let mut seen = 0;
    for case in want.iter().filter(|case| case["ask"] == false) {
        let messages = messages(case);
        let answers: Vec<String> = messages
            .iter()
            .filter(|m| m.is_answer())
            .map(|m| format!("⟦{}<|im_end|>⟧", m.content()))
            .collect();
        let item = Item::Chat(Chat::new(place(), messages));
        let example = encode_one(&item, Template::Chat, &tokenizer, &options).unwrap().unwrap();
        assert_eq!(Value::from(example.ids.clone()), case["ids"]);
        let shown = inspect::show(&item, Template::Chat, &tokenizer, &options).unwrap();
        let marked: Vec<String> = shown
            .split('⟦')
            .skip(2)
            .map(|part| format!("⟦{}⟧", part.split('⟧').next().unwrap()))
            .collect();
        assert_eq!(marked, answers);
        seen += 1;
    }
    assert_eq!(seen, 3);
}

#[test]
fn test_questions_that_are_trained_on_are_found() {
    let Some(folder) = common::model(common::FOLDER) else { return };
    let tokenizer = Tokenizer::from_file(&folder.join("tokenizer.json")).unwrap();
    let options = EncodeOptions { max_length: 100, loss: LossOn::Answer };
    for (set, within, in_train) in
        [("ARC-Easy", 0, Value::from(2)), ("ARC-Challenge", 1, Value::Null)]
    {
        let read = |split: &str| {
            common::shared(&format!("data/commonsense/{set}/{split}.json"))
                .map(|path| formats::read(&path, &Layout::default()).unwrap())
        };
        let (Some(train), Some(test)) = (read("train"), read("test")) else { return };
        let figures = inspect::stats(
            &[("train", &train[..]), ("test", &test[..])],
            Template::Alpaca,
            &tokenizer,
            &options,
        )
        .unwrap();
        assert_eq!(figures["train"]["duplicates"]["within"], within, "{set}");
        assert_eq!(figures["test"]["duplicates"]["within"], 0, "{set}");
        assert_eq!(figures["test"]["duplicates"]["in"]["train"], in_train, "{set}");
        // The same figures from the examples themselves.
        let report = xgbrun::data::encode_train(&train, Template::Alpaca, &tokenizer, &options)
            .unwrap()
            .report;
        assert_eq!(figures["train"]["examples"], report.examples);
        assert_eq!(figures["train"]["left_out"], report.dropped);
        assert_eq!(
            figures["train"]["cut"],
            (report.cut + report.dropped) as f64 / train.len() as f64
        );
        assert_eq!(figures["train"]["unscorable"], 0);
        assert_eq!(
            figures["train"]["labels"]
                .as_object()
                .unwrap()
                .values()
                .filter_map(Value::as_u64)
                .sum::<u64>(),
            train.len() as u64
        );
    }
}
