//! Broken models, data and adapters: a named error, exit 3, never a panic.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::{Home, said};

/// Changes the JSON file at `path`.
fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn cut(path: &Path, keep: usize) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..keep.min(bytes.len() - 1)]).unwrap();
}

/// Breaks something in a fresh home; what the program must say, in part.
type Case = (&'static str, fn(&Home), &'static str);

const CASES: [Case; 21] = [
    ("no weights", |h| fs::remove_file(h.at("m/model.safetensors")).unwrap(), "model folder `m` has no model.safetensors"),
    ("no config", |h| fs::remove_file(h.at("m/config.json")).unwrap(), "model folder `m` has no config.json"),
    ("no tokenizer", |h| fs::remove_file(h.at("m/tokenizer.json")).unwrap(), "model folder `m` has no tokenizer.json"),
    ("weights cut", |h| cut(&h.at("m/model.safetensors"), 9000), "model.safetensors"),
    ("weights cut in the header", |h| cut(&h.at("m/model.safetensors"), 30), "model.safetensors"),
    (
        "config is no JSON",
        |h| fs::write(h.at("m/config.json"), "{\n\"model_type\": llama}").unwrap(),
        "`m/config.json` is no JSON: expected value at line 2",
    ),
    (
        "unknown architecture",
        |h| edit(&h.at("m/config.json"), |c| c["model_type"] = json!("qwen")),
        "unknown architecture `qwen`; known are llama, mistral, qwen2, qwen3; did you mean `qwen2`?",
    ),
    (
        "quantised",
        |h| edit(&h.at("m/config.json"), |c| c["quantization_config"] = json!({"quant_method": "gptq"})),
        "the weights are quantised (`gptq`)",
    ),
    ("size missing", |h| edit(&h.at("m/config.json"), |c| c["hidden_size"] = Value::Null), "config.json has no `hidden_size`"),
    ("absurd size", |h| edit(&h.at("m/config.json"), |c| c["num_hidden_layers"] = json!(1e6 as u64)), "impossible sizes: 1000000 layers"),
    ("negative size", |h| edit(&h.at("m/config.json"), |c| c["vocab_size"] = json!(-5)), "`vocab_size` is -5, not a positive whole number"),
    (
        "wrong shape",
        |h| edit(&h.at("m/config.json"), |c| c["intermediate_size"] = json!(32)),
        "tensor `model.layers.0.mlp.gate_proj.weight` has shape [24, 16], the config asks for [32, 16]",
    ),
    (
        "tensor missing",
        |h| edit(&h.at("m/config.json"), |c| c["num_hidden_layers"] = json!(3)),
        "the weights have no tensor `model.layers.2.input_layernorm.weight` (and 8 more)",
    ),
    (
        "tensor too many",
        |h| edit(&h.at("m/config.json"), |c| c["num_hidden_layers"] = json!(1)),
        "the weights have a tensor `model.layers.1.input_layernorm.weight` (and 8 more) that a `llama` model of this config does not have",
    ),
    ("tokenizer is no JSON", |h| cut(&h.at("m/tokenizer.json"), 50), "m/tokenizer.json"),
    ("a GGUF cut short", |h| fs::write(h.at("m.gguf"), b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0").unwrap(), "m.gguf"),
    ("a GGUF of absurd size", |h| fs::write(h.at("m.gguf"), [b"GGUF\x03\0\0\0".as_slice(), &[0xff; 16]].concat()).unwrap(), "m.gguf"),
    ("data are no JSON", |h| fs::write(h.at("d/train.json"), "[\n{\"instruction\": 3,,}]").unwrap(), "`d/train.json` line 2"),
    ("data are empty", |h| fs::write(h.at("d/train.json"), "[]").unwrap(), "d/train.json"),
    ("no data", |h| fs::remove_dir_all(h.at("d")).unwrap(), "`d` names nothing that is there"),
    (
        "a token beyond the vocabulary",
        |h| {
            fs::remove_file(h.at("d/train.json")).unwrap();
            fs::write(h.at("d/train.jsonl"), "{\"ids\": [1, 2]}\n{\"ids\": [1, 257]}\n").unwrap();
        },
        "line 2",
    ),
];

#[test]
fn broken_input_is_named_with_exit_3() {
    for (name, break_it, want) in CASES {
        let home = Home::make();
        break_it(&home);
        let model = if home.at("m.gguf").exists() { "model=m.gguf" } else { "model=m" };
        let body = "let b = model.booster(#{ layers: [0] });\nb.fit(task.train, #{ steps: 1, optimizer: sgd(#{ lr: 0 }) });";
        let output = home.run(body, "o", &["-p", model, "-p", "data=d"]);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(3), "{name}: {said}");
        assert!(said.contains(want) && said.starts_with("error: "), "{name}: {said:?} does not say {want:?}");
        assert!(!said.contains("panicked"), "{name}: {said}");
    }
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_says_where() {
    let home = Home::make();
    let body = "let b = model.booster(#{ layers: [1] });\nb.fit(task.train, #{ steps: 5, optimizer: sgd(#{ lr: 1e30 }) });";
    let output = home.run(body, "o", &[]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the loss became ") && said.contains("of a booster on layers {1}"), "{said}");
    assert!(!home.losses("o").is_empty(), "the steps before it are on record");
}
