//! Rotary position embedding (Su et al. 2021), in the layout of the published Llama weights: entry
//! i of a head is paired with entry i + E/2, y = (x₁ cos − x₂ sin, x₂ cos + x₁ sin).
//!
//! It is a rotation, and perhaps a multiplication, so backward is the rotation by the negative
//! angle, multiplied alike.

use candle_core::{D, DType, Device, Result, Tensor};
use rayon::prelude::*;

use super::cpu::simd::{fast, vectorized};
use super::cpu::view::{f32s, tensor};

/// cos and sin of every token's angles, each [N, E/2].
#[derive(Clone, Debug)]
pub struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Angles {
    /// Angles of tokens at `positions` for the inverse frequencies [E/2].
    pub fn new(
        positions: &[u32],
        frequencies: &[f64],
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        Self::scaled(positions, |_| frequencies, 1.0, dtype, device)
    }

    /// The same with the frequencies [E/2] of each token; cos and sin are multiplied by `scale`.
    pub fn scaled<'a>(
        positions: &[u32],
        frequencies: impl Fn(usize) -> &'a [f64],
        scale: f64,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let of =
            |(token, &p): (usize, &u32)| frequencies(token).iter().map(move |f| f64::from(p) * f);
        let angle: Vec<f64> = positions.iter().enumerate().flat_map(of).collect();
        let table = |f: fn(f64) -> f64| {
            let values: Vec<f64> = angle.iter().map(|&a| f(a) * scale).collect();
            let half = values.len().checked_div(positions.len()).unwrap_or(0);
            Tensor::from_vec(values, (positions.len(), half), &Device::Cpu)?
                .to_dtype(dtype)?
                .to_device(device)
        };
        Ok(Self { cos: table(f64::cos)?, sin: table(f64::sin)? })
    }
}

/// x [N, H, E] → rotated [N, H, E].
pub fn forward(x: &Tensor, angles: &Angles) -> Result<Tensor> {
    if fast(&[x, &angles.cos]) {
        cpu::rotate(x, angles, 1.0)
    } else {
        reference::rotate(x, angles, 1.0)
    }
}

/// dx [N, H, E] from dy [N, H, E].
pub fn backward(dy: &Tensor, angles: &Angles) -> Result<Tensor> {
    if fast(&[dy, &angles.cos]) {
        cpu::rotate(dy, angles, -1.0)
    } else {
        reference::rotate(dy, angles, -1.0)
    }
}

/// The definition, on tensors of any device.
pub mod reference {
    use super::*;

    /// Rotates by `direction` (1 or −1) times the angles.
    pub fn rotate(x: &Tensor, angles: &Angles, direction: f64) -> Result<Tensor> {
        let half = x.dim(D::Minus1)? / 2;
        let wide = x.to_dtype(angles.cos.dtype())?;
        let (a, b) = (wide.narrow(D::Minus1, 0, half)?, wide.narrow(D::Minus1, half, half)?);
        let cos = angles.cos.unsqueeze(1)?;
        let sin = (angles.sin.unsqueeze(1)? * direction)?;
        let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
        Tensor::cat(&[first, second], D::Minus1)?.to_dtype(x.dtype())
    }
}

/// The fused twin.
pub mod cpu {
    use super::*;

    pub fn rotate(x: &Tensor, angles: &Angles, direction: f32) -> Result<Tensor> {
        let (_, heads, e) = x.dims3()?;
        let (xs, cos, sin) = (f32s(x)?, f32s(&angles.cos)?, f32s(&angles.sin)?);
        let half = e / 2;
        let mut y = vec![0f32; xs.len()];
        let rows = y.par_chunks_mut(heads * e).zip(xs.par_chunks(heads * e));
        rows.zip(cos.par_chunks(half).zip(sin.par_chunks(half))).for_each(
            |((y, x), (cos, sin))| {
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
            },
        );
        tensor(y, x.shape())
    }
}
