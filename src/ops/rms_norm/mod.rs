//! RMSNorm (Zhang & Sennrich 2019, eq. 4): y = x · inv · w with inv = 1/√(mean(x²) + ε), row by
//! row.
//!
//! Backward, with g = dy ∘ w: dx = inv · g − x · inv³ · mean(g ∘ x); dw = Σ_rows dy ∘ x · inv.

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use super::cpu::simd::{fast, sum_by, vectorized};
use super::cpu::view::{f32s, tensor};
use super::{accumulator, sum_rows};

/// x [..., D], w [D] → y [..., D].
pub fn forward(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    if fast(&[x, w]) { cpu::forward(x, w, eps) } else { reference::forward(x, w, eps) }
}

/// dx [..., D] from dy and the forward's input.
pub fn backward(dy: &Tensor, x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
    if fast(&[dy, x, w]) {
        cpu::backward(dy, x, w, eps)
    } else {
        reference::backward(dy, x, w, eps)
    }
}

/// dw [D], where a dense booster trains the norm.
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

/// The fused twin: one pass a row, rows over threads.
pub mod cpu {
    use super::*;

    #[inline(always)]
    fn inverse(x: &[f32], eps: f64) -> f32 {
        1.0 / (sum_by(x.len(), |i| x[i] * x[i]) / x.len() as f32 + eps as f32).sqrt()
    }

    pub fn forward(x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
        let (xs, ws) = (f32s(x)?, f32s(w)?);
        let (w, d) = (&*ws, ws.len());
        let mut y = vec![0f32; xs.len()];
        y.par_chunks_mut(d).zip(xs.par_chunks(d)).for_each(|(y, x)| {
            vectorized(
                #[inline(always)]
                || {
                    let inv = inverse(x, eps);
                    for i in 0..d {
                        y[i] = x[i] * inv * w[i];
                    }
                },
            )
        });
        tensor(y, x.shape())
    }

    pub fn backward(dy: &Tensor, x: &Tensor, w: &Tensor, eps: f64) -> Result<Tensor> {
        let (dys, xs, ws) = (f32s(dy)?, f32s(x)?, f32s(w)?);
        let (w, d) = (&*ws, ws.len());
        let mut dx = vec![0f32; xs.len()];
        dx.par_chunks_mut(d).zip(xs.par_chunks(d)).zip(dys.par_chunks(d)).for_each(
            |((dx, x), dy)| {
                vectorized(
                    #[inline(always)]
                    || {
                        let inv = inverse(x, eps);
                        let mean = sum_by(d, |i| dy[i] * w[i] * x[i]) / d as f32;
                        let along = inv * inv * inv * mean;
                        for i in 0..d {
                            dx[i] = dy[i] * w[i] * inv - x[i] * along;
                        }
                    },
                )
            },
        );
        tensor(dx, x.shape())
    }
}
