//! SmolLM2-135M against PyTorch: logits, losses, gradients, AdamW steps, the merge.

mod common;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use candle_core::{D, DType, Device};
use serde_json::Value;
use xgbrun::model::load::{Loaded, load};
use xgbrun::model::{Overlay, Tokens};
use xgbrun::source::{self, Grants};

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
    let none = Overlay::default();
    for path in models() {
        let Loaded { model, tokenizer, .. } = open(&path, DType::F32)?;
        for prompt in reference["prompts"].as_array().into_iter().flatten() {
            let text = prompt["prompt"].as_str().unwrap_or_default();
            let mut tokens = tokenizer.encode(text)?;
            ensure!(tokens == ids(&prompt["ids"]), "{}: ids of {text:?}", path.display());
            let logits = model.logits(&Tokens::one(tokens.clone()), &[tokens.len() - 1], &none)?.squeeze(0)?;
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
                ensure!(apart < 2e-3, "{}: {text:?}: logit {rank} is off by {apart:e}", path.display());
            }
            let mut caches = model.caches(64);
            let mut greedy = vec![];
            for _ in 0..20 {
                let next = model.step(&tokens, &mut caches, &none)?.argmax(D::Minus1)?.to_vec1::<u32>()?[0];
                greedy.push(next);
                tokens = vec![next];
            }
            ensure!(greedy == ids(&prompt["greedy20"]), "{}: {text:?} goes on with {greedy:?}", path.display());
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
