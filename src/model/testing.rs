//! Tiny random models for tests.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::block::NormKind;
use super::config::{Config, RopeScaling};
use super::create::InMemory;
use super::load::assemble;
use super::{Adapter, Model};
use crate::ops::activation::Activation;
use crate::ops::linear::LoraPair;
use crate::seed::Stream;

/// A Llama of three layers with grouped heads, D 12, F 10, V 13.
pub fn config() -> Config {
    Config {
        model_type: "llama".into(),
        width: 12,
        ff: 10,
        layers: 3,
        heads: 4,
        groups: 2,
        head_width: 4,
        vocabulary: 13,
        max_positions: 64,
        rope_theta: 100.0,
        rope_scaling: RopeScaling::None,
        norm: NormKind::Rms,
        eps: 1e-5,
        tied: false,
        qkv_bias: false,
        o_bias: false,
        ff_bias: false,
        head_norms: false,
        activation: Activation::Silu,
        gated: true,
        causal: true,
        windows: vec![],
        bos: None,
        eos: vec![],
    }
}

pub fn random(shape: &[usize], scale: f64, stream: &mut Stream) -> Result<Tensor> {
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| stream.normal() * scale).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Random weights for a config.
pub fn weights(config: &Config) -> Result<InMemory> {
    let mut stream = Stream::new(5, "weights");
    let mut out = BTreeMap::new();
    for (name, shape) in config.tensors() {
        let mut tensor = random(&shape, 0.4, &mut stream)?;
        if name.contains("norm") && name.ends_with("weight") {
            tensor = (tensor + 1.0)?;
        }
        out.insert(name, tensor);
    }
    Ok(InMemory(out))
}

pub fn model(config: &Config, dtype: DType) -> Result<Model> {
    assemble(config.clone(), &weights(config)?, &Device::Cpu, dtype)
}

/// Random pairs of rank 2 on all targets of some layers; B is zero where asked.
pub fn adapter(model: &Model, layers: &[usize], zero_b: bool) -> Result<Adapter> {
    let mut stream = Stream::new(6, "overlay");
    let mut pairs = BTreeMap::new();
    for &layer in layers {
        for role in model.roles() {
            let (out, inner) = model.target_shape(role);
            let a = random(&[2, inner], 0.3, &mut stream)?.to_dtype(model.factor_dtype())?;
            let b = random(&[out, 2], if zero_b { 0.0 } else { 0.3 }, &mut stream)?
                .to_dtype(model.factor_dtype())?;
            pairs.insert((layer, role), LoraPair { a, b, scale: 1.5 });
        }
    }
    Ok(Adapter::new(pairs))
}
