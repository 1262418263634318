//! Token embedding: row ids[n] of the table for token n, widened to the compute type.

use candle_core::{DType, Result, Tensor};

use super::accumulator;

/// ids [N] (u32), table [V, D] → x [N, D] in `dtype`.
pub fn forward(ids: &Tensor, table: &Tensor, dtype: DType) -> Result<Tensor> {
    table.index_select(ids, 0)?.to_dtype(dtype)
}

/// dense gradient of the table [V, D] from dx [N, D]: row ids[n] gets the sum of its tokens' dx.
pub fn backward(ids: &Tensor, dx: &Tensor, vocabulary: usize) -> Result<Tensor> {
    let dx = dx.to_dtype(accumulator(dx.dtype()))?;
    Tensor::zeros((vocabulary, dx.dim(1)?), dx.dtype(), dx.device())?.index_add(ids, &dx, 0)
}
