//! Models, data and adapters that cannot be used: the exact message of each, exit code 3, and
//! nothing half done.
//!
//! `XGBRUN_BLESS=1 cargo test --release --test runs bad_input` writes bad_input.txt anew; read the
//! diff.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::tiny::{Tensor, Tiny, write_safetensors};
use crate::common::{tiny_gguf, tiny_tokenizer};
use crate::harness::{Home, files};

/// What breaks the files of a good home; the argument is the folder that holds `model/`, `data/`
/// and `adapter/`.
type Break = Box<dyn Fn(&Path)>;

/// A name, what breaks the files, and what is given beside the defaults.
type Case = (&'static str, Break, Vec<&'static str>);

const GGUF: &[&str] = &["-p", "model=model.gguf"];
const TRAIN: &[&str] = &["-p", "data=train.jsonl"];
const ADAPTER: &[&str] = &["-p", "adapter=adapter"];

fn rewrite(path: &str, bytes: impl Into<Vec<u8>>) -> Break {
    let (path, bytes) = (path.to_string(), bytes.into());
    Box::new(move |home| fs::write(home.join(&path), &bytes).unwrap())
}

fn remove(path: &'static str) -> Break {
    Box::new(move |home| fs::remove_file(home.join(path)).unwrap())
}

/// Cuts a file to a part of its length.
fn cut(path: &'static str, keep: f64) -> Break {
    Box::new(move |home| {
        let bytes = fs::read(home.join(path)).unwrap();
        fs::write(home.join(path), &bytes[..(bytes.len() as f64 * keep) as usize]).unwrap();
    })
}

/// Sets keys of a JSON file.
fn set(path: &'static str, keys: Value) -> Break {
    Box::new(move |home| {
        let mut json: Value = serde_json::from_slice(&fs::read(home.join(path)).unwrap()).unwrap();
        for (key, value) in keys.as_object().unwrap() {
            json[key] = value.clone();
        }
        fs::write(home.join(path), json.to_string()).unwrap();
    })
}

fn both(first: Break, second: Break) -> Break {
    Box::new(move |home| {
        first(home);
        second(home);
    })
}

/// Changes the list of tensors before it is written.
fn tensors(change: fn(&mut Vec<Tensor>)) -> Break {
    Box::new(move |home| {
        let tiny = Tiny::default();
        let mut tensors = tiny.tensors();
        change(&mut tensors);
        write_safetensors(&home.join("model/model.safetensors"), &tensors, tiny.dtype);
    })
}

/// A GGUF file with one number of its metadata changed.
fn gguf(key: &'static str, value: u32) -> Break {
    rewrite(
        "model.gguf",
        tiny_gguf::bytes(&Tiny::default(), |k, n| if k == key { value } else { n }),
    )
}

/// Factors on one module, in a file of an adapter.
fn factors(module: &str, a: [usize; 2], b: [usize; 2]) -> Break {
    let name = |part: &str| format!("base_model.model.{module}.lora_{part}.weight");
    let tensor = |name, shape: [usize; 2]| (name, shape.to_vec(), vec![0.5; shape[0] * shape[1]]);
    let tensors = [tensor(name("A"), a), tensor(name("B"), b)];
    Box::new(move |home| {
        write_safetensors(
            &home.join("adapter/adapter_model.safetensors"),
            &tensors,
            safetensors::Dtype::F32,
        )
    })
}

