//! A run's model in other programs: the adapter over the base in peft, the merged folder and the
//! GGUF file in transformers.

use std::process::Command;

use candle_core::{DType, Device};
use serde_json::json;
use xgbrun::model::load::open;
use xgbrun::model::{Adapter, Tokens};
use xgbrun::source::Grants;

use crate::common;
use crate::harness::{self, Home};

const PROMPT: &str = "The three most important things about bread are";

#[test]
fn exports_are_the_same_model_in_peft_and_transformers() {
    let (Some(python), Some(base)) =
        (common::model("peer/bin/python"), common::model(common::FOLDER))
    else {
        return;
    };
    let home = Home::new();
    let body = format!(
        "let s = sampler(\"layers\");
        for round in 0..4 {{
            let layers = s.choose(model.layers, 2);
            let b = model.booster(#{{ layers: layers, rank: 1 + round % 2, alpha: 2.0 }});
            b.fit(task.train, #{{ steps: 2, batch: 2, optimizer: adamw(#{{ lr: 0.003 }}) }});
            model.merge(b, 1.0 - 0.25 * round);
        }}
        print(model.generate({PROMPT:?}, #{{ max_tokens: 12 }}));"
    );
    let model = format!("model={}", base.display());
    let run = home.recipe(&body, "run", &["-p", &model, "-p", "data=text"]).good();
    for form in [
        &["--merged", "merged", "--max-shard-mib", "200"][..],
        &["--peft", "adapter"],
        &["--gguf", "model.gguf"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
        let output =
            command.current_dir(home.path()).args(["export", "run"]).args(form).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let path = |name: &str| home.path().join(name);
    assert!(
        path("merged/model-00003-of-00003.safetensors").exists()
            && !path("merged/model.safetensors").exists()
    );
    let job = json!({
        "base": base, "adapter": path("adapter"), "merged": path("merged"),
        "gguf": path("model.gguf"), "text": PROMPT, "tokens": 12,
    });
    let theirs = harness::python(&python, "exported.py", &job);

    let loaded =
        open(path("merged").to_str().unwrap(), &Grants::everything(), &Device::Cpu, DType::F32)
            .unwrap();
    let ids = loaded.tokenizer.encode(PROMPT).unwrap();
    assert_eq!((json!(ids), &theirs["ids"]), (theirs["ids"].clone(), &theirs["gguf_ids"]));
    let last = ids.len() - 1;
    let ours = loaded
        .model
        .logits(&Tokens::one(ids), &[last], &Adapter::default())
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    for what in ["adapter", "merged", "gguf"] {
        let logits: Vec<f64> = serde_json::from_value(theirs[what].clone()).unwrap();
        assert_eq!(logits.len(), ours.len());
        let apart =
            logits.iter().zip(&ours).map(|(a, b)| (a - f64::from(*b)).abs()).fold(0.0, f64::max);
        let size = logits.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        println!("{what}: logits up to {size:.1} are apart by {apart:.1e}");
        assert!(apart < 1e-4, "{what}: {apart:e}");
    }
    let said = run.said.trim_end_matches('\n');
    for what in ["merged_text", "gguf_text"] {
        // The program shows control characters instead of obeying them.
        assert_eq!(theirs[what].as_str().unwrap().trim_end_matches('\n'), said, "{what}");
    }
}
