//! LayerNorm on f32 slices: rows over threads; for dw and db, blocks of columns.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::LayerNormGradients;
use crate::ops::cpu::simd::{sum_by, vectorized};
use crate::ops::cpu::view::{f32s, tensor};

/// Columns whose sums over all rows one task forms.
const COLUMNS: usize = 64;

/// What normalizes a row: x̂ = (x − mean) · inv.
#[derive(Clone, Copy, Default)]
struct RowMoments {
    mean: f32,
    inv: f32,
}

impl RowMoments {
    #[inline(always)]
    fn of(x: &[f32], eps: f64) -> Self {
        let d = x.len() as f32;
        let mean = sum_by(x.len(), |i| x[i]) / d;
        let variance = sum_by(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / d;
        Self { mean, inv: 1.0 / (variance + eps as f32).sqrt() }
    }

    #[inline(always)]
    fn hat(self, x: f32) -> f32 {
        (x - self.mean) * self.inv
    }
}

pub fn forward(x: &Tensor, w: &Tensor, b: &Tensor, eps: f64) -> Result<Tensor> {
    let (xs, ws, bs) = (f32s(x)?, f32s(w)?, f32s(b)?);
    let (w, b, d) = (&*ws, &*bs, ws.len());
    let mut y = vec![0f32; xs.len()];
    y.par_chunks_mut(d).zip(xs.par_chunks(d)).for_each(|(y, x)| {
        vectorized(
            #[inline(always)]
            || {
                let row = RowMoments::of(x, eps);
                for i in 0..d {
                    y[i] = row.hat(x[i]) * w[i] + b[i];
                }
            },
        )
    });
    tensor(y, x.shape())
}

pub fn backward(dy: &Tensor, x: &Tensor, w: &Tensor, eps: f64) -> Result<LayerNormGradients> {
    let (dys, xs, ws) = (f32s(dy)?, f32s(x)?, f32s(w)?);
    let (w, d) = (&*ws, ws.len());
    let (mut dx, mut rows) = (vec![0f32; xs.len()], vec![RowMoments::default(); xs.len() / d]);
    let inputs = xs.par_chunks(d).zip(dys.par_chunks(d));
    dx.par_chunks_mut(d).zip(&mut rows).zip(inputs).for_each(|((dx, row), (x, dy))| {
        vectorized(
            #[inline(always)]
            || {
                *row = RowMoments::of(x, eps);
                let mean = sum_by(d, |i| dy[i] * w[i]) / d as f32;
                let along = sum_by(d, |i| dy[i] * w[i] * row.hat(x[i])) / d as f32;
                for i in 0..d {
                    dx[i] = (dy[i] * w[i] - mean - row.hat(x[i]) * along) * row.inv;
                }
            },
        )
    });
    let (dw, db) = sums_over_rows(&dys, &xs, &rows, d);
    Ok(LayerNormGradients { dx: tensor(dx, x.shape())?, dw: tensor(dw, d)?, db: tensor(db, d)? })
}

/// dw and db: f64 sums in the order of the rows, whatever the number of threads.
fn sums_over_rows(dy: &[f32], x: &[f32], rows: &[RowMoments], d: usize) -> (Vec<f32>, Vec<f32>) {
    let (mut dw, mut db) = (vec![0f32; d], vec![0f32; d]);
    let blocks = dw.par_chunks_mut(COLUMNS).zip(db.par_chunks_mut(COLUMNS)).enumerate();
    blocks.for_each(|(block, (dw, db))| {
        vectorized(
            #[inline(always)]
            || {
                let (first, n) = (block * COLUMNS, dw.len());
                let (mut w, mut b) = ([0f64; COLUMNS], [0f64; COLUMNS]);
                for (row, start) in rows.iter().zip((first..).step_by(d)) {
                    let (dy, x) = (&dy[start..start + n], &x[start..start + n]);
                    for i in 0..n {
                        w[i] += f64::from(dy[i] * row.hat(x[i]));
                        b[i] += f64::from(dy[i]);
                    }
                }
                for i in 0..n {
                    (dw[i], db[i]) = (w[i] as f32, b[i] as f32);
                }
            },
        )
    });
    (dw, db)
}
