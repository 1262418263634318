//! The operations of a transformer, forward beside backward.
//!
//! An op is a folder. Its `mod.rs` is a page: formula, shapes, the public functions, and
//! `reference`, the definition on candle tensors, which runs on any device and in any float type
//! and is what tests trust. Twins lie beside it where they pay: `cpu.rs` on f32 slices, `cuda.rs`
//! on a GPU. The public functions choose by what [`Backend::of`] says of their inputs, so a twin
//! is a file and a line in its op's folder.
//!
//! `contract.rs` holds one test with a row an op: finite differences in f64, every backend
//! against the reference.
//!
//! Norms, softmax and loss are computed in f32 at least, whatever type comes in.

pub mod activation;
pub mod attention;
pub mod cpu;
pub mod cross_entropy;
pub mod elementwise;
pub mod embedding;
pub mod later;
pub mod layer_norm;
pub mod linear;
pub mod logits;
pub mod rms_norm;
pub mod rope;

#[cfg(any(test, feature = "cuda"))]
pub(crate) mod contract;
#[cfg(test)]
mod layouts;

use candle_core::{DType, Result, Tensor};

/// Which version of an op its inputs allow. An op without that version runs its reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Any device, layout and float type.
    Reference,
    /// f32 on the CPU, contiguous.
    Cpu,
    /// f32, bf16 or f16 on a GPU, one type for all, contiguous.
    #[cfg(feature = "cuda")]
    Cuda,
}

impl Backend {
    /// The one place that looks at device, type and layout of an op's inputs.
    pub fn of(inputs: &[&Tensor]) -> Self {
        Self::of_products(inputs, &[])
    }

    /// The same of products of activations with weights, which may be held in f32, bf16 or f16
    /// whatever type the activations have.
    pub fn of_products(activations: &[&Tensor], weights: &[&Tensor]) -> Self {
        let all = |test: fn(&Tensor) -> bool| activations.iter().chain(weights).all(|t| test(t));
        let are = |dtype| activations.iter().all(|t| t.dtype() == dtype);
        let held = |w: &&Tensor| matches!(w.dtype(), DType::F32 | DType::BF16 | DType::F16);
        if !all(Tensor::is_contiguous) || !weights.iter().all(held) {
            return Self::Reference;
        }
        if all(|t| t.device().is_cpu()) && are(DType::F32) {
            return Self::Cpu;
        }
        #[cfg(feature = "cuda")]
        if all(|t| t.device().is_cuda())
            && [DType::F32, DType::BF16, DType::F16].into_iter().any(are)
        {
            return Self::Cuda;
        }
        Self::Reference
    }
}

/// a · b, as candle has it on any device.
pub fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    #[cfg(test)]
    assert!(layouts::taken(a, b), "no GPU multiplies {:?} and {:?}", a.layout(), b.layout());
    a.matmul(b)
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn slices_are_for_contiguous_f32_and_weights_of_16_bits() -> Result<()> {
        let x = Tensor::zeros((3, 2), DType::F32, &Device::Cpu)?;
        let (half, wide) = (x.to_dtype(DType::BF16)?, x.to_dtype(DType::F64)?);
        assert_eq!(Backend::of(&[&x, &x]), Backend::Cpu);
        for other in [&half, &wide, &x.t()?] {
            assert_eq!(Backend::of(&[&x, other]), Backend::Reference);
        }
        assert_eq!(Backend::of_products(&[&x], &[&x, &half]), Backend::Cpu);
        for (x, w) in [(&half, &half), (&x, &wide), (&x, &half.t()?)] {
            assert_eq!(Backend::of_products(&[x], &[w]), Backend::Reference);
        }
        Ok(())
    }
}