fn models() -> Vec<Case> {
    let config = "model/config.json";
    let cases: Vec<(&'static str, Break)> = vec![
        ("no weights", remove("model/model.safetensors")),
        ("no config", remove(config)),
        ("no tokenizer", remove("model/tokenizer.json")),
        ("weights cut in the numbers", cut("model/model.safetensors", 0.9)),
        ("weights cut in the header", cut("model/model.safetensors", 0.01)),
        ("weights empty", rewrite("model/model.safetensors", "")),
        ("weights no safetensors", rewrite("model/model.safetensors", vec![0xff; 4096])),
        ("weights of another shape", tensors(|t| t[1] = (t[1].0.clone(), vec![8], vec![1.0; 8]))),
        ("a tensor missing", tensors(|t| drop(t.remove(5)))),
        ("several tensors missing", tensors(|t| t.truncate(20))),
        (
            "a tensor misspelt",
            tensors(|t| t[2].0 = "model.layers.0.self_attn.q_porj.weight".into()),
        ),
        (
            "a tensor too many",
            tensors(|t| t.push(("model.layers.2.mlp.up_proj.bias".into(), vec![1], vec![1.0]))),
        ),
        ("weights of integers", Box::new(integers)),
        ("config no JSON", rewrite(config, "{\"model_type\": \"llama\",\n  oops")),
        ("config a list", rewrite(config, "[]")),
        ("config without a size", set(config, json!({ "hidden_size": null }))),
        ("config with a text for a size", set(config, json!({ "hidden_size": "16" }))),
        ("config with a negative size", set(config, json!({ "num_hidden_layers": -3 }))),
        ("config of absurd width", set(config, json!({ "hidden_size": 2_000_000_000u64 }))),
        ("config of absurd depth", set(config, json!({ "num_hidden_layers": 2_000_000_000u64 }))),
        ("config beyond all numbers", set(config, json!({ "vocab_size": u64::MAX }))),
        ("config with heads that do not divide", set(config, json!({ "num_key_value_heads": 3 }))),
        ("config of unknown architecture", set(config, json!({ "model_type": "lama" }))),
        ("config of a distant architecture", set(config, json!({ "model_type": "mamba" }))),
        (
            "config of quantised weights",
            set(config, json!({ "quantization_config": { "quant_method": "gptq" } })),
        ),
        ("config of unknown activation", set(config, json!({ "hidden_act": "swish9" }))),
        (
            "config of unknown rope scaling",
            set(config, json!({ "rope_scaling": { "rope_type": "su", "factor": 2.0 } })),
        ),
        (
            "config of rope scaling without a factor",
            set(config, json!({ "rope_scaling": { "rope_type": "linear" } })),
        ),
        ("config of rope scaling that is no object", set(config, json!({ "rope_scaling": 7 }))),
        (
            // The config's counts where the tokenizer names none.
            "config with an end beyond the vocabulary",
            both(
                set(config, json!({ "eos_token_id": 70_000 })),
                rewrite("model/tokenizer_config.json", "{}"),
            ),
        ),
        ("tokenizer no JSON", rewrite("model/tokenizer.json", "{\"model\": ")),
        ("tokenizer of no kind", rewrite("model/tokenizer.json", "{}")),
        ("tokenizer with a wild merge", Box::new(wild_merge)),
    ];
    cases.into_iter().map(|(name, change)| (name, change, vec![])).collect()
}

/// Another type of the same size in the header.
fn integers(home: &Path) {
    let path = home.join("model/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    while let Some(at) = bytes.windows(5).position(|w| w == b"\"F32\"") {
        bytes[at..at + 5].copy_from_slice(b"\"I32\"");
    }
    fs::write(path, bytes).unwrap();
}

fn wild_merge(home: &Path) {
    let mut json = tiny_tokenizer::json();
    json["model"]["merges"][3] = json!(["q", "q"]);
    fs::write(home.join("model/tokenizer.json"), json.to_string()).unwrap();
}

