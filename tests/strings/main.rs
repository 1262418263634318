//! The strings of the commonsense protocol, byte for byte, against a rendering that knows nothing of this program; and chat templates
//! against transformers.

#[path = "../common/mod.rs"]
mod common;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use xgbrun::data::chat::ChatTemplate;
use xgbrun::data::item::{Message, Place};
use xgbrun::data::{Encode, Item, Layout, Template, formats};
use xgbrun::source::{Gguf, Tokenizer};

fn python(program: &Path, script: &str, arguments: &[String]) -> Option<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/strings").join(script);
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
        let arguments: Vec<String> = std::iter::once(path.display().to_string()).chain(picked.map(|i| i.to_string())).collect();
        let Some(want) = python(Path::new("python3"), "render.py", &arguments) else { return };
        for (i, want) in picked.into_iter().zip(want.as_array().unwrap()) {
            let Item::Instruction(item) = &items[i] else { panic!("{file} {i}") };
            let trained = |template: Template| template.train_text(item).map(|(prompt, answer)| format!("{prompt}{answer}")).unwrap();
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

#[test]
fn chat_templates_render_as_in_transformers() {
    let (Some(folder), Some(gguf), Some(program)) =
        (common::model(common::FOLDER), common::model(common::GGUF), common::model("peer/bin/python"))
    else {
        return;
    };
    let Some(want) = python(&program, "chat.py", &[folder.display().to_string()]) else { return };
    for tokenizer in
        [Tokenizer::from_file(&folder.join("tokenizer.json")).unwrap(), Tokenizer::from_gguf(&Gguf::open(&gguf).unwrap()).unwrap()]
    {
        let template = ChatTemplate::of(&tokenizer).unwrap();
        let place = Place { file: Path::new("chat").into(), unit: "item", number: 1 };
        for (i, case) in want.as_array().unwrap().iter().enumerate() {
            let messages: Vec<Message> = case["messages"]
                .as_array()
                .unwrap()
                .iter()
                .map(|m| Message { role: m["role"].as_str().unwrap().into(), content: m["content"].as_str().unwrap().into() })
                .collect();
            let text = template.render(&messages, case["ask"].as_bool().unwrap(), &place).unwrap();
            assert_eq!(Value::from(text.as_str()), case["text"], "conversation {i}");
            assert_eq!(Value::from(Encode::encode(&tokenizer, &text).unwrap()), case["ids"], "conversation {i}");
        }
        assert_eq!(want.as_array().unwrap().len(), 6);
    }
}
