//! What the CPU twins share: slices under tensors, vectorised loops over them, matrix products.

pub mod gemm;
pub mod simd;
pub mod view;
