//! A linear module with an optional low-rank adapter (LoRA, Hu et al. 2021, eq. 3):
//!
//! ```text
//! y = x Wᵀ + b + s · (x Aᵀ) Bᵀ
//! ```
//!
//! What was merged without changing W is added in the same way: frozen factors, or their sum
//! [out, in] as a second weight.
//!
//! Backward, where W and b are frozen unless their own gradient is asked for:
//!
//! ```text
//! dx = dy W + s · (dy B) A
//! dA = s · (dy B)ᵀ x
//! dB = s · dyᵀ (x Aᵀ)
//! dW = dyᵀ x
//! db = Σ_rows dy
//! ```
//!
//! A frozen linear keeps no input: only the gradients of factors and weight need x.

pub mod cpu;

use candle_core::{Result, Tensor};

use super::{Backend, accumulator, matmul, sum_rows};

/// Low-rank factors over a weight [out, in]: A [R, in], B [out, R] and the scale s.
#[derive(Clone, Debug)]
pub struct LoraPair {
    pub a: Tensor,
    pub b: Tensor,
    pub scale: f64,
}

/// What was merged beside a weight [out, in] without changing it.
#[derive(Clone, Debug)]
pub enum UnmergedDelta {
    Factors(LoraPair),
    /// Their sum [out, in], which is smaller where their rank is large.
    Sum(Tensor),
}

/// A linear module as the ops see it.
#[derive(Clone, Copy)]
pub struct LinearView<'a> {
    /// W [out, in], in its storage type.
    pub weight: &'a Tensor,
    pub bias: Option<&'a Tensor>,
    /// The pair that is trained.
    pub pair: Option<&'a LoraPair>,
    /// Frozen, added to what the weight gives.
    pub unmerged: Option<&'a UnmergedDelta>,
}

impl<'a> LinearView<'a> {
    fn pairs(&self) -> impl Iterator<Item = &'a LoraPair> {
        let factors = match self.unmerged {
            Some(UnmergedDelta::Factors(pair)) => Some(pair),
            _ => None,
        };
        factors.into_iter().chain(self.pair)
    }

    /// A second weight.
    fn sum(&self) -> Option<&'a Tensor> {
        match self.unmerged {
            Some(UnmergedDelta::Sum(sum)) => Some(sum),
            _ => None,
        }
    }
}

/// The backend for activations that pass `linears`.
fn backend<'a>(
    activations: &[&'a Tensor],
    linears: impl Iterator<Item = LinearView<'a>>,
) -> Backend {
    let (mut narrow, mut weights) = (activations.to_vec(), vec![]);
    for linear in linears {
        narrow.extend(linear.bias);
        narrow.extend(linear.pairs().flat_map(|pair| [&pair.a, &pair.b]));
        weights.push(linear.weight);
        weights.extend(linear.sum());
    }
    Backend::of_products(&narrow, &weights)
}

/// x [N, in] → y [N, out], plus `residual` [N, out] where given.
pub fn forward(x: &Tensor, linear: LinearView, residual: Option<&Tensor>) -> Result<Tensor> {
    match backend(&[x, residual.unwrap_or(x)], [linear].into_iter()) {
        Backend::Cpu => cpu::forward(x, linear, residual),
        _ => reference::forward(x, linear, residual),
    }
}

/// dx [N, in]: the sum of what each (dy [N, out], linear) sends back to their common input.
pub fn input_gradient(parts: &[(&Tensor, LinearView)]) -> Result<Tensor> {
    let dys: Vec<&Tensor> = parts.iter().map(|(dy, _)| *dy).collect();
    match backend(&dys, parts.iter().map(|(_, linear)| *linear)) {
        Backend::Cpu => cpu::input_gradient(parts),
        _ => reference::input_gradient(parts),
    }
}

/// (dA [R, in], dB [out, R]), in the factors' type.
pub fn factor_gradients(dy: &Tensor, x: &Tensor, pair: &LoraPair) -> Result<(Tensor, Tensor)> {
    match Backend::of(&[dy, x, &pair.a, &pair.b]) {
        Backend::Cpu => cpu::factor_gradients(dy, x, pair),
        _ => reference::factor_gradients(dy, x, pair),
    }
}

/// dW [out, in], in the accumulator type.
pub fn weight_gradient(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    match Backend::of(&[dy, x]) {
        Backend::Cpu => cpu::weight_gradient(dy, x),
        _ => reference::weight_gradient(dy, x),
    }
}

/// db `[out]`, in the accumulator type.
pub fn bias_gradient(dy: &Tensor) -> Result<Tensor> {
    sum_rows(dy)
}

/// The definition, on tensors of any device. Factors are cast to the activations' type for the
/// products.
pub mod reference {
    use super::*;

    /// x [N, in] · Wᵀ → [N, out], in x's type.
    pub fn times_transposed(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        matmul(x, &weight.to_dtype(x.dtype())?.t()?)
    }

    /// dy [N, out] · W → [N, in], in dy's type.
    pub fn times(dy: &Tensor, weight: &Tensor) -> Result<Tensor> {
        matmul(dy, &weight.to_dtype(dy.dtype())?)
    }

    pub fn forward(x: &Tensor, linear: LinearView, residual: Option<&Tensor>) -> Result<Tensor> {
        let mut y = times_transposed(x, linear.weight)?;
        if let Some(bias) = linear.bias {
            y = y.broadcast_add(&bias.to_dtype(x.dtype())?)?;
        }
        if let Some(sum) = linear.sum() {
            y = (y + times_transposed(x, sum)?)?;
        }
        for pair in linear.pairs() {
            let u = times_transposed(x, &pair.a)?;
            y = (y + (times_transposed(&u, &pair.b)? * pair.scale)?)?;
        }
        match residual {
            Some(residual) => residual + y,
            None => Ok(y),
        }
    }

    pub fn input_gradient(parts: &[(&Tensor, LinearView)]) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for (dy, linear) in parts {
            let mut dx = times(dy, linear.weight)?;
            if let Some(sum) = linear.sum() {
                dx = (dx + times(dy, sum)?)?;
            }
            for pair in linear.pairs() {
                let back = times(dy, &pair.b)?;
                dx = (dx + (times(&back, &pair.a)? * pair.scale)?)?;
            }
            sum = Some(match sum {
                Some(sum) => (sum + dx)?,
                None => dx,
            });
        }
        sum.ok_or_else(|| candle_core::Error::Msg("input gradient of no linear".into()))
    }

    pub fn factor_gradients(dy: &Tensor, x: &Tensor, pair: &LoraPair) -> Result<(Tensor, Tensor)> {
        let dtype = pair.a.dtype();
        let (dy, x) = (dy.to_dtype(dtype)?, x.to_dtype(dtype)?);
        let da = (matmul(&matmul(&dy, &pair.b)?.t()?, &x)? * pair.scale)?;
        let db = (matmul(&dy.t()?, &matmul(&x, &pair.a.t()?)?)? * pair.scale)?;
        Ok((da, db))
    }
    pub fn weight_gradient(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        let acc = accumulator(dy.dtype());
        matmul(&dy.to_dtype(acc)?.t()?, &x.to_dtype(acc)?)
    }
}
