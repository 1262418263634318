//! A GGUF file's tensors under the names, and in the layout, of published files.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::arch::{Architecture, GgufLayout, GgufTensor};
use crate::error::bail;
use crate::source::{Gguf, TensorSource};

/// A GGUF file's tensors under published names, with Q and K rows in the published order.
pub struct PublishedTensors<'a> {
    gguf: &'a Gguf,
    names: BTreeMap<String, GgufTensor>,
    /// Of the published tensors.
    shapes: BTreeMap<String, Vec<usize>>,
}

impl<'a> PublishedTensors<'a> {
    pub fn new(gguf: &'a Gguf, architecture: &dyn Architecture) -> Self {
        let mut names = architecture.gguf_tensors();
        names.retain(|_, own| gguf.shape(&own.name).is_some());
        let shape = |own: &GgufTensor| {
            let mut shape = gguf.shape(&own.name).unwrap_or_default().to_vec();
            if own.layout == GgufLayout::Transposed {
                shape.reverse();
            }
            shape
        };
        let shapes = names.iter().map(|(name, own)| (name.clone(), shape(own))).collect();
        Self { gguf, names, shapes }
    }
}

impl TensorSource for PublishedTensors<'_> {
    /// Published names, and those of tensors that have none, but for the rope factors, which the
    /// config holds.
    fn names(&self) -> Vec<&str> {
        let known: std::collections::BTreeSet<&str> =
            self.names.values().map(|own| own.name.as_str()).collect();
        let factors =
            ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];
        let rest =
            self.gguf.names().into_iter().filter(|n| !known.contains(n) && !factors.contains(n));
        self.names.keys().map(String::as_str).chain(rest).collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shapes.get(name).map(Vec::as_slice)
    }

    fn dtype_name(&self, name: &str) -> Option<String> {
        self.gguf.dtype_name(&self.names.get(name)?.name)
    }

    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let Some(own) = self.names.get(name) else {
            bail!(Data, "`{}` has no tensor `{name}`", self.gguf.path().display())
        };
        let load = |device| self.gguf.load(&own.name, dtype, device);
        Ok(match own.layout {
            GgufLayout::Same => load(device)?,
            GgufLayout::Interleaved(heads) => {
                halves(load(&Device::Cpu)?, (heads, true))?.to_device(device)?
            }
            GgufLayout::Transposed => load(device)?.t()?.contiguous()?,
        })
    }
}

/// A published tensor as a GGUF file lays it out.
pub(super) fn laid_out(tensor: Tensor, layout: GgufLayout) -> Result<Tensor> {
    match layout {
        GgufLayout::Same => Ok(tensor),
        GgufLayout::Interleaved(heads) => halves(tensor, (heads, false)),
        GgufLayout::Transposed => Ok(tensor.t()?.contiguous()?),
    }
}

/// The two halves of each head's rows, which lie in turns, one behind the other; or the other way
/// round.
fn halves(tensor: Tensor, (heads, in_turns): (usize, bool)) -> Result<Tensor> {
    let shape = tensor.shape().clone();
    let (half, rest) = (shape.dims()[0] / heads / 2, shape.elem_count() / shape.dims()[0]);
    let parts = if in_turns { (heads, half, 2, rest) } else { (heads, 2, half, rest) };
    Ok(tensor.reshape(parts)?.transpose(1, 2)?.contiguous()?.reshape(shape)?)
}
