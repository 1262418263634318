//! Keys of a record: used, known to say nothing, or refused.

use std::path::Path;

use serde_json::{Value, json};
use xgbrun::data::formats::{self, FileRead};
use xgbrun::data::{EncodeOptions, Item, Layout, Template};
use xgbrun::data::{LossOn, encode_train};
use xgbrun::source::Tokenizer;

use crate::harness::{Ran, case, eval, made, recipe};

/// Keys of the files of TRL, LLaMA-Factory, Axolotl, OpenAI and of sets that people publish, with a
/// value each, that say nothing of what is learnt.
fn silent() -> Vec<(&'static str, Value)> {
    let empty = [
        "system",
        "history",
        "tools",
        "label",
        "weight",
        "rejected",
        "images",
        "context",
        "reasoning",
        "functions",
        "loss_mask",
    ];
    let nothing = [json!(null), json!(""), json!([]), json!({})];
    let mut all: Vec<(&str, Value)> = empty
        .iter()
        .flat_map(|key| nothing.iter().map(move |value| (*key, value.clone())))
        .collect();
    for key in [
        "id",
        "idx",
        "source",
        "url",
        "category",
        "split",
        "lang",
        "prompt_id",
        "__index_level_0__",
        "score",
        "model",
        "timestamp",
    ] {
        all.extend([(key, json!("x")), (key, json!(3))]);
    }
    all.extend([
        ("weight", json!(1)),
        ("weight", json!(1.0)),
        ("label", json!(true)),
        ("kto_tag", json!(true)),
        ("meta", json!({ "a": 1 })),
    ]);
    all
}

/// Keys that no item is made of and that a note names.
fn noted() -> Vec<(&'static str, Value)> {
    vec![
        ("text", json!("Below is an instruction … White.")),
        ("persona", json!("x")),
        ("label", json!("entailment")),
        ("parallel_tool_calls", json!(false)),
        ("openai_moderation", json!([{ "flagged": false }])),
        ("num_turn_pairs", json!(2)),
    ]
}

/// Keys that would change what is learnt.
fn refused() -> Vec<(&'static str, Value)> {
    vec![
        ("label", json!(false)),
        ("kto_tag", json!(false)),
        ("rejected", json!("Black.")),
        ("chosen", json!("Snow-white.")),
        ("functions", json!([{ "name": "f" }])),
        ("function_call", json!({ "name": "f" })),
        ("context", json!("Snow falls.")),
        ("documents", json!([{ "title": "a", "text": "b" }])),
        ("reasoning", json!("Cold.")),
        ("thinking", json!("Cold.")),
        ("rationale", json!("Cold.")),
        ("weight", json!(0)),
        ("weight", json!(0.5)),
        ("loss_mask", json!([0, 1])),
        ("train_on_inputs", json!(true)),
        ("images", json!(["a.png"])),
        ("videos", json!(["a.mp4"])),
        ("sytem", json!("Be brief.")),
        ("tool", json!([{ "name": "f" }])),
    ]
}

/// What becomes of a record: the ids that it gives, and the notes.
fn read(home: &Path, record: &Value) -> anyhow::Result<(Vec<u32>, String)> {
    let tokenizer = Tokenizer::from_file(&home.join("model/tokenizer.json"))?;
    let data = home.join("train.jsonl");
    std::fs::write(&data, format!("{record}\n"))?;
    let FileRead { items, unused, .. } = formats::read_noted(&data, &Layout::default())?;
    let options = EncodeOptions { max_length: 4096, loss: LossOn::Answer };
    let out = encode_train(&items, Template::Chat, &tokenizer, &options)?;
    Ok((out.examples[0].ids.clone(), unused.notes().join("\n")))
}

fn with(record: &Value, key: &str, value: &Value) -> Value {
    let mut record = record.clone();
    record[key] = value.clone();
    record
}

