//! LayerNorm (Ba et al. 2016), row by row:
//!
//! ```text
//! y = x̂ ∘ w + b        x̂ = (x − mean(x)) · inv        inv = 1/√(var(x) + ε)
//! ```
//!
//! Backward, with g = dy ∘ w:
//!
//! ```text
//! dx = inv · (g − mean(g) − x̂ · mean(g ∘ x̂))
//! dw = Σ_rows dy ∘ x̂
//! db = Σ_rows dy
//! ```

pub mod cpu;

use candle_core::{D, Result, Tensor};

use super::{Backend, accumulator, sum_rows};

/// The gradients of a layer norm: dx [..., D], dw [D], db [D].
pub struct LayerNormGradients {
    pub dx: Tensor,
    pub dw: Tensor,
    pub db: Tensor,
}

/// x [..., D], w [D], b [D] → y [..., D].
pub fn forward(x: &Tensor, w: &Tensor, b: &Tensor, eps: f64) -> Result<Tensor> {
    match Backend::of(&[x, w, b]) {
        Backend::Cpu => cpu::forward(x, w, b, eps),
        _ => reference::forward(x, w, b, eps),
    }
}

/// All gradients from dy [..., D] and the forward's input.
pub fn backward(dy: &Tensor, x: &Tensor, w: &Tensor, eps: f64) -> Result<LayerNormGradients> {
    match Backend::of(&[dy, x, w]) {
        Backend::Cpu => cpu::backward(dy, x, w, eps),
        _ => reference::backward(dy, x, w, eps),
    }
}

/// The definition, on tensors of any device.
pub mod reference {
    use super::*;

    /// x̂ and inv.
    fn normalized(x: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
        let wide = x.to_dtype(accumulator(x.dtype()))?;
        let d = x.dim(D::Minus1)? as f64;
        let centred = wide.broadcast_sub(&(wide.sum_keepdim(D::Minus1)? / d)?)?;
        let inv = ((centred.sqr()?.sum_keepdim(D::Minus1)? / d)? + eps)?.sqrt()?.recip()?;
        Ok((centred.broadcast_mul(&inv)?, inv))
    }

    pub fn forward(x: &Tensor, w: &Tensor, b: &Tensor, eps: f64) -> Result<Tensor> {
        let (hat, _) = normalized(x, eps)?;
        hat.broadcast_mul(&w.to_dtype(hat.dtype())?)?
            .broadcast_add(&b.to_dtype(hat.dtype())?)?
            .to_dtype(x.dtype())
    }

    pub fn backward(dy: &Tensor, x: &Tensor, w: &Tensor, eps: f64) -> Result<LayerNormGradients> {
        let d = x.dim(D::Minus1)?;
        let (hat, inv) = normalized(x, eps)?;
        let dy = dy.to_dtype(hat.dtype())?;
        let g = dy.broadcast_mul(&w.to_dtype(hat.dtype())?)?;
        let mean = |t: &Tensor| t.sum_keepdim(D::Minus1)? / d as f64;
        let along = hat.broadcast_mul(&mean(&(&g * &hat)?)?)?;
        let dx =
            (g.broadcast_sub(&mean(&g)?)? - along)?.broadcast_mul(&inv)?.to_dtype(x.dtype())?;
        let dw = sum_rows(&(&dy * &hat)?.reshape(((), d))?)?;
        let db = sum_rows(&dy.reshape(((), d))?)?;
        Ok(LayerNormGradients { dx, dw, db })
    }
}
