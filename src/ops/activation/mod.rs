//! Activations of the feed-forward part, with a gate (SwiGLU and its kin, Shazeer 2020) or without:
//!
//! ```text
//! h = f(g) ∘ u
//! h = f(g)
//! ```
//!
//! Backward:
//!
//! ```text
//! dg = dh ∘ u ∘ f'(g)        without a gate dh ∘ f'(g)
//! du = dh ∘ f(g)
//! ```

pub mod cpu;

use candle_core::{Result, Tensor};

use super::{Backend, accumulator};

/// The function f, by the names that published configs use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x · σ(x); `silu`, `swish`.
    Silu,
    /// x · Φ(x) with the error function; `gelu`.
    Gelu,
    /// Gelu's tanh form; `gelu_new`, `gelu_pytorch_tanh`.
    GeluTanh,
    /// max(x, 0); `relu`.
    Relu,
}

impl Activation {
    /// The activation that a config names, if it is one of these.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "silu" | "swish" => Self::Silu,
            "gelu" => Self::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Self::GeluTanh,
            "relu" => Self::Relu,
            _ => return None,
        })
    }
}

/// gate [N, F], up [N, F] → f(gate) ∘ up [N, F]; without `up` f(gate).
pub fn forward(f: Activation, gate: &Tensor, up: Option<&Tensor>) -> Result<Tensor> {
    match Backend::of(&[gate, up.unwrap_or(gate)]) {
        Backend::Cpu => cpu::forward(f, gate, up),
        _ => reference::forward(f, gate, up),
    }
}

/// (dgate, dup) [N, F] from dh and the forward's inputs; dup where there is an `up`.
pub fn backward(
    f: Activation,
    dh: &Tensor,
    gate: &Tensor,
    up: Option<&Tensor>,
) -> Result<(Tensor, Option<Tensor>)> {
    match Backend::of(&[dh, gate, up.unwrap_or(gate)]) {
        Backend::Cpu => cpu::backward(f, dh, gate, up),
        _ => reference::backward(f, dh, gate, up),
    }
}

/// The definition, on tensors of any device.
pub mod reference {
    use super::*;

    const ROOT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

    fn logistic(x: &Tensor) -> Result<Tensor> {
        (x.neg()?.exp()? + 1.0)?.recip()
    }

    fn value(f: Activation, x: &Tensor) -> Result<Tensor> {
        match f {
            Activation::Silu => x * logistic(x)?,
            Activation::Gelu => x.gelu_erf(),
            Activation::GeluTanh => x.gelu(),
            Activation::Relu => x.relu(),
        }
    }

    /// f'(x).
    fn slope(f: Activation, x: &Tensor) -> Result<Tensor> {
        match f {
            Activation::Silu => {
                let s = logistic(x)?;
                // σ + x σ (1 − σ)
                &s + ((x * &s)? * (1.0 - &s)?)?
            }
            Activation::Gelu => {
                // Φ(x) + x φ(x)
                let phi = ((x.sqr()? * -0.5)?.exp()? * (ROOT_2_OVER_PI / 2.0))?;
                (((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)? * 0.5)? + (x * phi)?
            }
            Activation::GeluTanh => {
                // with t = tanh(c (x + 0.044715 x³)): ½(1 + t) + ½ x (1 − t²) c (1 + 0.134145 x²)
                let t = ((x + (x.powf(3.0)? * 0.044_715)?)? * ROOT_2_OVER_PI)?.tanh()?;
                let inner = (((x.sqr()? * (3.0 * 0.044_715))? + 1.0)? * ROOT_2_OVER_PI)?;
                let rest = ((x * (1.0 - t.sqr()?)?)? * inner)?;
                ((t + 1.0)? + rest)? * 0.5
            }
            Activation::Relu => x.gt(0f64)?.to_dtype(x.dtype()),
        }
    }

    pub fn forward(f: Activation, gate: &Tensor, up: Option<&Tensor>) -> Result<Tensor> {
        let acc = accumulator(gate.dtype());
        let mut h = value(f, &gate.to_dtype(acc)?)?;
        if let Some(up) = up {
            h = (h * up.to_dtype(acc)?)?;
        }
        h.to_dtype(gate.dtype())
    }

    pub fn backward(
        f: Activation,
        dh: &Tensor,
        gate: &Tensor,
        up: Option<&Tensor>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let acc = accumulator(gate.dtype());
        let (dh, wide) = (dh.to_dtype(acc)?, gate.to_dtype(acc)?);
        let slope = slope(f, &wide)?;
        let Some(up) = up else { return Ok(((dh * slope)?.to_dtype(gate.dtype())?, None)) };
        let dgate = ((&dh * up.to_dtype(acc)?)? * slope)?.to_dtype(gate.dtype())?;
        let dup = (dh * value(f, &wide)?)?.to_dtype(up.dtype())?;
        Ok((dgate, Some(dup)))
    }
}
