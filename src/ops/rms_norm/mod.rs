//! RMSNorm (Zhang & Sennrich 2019, eq. 4), row by row:
//!
//! ```text
//! y = x · inv ∘ w        inv = 1/√(mean(x²) + ε)
//! ```
//!
//! Backward, with g = dy ∘ w:
//!
//! ```text
//! dx = inv · g − x · inv³ · mean(g ∘ x)
//! dw = Σ_rows dy ∘ x · inv
//! ```

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;

use candle_core::{D, Result, Tensor};

use super::{Backend, accumulator, sum_rows};

/// x [..., D], w [D] → y [..., D].
pub fn forward(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    match Backend::of_products(&[x], &[w]) {
        Backend::Cpu if w.dtype() == x.dtype() => cpu::forward(x, w, eps),
        #[cfg(feature = "cuda")]
        Backend::Cuda => cuda::forward(x, w, eps),
        _ => reference::forward(x, w, eps),
    }
}

/// dx [..., D] from dy and the forward's input.
pub fn backward(dy: &Tensor, x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    match Backend::of(&[dy, x, w]) {
        Backend::Cpu => cpu::backward(dy, x, w, eps),
        _ => reference::backward(dy, x, w, eps),
    }
}

/// dw [D], where the norm itself is trained: x · inv is the forward with a w of ones.
pub fn weight_gradient(dy: &Tensor, x: &Tensor, eps: f64) -> Result<Tensor> {
    let d = x.dim(D::Minus1)?;
    let acc = accumulator(x.dtype());
    let normed = forward(x, &Tensor::ones(d, x.dtype(), x.device())?, eps)?;
    sum_rows(&(dy.to_dtype(acc)? * normed.to_dtype(acc)?)?.reshape(((), d))?)
}

/// The definition, on tensors of any device.
pub mod reference {
    use super::*;

    fn inverse(x: &Tensor, eps: f64) -> Result<Tensor> {
        ((x.sqr()?.sum_keepdim(D::Minus1)? / x.dim(D::Minus1)? as f64)? + eps)?.sqrt()?.recip()
    }

    pub fn forward(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
        let wide = x.to_dtype(accumulator(x.dtype()))?;
        let y =
            wide.broadcast_mul(&inverse(&wide, eps)?)?.broadcast_mul(&w.to_dtype(wide.dtype())?)?;
        y.to_dtype(x.dtype())
    }

    pub fn backward(dy: &Tensor, x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
        let acc = accumulator(x.dtype());
        let wide = x.to_dtype(acc)?;
        let inv = inverse(&wide, eps)?;
        let g = dy.to_dtype(acc)?.broadcast_mul(&w.to_dtype(acc)?)?;
        let mean = ((&g * &wide)?.sum_keepdim(D::Minus1)? / x.dim(D::Minus1)? as f64)?;
        let dx = (g.broadcast_mul(&inv)? - wide.broadcast_mul(&(inv.powf(3.0)? * mean)?)?)?;
        dx.to_dtype(x.dtype())
    }
}
