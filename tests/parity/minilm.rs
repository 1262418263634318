//! all-MiniLM-L6-v2, a real encoder, against transformers and peft.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use candle_core::DType;
use serde_json::Value;
use xgbrun::boost::adapter::{self, Weights};
use xgbrun::model::load::Loaded;
use xgbrun::model::{Adapter, GradRequest, Tokens};

use crate::common;
use crate::encoders::{distance, json, numbers, open};

#[test]
fn minilm_computes_and_trains_as_in_pytorch() -> Result<()> {
    let (Some(python), Some(folder)) =
        (common::model("peer/bin/python"), common::model("minilm/model.safetensors"))
    else {
        return Ok(());
    };
    let folder = folder.parent().context("a folder")?.to_owned();
    let home = tempfile::tempdir()?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/minilm.py");
    let mut command = Command::new(python);
    let out = command.arg(script).arg(&folder).arg(home.path());
    let out = out.env("HF_HUB_OFFLINE", "1").output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let want = json(&home.path().join("expected.json"))?;

    let Loaded { model, tokenizer, .. } = open(&folder, DType::F32)?;
    let lists =
        |key: &str| -> Result<Vec<Vec<u32>>> { Ok(serde_json::from_value(want[key].clone())?) };
    let (ids, types, mut starts) = (lists("ids")?, lists("types")?, vec![0]);
    ids.iter().for_each(|own| starts.push(starts[starts.len() - 1] + own.len()));
    let pairs: Vec<(String, String)> = serde_json::from_value(want["pairs"].clone())?;
    for ((text, pair), (ids, types)) in pairs.iter().zip(ids.iter().zip(&types)) {
        let got = tokenizer.encode_whole(text, Some(pair), 512)?;
        ensure!((&got.ids, &got.types) == (ids, types), "{text}: {:?}", got.ids);
    }
    let tokens = Tokens::sequences(ids.concat(), &starts).typed(types.concat());
    let hidden = numbers(&model.hidden_states(&tokens, &Adapter::default())?)?;
    let (_, apart) = distance(&hidden, &want["hidden"])?;
    println!("hidden states are off by {apart:e} at most");
    ensure!(apart < 1e-4, "{apart:e}");

    let model = open(&home.path().join("model"), DType::F32)?.model;
    let booster = adapter::load(&home.path().join("adapter"), &model, Weights::Base)?.booster;
    ensure!(booster.layers() == [1, 4], "{:?}", booster.layers());
    let adapter = &booster.adapter;
    let full = adapter.full().keys().cloned().collect();
    let request = GradRequest { adapter, full: &full, gradient_checkpointing: false };
    let labels: Vec<u32> = serde_json::from_value(want["labels"].clone())?;
    let rows = &starts[..labels.len()];
    let weight = 1.0 / labels.len() as f64;
    let (losses, found) = model.gradients(&tokens, rows, &labels, weight, &request)?;
    let loss = losses.iter().sum::<f64>() * weight;
    ensure!((loss - want["loss"].as_f64().context("a loss")?).abs() < 1e-5, "{loss}");
    let near = |name: &str, got: &candle_core::Tensor, want: &Value| -> Result<()> {
        let apart = distance(&numbers(got)?, want)?.0;
        ensure!(apart < 1e-3, "the gradient of {name} is off by {apart:e}");
        Ok(())
    };
    for (linear, (da, db)) in &found.pairs {
        for (part, gradient) in [("A", da), ("B", db)] {
            let name = format!("base_model.model.{}.lora_{part}.weight", linear.name);
            near(&name, gradient, &want["gradients"][&name])?;
        }
    }
    for (id, gradient) in &found.full {
        let (module, rest) = id.name.split_once('.').context("a module")?;
        let name = format!("base_model.model.{module}.modules_to_save.{rest}");
        near(&name, gradient, &want["gradients"][&name])?;
    }
    ensure!(found.pairs.len() == 12 && found.full.len() == 2, "{}", found.full.len());
    Ok(())
}
