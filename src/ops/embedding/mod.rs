//! Token embedding: the rows of a table, widened to the compute type.
//!
//! ```text
//! x[n] = table[ids[n]]
//! ```
//!
//! Backward:
//!
//! ```text
//! dtable[v] = Σ dx[n] over the n with ids[n] = v
//! ```

pub use reference::{backward, forward};

/// The definition, on tensors of any device, and the only version: it copies rows.
pub mod reference {
    use candle_core::{DType, Result, Tensor};

    use crate::ops::accumulator;

    /// ids `[N]` (u32), table [V, D] → x [N, D] in `dtype`.
    pub fn forward(ids: &Tensor, table: &Tensor, dtype: DType) -> Result<Tensor> {
        table.index_select(ids, 0)?.to_dtype(dtype)
    }

    /// Gradient of the whole table [V, D] from dx [N, D], in the accumulator type.
    pub fn backward(ids: &Tensor, dx: &Tensor, vocabulary: usize) -> Result<Tensor> {
        let dx = dx.to_dtype(accumulator(dx.dtype()))?;
        Tensor::zeros((vocabulary, dx.dim(1)?), dx.dtype(), dx.device())?.index_add(ids, &dx, 0)
    }
}
