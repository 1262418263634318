//! Logits of tiny random models against those of candle-transformers, which reads the same files
//! and goes token by token.

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, mistral, qwen2, qwen3};
use serde_json::{Value, json};
use xgbrun::model::{Adapter, Tokens};

use crate::common::tiny::{Tiny, llama3_rope};
use crate::generation::open;

/// Logits after each token, one row behind the other.
type Oracle = fn(Value, VarBuilder, &[u32]) -> Result<Vec<f32>>;

fn token_by_token(
    ids: &[u32],
    mut forward: impl FnMut(&Tensor, usize) -> candle_core::Result<Tensor>,
) -> Result<Vec<f32>> {
    let mut rows = vec![];
    for (at, &id) in ids.iter().enumerate() {
        let token = Tensor::from_slice(&[id], (1, 1), &Device::Cpu)?;
        rows.extend(forward(&token, at)?.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(rows)
}

fn llama(config: Value, weights: VarBuilder, ids: &[u32]) -> Result<Vec<f32>> {
    let config = serde_json::from_value::<llama::LlamaConfig>(config)?.into_config(false);
    let model = llama::Llama::load(weights, &config)?;
    let mut cache = llama::Cache::new(true, DType::F32, &config, &Device::Cpu)?;
    token_by_token(ids, |token, at| model.forward(token, at, &mut cache))
}

fn mistral(config: Value, weights: VarBuilder, ids: &[u32]) -> Result<Vec<f32>> {
    let mut config: mistral::Config = serde_json::from_value(config)?;
    config.use_flash_attn = false;
    let mut model = mistral::Model::new(&config, weights)?;
    token_by_token(ids, |token, at| model.forward(token, at))
}

fn qwen2(config: Value, weights: VarBuilder, ids: &[u32]) -> Result<Vec<f32>> {
    let mut model = qwen2::ModelForCausalLM::new(&serde_json::from_value(config)?, weights)?;
    token_by_token(ids, |token, at| model.forward(token, at))
}

fn qwen3(config: Value, weights: VarBuilder, ids: &[u32]) -> Result<Vec<f32>> {
    let mut model = qwen3::ModelForCausalLM::new(&serde_json::from_value(config)?, weights)?;
    token_by_token(ids, |token, at| model.forward(token, at))
}

#[test]
fn logits_are_those_of_candle_transformers() -> Result<()> {
    let tiny = |model_type, config| Tiny { model_type, config, ..Tiny::default() };
    // candle wants to read keys that say nothing here.
    let no_window = json!({
        "use_sliding_window": false, "sliding_window": 512, "max_window_layers": 3,
        "attention_bias": false,
    });
    let cases: [(&str, Tiny, Oracle); 6] = [
        ("llama", Tiny::default(), llama),
        ("llama, tied", Tiny { tied: true, ..Tiny::default() }, llama),
        ("llama, llama3 rope", tiny("llama", llama3_rope()), llama),
        ("mistral", tiny("mistral", json!({ "sliding_window": null })), mistral),
        ("qwen2", tiny("qwen2", no_window.clone()), qwen2),
        ("qwen3", tiny("qwen3", no_window), qwen3),
    ];
    for (name, tiny, oracle) in cases {
        let home = tempfile::tempdir()?;
        tiny.write(home.path());
        let model = open(home.path()).context(name)?.model;
        let vocabulary = model.config().vocab_size as u32;
        let ids: Vec<u32> = (0..48).map(|i| (37 * i + 11) % vocabulary).collect();
        let rows: Vec<usize> = (0..ids.len()).collect();
        let got = model.logits(&Tokens::one(ids.clone()), &rows, &Adapter::default())?;
        let got = got.flatten_all()?.to_vec1::<f32>()?;

        let file = home.path().join("model.safetensors");
        let weights = candle_core::safetensors::load(file, &Device::Cpu)?;
        let weights = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
        let want = oracle(tiny.config(), weights, &ids).context(name)?;
        ensure!(got.len() == want.len(), "{name}: {} and {} logits", got.len(), want.len());
        let worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        println!("{name}: logits within {worst:.1e}");
        ensure!(worst < 1e-4, "{name}: logits are off by {worst:e}");
    }
    Ok(())
}