#[test]
fn every_key_is_worded_or_says_nothing_or_is_noted_or_refused() {
    let Some((home, expected)) = made("records.py") else { return };
    let home = home.path();
    let ids = |value: &Value| {
        value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect::<Vec<_>>()
    };
    let plain = ids(&expected["plain"]);
    for (shape, record) in expected["shapes"].as_object().unwrap() {
        assert_eq!(read(home, record).unwrap(), (plain.clone(), String::new()), "{shape}");
        for (key, value) in silent() {
            assert_eq!(
                read(home, &with(record, key, &value)).unwrap(),
                (plain.clone(), String::new()),
                "{shape}: {key} {value}"
            );
        }
        for (key, value) in noted() {
            let note = format!("columns not used: `{key}`");
            assert_eq!(
                read(home, &with(record, key, &value)).unwrap(),
                (plain.clone(), note),
                "{shape}: {key}"
            );
        }
        for (key, value) in refused() {
            let error = read(home, &with(record, key, &value))
                .err()
                .unwrap_or_else(|| panic!("{shape}: {key} {value} is accepted"));
            assert!(error.to_string().contains(&format!("`{key}`")), "{shape}: {error}");
        }
    }
    for case in expected["worded"].as_array().unwrap() {
        let (got, notes) = read(home, &case["record"]).unwrap_or_else(|e| panic!("{case}: {e:#}"));
        assert_eq!((got, notes.as_str()), (ids(&case["ids"]), ""), "{}", case["record"]);
    }
    // What one kind words, another has no place for.
    for (shape, key, value) in [
        ("messages", "history", json!([["a", "b"]])),
        ("turns", "history", json!([["a", "b"]])),
        ("messages", "input", json!("x")),
        ("completion", "input", json!("x")),
        ("instruction", "chat_template_kwargs", json!({ "shout": true })),
        ("messages", "chat_template_kwargs", json!({ "messages": [] })),
        ("messages", "system", json!(["a"])),
        ("messages", "tools", json!("no JSON")),
        ("instruction", "history", json!([["a"]])),
        ("instruction", "history", json!("a")),
    ] {
        let error = read(home, &with(&expected["shapes"][shape], key, &value))
            .err()
            .unwrap_or_else(|| panic!("{shape}: {key}"));
        assert!(error.to_string().contains(&format!("`{key}")), "{shape}: {error}");
    }
    ids_are_learnt_as_their_labels_say(home);
}

fn ids_are_learnt_as_their_labels_say(home: &Path) {
    let data = home.join("ids.jsonl");
    let read = |record: Value| {
        std::fs::write(&data, format!("{record}\n"))?;
        match formats::read(&data, &Layout::default())?.remove(0) {
            Item::Tokens(row) => Ok((row.ids, row.supervised)),
            other => anyhow::bail!("{other:?}"),
        }
    };
    let row = |more: Value| {
        let mut row = json!({ "input_ids": [5, 6, 7, 8] });
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        row
    };
    let (all, last) = (vec![true; 4], vec![false, false, true, true]);
    for (more, want) in [
        (json!({}), &all),
        (
            json!({
                "labels": [5, 6, 7, 8], "attention_mask": [1, 1, 1, 1], "text": "",
                "token_type_ids": [0, 0, 0, 0], "length": 4,
            }),
            &all,
        ),
        (json!({ "labels": [-100, -100, 7, 8] }), &last),
        (json!({ "completion_mask": [0, 0, 1, 1], "position_ids": [0, 1, 2, 3] }), &last),
        (json!({ "assistant_masks": [0, 0, 1, 1], "labels": [5, 6, 7, 8] }), &last),
        (json!({ "mask_first": 2, "seq_lengths": [4] }), &last),
    ] {
        assert_eq!(read(row(more.clone())).unwrap(), (vec![5, 6, 7, 8], want.clone()), "{more}");
    }
    let padded = json!({ "labels": [-100, 6, 7, -100], "attention_mask": [0, 1, 1, 0] });
    assert_eq!(read(row(padded)).unwrap(), (vec![6, 7], vec![true, true]));
    for (more, want) in [
        (
            json!({ "labels": [5, 6, 7, 9] }),
            "`labels[3]` is 9, expected `input_ids[3]`, which is 8, or -100",
        ),
        (json!({ "labels": [5, 6, 7] }), "`labels` holds 3 numbers, and the row has 4 ids"),
        (
            json!({ "attention_mask": [1, 1, 1, 0] }),
            "token 3 is padding (`attention_mask` 0) and counts in the loss",
        ),
        (
            json!({ "attention_mask": [1, 0, 1, 1] }),
            "`attention_mask[1]` is 0 between tokens that are seen",
        ),
        (json!({ "position_ids": [0, 1, 0, 1] }), "`position_ids` are not 0, 1, 2"),
        (json!({ "seq_lengths": [2, 2] }), "`seq_lengths` divides the row"),
        (json!({ "ids": [1] }), "has `ids` and `input_ids`"),
        (
            json!({ "label": [5, 6, 7, 8], "lables": [5] }),
            "unknown key `lables`; did you mean `labels`?",
        ),
    ] {
        let error = read(row(more.clone())).err().unwrap_or_else(|| panic!("{more} is accepted"));
        assert!(error.to_string().contains(want), "{error}");
    }
}