fn ggufs() -> Vec<Case> {
    let good = || tiny_gguf::bytes(&Tiny::default(), |_, n| n);
    let part = |keep: f64| rewrite("model.gguf", &good()[..(good().len() as f64 * keep) as usize]);
    let counted = |at: usize| {
        let mut bytes = good();
        bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        rewrite("model.gguf", bytes)
    };
    let cases = vec![
        ("gguf that is not there", rewrite("other.gguf", "")),
        ("gguf empty", rewrite("model.gguf", "")),
        (
            "gguf of something else",
            rewrite("model.gguf", "ONNX and much more of it, as a file may be"),
        ),
        ("gguf cut in the metadata", part(0.05)),
        ("gguf cut in the numbers", part(0.8)),
        ("gguf of absurdly many tensors", counted(8)),
        ("gguf of absurdly many entries", counted(16)),
        ("gguf of absurd width", gguf("llama.embedding_length", u32::MAX)),
        ("gguf of absurd depth", gguf("llama.block_count", 2_000_000_000)),
        ("gguf of no layers", gguf("llama.block_count", 0)),
        ("gguf of more layers than it holds", gguf("llama.block_count", 4)),
        ("gguf of fewer layers than it holds", gguf("llama.block_count", 2)),
        ("gguf of no heads", gguf("llama.attention.head_count", 0)),
        ("gguf of heads that do not divide", gguf("llama.attention.head_count", 5)),
        ("gguf with an end beyond the vocabulary", gguf("tokenizer.ggml.eos_token_id", 70_000)),
    ];
    cases.into_iter().map(|(name, change)| (name, change, GGUF.to_vec())).collect()
}

