//! A new model with random weights, to be trained from nothing.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::arch::{self, Architecture};
use super::load::assemble;
use super::{Model, ParamId, ParamKind};
use crate::error::{bail, error};
use crate::seed::Stream;
use crate::source::TensorSource;

/// A model with weights drawn from `stream`: embedding N(0, 1/D), linears N(0, 1/in), those that
/// write into the residual by √(2L) smaller (GPT-2's rule), norms 1.
///
/// Errors: sizes that cannot be (class data), more weights than 2³¹ (class usage).
pub fn create(
    architecture: Box<dyn Architecture>,
    stream: &mut Stream,
    device: &Device,
    storage: DType,
) -> Result<Model> {
    let params = arch::params(&*architecture)?;
    let numbers: usize = params.ids().map(|id| id.shape.iter().product::<usize>()).sum();
    if numbers > 1 << 31 {
        bail!(Usage, "a new model of {numbers} weights is more than this can start from nothing");
    }
    let layers = architecture.common().num_hidden_layers;
    let mut drawn = BTreeMap::new();
    for id in params.ids() {
        let numbers = initial(id, layers, stream);
        let tensor = Tensor::from_vec(numbers, id.shape.as_slice(), &Device::Cpu)?;
        drawn.insert(id.name.clone(), id.relaid(tensor)?);
    }
    assemble(architecture, &InMemory(drawn), device, storage)
}

/// The first numbers of a parameter, in a model of so many layers.
fn initial(id: &ParamId, layers: usize, stream: &mut Stream) -> Vec<f32> {
    let count: usize = id.shape.iter().product();
    match (&id.kind, id.shape.as_slice()) {
        (ParamKind::NormBias | ParamKind::Bias(_), _) => vec![0.0; count],
        (ParamKind::TaskHead | ParamKind::Unread, _) => head_start(&id.name, &id.shape, stream),
        (_, [_, inner]) => {
            let residual = id.linear().is_some_and(|linear| linear.into_residual);
            let scale = if residual { 1.0 / (2.0 * layers as f64).sqrt() } else { 1.0 };
            let deviation = scale / (*inner as f64).sqrt();
            (0..count).map(|_| (stream.normal() * deviation) as f32).collect()
        }
        _ => vec![1.0; count],
    }
}

/// The first numbers of a head's tensor, as transformers draws them: weights N(0, 0.02²), norms 1,
/// biases 0.
pub fn head_start(name: &str, shape: &[usize], stream: &mut Stream) -> Vec<f32> {
    let count: usize = shape.iter().product();
    match shape {
        [_, _] => (0..count).map(|_| (stream.normal() * 0.02) as f32).collect(),
        _ if name.ends_with(".weight") => vec![1.0; count],
        _ => vec![0.0; count],
    }
}

/// A model with numbers of no meaning, for timing.
pub fn filled(
    architecture: Box<dyn Architecture>,
    device: &Device,
    storage: DType,
) -> Result<Model> {
    let value = |id: &ParamId| -> Result<(String, Tensor)> {
        let tensor = Tensor::full(0.01f32, id.published_shape(), &Device::Cpu)?;
        Ok((id.name.clone(), tensor))
    };
    let filled = arch::params(&*architecture)?.ids().map(value).collect::<Result<_>>()?;
    assemble(architecture, &InMemory(filled), device, storage)
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
        let tensor = self.0.get(name).ok_or_else(|| error!(Run, "there is no tensor `{name}`"))?;
        // A copy, so that two models never share numbers.
        Ok(tensor.to_dtype(dtype)?.to_device(device)?.copy()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::arch::llama::{Config, Sizes};

    const SIZES: Sizes = Sizes {
        hidden_size: 64,
        intermediate_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        vocab_size: 300,
        max_position_embeddings: 32,
    };

    fn created(seed: u64) -> Result<Model> {
        let config = Box::new(Config::new(SIZES, 0));
        create(config, &mut Stream::new(seed, "create"), &Device::Cpu, DType::F32)
    }

    #[test]
    fn weights_come_from_the_seed() -> Result<()> {
        let digest = |seed| created(seed)?.digest();
        assert_eq!(digest(1)?, digest(1)?);
        assert_ne!(digest(1)?, digest(2)?);
        Ok(())
    }

    #[test]
    fn weights_have_the_stated_spread() -> Result<()> {
        for (id, tensor) in created(1)?.params() {
            let name = &id.name;
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
