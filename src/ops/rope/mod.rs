//! Rotary position embedding (Su et al. 2021), in the layout of the published Llama weights: entry
//! i of a head is paired with entry i + E/2.
//!
//! ```text
//! y₁ = x₁ cos − x₂ sin
//! y₂ = x₂ cos + x₁ sin
//! ```
//!
//! It is a rotation, and perhaps a multiplication, so backward is the rotation by the negative
//! angle, multiplied alike.

pub mod cpu;

use candle_core::{D, DType, Device, Result, Tensor};

use super::Backend;

/// cos and sin of every token's angles, each [N, E/2].
#[derive(Clone, Debug)]
pub struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Angles {
    /// Angles of tokens at `positions`, each with inverse frequencies [E/2] of its own; cos and sin
    /// are multiplied by `scale`.
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
    match Backend::of(&[x, &angles.cos]) {
        Backend::Cpu => cpu::forward(x, angles),
        _ => reference::forward(x, angles),
    }
}

/// dx [N, H, E] from dy [N, H, E].
pub fn backward(dy: &Tensor, angles: &Angles) -> Result<Tensor> {
    match Backend::of(&[dy, &angles.cos]) {
        Backend::Cpu => cpu::backward(dy, angles),
        _ => reference::backward(dy, angles),
    }
}

/// The definition, on tensors of any device.
pub mod reference {
    use super::*;

    pub fn forward(x: &Tensor, angles: &Angles) -> Result<Tensor> {
        rotate(x, angles, 1.0)
    }

    pub fn backward(dy: &Tensor, angles: &Angles) -> Result<Tensor> {
        rotate(dy, angles, -1.0)
    }

    /// Rotates by `direction` (1 or −1) times the angles.
    fn rotate(x: &Tensor, angles: &Angles, direction: f64) -> Result<Tensor> {
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
