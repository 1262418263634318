//! The operations of a transformer, forward beside backward.
//!
//! One file an op. Each has a `plain` module on candle tensors, which runs on any device and in any
//! float type and is what tests trust, and where it pays a `cpu` module: a fused twin on f32
//! slices. The functions at the top of a file choose between them. `contract.rs` holds one test
//! with a row an op: finite differences in f64, twins compared.
//!
//! Norms, softmax and loss are computed in f32 at least, whatever type comes in.

pub mod activation;
pub mod attention;
pub mod cpu;
pub mod cross_entropy;
pub mod elementwise;
pub mod embedding;
pub mod layer_norm;
pub mod linear;
pub mod rms_norm;
pub mod rope;

#[cfg(test)]
mod contract;

use candle_core::{DType, Result, Tensor};

/// The type in which sums and exponentials are formed: the input's own, but f32 for 16-bit types.
fn accumulator(dtype: DType) -> DType {
    match dtype {
        DType::BF16 | DType::F16 => DType::F32,
        other => other,
    }
}

/// Sums the rows of `x` [N, ...] to [...], in the accumulator type.
fn sum_rows(x: &Tensor) -> Result<Tensor> {
    x.to_dtype(accumulator(x.dtype()))?.sum(0)
}
