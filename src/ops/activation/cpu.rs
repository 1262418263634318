//! Activations on f32 slices, chunks over threads. A function gives (f(x), f'(x)), since both want
//! the same exponential.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::Activation;
use crate::ops::cpu::simd::{exp, sigmoid, vectorized};
use crate::ops::cpu::view::{f32s, tensor};

/// Numbers that one task handles.
const CHUNK: usize = 1 << 14;

/// x σ and σ + x σ (1 − σ).
#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let s = sigmoid(x);
    let silu = x * s;
    (silu, s + silu * (1.0 - s))
}

/// x Φ and Φ + x φ.
#[inline(always)]
fn gelu(x: f32) -> (f32, f32) {
    const INV_ROOT_2_PI: f32 = 0.398_942_3;
    let phi = normal_cdf(x);
    (x * phi, phi + x * exp(-0.5 * x * x) * INV_ROOT_2_PI)
}

/// Φ(x) = ½ erfc(−x/√2) to 2e-7, by the Chebyshev fit of erfc in Press et al., Numerical Recipes in
/// C, section 6.2.
#[inline(always)]
fn normal_cdf(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let p = 0.170_872_76;
    let p = p * t - 0.822_152_26;
    let p = p * t + 1.488_515_9;
    let p = p * t - 1.135_204;
    let p = p * t + 0.278_868_08;
    let p = p * t - 0.186_288_06;
    let p = p * t + 0.096_784_18;
    let p = p * t + 0.374_091_95;
    let p = p * t + 1.000_023_7;
    let p = p * t - 1.265_512_2;
    let tail = 0.5 * t * exp(p - z * z);
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// x σ and σ + x σ (1 − σ) 2y', where σ = ½ (1 + tanh y) = 1/(1 + e^−2y), y = c (x + 0.044715 x³)
/// and c = √(2/π).
#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    const TWO_C: f32 = 1.595_769;
    let e = exp(-TWO_C * (x + 0.044_715 * x * x * x));
    let s = 1.0 / (1.0 + e);
    // 1 − σ as e σ, which keeps its digits where σ is near 1.
    (x * s, s + x * s * (e * s) * (TWO_C * (1.0 + 3.0 * 0.044_715 * x * x)))
}

#[inline(always)]
fn relu(x: f32) -> (f32, f32) {
    (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 })
}

pub fn forward(f: Activation, gate: &Tensor, up: Option<&Tensor>) -> Result<Tensor> {
    match f {
        Activation::Silu => forward_by(silu, gate, up),
        Activation::Gelu => forward_by(gelu, gate, up),
        Activation::GeluTanh => forward_by(gelu_tanh, gate, up),
        Activation::Relu => forward_by(relu, gate, up),
    }
}

pub fn backward(
    f: Activation,
    dh: &Tensor,
    gate: &Tensor,
    up: Option<&Tensor>,
) -> Result<(Tensor, Option<Tensor>)> {
    match f {
        Activation::Silu => backward_by(silu, dh, gate, up),
        Activation::Gelu => backward_by(gelu, dh, gate, up),
        Activation::GeluTanh => backward_by(gelu_tanh, dh, gate, up),
        Activation::Relu => backward_by(relu, dh, gate, up),
    }
}

fn forward_by(
    f: impl Fn(f32) -> (f32, f32) + Sync,
    gate: &Tensor,
    up: Option<&Tensor>,
) -> Result<Tensor> {
    let gs = f32s(gate)?;
    let mut h = vec![0f32; gs.len()];
    let chunks = h.par_chunks_mut(CHUNK).zip(gs.par_chunks(CHUNK));
    let Some(up) = up else {
        chunks.for_each(|(h, g)| {
            vectorized(
                #[inline(always)]
                || h.iter_mut().zip(g).for_each(|(h, &g)| *h = f(g).0),
            )
        });
        return tensor(h, gate.shape());
    };
    chunks.zip(f32s(up)?.par_chunks(CHUNK)).for_each(|((h, g), u)| {
        vectorized(
            #[inline(always)]
            || {
                for i in 0..h.len() {
                    h[i] = f(g[i]).0 * u[i];
                }
            },
        )
    });
    tensor(h, gate.shape())
}

fn backward_by(
    f: impl Fn(f32) -> (f32, f32) + Sync,
    dh: &Tensor,
    gate: &Tensor,
    up: Option<&Tensor>,
) -> Result<(Tensor, Option<Tensor>)> {
    let (ds, gs) = (f32s(dh)?, f32s(gate)?);
    let mut dgate = vec![0f32; gs.len()];
    let chunks = dgate.par_chunks_mut(CHUNK).zip(gs.par_chunks(CHUNK).zip(ds.par_chunks(CHUNK)));
    let Some(up) = up else {
        chunks.for_each(|(dg, (g, d))| {
            vectorized(
                #[inline(always)]
                || {
                    for i in 0..dg.len() {
                        dg[i] = d[i] * f(g[i]).1;
                    }
                },
            )
        });
        return Ok((tensor(dgate, gate.shape())?, None));
    };
    let (us, mut dup) = (f32s(up)?, vec![0f32; gs.len()]);
    chunks.zip(dup.par_chunks_mut(CHUNK).zip(us.par_chunks(CHUNK))).for_each(
        |((dg, (g, d)), (du, u))| {
            vectorized(
                #[inline(always)]
                || {
                    for i in 0..dg.len() {
                        let (value, slope) = f(g[i]);
                        dg[i] = d[i] * u[i] * slope;
                        du[i] = d[i] * value;
                    }
                },
            )
        },
    );
    Ok((tensor(dgate, gate.shape())?, Some(tensor(dup, up.shape())?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::activation::reference;
    use candle_core::{DType, Device};

    #[test]
    fn values_and_slopes_are_near_those_in_f64() -> Result<()> {
        // Steps that f32 holds, so that both are given the same numbers.
        let x = (Tensor::arange(-2000i64, 2000, &Device::Cpu)?.to_dtype(DType::F64)? / 128.0)?;
        let narrow = x.to_dtype(DType::F32)?;
        let ones = x.ones_like()?;
        let f64s = |x: &Tensor| x.to_dtype(DType::F64)?.to_vec1::<f64>();
        let near = |got: &Tensor, want: &Tensor, f: Activation| -> Result<()> {
            for (got, want) in f64s(got)?.into_iter().zip(f64s(want)?) {
                let apart = (got - want).abs() / want.abs().max(1.0);
                assert!(apart < 1e-6, "{f:?}: {got} is not {want}");
            }
            Ok(())
        };
        for f in [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
            near(&forward(f, &narrow, None)?, &reference::forward(f, &x, None)?, f)?;
            let narrow_ones = ones.to_dtype(DType::F32)?;
            let got = backward(f, &narrow_ones, &narrow, None)?.0;
            near(&got, &reference::backward(f, &ones, &x, None)?.0, f)?;
        }
        Ok(())
    }
}
