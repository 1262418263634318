//! Models and adapters that go out to transformers and peft, and come back.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::{Home, common};

/// Mean NLL of token rows by transformers, with an adapter where one is given.
const NLL: &str = r#"
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, rows, adapter, text = sys.argv[1:5]
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
if adapter:
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, adapter).eval()
total, count = 0.0, 0
for line in open(rows):
    ids = torch.tensor([json.loads(line)["ids"]])
    with torch.no_grad():
        logits = model(ids).logits[0, :-1].double()
    nll = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
    total, count = total + nll.item(), count + ids.shape[1] - 1
tokenizer = AutoTokenizer.from_pretrained(folder)
print(json.dumps({"nll": total / count, "ids": tokenizer(text, add_special_tokens=False)["input_ids"]}))
"#;

fn transformers(model: &str, rows: &str, adapter: &str, text: &str) -> Option<Value> {
    let python = common::model("peer/bin/python")?;
    let output = Command::new(python).args(["-c", NLL, model, rows, adapter, text]).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn nll(summary: &Value) -> f64 {
    summary["nll"].as_f64().unwrap()
}

#[test]
fn what_is_saved_is_what_transformers_and_peft_load() {
    let home = Home::make();
    fs::create_dir(home.at("t")).unwrap();
    let rows: Vec<String> =
        (0..4u32).map(|k| format!("{{\"ids\": {:?}}}", (0..20).map(|i| (i * 7 + k * 31) % 256).collect::<Vec<u32>>())).collect();
    fs::write(home.at("t/test.jsonl"), rows.join("\n")).unwrap();
    fs::write(home.at("t/train.jsonl"), rows.join("\n")).unwrap();
    let body = r#"
        let b = model.booster(#{ layers: [1], rank: 2, targets: ["q_proj", "down_proj"], alpha: 3.0 });
        b.fit(task.train, #{ steps: 8, batch: 4, optimizer: adamw(#{ lr: 5e-2 }) });
        b.save("adapter");
        model.evaluate(task.test);
        let over = model.evaluate(task.test, #{ booster: b });
        model.merge(b);
        let merged = model.evaluate(task.test);
        if abs(over.nll - merged.nll) > 1e-5 { throw `${over.nll} over, ${merged.nll} merged`; }
        model.save("model");
    "#;
    home.good(body, "o", &["-p", "model=m", "-p", "data=t"]);
    let summary = home.summary("o");
    let (base, tuned) = (nll(&summary["base"]), nll(&summary["tuned"]));
    assert!((base - tuned).abs() > 1e-2, "{summary}");

    // The adapter comes back as a booster with the same effect, and half of it at half the step weight.
    let body = r#"
        let b = model.load_adapter(p.adapter);
        print(model.evaluate(task.test, #{ booster: b }).nll);
        model.merge(b, 0.5);
        model.merge(model.load_adapter(p.adapter), 0.5);
        model.evaluate(task.test);
    "#;
    home.good(body, "back", &["-p", "model=m", "-p", "data=t", "-p", "adapter=o/adapter"]);
    assert!((nll(&home.summary("back")["tuned"]) - tuned).abs() < 1e-5);

    let at = |name: &str| home.at(name).display().to_string();
    let Some(theirs) = transformers(&at("o/model"), &at("t/test.jsonl"), "", "a  5 é") else { return };
    assert!((nll(&theirs) - tuned).abs() < 1e-4, "merged: {theirs}, {tuned}");
    let theirs = transformers(&at("m"), &at("t/test.jsonl"), &at("o/adapter"), "a").unwrap();
    assert!((nll(&theirs) - tuned).abs() < 1e-4, "adapter: {theirs}, {tuned}");
}

#[test]
fn a_gguf_model_is_saved_as_transformers_loads_it() {
    let (Some(gguf), Some(reference)) = (common::model(common::GGUF), common::shared("peer/reference.json")) else { return };
    let paragraph: Value = serde_json::from_str::<Value>(&fs::read_to_string(reference).unwrap()).unwrap()["paragraph"].clone();
    let home = Home::make();
    fs::create_dir(home.at("t")).unwrap();
    fs::write(home.at("t/test.jsonl"), format!("{{\"ids\": {}}}", paragraph["ids"])).unwrap();
    home.good(
        "model.evaluate(task.test, #{ items: 0 });\nmodel.save(\"model\");",
        "o",
        &["-p", &format!("model={}", gguf.display()), "-p", "data=t"],
    );
    let (ours, want) = (nll(&home.summary("o")["base"]), paragraph["mean_nll"].as_f64().unwrap());
    assert!((ours - want).abs() < 1e-4, "{ours} is not {want}");
    let at = |name: &str| home.at(name).display().to_string();
    let Some(theirs) = transformers(&at("o/model"), &at("t/test.jsonl"), "", paragraph["text"].as_str().unwrap()) else { return };
    assert!((nll(&theirs) - want).abs() < 1e-4, "{}", theirs["nll"]);
    assert_eq!(theirs["ids"], paragraph["ids"]);
}

#[test]
fn a_real_adapter_has_the_effect_it_has_in_pytorch() {
    let (Some(model), Some(adapter)) = (common::model(common::FOLDER), common::model("lora-reference/trained")) else { return };
    let Some(reference) = common::shared("peer/lora_reference.json") else { return };
    let reference: Value = serde_json::from_str(&fs::read_to_string(reference).unwrap()).unwrap();
    let home = Home::make();
    let rows: Vec<String> = reference["ids"].as_array().unwrap().iter().map(|ids| format!("{{\"ids\": {ids}}}")).collect();
    fs::write(home.at("rows.jsonl"), rows.join("\n")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_xgbrun"))
        .args(["eval", &model.display().to_string(), "--data", &home.at("rows.jsonl").display().to_string()])
        .args(["--adapter", &adapter.display().to_string(), "--json", "--quiet"])
        .output()
        .unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", crate::said(&output)));
    let (ours, want) = (nll(&found["metrics"]), reference["adamw"]["loss_after"].as_f64().unwrap());
    assert!((ours / want - 1.0).abs() < 1e-5, "{ours} is not {want}");
}
