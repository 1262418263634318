//! RMSNorm on f32 slices: one pass a row, rows over threads.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use crate::ops::cpu::simd::{sum_by, vectorized};
use crate::ops::cpu::view::{f32s, tensor};

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
    let rows = dx.par_chunks_mut(d).zip(xs.par_chunks(d)).zip(dys.par_chunks(d));
    rows.for_each(|((dx, x), dy)| {
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
    });
    tensor(dx, x.shape())
}
