//! Activations of the feed-forward part, with or without a gate: h = f(g) ∘ u (SwiGLU, Shazeer
//! 2020) or h = f(g).

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::accumulator;
use super::cpu::simd::{fast, sigmoid, vectorized};
use super::cpu::view::{f32s, tensor};

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

/// gate [N, F], up [N, F] → f(gate) ∘ up; without `up` f(gate).
pub fn forward(f: Activation, gate: &Tensor, up: Option<&Tensor>) -> Result<Tensor> {
    match up {
        Some(up) if f == Activation::Silu && fast(&[gate, up]) => cpu::forward(gate, up),
        up => reference::forward(f, gate, up),
    }
}

/// (dgate, dup) from dh and the forward's inputs; dup where there is an `up`.
pub fn backward(
    f: Activation,
    dh: &Tensor,
    gate: &Tensor,
    up: Option<&Tensor>,
) -> Result<(Tensor, Option<Tensor>)> {
    match up {
        Some(up) if f == Activation::Silu && fast(&[dh, gate, up]) => cpu::backward(dh, gate, up),
        up => reference::backward(f, dh, gate, up),
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

/// The fused twin, for SwiGLU.
pub mod cpu {
    use super::*;

    /// Numbers that one task handles.
    const CHUNK: usize = 1 << 14;

    pub fn forward(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        let (gs, us) = (f32s(gate)?, f32s(up)?);
        let mut h = vec![0f32; gs.len()];
        h.par_chunks_mut(CHUNK).zip(gs.par_chunks(CHUNK).zip(us.par_chunks(CHUNK))).for_each(
            |(h, (g, u))| {
                vectorized(
                    #[inline(always)]
                    || {
                        for i in 0..h.len() {
                            h[i] = g[i] * sigmoid(g[i]) * u[i];
                        }
                    },
                )
            },
        );
        tensor(h, gate.shape())
    }

    pub fn backward(dh: &Tensor, gate: &Tensor, up: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        let (ds, gs, us) = (f32s(dh)?, f32s(gate)?, f32s(up)?);
        let (mut dgate, mut dup) = (vec![0f32; gs.len()], vec![0f32; gs.len()]);
        let inputs = ds.par_chunks(CHUNK).zip(gs.par_chunks(CHUNK).zip(us.par_chunks(CHUNK)));
        dgate.par_chunks_mut(CHUNK).zip(dup.par_chunks_mut(CHUNK)).zip(inputs).for_each(
            |((dg, du), (d, (g, u)))| {
                vectorized(
                    #[inline(always)]
                    || {
                        for i in 0..d.len() {
                            let s = sigmoid(g[i]);
                            let silu = g[i] * s;
                            dg[i] = d[i] * u[i] * (s + silu * (1.0 - s));
                            du[i] = d[i] * silu;
                        }
                    },
                )
            },
        );
        Ok((tensor(dgate, gate.shape())?, Some(tensor(dup, up.shape())?)))
    }
}
