//! What the CPU twins share: products of matrices, and vectorised loops over slices.

pub mod gemm;
pub mod simd;
