//! Tiny random models for tests.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::arch::llama::{Config, Sizes};
use super::arch::{self, Architecture};
use super::create::InMemory;
use super::load::assemble;
use super::{Adapter, Model, ParamKind};
use crate::ops::linear::LoraPair;
use crate::seed::Stream;

/// A Llama of three layers with grouped heads, D 12, F 10, V 13.
pub fn config() -> Config {
    let mut config = Config::new(
        Sizes {
            hidden_size: 12,
            intermediate_size: 10,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 4,
            vocab_size: 13,
            max_position_embeddings: 64,
        },
        0,
    );
    config.rope_theta = 100.0;
    config.common.tie_word_embeddings = false;
    config.common.eos_token_ids = vec![];
    config
}

/// That Llama, changed.
pub fn with(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = config();
    change(&mut config);
    config
}

pub fn random(shape: &[usize], scale: f64, stream: &mut Stream) -> Result<Tensor> {
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| stream.normal() * scale).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Random weights of an architecture.
pub fn weights(architecture: &dyn Architecture) -> Result<InMemory> {
    let mut stream = Stream::new(5, "weights");
    let mut out = BTreeMap::new();
    for id in arch::params(architecture)?.ids() {
        let mut tensor = random(&id.shape, 0.4, &mut stream)?;
        if matches!(id.kind, ParamKind::NormWeight) {
            tensor = (tensor + 1.0)?;
        }
        out.insert(id.name.clone(), id.relaid(tensor)?);
    }
    Ok(InMemory(out))
}

pub fn model(architecture: &dyn Architecture, dtype: DType) -> Result<Model> {
    assemble(architecture.boxed(), &weights(architecture)?, &Device::Cpu, dtype)
}

/// Random pairs of rank 2 on all targets of some layers; B is zero where asked.
pub fn adapter(model: &Model, layers: &[usize], zero_b: bool) -> Result<Adapter> {
    let mut stream = Stream::new(6, "overlay");
    let mut pairs = BTreeMap::new();
    for &layer in layers {
        for linear in model.linears().filter(|linear| linear.layer == layer) {
            let dtype = model.factor_dtype();
            let a = random(&[2, linear.inner], 0.3, &mut stream)?.to_dtype(dtype)?;
            let scale = if zero_b { 0.0 } else { 0.3 };
            let b = random(&[linear.out, 2], scale, &mut stream)?.to_dtype(dtype)?;
            pairs.insert(linear.clone(), LoraPair { a, b, scale: 1.5 });
        }
    }
    Ok(Adapter::of_pairs(pairs))
}
