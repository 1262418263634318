//! Against transformers and peft: what xgbrun saves, they load and measure as xgbrun does, and the
//! other way round.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::common;
use crate::common::tiny::TEXT;
use crate::harness::{self, Home, close, number};
use crate::variants;

/// The interpreter that has torch, transformers and peft.
fn python() -> Option<PathBuf> {
    common::model("peer/bin/python")
}

/// Token ids and mean negative log-likelihood of each job, as tests/runs/peer.py says.
fn measured(python: &Path, jobs: &[Value]) -> Vec<(Vec<u32>, f64)> {
    let answers: Vec<Value> =
        serde_json::from_value(harness::python(python, "peer.py", &json!(jobs))).unwrap();
    assert_eq!(answers.len(), jobs.len());
    let ids = |a: &Value| {
        a["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    answers.iter().map(|a| (ids(a), a["nll"].as_f64().unwrap())).collect()
}

/// Boosts every variant of the tiny model and saves it and a booster; transformers and peft measure
/// the same.
#[test]
fn saved_models_and_boosters_load_in_transformers_and_peft() {
    let Some(python) = python() else { return };
    let mut jobs = vec![];
    let mut wanted: Vec<(String, f64)> = vec![];
    let mut homes = vec![];
    for (name, tiny) in variants::all() {
        let home = Home::with(&tiny);
        let (run, printed) = variants::boost(&home, &[]);
        let body = "let targets = [\"k_proj\", \"o_proj\", \"up_proj\"]; \
                    let b = model.booster(\
                        #{ layers: [1, 0], targets: targets, rank: 2, alpha: 3.0 }); \
                    b.fit(task.train, #{ steps: 6, optimizer: adamw(#{ lr: 0.05 }) }); \
                    b.save(\"adapter\"); \
                    print(model.evaluate(task.test, #{ booster: b }).nll);";
        let boosted = home.recipe(body, "boosted", &["-p", "data=text"]).good();
        let base = home.path().join("model");
        for (what, model, adapter, nll) in [
            ("as it came", base.clone(), None, printed[0]),
            ("saved", run.out.join("model"), None, printed[3]),
            (
                "under its booster",
                base,
                Some(boosted.out.join("adapter")),
                number(boosted.said.trim()),
            ),
        ] {
            jobs.push(json!({ "model": model, "adapter": adapter, "text": TEXT }));
            wanted.push((format!("{name}, {what}"), nll));
        }
        homes.push(home);
    }
    for ((name, nll), (_, theirs)) in wanted.iter().zip(measured(&python, &jobs)) {
        println!("{name}: ours {nll}, theirs {theirs}");
        assert!((nll - theirs).abs() < 1e-4, "{name}: ours {nll}, theirs {theirs}");
    }
}

#[test]
fn a_model_out_of_a_gguf_file_is_one_for_transformers() {
    let (Some(python), Some(gguf)) = (python(), common::model(common::GGUF)) else { return };
    let home = Home::new();
    let text = "The history of bread: in 1850, 3 of 4 households baked at home (mostly rye).\n\n  \
                def f(x):\n\treturn x + 12\n";
    std::fs::write(home.path().join("test.txt"), text).unwrap();
    let model = format!("model={}", gguf.display());
    let body = "model.save(\"model\"); print(model.evaluate(task.test).nll); \
                print(model.evaluate(task.test).tokens);";
    let run = home.recipe(body, "run", &["-p", &model, "-p", "data=test.txt"]).good();
    let printed: Vec<f64> = run.said.lines().map(number).collect();
    let saved = run.out.join("model");
    let tokenizer = xgbrun::source::Tokenizer::from_file(&saved.join("tokenizer.json")).unwrap();
    let answers = measured(&python, &[json!({ "model": saved, "adapter": null, "text": text })]);
    let (ids, nll) = &answers[0];
    assert_eq!(&tokenizer.encode(text).unwrap(), ids);
    // All but the first token are predicted.
    assert_eq!(ids.len() as f64, printed[1] + 1.0);
    println!("ours {}, theirs {nll}", printed[0]);
    close(*nll, printed[0], 1e-4);
}

/// An adapter that was trained with PyTorch, over SmolLM2, measures as PyTorch measured it.
#[test]
fn a_peft_adapter_measures_as_in_pytorch() {
    let (Some(reference), Some(adapter), Some(model)) = (
        common::shared("peer/lora_reference.json"),
        common::model("lora-reference/trained"),
        common::model(common::FOLDER),
    ) else {
        return;
    };
    let reference: Value = serde_json::from_slice(&std::fs::read(reference).unwrap()).unwrap();
    let home = Home::new();
    let rows: String = reference["ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|ids| format!("{}\n", json!({ "ids": ids, "mask_first": reference["mask_first"] })))
        .collect();
    std::fs::write(home.path().join("test.jsonl"), rows).unwrap();
    let grants = [format!("model={}", model.display()), format!("adapter={}", adapter.display())];
    let body = "let b = model.load_adapter(p.adapter); print(model.evaluate(task.test).nll); \
                print(model.evaluate(task.test, #{ booster: b }).nll); model.merge(b); \
                print(model.evaluate(task.test).nll);";
    let lines =
        home.printed(body, "run", &["-p", &grants[0], "-p", &grants[1], "-p", "data=test.jsonl"]);
    let wanted =
        [&reference["base_loss"], &reference["adamw"]["loss_after"], &reference["merged_loss"]];
    for (line, wanted) in lines.iter().zip(wanted) {
        let wanted = wanted.as_f64().unwrap();
        println!("ours {line}, PyTorch {wanted}");
        assert!((number(line) / wanted - 1.0).abs() < 1e-5, "ours {line}, PyTorch {wanted}");
    }
}
