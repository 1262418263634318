//! Keys and values of past tokens, so that a pass goes on where others ended.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

/// Rows of keys and values, [rows, G, E] each a layer. Who owns which row is the caller's business:
/// many sequences share one cache.
pub struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
}

impl KvCache {
    /// A layer for each shape (rows, G, E).
    pub(super) fn new(
        shapes: impl Iterator<Item = (usize, usize, usize)>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let new = |shape| Tensor::zeros(shape, dtype, device);
        Ok(Self {
            layers: shapes.map(|shape| Ok((new(shape)?, new(shape)?))).collect::<Result<_>>()?,
        })
    }

    /// All keys and values of a layer.
    pub(super) fn layer(&self, layer: usize) -> (&Tensor, &Tensor) {
        let (k, v) = &self.layers[layer];
        (k, v)
    }

    /// Puts row i of k and v [N, G, E] into row `at[i]` of a layer.
    pub(super) fn write(&self, layer: usize, k: &Tensor, v: &Tensor, at: &[usize]) -> Result<()> {
        let (keys, values) = self.layer(layer);
        let mut first = 0;
        for run in at.chunk_by(|a, b| a + 1 == *b) {
            keys.slice_set(&k.narrow(0, first, run.len())?, 0, run[0])?;
            values.slice_set(&v.narrow(0, first, run.len())?, 0, run[0])?;
            first += run.len();
        }
        Ok(())
    }

    /// Copies the rows `from` of all layers to where `to` begins; the two do not overlap.
    pub fn copy(&mut self, from: Range<usize>, to: usize) -> Result<()> {
        for x in self.layers.iter().flat_map(|(k, v)| [k, v]) {
            x.slice_set(&x.narrow(0, from.start, from.len())?.force_contiguous()?, 0, to)?;
        }
        Ok(())
    }
}