/// `show.rhai` of the case, on a folder of its own and a template.
fn shown(data: &str, template: &str) -> Option<Ran> {
    let folder = case("silent-columns-dropped")?;
    let (model, data) =
        (folder.join("model").display().to_string(), folder.join(data).display().to_string());
    Some(recipe(
        &folder.join("show.rhai"),
        &[("model", &model), ("data", &data), ("template", template)],
        &[],
    ))
}

#[test]
fn keys_that_change_what_is_learnt_are_worded_or_refused() {
    let Some(tools) = shown("tools", "chat") else { return };
    tools.says(&[
        "<|im_start|>tools\n\
         [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {}}}]\n",
        "⟦Yes<|im_end|>⟧",
    ]);
    shown("system", "chat").unwrap().says(&[
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>",
        "⟦Yes<|im_end|>⟧",
    ]);
    let before = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n\
                  What is snow?<|im_end|>\n<|im_start|>assistant\n⟦White.<|im_end|>⟧\n";
    shown("history", "chat").unwrap().says(&[
        before,
        "<|im_start|>user\nAnd fire?<|im_end|>\n<|im_start|>assistant\n⟦Hot.<|im_end|>⟧",
    ]);
    for template in ["alpaca", "none", "cloze", "llm-adapters"] {
        let said =
            format!("has `system` and `history`, which the template `{template}` has no place for");
        shown("history", template).unwrap().refused(3, &[&said, "`template: \"chat\"` words it"]);
    }
    for template in ["none", "alpaca", "chat"] {
        shown("kto", template)
            .unwrap()
            .refused(3, &["`label` is false", "KTO", "leave out the records"]);
    }
}

#[test]
fn columns_beside_the_used_ones_are_named_once() {
    let Some(folder) = case("silent-columns-dropped") else { return };
    let home = tempfile::tempdir().unwrap();
    let row = |n: usize| {
        format!(
            "{{\"instruction\": \"Hi {n}\", \"input\": \"\", \
             \"output\": \"Yes\", \"text\": \"Below … Yes\", \"id\": {n}, \"mood\": \"x\"}}\n"
        )
    };
    std::fs::write(home.path().join("train.jsonl"), (0..3).map(row).collect::<String>()).unwrap();
    let model = folder.join("model").display().to_string();
    let ran = eval(home.path(), &model, "train.jsonl", &[]);
    ran.says(&["`train.jsonl`: columns not used: `mood`, `text`\n"]).nll();
    assert_eq!(ran.stderr.matches("columns not used").count(), 1, "{}", ran.stderr);
    let quiet = eval(home.path(), &model, "train.jsonl", &["--quiet"]);
    assert!(!quiet.stderr.contains("columns not used"), "{}", quiet.stderr);
}
