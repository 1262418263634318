//! Linear module with an optional low-rank adapter (LoRA, Hu et al. 2021, eq. 3): y = x Wᵀ + b + s
//! · (x Aᵀ) Bᵀ, weights frozen unless their dense gradient is asked for. What was merged without
//! changing W lies beside it: frozen factors, or their sum [out, in] as a second weight.
//!
//! Backward: dx = dy W + s · (dy B) A; dA = s · (dy B)ᵀ x; dB = s · dyᵀ (x Aᵀ); dW = dyᵀ x; db = Σ
//! dy. A frozen linear keeps no input: only factor and dense gradients need x.

use candle_core::{Result, Tensor};

use super::cpu::gemm::{self, Matrix};
use super::cpu::simd::fast;
use super::cpu::view::{f32s, tensor};
use super::sum_rows;

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
pub struct Linear<'a> {
    /// W [out, in], in its storage type.
    pub weight: &'a Tensor,
    pub bias: Option<&'a Tensor>,
    /// The pair that is trained.
    pub pair: Option<&'a LoraPair>,
    /// Frozen, added to what the weight gives.
    pub unmerged: Option<&'a UnmergedDelta>,
}

impl<'a> Linear<'a> {
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

    fn fast(&self, x: &Tensor) -> bool {
        let weights = gemm::fast_weight(self.weight) && self.sum().is_none_or(gemm::fast_weight);
        fast(&[x])
            && weights
            && self.bias.is_none_or(|b| fast(&[b]))
            && self.pairs().all(|p| fast(&[&p.a, &p.b]))
    }
}

/// x [N, in] → y [N, out], plus `residual` [N, out] where given.
pub fn forward(x: &Tensor, linear: Linear, residual: Option<&Tensor>) -> Result<Tensor> {
    if linear.fast(x) && residual.is_none_or(|r| fast(&[r])) {
        cpu::forward(x, linear, residual)
    } else {
        reference::forward(x, linear, residual)
    }
}

/// dx [N, in]: the sum of what each (dy [N, out], linear) sends back to their common input.
pub fn input_gradient(parts: &[(&Tensor, Linear)]) -> Result<Tensor> {
    if parts.iter().all(|(dy, linear)| linear.fast(dy)) {
        cpu::input_gradient(parts)
    } else {
        reference::input_gradient(parts)
    }
}

/// (dA [R, in], dB [out, R]), in the factors' type.
pub fn factor_gradients(dy: &Tensor, x: &Tensor, pair: &LoraPair) -> Result<(Tensor, Tensor)> {
    if fast(&[dy, x, &pair.a, &pair.b]) {
        cpu::factor_gradients(dy, x, pair)
    } else {
        reference::factor_gradients(dy, x, pair)
    }
}

/// dense dW [out, in], in the accumulator type.
pub fn weight_gradient(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    if fast(&[dy, x]) {
        let (n, out, inner) = (dy.dim(0)?, dy.dim(1)?, x.dim(1)?);
        let (dys, xs) = (f32s(dy)?, f32s(x)?);
        let dw =
            gemm::new(Matrix::new(&dys, n, out, out).t(), Matrix::new(&xs, n, inner, inner), 1.0);
        return tensor(dw, (out, inner));
    }
    let acc = super::accumulator(dy.dtype());
    dy.to_dtype(acc)?.t()?.matmul(&x.to_dtype(acc)?)
}

/// dense gradient of the bias [out].
pub fn bias_gradient(dy: &Tensor) -> Result<Tensor> {
    sum_rows(dy)
}

/// The definition, on tensors of any device. Factors are cast to the activations' type for the
/// products.
pub mod reference {
    use super::*;

    pub fn forward(x: &Tensor, linear: Linear, residual: Option<&Tensor>) -> Result<Tensor> {
        let mut y = gemm::reference_transposed(x, linear.weight)?;
        if let Some(bias) = linear.bias {
            y = y.broadcast_add(&bias.to_dtype(x.dtype())?)?;
        }
        if let Some(sum) = linear.sum() {
            y = (y + gemm::reference_transposed(x, sum)?)?;
        }
        for pair in linear.pairs() {
            let u = gemm::reference_transposed(x, &pair.a)?;
            y = (y + (gemm::reference_transposed(&u, &pair.b)? * pair.scale)?)?;
        }
        match residual {
            Some(residual) => residual + y,
            None => Ok(y),
        }
    }

