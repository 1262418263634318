//! GPT-2 against transformers and peft, on a tiny random model that `gpt2.py` makes: what is read,
//! computed, trained and written.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use xgbrun::boost::adapter::{self, Weights};
use xgbrun::boost::{Booster, BoosterKind};
use xgbrun::data::{DataLoader, Example};
use xgbrun::model::gguf_save::{self, Storage};
use xgbrun::model::load::{Loaded, load};
use xgbrun::model::{Adapter, GradRequest, Gradients, Model, ParamId, Tokens, save};
use xgbrun::source::{self, Grants, ModelFiles};
use xgbrun::train::optim::Sgd;
use xgbrun::train::{FitOptions, OptimizerKind};

use crate::common;

/// Runs `gpt2.py`.
fn python(mode: &str, home: &Path) -> Result<()> {
    let python = common::model("peer/bin/python").context("the peer")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/gpt2.py");
    let mut command = Command::new(python);
    let out = command.args([script, mode]).arg(home).env("HF_HUB_OFFLINE", "1").output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

fn json(path: &Path) -> Result<Value> {
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}

fn open(folder: &Path, dtype: DType) -> Result<Loaded> {
    let name = folder.to_str().context("a path that is no text")?;
    let files = source::model(&source::resolve(name, &Grants::everything())?)?;
    load(&files, &Device::Cpu, dtype)
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// ‖got − want‖ / ‖want‖.
fn distance(got: &[f64], want: &Value) -> Result<f64> {
    let want: Vec<f64> = match want.as_array().and_then(|rows| rows.first()) {
        Some(Value::Array(_)) => serde_json::from_value::<Vec<Vec<f64>>>(want.clone())?.concat(),
        _ => serde_json::from_value(want.clone())?,
    };
    ensure!(got.len() == want.len(), "{} numbers, not {}", got.len(), want.len());
    let square = |numbers: Vec<f64>| numbers.iter().map(|x| x * x).sum::<f64>();
    let apart = square(got.iter().zip(&want).map(|(a, b)| a - b).collect());
    Ok((apart / square(want)).sqrt())
}

fn logits(model: &Model, ids: &[u32], adapter: &Adapter) -> Result<Vec<f64>> {
    let rows: Vec<usize> = (0..ids.len()).collect();
    numbers(&model.logits(&Tokens::one(ids.to_vec()), &rows, adapter)?)
}

fn gradients(
    model: &Model,
    ids: &[u32],
    adapter: &Adapter,
    full: &BTreeSet<ParamId>,
) -> Result<(f64, Gradients)> {
    let rows: Vec<usize> = (0..ids.len() - 1).collect();
    let weight = 1.0 / rows.len() as f64;
    let request = GradRequest { adapter, full, gradient_checkpointing: false };
    let tokens = Tokens::one(ids.to_vec());
    let (nll, gradients) = model.gradients(&tokens, &rows, &ids[1..], weight, &request)?;
    Ok((nll.iter().sum::<f64>() * weight, gradients))
}

/// Gradients of all parameters, and of the adapter's factors, in the layout of published files.
fn gradients_are_those_of_torch(
    model: &Model,
    ids: &[u32],
    adapter: &Adapter,
    want: &Value,
) -> Result<()> {
    let all: BTreeSet<ParamId> = model.params().map(|(id, _)| id.clone()).collect();
    let (loss, found) = gradients(model, ids, &Adapter::default(), &all)?;
    ensure!((loss - want["loss"].as_f64().context("a loss")?).abs() < 1e-5, "loss {loss}");
    ensure!(found.full.len() == all.len() && all.len() == 4 + 12 * model.layers());
    for (id, gradient) in found.full {
        let apart = distance(&numbers(&id.relaid(gradient)?)?, &want["gradients"][&id.name])?;
        ensure!(apart < 1e-3, "the gradient of {id} is off by {apart:e}");
    }
    let (loss, found) = gradients(model, ids, adapter, &BTreeSet::new())?;
    ensure!((loss - want["adapted_loss"].as_f64().context("a loss")?).abs() < 1e-5, "{loss}");
    ensure!(found.pairs.len() == 4 * model.layers());
    for (linear, (da, db)) in found.pairs {
        for (part, gradient) in [("A", da), ("B", db)] {
            let name = format!("base_model.model.{}.lora_{part}.weight", linear.name);
            let apart = distance(&numbers(&gradient)?, &want["adapted_gradients"][&name])?;
            ensure!(apart < 1e-3, "the gradient of {name} is off by {apart:e}");
        }
    }
    Ok(())
}

/// A step that lowers the loss, and its merge.
fn trained(model: &mut Model, ids: &[u32], adapter: &Adapter) -> Result<()> {
    let example = Example::new(ids.to_vec(), vec![true; ids.len()]);
    let examples = std::sync::Arc::new(vec![example]);
    let mut feed = DataLoader::pooled(0, "data", vec![examples])?;
    let mut booster = Booster::from_adapter(adapter.clone());
    let sgd = OptimizerKind::Sgd(Sgd { momentum: 0.0, weight_decay: 0.0 });
    let options = FitOptions::new(3, sgd, 1e-2);
    let steps = booster.fit(model, &mut feed, &options).collect::<Result<Vec<_>>>()?;
    ensure!(steps[2].loss < steps[0].loss, "{} after {}", steps[2].loss, steps[0].loss);
    let before = logits(model, ids, &booster.adapter)?;
    model.merge(&booster.adapter, 1.0)?;
    let after = logits(model, ids, &Adapter::default())?;
    let apart = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    ensure!(apart < 1e-4, "a merge moved logits by {apart:e}");
    Ok(())
}

#[test]
fn gpt2_is_read_trained_and_written() -> Result<()> {
    if common::model("peer/bin/python").is_none() {
        return Ok(());
    }
    let home = tempfile::tempdir()?;
    let path = |name: &str| home.path().join(name);
    python("make", home.path())?;
    let want = json(&path("expected.json"))?;
    let ids: Vec<u32> = serde_json::from_value(want["ids"].clone())?;
    let none = Adapter::default();
    let Loaded { mut model, tokenizer, extras, notes } = open(&path("model"), DType::F32)?;
    ensure!(notes.is_empty(), "{notes:?}");
    ensure!(distance(&logits(&model, &ids, &none)?, &want["logits"])? < 1e-5);

    let booster = adapter::load(&path("adapter"), &model, Weights::Base)?.booster;
    ensure!(booster.kind() == BoosterKind::LowRank && booster.layers() == [0, 1, 2]);
    ensure!(distance(&logits(&model, &ids, &booster.adapter)?, &want["adapted"])? < 1e-5);
    gradients_are_those_of_torch(&model, &ids, &booster.adapter, &want)?;

    adapter::save(&booster, &model, &path("written"), "model")?;
    save::save(&model, &tokenizer, &extras, &[], save::SHARD, &path("saved"))?;
    python("check", home.path())?;
    let checked = json(&path("checked.json"))?;
    ensure!(distance(&logits(&model, &ids, &none)?, &checked["saved"])? < 1e-5);
    ensure!(distance(&logits(&model, &ids, &booster.adapter)?, &checked["written"])? < 1e-5);

    let file = path("model.gguf");
    gguf_save::save(&model, &tokenizer, "tiny", Storage::F32, &file)?;
    let files = ModelFiles::Gguf { file, pre_tokenizer: None };
    let again = load(&files, &Device::Cpu, DType::F32)?.model;
    ensure!(again.digest()? == model.digest()?, "a GGUF file holds other numbers");

    let too_long = Tokens::one(vec![1; 65]);
    let error = model.logits(&too_long, &[0], &none).err().context("an error")?.to_string();
    ensure!(error == "a sequence of 65 tokens, and the model has positions for 64", "{error}");
    trained(&mut model, &ids, &booster.adapter)
}
