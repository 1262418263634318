//! SmolLM2-135M against PyTorch: logits, losses, gradients, AdamW steps, the merge.

use crate::common;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use xgbrun::boost::{Booster, adapter};
use xgbrun::data::{Batch, DataLoader, Example};
use xgbrun::eval::generate::{Generation, generate};
use xgbrun::model::load::{Loaded, load};
use xgbrun::model::{Adapter, GradRequest, Model, Tokens};
use xgbrun::ops::linear::LoraPair;
use xgbrun::source::{self, Grants};
use xgbrun::train::optim::AdamW;
use xgbrun::train::{FitOptions, GradientCheckpointing};

fn open(path: &std::path::Path, dtype: DType) -> Result<Loaded> {
    let name = path.to_str().context("a path that is no text")?;
    load(&source::model(&source::resolve(name, &Grants::everything())?)?, &Device::Cpu, dtype)
}

fn json(path: PathBuf) -> Result<Value> {
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().into_iter().flatten().filter_map(Value::as_u64).map(|id| id as u32).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// Both forms of the model that are there.
fn models() -> Vec<PathBuf> {
    [common::GGUF, common::FOLDER].into_iter().filter_map(common::model).collect()
}

#[test]
fn logits_greedy_tokens_and_nll_agree() -> Result<()> {
    let Some(reference) = common::shared("peer/reference.json") else { return Ok(()) };
    let reference = json(reference)?;
    let none = Adapter::default();
    for path in models() {
        let Loaded { model, tokenizer, .. } = open(&path, DType::F32)?;
        for prompt in reference["prompts"].as_array().into_iter().flatten() {
            let text = prompt["prompt"].as_str().unwrap_or_default();
            let tokens = tokenizer.encode(text)?;
            ensure!(tokens == ids(&prompt["ids"]), "{}: ids of {text:?}", path.display());
            let logits = model
                .logits(&Tokens::one(tokens.clone()), &[tokens.len() - 1], &none)?
                .squeeze(0)?;
            let values = logits.to_vec1::<f32>()?;
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
            for (rank, top) in prompt["top5_last"].as_array().into_iter().flatten().enumerate() {
                ensure!(
                    order[rank] as u64 == top["id"].as_u64().unwrap_or(u64::MAX),
                    "{}: {text:?}: token {rank} is {}",
                    path.display(),
                    order[rank]
                );
                let apart = (f64::from(values[order[rank]]) - number(&top["logit"])).abs();
                ensure!(
                    apart < 2e-3,
                    "{}: {text:?}: logit {rank} is off by {apart:e}",
                    path.display()
                );
            }
            let how = Generation { max_tokens: 20, ..Generation::default() };
            let greedy =
                generate(&model, &none, std::slice::from_ref(&tokens), &tokenizer, &how, |_| {
                    Ok(())
                })?
                .remove(0)
                .ids;
            ensure!(
                greedy == ids(&prompt["greedy20"]),
                "{}: {text:?} goes on with {greedy:?}",
                path.display()
            );
        }
        let paragraph = &reference["paragraph"];
        let tokens = tokenizer.encode(paragraph["text"].as_str().unwrap_or_default())?;
        ensure!(tokens == ids(&paragraph["ids"]), "{}: ids of the paragraph", path.display());
        let rows: Vec<usize> = (0..tokens.len() - 1).collect();
        let nll = model.nll(&Tokens::one(tokens.clone()), &rows, &tokens[1..], &none)?;
        let mean = nll.iter().sum::<f64>() / nll.len() as f64;
        let apart = (mean - number(&paragraph["mean_nll"])).abs();
        ensure!(apart < 1e-4, "{}: mean NLL {mean} is off by {apart:e}", path.display());
        println!("{}: mean NLL off by {apart:.1e}", path.display());
    }
    Ok(())
}

/// The starting factors of the reference booster, from its formulas.
fn reference_overlay(model: &Model, reference: &Value) -> Result<Adapter> {
    let (rank, scale) = (1, number(&reference["scale"]));
    let mut pairs = BTreeMap::new();
    for layer in ids(&reference["layers"]).into_iter().map(|l| l as usize) {
        for (m, target) in reference["targets"].as_array().into_iter().flatten().enumerate() {
            let linear = model
                .linear(layer, target.as_str().unwrap_or_default())
                .context("a target that is not known")?;
            let (out, inner) = linear.shape();
            let (l, m) = (layer as f64, m as f64);
            let a: Vec<f64> = (0..inner).map(|j| 0.02 * (0.10 * j as f64 + l + m).sin()).collect();
            let b: Vec<f64> = (0..out).map(|i| 0.01 * (0.07 * i as f64 + l - m).cos()).collect();
            let tensor = |v, shape: (usize, usize)| {
                Tensor::from_vec(v, shape, &Device::Cpu)?.to_dtype(model.factor_dtype())
            };
            pairs.insert(
                linear.clone(),
                LoraPair { a: tensor(a, (rank, inner))?, b: tensor(b, (out, rank))?, scale },
            );
        }
    }
    Ok(Adapter::of_pairs(pairs))
}

/// √Σx².
fn norm(t: &Tensor) -> Result<f64> {
    Ok(t.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt())
}

fn relative(got: f64, want: f64) -> f64 {
    ((got - want) / want).abs()
}

/// The Frobenius distance of two pairs' factors, relative to the second.
fn distance(got: &LoraPair, want: &LoraPair) -> Result<f64> {
    let square = |t: &Tensor| -> Result<f64> { Ok(norm(t)?.powi(2)) };
    let apart =
        |a: &Tensor, b: &Tensor| square(&(a.to_dtype(DType::F64)? - b.to_dtype(DType::F64)?)?);
    Ok(((apart(&got.a, &want.a)? + apart(&got.b, &want.b)?)
        / (square(&want.a)? + square(&want.b)?))
    .sqrt())
}

/// The reference's three sequences, with a loss on every token but the first of each.
fn reference_examples(reference: &Value) -> Vec<Example> {
    let example = |sequence: &Value| {
        let ids = ids(sequence);
        let supervised = (0..ids.len()).map(|i| i > 0).collect();
        Example::new(ids, supervised)
    };
    reference["ids"].as_array().into_iter().flatten().map(example).collect()
}

/// The reference's three full-batch steps.
fn reference_options(reference: &Value, batch: usize) -> FitOptions {
    let rule = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
    FitOptions {
        batch,
        gradient_checkpointing: GradientCheckpointing::Off,
        ..FitOptions::new(3, rule, number(&reference["adamw"]["lr"]))
    }
}

/// The same steps in f64 say how far f32 may be off. PyTorch's own f32 factors are up to 1.2e-3
/// away from them (B of layer 3, up_proj, where a few gradients are near zero and Adam keeps their
/// sign only); ours must stay below 5e-4.
#[test]
fn trained_factors_are_those_of_f64() -> Result<()> {
    let (Some(reference), Some(path)) =
        (common::shared("peer/lora_reference.json"), common::model(common::FOLDER))
    else {
        return Ok(());
    };
    let reference = json(reference)?;
    let examples = reference_examples(&reference);
    let options = reference_options(&reference, examples.len());
    let train = |dtype| -> Result<Adapter> {
        let model = open(&path, dtype)?.model;
        // In f32 first, as PyTorch starts.
        let start = reference_overlay(&model, &reference)?;
        let rounded = |t: &Tensor| t.to_dtype(DType::F32)?.to_dtype(model.factor_dtype());
        let pairs = start.pairs().iter().map(|(k, p)| {
            Ok((k.clone(), LoraPair { a: rounded(&p.a)?, b: rounded(&p.b)?, scale: p.scale }))
        });
        let mut booster = Booster::from_adapter(Adapter::of_pairs(pairs.collect::<Result<_>>()?));
        let mut feed = DataLoader::pooled(0, "data", vec![std::sync::Arc::new(examples.clone())])?;
        booster.fit(&model, &mut feed, &options).try_for_each(|r| r.map(drop))?;
        Ok(booster.adapter)
    };
    let (single, double) = (train(DType::F32)?, train(DType::F64)?);
    for (key, want) in double.pairs() {
        let got = &single.pairs()[key];
        for (part, got, want) in [("A", &got.a, &want.a), ("B", &got.b, &want.b)] {
            let apart = norm(&(got.to_dtype(DType::F64)? - want)?)? / norm(want)?;
            ensure!(apart < 5e-4, "{key:?}: {part} is off by {apart:e}");
        }
    }
    Ok(())
}

#[test]
fn a_booster_trains_as_in_pytorch() -> Result<()> {
    let Some(reference) = common::shared("peer/lora_reference.json") else { return Ok(()) };
    let reference = json(reference)?;
    // With `--adapter`, make_lora_reference.py writes the factors after its steps.
    let trained = common::model("lora-reference/trained");
    for path in models() {
        let shown = path.display();
        let mut model = open(&path, DType::F32)?.model;
        let examples = reference_examples(&reference);
        let batch = Batch::pack(&examples.iter().collect::<Vec<_>>())?;
        let tokens = Tokens::sequences(batch.ids.clone(), &batch.starts);
        let check_losses = |name: &str, nll: &[f64]| -> Result<()> {
            let mean = nll.iter().sum::<f64>() / nll.len() as f64;
            ensure!(relative(mean, number(&reference[name])) < 1e-5, "{shown}: {name} is {mean}");
            let mut at = 0;
            for (example, want) in examples
                .iter()
                .zip(reference[format!("{name}_per_sequence")].as_array().into_iter().flatten())
            {
                let part = &nll[at..at + example.ids.len() - 1];
                at += part.len();
                let mean = part.iter().sum::<f64>() / part.len() as f64;
                ensure!(
                    relative(mean, number(want)) < 1e-5,
                    "{shown}: {name} of a sequence is {mean}, not {want}"
                );
            }
            Ok(())
        };
        check_losses(
            "base_loss",
            &model.nll(&tokens, &batch.rows, &batch.targets, &Adapter::default())?,
        )?;

        let mut booster = Booster::from_adapter(reference_overlay(&model, &reference)?);
        let request = GradRequest {
            adapter: &booster.adapter,
            full: &BTreeSet::new(),
            gradient_checkpointing: false,
        };
        let weight = 1.0 / batch.rows.len() as f64;
        let (nll, gradients) =
            model.gradients(&tokens, &batch.rows, &batch.targets, weight, &request)?;
        check_losses("booster_loss", &nll)?;
        let mut worst = 0f64;
        for (linear, (da, db)) in &gradients.pairs {
            let (layer, role) = (linear.layer, linear.target);
            let want = &reference["gradients"][format!("layers.{layer}.{role}")];
            for (part, gradient) in [("A", da), ("B", db)] {
                let apart = relative(norm(gradient)?, number(&want[format!("grad_{part}_norm")]));
                ensure!(
                    apart < 1e-3,
                    "{shown}: gradient of {part} in layer {layer}, {role}: off by {apart:e}"
                );
                let first = gradient.flatten_all()?.narrow(0, 0, 4)?.to_vec1::<f32>()?;
                for (got, want) in first
                    .iter()
                    .zip(want[format!("grad_{part}_first4")].as_array().into_iter().flatten())
                {
                    ensure!(
                        (f64::from(*got) - number(want)).abs() < 1e-3 * norm(gradient)?,
                        "{shown}: {part} in layer {layer}, {role}: {got} is not {want}"
                    );
                }
                worst = worst.max(apart);
            }
        }
        println!("{shown}: gradient norms within {worst:.1e}");

        let adamw = &reference["adamw"];
        let options = reference_options(&reference, examples.len());
        let mut feed = DataLoader::pooled(0, "data", vec![std::sync::Arc::new(examples.clone())])?;
        let mut losses = booster
            .fit(&model, &mut feed, &options)
            .map(|r| Ok(r?.loss))
            .collect::<Result<Vec<f64>>>()?;
        let after = model.nll(&tokens, &batch.rows, &batch.targets, &booster.adapter)?;
        losses.push(after.iter().sum::<f64>() * weight);
        let mut wanted: Vec<f64> =
            adamw["loss_before_each_step"].as_array().into_iter().flatten().map(number).collect();
        wanted.push(number(&adamw["loss_after"]));
        for (got, want) in losses.windows(2).zip(wanted.windows(2)) {
            let apart = relative(got[0] - got[1], want[0] - want[1]);
            ensure!(
                apart < 0.01,
                "{shown}: the loss fell by {}, not {}",
                got[0] - got[1],
                want[0] - want[1]
            );
            println!("{shown}: a step's decrease within {apart:.1e}");
        }

        if let Some(trained) = &trained {
            let theirs = adapter::load(trained, &model, adapter::Weights::Base)?.booster.adapter;
            for (linear, pair) in theirs.pairs() {
                let (layer, role) = (linear.layer, linear.target);
                let ours = booster.adapter.pair(linear).context("a pair that was not trained")?;
                let apart = distance(ours, pair)?;
                // Most of this is PyTorch's own distance from the same steps in f64: up to 1e-3
                // here on AMD, 1.5e-3 on Intel. Ours is bounded by 5e-4 in
                // `trained_factors_are_those_of_f64`.
                ensure!(
                    apart < 2e-3,
                    "{shown}: layer {layer}, {role}: factors are off by {apart:e}"
                );
                // A single matrix may be further from PEFT's, where PEFT's is as far from f64: see
                // `trained_factors_are_those_of_f64`.
                for (part, got, want) in [("A", &ours.a, &pair.a), ("B", &ours.b, &pair.b)] {
                    let apart = norm(&(got - want)?)? / norm(want)?;
                    if apart > 1e-3 {
                        println!(
                            "{shown}: layer {layer}, {role}: {part} alone is off by {apart:.2e}"
                        );
                    }
                }
            }
        }
        model.merge(&booster.adapter, 1.0)?;
        let merged = model
            .nll(&tokens, &batch.rows, &batch.targets, &Adapter::default())?
            .iter()
            .sum::<f64>()
            * weight;
        for (want, name) in [
            (wanted[3], "loss after the steps"),
            (number(&reference["merged_loss"]), "merged loss"),
        ] {
            ensure!(relative(merged, want) < 1e-5, "{shown}: merged loss {merged}, {name} {want}");
        }
    }
    Ok(())
}
