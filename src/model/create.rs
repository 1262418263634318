//! A new model with random weights, to be trained from nothing.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::Model;
use super::block::NormKind;
use super::config::{Config, RopeScaling};
use super::load::assemble;
use super::names::Role;
use crate::error::Error;
use crate::ops::activation::Activation;
use crate::seed::Stream;
use crate::source::TensorSource;

/// Sizes of a new model; the letters are those of the crate's legend.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub width: usize,
    pub ff: usize,
    pub layers: usize,
    pub heads: usize,
    pub groups: usize,
    pub head_width: usize,
    pub vocabulary: usize,
    /// Longest sequence.
    pub positions: usize,
}

impl Sizes {
    /// The config of a Llama of these sizes, its embedding tied to its head; `end` is the token
    /// that ends a text.
    pub fn config(self, end: u32) -> Config {
        Config {
            model_type: "llama".into(),
            width: self.width,
            ff: self.ff,
            layers: self.layers,
            heads: self.heads,
            groups: self.groups,
            head_width: self.head_width,
            vocabulary: self.vocabulary,
            max_positions: self.positions,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            norm: NormKind::Rms,
            eps: 1e-5,
            tied: true,
            qkv_bias: false,
            o_bias: false,
            ff_bias: false,
            head_norms: false,
            activation: Activation::Silu,
            gated: true,
            causal: true,
            windows: vec![],
            bos: None,
            eos: vec![end],
        }
    }
}

/// A model of that config with weights drawn from `stream`: embedding N(0, 1/D), linears N(0,
/// 1/in), those that write into the residual by √(2L) smaller (GPT-2's rule), norms 1.
///
/// Errors: sizes that cannot be (class data), more weights than 2³¹ (class usage).
pub fn create(
    config: Config,
    stream: &mut Stream,
    device: &Device,
    storage: DType,
) -> Result<Model> {
    config.check()?;
    let numbers: usize =
        config.tensors().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    if numbers > 1 << 31 {
        return Err(Error::usage(format!(
            "a new model of {numbers} weights is more than this can start from nothing"
        ))
        .into());
    }
    let mut drawn = BTreeMap::new();
    for (name, shape) in config.tensors() {
        let count: usize = shape.iter().product();
        let residual =
            [Role::O, Role::Down].iter().any(|r| name.ends_with(&format!("{}.weight", r.path())));
        let values: Vec<f32> = match shape.as_slice() {
            [_, inner] => {
                let scale = if residual { 1.0 / (2.0 * config.layers as f64).sqrt() } else { 1.0 };
                let deviation = scale / (*inner as f64).sqrt();
                (0..count).map(|_| (stream.normal() * deviation) as f32).collect()
            }
            _ => vec![if name.ends_with("bias") { 0.0 } else { 1.0 }; count],
        };
        drawn.insert(name, Tensor::from_vec(values, shape, &Device::Cpu)?);
    }
    assemble(config, &InMemory(drawn), device, storage)
}

/// A model of that config with numbers of no meaning, for timing.
pub fn filled(config: Config, device: &Device, storage: DType) -> Result<Model> {
    let value = |(name, shape): (String, Vec<usize>)| -> Result<(String, Tensor)> {
        Ok((name, Tensor::full(0.01f32, shape, &Device::Cpu)?))
    };
    let drawn = config.tensors().into_iter().map(value).collect::<Result<_>>()?;
    assemble(config, &InMemory(drawn), device, storage)
}

/// Tensors in memory.
pub(crate) struct InMemory(pub BTreeMap<String, Tensor>);

impl TensorSource for InMemory {
    fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.0.get(name).map(Tensor::dims)
    }

    fn dtype_name(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|t| t.dtype().as_str().to_owned())
    }

    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let tensor =
            self.0.get(name).ok_or_else(|| Error::run(format!("there is no tensor `{name}`")))?;
        // A copy, so that two models never share numbers.
        Ok(tensor.to_dtype(dtype)?.to_device(device)?.copy()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_the_stated_spread_and_come_from_the_seed() -> Result<()> {
        let sizes = Sizes {
            width: 64,
            ff: 128,
            layers: 2,
            heads: 4,
            groups: 2,
            head_width: 16,
            vocabulary: 300,
            positions: 32,
        };
        let made = |seed| {
            create(sizes.config(0), &mut Stream::new(seed, "create"), &Device::Cpu, DType::F32)
        };
        let (one, same, other) = (made(1)?, made(1)?, made(2)?);
        assert_eq!(one.digest()?, same.digest()?);
        assert_ne!(one.digest()?, other.digest()?);
        for (name, tensor) in one.tensors() {
            let mean_square = tensor.to_dtype(DType::F64)?.sqr()?.mean_all()?.to_scalar::<f64>()?;
            let want = match name.as_str() {
                n if n.contains("norm") => 1.0,
                n if n.ends_with("o_proj.weight") => 1.0 / 64.0 / 4.0,
                n if n.ends_with("down_proj.weight") => 1.0 / 128.0 / 4.0,
                _ => 1.0 / 64.0,
            };
            assert!((mean_square / want - 1.0).abs() < 0.1, "{name}: {mean_square}, not {want}");
        }
        Ok(())
    }
}