    pub fn input_gradient(parts: &[(&Tensor, Linear)]) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        for (dy, linear) in parts {
            let mut dx = gemm::reference_weight(dy, linear.weight)?;
            if let Some(sum) = linear.sum() {
                dx = (dx + gemm::reference_weight(dy, sum)?)?;
            }
            for pair in linear.pairs() {
                let back = gemm::reference_weight(dy, &pair.b)?;
                dx = (dx + (gemm::reference_weight(&back, &pair.a)? * pair.scale)?)?;
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
        let da = (dy.matmul(&pair.b)?.t()?.matmul(&x)? * pair.scale)?;
        let db = (dy.t()?.matmul(&x.matmul(&pair.a.t()?)?)? * pair.scale)?;
        Ok((da, db))
    }
}

/// The twin over slices: products accumulate into one buffer.
pub mod cpu {
    use super::*;

    fn rows<'a>(values: &'a [f32], shape: &Tensor) -> Result<Matrix<'a>> {
        let (n, m) = shape.dims2()?;
        Ok(Matrix::new(values, n, m, m))
    }

    pub fn forward(x: &Tensor, linear: Linear, residual: Option<&Tensor>) -> Result<Tensor> {
        let (n, out) = (x.dim(0)?, linear.weight.dim(0)?);
        let xs = f32s(x)?;
        let x = rows(&xs, x)?;
        let mut y = match residual {
            Some(residual) => {
                let mut y = f32s(residual)?.to_vec();
                gemm::add_transposed(x, linear.weight, &mut y)?;
                y
            }
            None => gemm::into_transposed(x, linear.weight, Vec::new())?,
        };
        if let Some(bias) = linear.bias {
            let bias = f32s(bias)?;
            y.chunks_exact_mut(out)
                .for_each(|row| row.iter_mut().zip(&*bias).for_each(|(y, b)| *y += b));
        }
        if let Some(sum) = linear.sum() {
            gemm::add_transposed(x, sum, &mut y)?;
        }
        for pair in linear.pairs() {
            let (a, b) = (f32s(&pair.a)?, f32s(&pair.b)?);
            let u = gemm::new(x, rows(&a, &pair.a)?.t(), pair.scale as f32);
            let rank = pair.a.dim(0)?;
            gemm::add(&mut y, Matrix::new(&u, n, rank, rank), rows(&b, &pair.b)?.t(), 1.0);
        }
        tensor(y, (n, out))
    }

    pub fn input_gradient(parts: &[(&Tensor, Linear)]) -> Result<Tensor> {
        let mut dx = None;
        let mut shape = (0, 0);
        for (dy, linear) in parts {
            let dys = f32s(dy)?;
            let mut sum = gemm::with_weight(&dys, linear.weight, dx)?;
            if let Some(beside) = linear.sum() {
                sum = gemm::with_weight(&dys, beside, Some(sum))?;
            }
            for pair in linear.pairs() {
                let (a, b) = (f32s(&pair.a)?, f32s(&pair.b)?);
                let back = gemm::new(rows(&dys, dy)?, rows(&b, &pair.b)?, pair.scale as f32);
                let rank = pair.a.dim(0)?;
                gemm::add(
                    &mut sum,
                    Matrix::new(&back, dy.dim(0)?, rank, rank),
                    rows(&a, &pair.a)?,
                    1.0,
                );
            }
            shape = (dy.dim(0)?, linear.weight.dim(1)?);
            dx = Some(sum);
        }
        tensor(dx.unwrap_or_default(), shape)
    }

    pub fn factor_gradients(dy: &Tensor, x: &Tensor, pair: &LoraPair) -> Result<(Tensor, Tensor)> {
        let scale = pair.scale as f32;
        let (dys, xs, a, b) = (f32s(dy)?, f32s(x)?, f32s(&pair.a)?, f32s(&pair.b)?);
        let (n, rank) = (dy.dim(0)?, pair.a.dim(0)?);
        let back = gemm::new(rows(&dys, dy)?, rows(&b, &pair.b)?, scale);
        let da = gemm::new(Matrix::new(&back, n, rank, rank).t(), rows(&xs, x)?, 1.0);
        let u = gemm::new(rows(&xs, x)?, rows(&a, &pair.a)?.t(), scale);
        let db = gemm::new(rows(&dys, dy)?.t(), Matrix::new(&u, n, rank, rank), 1.0);
        Ok((tensor(da, pair.a.shape())?, tensor(db, pair.b.shape())?))
    }
}