fn data() -> Vec<Case> {
    let train = "data/train.json";
    let folder = vec![
        (
            "data no JSON in line 3",
            rewrite(train, "[\n {\"instruction\": \"a\",\n  \"input\" \"\"}\n]\n"),
        ),
        ("data cut short", cut(train, 0.5)),
        ("data empty", rewrite(train, "")),
        ("data an empty list", rewrite(train, "[]")),
        ("data an object", rewrite(train, "{}")),
        (
            "data without an output",
            rewrite(train, "[{\"instruction\": \"a\", \"input\": \"\", \"answer\": \"b\"}]"),
        ),
        (
            "data with a number for a text",
            rewrite(
                train,
                "[{\"instruction\": 1, \"input\": \"\", \"output\": \"b\", \"answer\": \"b\"}]",
            ),
        ),
        ("data not UTF-8", rewrite(train, b"[\n\"\xff\"]".to_vec())),
    ];
    let rows = vec![
        (
            "rows with an id beyond the vocabulary",
            rewrite("train.jsonl", "{\"ids\": [1, 2, 3]}\n{\"ids\": [1, 70000]}\n"),
        ),
        ("rows with a negative id", rewrite("train.jsonl", "{\"ids\": [1, -2, 3]}\n")),
        (
            "rows with an unknown key",
            rewrite("train.jsonl", "\n{\"ids\": [1, 2, 3], \"mask_frist\": 1}\n"),
        ),
        (
            "rows with too long a mask",
            rewrite("train.jsonl", "{\"ids\": [1, 2, 3], \"mask_first\": 4}\n"),
        ),
        ("rows cut short", rewrite("train.jsonl", "{\"ids\": [1, 2, 3]}\n{\"ids\": [1, 2")),
        ("rows with nothing to learn", rewrite("train.jsonl", "{\"ids\": [1]}\n{\"ids\": []}\n")),
        ("rows that are not there", rewrite("other.jsonl", "")),
    ];
    let with = |arguments: &[&'static str]| arguments.to_vec();
    let folder = folder.into_iter().map(|(name, change)| (name, change, vec![]));
    folder.chain(rows.into_iter().map(|(name, change)| (name, change, with(TRAIN)))).collect()
}

fn adapters() -> Vec<Case> {
    let config = "adapter/adapter_config.json";
    let weights = "adapter/adapter_model.safetensors";
    let q = "model.layers.1.self_attn.q_proj";
    let cases = vec![
        ("adapter without a config", remove(config)),
        ("adapter without weights", remove(weights)),
        ("adapter cut short", cut(weights, 0.7)),
        ("adapter config no JSON", rewrite(config, "r = 4")),
        (
            "adapter config without a rank",
            rewrite(config, "{\"peft_type\": \"LORA\", \"lora_alpha\": 4}"),
        ),
        ("adapter of another kind", set(config, json!({ "peft_type": "LOHA" }))),
        ("adapter of DoRA", set(config, json!({ "use_dora": true }))),
        ("adapter with biases", set(config, json!({ "lora_bias": true }))),
        ("adapter with whole modules", set(config, json!({ "modules_to_save": ["lm_head"] }))),
        (
            "adapter for a layer too many",
            factors("model.layers.3.self_attn.q_proj", [1, 16], [16, 1]),
        ),
        ("adapter for another module", factors("model.layers.1.attention.query", [1, 16], [16, 1])),
        ("adapter of another width", factors(q, [1, 32], [32, 1])),
        ("adapter of two ranks", factors(q, [2, 16], [16, 1])),
        ("adapter of half a pair", Box::new(half_a_pair)),
    ];
    cases.into_iter().map(|(name, change)| (name, change, ADAPTER.to_vec())).collect()
}

fn half_a_pair(home: &Path) {
    let name = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight".to_string();
    write_safetensors(
        &home.join("adapter/adapter_model.safetensors"),
        &[(name, vec![16, 1], vec![0.5; 16])],
        safetensors::Dtype::F32,
    );
}

const RECIPE: &str = "
if p.adapter != \"\" { model.evaluate(task.test, #{ booster: model.load_adapter(p.adapter) }); }
let booster = model.booster(#{ layers: [0] });
booster.fit(task.train, #{ steps: 1, optimizer: adamw(#{ lr: 0.01 }) });
booster.save(\"booster\");
model.save(\"model\");
";

/// A home with an adapter beside model and data.
fn with_adapter() -> Home {
    let home = Home::new();
    fs::create_dir(home.path().join("adapter")).unwrap();
    let config = json!({
        "peft_type": "LORA", "r": 1, "lora_alpha": 2, "target_modules": ["q_proj"], "bias": "none",
    });
    fs::write(home.path().join("adapter/adapter_config.json"), config.to_string()).unwrap();
    factors("model.layers.1.self_attn.q_proj", [1, 16], [16, 1])(home.path());
    home
}

/// Runs a case: standard error, and what is wrong beside its text.
fn run((name, change, arguments): &Case) -> (String, Option<String>) {
    let home = with_adapter();
    change(home.path());
    let run = home.recipe(RECIPE, "run", arguments);
    let left = files(&run.out);
    let begun = ["journal.jsonl", "metrics.jsonl", "recipe.rhai", "run.json"];
    let wrong = match () {
        _ if run.code != Some(3) => Some(format!("exit {:?}", run.code)),
        _ if run.said.contains("failed inside") || run.said.contains("panicked") => {
            Some("a panic".into())
        }
        _ if !left.is_empty() && left != begun => Some(format!("it left {left:?}")),
        _ => None,
    };
    (format!("--- {name}\n{}", run.said), wrong)
}

#[test]
fn every_bad_input_is_told_what_is_wrong() {
    let cases: Vec<Case> = [models(), ggufs(), data(), adapters()].into_iter().flatten().collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runs/bad_input.txt");
    let (found, wrong): (Vec<String>, Vec<Option<String>>) = cases.iter().map(run).unzip();
    if std::env::var_os("XGBRUN_BLESS").is_some() {
        fs::write(&path, found.concat()).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    let faults: Vec<String> = cases
        .iter()
        .zip(wrong)
        .filter_map(|((name, ..), wrong)| Some(format!("{name}: {}", wrong?)))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for text in &found {
        assert!(wanted.contains(text), "not as in bad_input.txt:\n{text}");
    }
    assert_eq!(found.concat().len(), wanted.len(), "bad_input.txt has a case that is not run");
}

/// What the cases break is good before.
#[test]
fn good_input_is_taken() {
    let home = with_adapter();
    fs::write(home.path().join("model.gguf"), tiny_gguf::bytes(&Tiny::default(), |_, n| n))
        .unwrap();
    home.recipe(RECIPE, "folder", ADAPTER).good();
    home.recipe(RECIPE, "file", GGUF).good();
    // Both forms are the same model.
    let nll = |out: &str, model: &str| {
        home.printed(
            "print(model.evaluate(task.test).nll);",
            out,
            &["-p", "data=text", "-p", model],
        )
    };
    assert_eq!(nll("a", "model=model"), nll("b", "model=model.gguf"));
}
