//! all-MiniLM-L6-v2, a real encoder, against transformers and peft.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use candle_core::DType;
use serde_json::Value;
use xgbrun::boost::adapter::{self, Weights};
use xgbrun::boost::{Booster, DenseSpec, Init, Spec};
use xgbrun::data::item::{Instruction, ItemPlace};
use xgbrun::data::{
    DataLoader, EncodeOptions, Example, HeadTask, Item, LossOn, Says, Template, Wanted,
    encode_labelled,
};
use xgbrun::model::load::{Extras, Loaded};
use xgbrun::model::{Adapter, GradRequest, Tokens, arch, save, task_head};
use xgbrun::seed::Stream;
use xgbrun::train::FitOptions;
use xgbrun::train::optim::AdamW;

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

/// The first rows of RTE's train file: sentences and label.
fn rte(count: usize) -> Result<Option<Vec<Item>>> {
    let Some(file) = common::shared("data/glue/RTE/train.tsv") else { return Ok(None) };
    let text = std::fs::read_to_string(file)?;
    let place = |number| ItemPlace::new(&Arc::from(Path::new("train.tsv")), "row", number);
    let item = |(number, line): (usize, &str)| {
        let fields: Vec<&str> = line.split('\t').collect();
        let item = Instruction::new(place(number), fields[1].to_owned(), String::new());
        let label = Some(usize::from(fields[3] == "not_entailment"));
        let names = ["entailment", "not_entailment"].map(str::to_owned).to_vec();
        Item::Instruction(Instruction { pair: Some(fields[2].into()), names, label, ..item })
    };
    Ok(Some(text.lines().enumerate().skip(1).take(count).map(item).collect()))
}

/// Twenty steps of LoRA of rank 8 on all linears of all layers with the head beside them, from the
/// same start, batches and rates.
#[test]
fn a_classifier_trains_as_in_peft() -> Result<()> {
    const STEPS: usize = 20;
    const BATCH: usize = 4;
    let (Some(python), Some(folder), Some(items)) = (
        common::model("peer/bin/python"),
        common::model("minilm/model.safetensors"),
        rte(STEPS * BATCH)?,
    ) else {
        return Ok(());
    };
    let home = tempfile::tempdir()?;
    let path = |name: &str| home.path().join(name);
    let Loaded { model, tokenizer, extras, .. } =
        open(folder.parent().context("a folder")?, DType::F32)?;
    let labels = ["entailment", "not_entailment"].map(str::to_owned).to_vec();
    let head = task_head::classes(labels.clone())?;
    let model = model.with_head(head, &mut Stream::new(0, "head"))?;
    let config = arch::corrected(model.architecture(), extras.config);
    let extras = Extras { config, others: vec![] };
    save::save(&model, &tokenizer, &extras, &[], save::SHARD, &path("model"))?;

    let layers: Vec<usize> = (0..model.layers()).collect();
    let spec = Spec::new(&model, &layers, &[], 8, 8.0, Init::Kaiming)?;
    let factors = Booster::new(&model, &spec, &mut Stream::new(1, "init"))?;
    let mut booster = factors.beside(&Booster::dense(&model, &DenseSpec::head(&model)?)?);
    adapter::save(&booster, &model, &path("adapter"), "model")?;

    let task = HeadTask { says: Says::Class(labels), last: false };
    let options = EncodeOptions { max_length: 128, loss: LossOn::Answer };
    let examples = encode_labelled(&items, Template::None, &tokenizer, &task, &options)?.examples;
    let rates: Vec<f64> = (0..STEPS).map(|step| 2e-3 * (1.0 - step as f64 / 40.0)).collect();
    let fit = FitOptions {
        batch: BATCH,
        lr: rates.clone(),
        head_lr_ratio: 0.5,
        ..FitOptions::new(STEPS, AdamW::default(), 0.0)
    };
    let loader = || DataLoader::pooled(0, "data", vec![Arc::new(examples.clone())]);
    let mut batches = vec![];
    let mut order = loader()?;
    for _ in 0..STEPS {
        let some = order.next(BATCH)?;
        let kinds = |e: &Example| -> Vec<u32> {
            let types = e.labelled.as_ref().map(|l| l.types.clone()).unwrap_or_default();
            if types.is_empty() { vec![0; e.ids.len()] } else { types }
        };
        let label = |e: &Example| match e.labelled.as_ref().map(|l| l.wanted.clone()) {
            Some(Wanted::Class(class)) => class,
            _ => u32::MAX,
        };
        batches.push(serde_json::json!({
            "ids": some.iter().map(|e| e.ids.clone()).collect::<Vec<_>>(),
            "types": some.iter().map(kinds).collect::<Vec<_>>(),
            "labels": some.iter().map(label).collect::<Vec<_>>(),
        }));
    }
    let job = serde_json::json!({
        "batches": batches, "rates": rates, "lr": rates[0], "head_lr_ratio": 0.5,
    });
    std::fs::write(path("job.json"), job.to_string())?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/trained.py");
    let mut command = Command::new(python);
    let files = ["model", "adapter", "job.json", "losses.json"].map(path);
    let out = command.arg(script).args(files).env("HF_HUB_OFFLINE", "1").output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let want: Vec<f64> = serde_json::from_value(json(&path("losses.json"))?)?;
    let mut feed = loader()?;
    let got =
        booster.fit(&model, &mut feed, &fit).map(|r| Ok(r?.loss)).collect::<Result<Vec<_>>>()?;
    let apart = got.iter().zip(&want).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max);
    println!("losses from {:.4} to {:.4}, off by {apart:e} at most", got[0], got[STEPS - 1]);
    ensure!(apart < 1e-3, "{got:?}, {want:?}");
    Ok(())
}
