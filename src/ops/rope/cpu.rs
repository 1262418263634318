//! Rotary position embedding on f32 slices, tokens over threads.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::Angles;
use crate::ops::cpu::simd::vectorized;
use crate::ops::cpu::view::{f32s, tensor};

pub fn forward(x: &Tensor, angles: &Angles) -> Result<Tensor> {
    rotate(x, angles, 1.0)
}

pub fn backward(dy: &Tensor, angles: &Angles) -> Result<Tensor> {
    rotate(dy, angles, -1.0)
}

fn rotate(x: &Tensor, angles: &Angles, direction: f32) -> Result<Tensor> {
    let (_, heads, e) = x.dims3()?;
    let (xs, cos, sin) = (f32s(x)?, f32s(&angles.cos)?, f32s(&angles.sin)?);
    let half = e / 2;
    let mut y = vec![0f32; xs.len()];
    let rows = y.par_chunks_mut(heads * e).zip(xs.par_chunks(heads * e));
    rows.zip(cos.par_chunks(half).zip(sin.par_chunks(half))).for_each(|((y, x), (cos, sin))| {
        vectorized(
            #[inline(always)]
            || {
                for (y, x) in y.chunks_exact_mut(e).zip(x.chunks_exact(e)) {
                    let (y1, y2) = y.split_at_mut(half);
                    let (x1, x2) = x.split_at(half);
                    for i in 0..half {
                        let s = sin[i] * direction;
                        y1[i] = x1[i] * cos[i] - x2[i] * s;
                        y2[i] = x2[i] * cos[i] + x1[i] * s;
                    }
                }
            },
        )
    });
    tensor(y, x.shape())
}
