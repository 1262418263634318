//! What a merge does to one weight, and what 16-bit weights keep of it.
//!
//! A 16-bit weight w that was merged into has a compensation r in f32 behind it: w + r is the sum
//! of all merges, w that sum rounded once. |r| is at most half a unit of w, so the pair holds 33
//! bits or more, and whatever cancels does so in f64.

use candle_core::{DType, Result, Shape, Tensor, bail};

use super::rounding::{self, RoundingStats};
use crate::ops::cpu::gemm::{self, Matrix};
use crate::ops::cpu::view;
use crate::ops::linear::LoraPair;
use crate::ops::{Backend, elementwise, matmul};

/// A change of a weight W.
#[derive(Clone, Copy)]
pub enum WeightUpdate<'a> {
    /// W + step · s · B A, of a weight [out, in].
    Product(&'a LoraPair, f64),
    /// W + step · (other − W); with a step of 1 the other, bit for bit.
    Lerp(&'a Tensor, f64),
    /// W + delta.
    Delta(&'a Tensor),
}

impl WeightUpdate<'_> {
    /// Changes a weight in place; on the CPU in f32 without a temporary of the weight's size.
    pub fn apply(&self, weight: &Tensor) -> Result<()> {
        let mut inputs = self.parts();
        inputs.push(weight);
        if Backend::of(&inputs) == Backend::Cpu {
            return self.apply_on_cpu(weight);
        }
        let wide = if weight.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let changed = self.of(&weight.to_dtype(wide)?)?.to_dtype(weight.dtype())?;
        weight.slice_set(&changed.contiguous()?, 0, 0)
    }

    /// The twin over slices of f32.
    fn apply_on_cpu(&self, weight: &Tensor) -> Result<()> {
        match *self {
            WeightUpdate::Product(pair, step) => {
                let ((out, inner), rank) = (weight.dims2()?, pair.a.dim(0)?);
                let (a, b) = (view::f32s(&pair.a)?, view::f32s(&pair.b)?);
                let b = Matrix::new(&b, out, rank, rank);
                let a = Matrix::new(&a, rank, inner, inner);
                view::update(weight, |w| gemm::add(w, b, a, (step * pair.scale) as f32))
            }
            WeightUpdate::Lerp(other, step) => {
                elementwise::cpu::zip(weight, &view::f32s(other)?, |w, other| {
                    let own = f64::from(*w);
                    *w = if step == 1.0 {
                        other
                    } else {
                        (own + step * (f64::from(other) - own)) as f32
                    };
                })
            }
            WeightUpdate::Delta(delta) => {
                elementwise::cpu::zip(weight, &view::f32s(delta)?, |w, d| *w += d)
            }
        }
    }

    /// The tensors that it is made of: A and B of a product, else the other tensor alone.
    fn parts(&self) -> Vec<&Tensor> {
        match *self {
            WeightUpdate::Product(pair, _) => vec![&pair.a, &pair.b],
            WeightUpdate::Lerp(other, _) | WeightUpdate::Delta(other) => vec![other],
        }
    }

    /// The changed weight, by tensors of the weight's type on any device.
    fn of(&self, weight: &Tensor) -> Result<Tensor> {
        let wide = weight.dtype();
        match *self {
            WeightUpdate::Product(pair, step) => {
                weight
                    + (matmul(&pair.b.to_dtype(wide)?, &pair.a.to_dtype(wide)?)?
                        * (step * pair.scale))?
            }
            WeightUpdate::Lerp(other, 1.0) => other.to_dtype(wide),
            WeightUpdate::Lerp(other, step) => weight + ((other.to_dtype(wide)? - weight)? * step)?,
            WeightUpdate::Delta(delta) => weight + delta.to_dtype(wide)?,
        }
    }

    /// Changes the sum of a weight of `storage` (f16 or bf16) and what is behind it, in f64, and
    /// rounds it once: both tensors in place. The weight may be held in a wider type; nothing is
    /// kept of a weight without a `compensation`, f32.
    pub fn round(
        &self,
        weight: &Tensor,
        compensation: Option<&Tensor>,
        storage: DType,
    ) -> Result<RoundingStats> {
        self.fits(weight)?;
        if Backend::of_products(&self.parts(), &[weight]) == Backend::Cpu {
            self.round_on_cpu(weight, compensation, storage)
        } else {
            self.round_reference(weight, compensation, storage)
        }
    }

    /// The definition, on tensors of any device. A sum at the middle of two numbers, but for less
    /// than f32 can hold, may go to the wrong side; the compensation says so.
    fn round_reference(
        &self,
        weight: &Tensor,
        compensation: Option<&Tensor>,
        storage: DType,
    ) -> Result<RoundingStats> {
        let was = weight.to_dtype(DType::F64)?;
        let own = match compensation {
            Some(compensation) => (&was + compensation.to_dtype(DType::F64)?)?,
            None => was.clone(),
        };
        let sum = self.of(&own)?;
        let rounded = sum.to_dtype(DType::F32)?.to_dtype(storage)?;
        let wide = rounded.to_dtype(DType::F64)?;
        let (added, moved) = ((&sum - own)?, (&wide - was)?);
        weight.slice_set(&rounded.to_dtype(weight.dtype())?.contiguous()?, 0, 0)?;
        if let Some(compensation) = compensation {
            compensation.slice_set(&(sum - wide)?.to_dtype(DType::F32)?.contiguous()?, 0, 0)?;
        }
        Ok(RoundingStats {
            moved: elementwise::dot(&moved, &added)?,
            added: elementwise::squares(&added)?,
        })
    }

    /// The twin over slices, with a few sums in f64 at a time.
    fn round_on_cpu(
        &self,
        weight: &Tensor,
        compensation: Option<&Tensor>,
        storage: DType,
    ) -> Result<RoundingStats> {
        let (first, second) = match *self {
            WeightUpdate::Product(pair, _) => (view::f32s(&pair.a)?, Some(view::f32s(&pair.b)?)),
            WeightUpdate::Lerp(other, _) | WeightUpdate::Delta(other) => (view::f32s(other)?, None),
        };
        let parts = [&*first, second.as_deref().unwrap_or_default()];
        rounding::update(
            weight,
            compensation,
            storage,
            #[inline(always)]
            |from, sums| self.on_slice(parts, from, sums),
        )
    }

    /// Changes the sums from a place in the weight on. `parts` are A and B of a product, else the
    /// other tensor alone.
    #[inline(always)]
    fn on_slice(&self, parts: [&[f32]; 2], from: usize, sums: &mut [f64]) {
        match *self {
            WeightUpdate::Product(pair, step) => {
                add_product(parts, pair.a.dims()[0], step * pair.scale, from, sums)
            }
            WeightUpdate::Lerp(_, step) => {
                for (sum, &other) in sums.iter_mut().zip(&parts[0][from..]) {
                    *sum = if step == 1.0 {
                        f64::from(other)
                    } else {
                        *sum + step * (f64::from(other) - *sum)
                    };
                }
            }
            WeightUpdate::Delta(_) => {
                sums.iter_mut().zip(&parts[0][from..]).for_each(|(sum, &d)| *sum += f64::from(d))
            }
        }
    }

    /// Errors where the change is of a weight of another shape.
    fn fits(&self, weight: &Tensor) -> Result<()> {
        let shape = match *self {
            WeightUpdate::Product(pair, _) => Shape::from((pair.b.dim(0)?, pair.a.dim(1)?)),
            WeightUpdate::Lerp(other, _) | WeightUpdate::Delta(other) => other.shape().clone(),
        };
        if shape != *weight.shape()
            || matches!(self, WeightUpdate::Product(pair, _) if pair.a.dim(0)? != pair.b.dim(1)?)
        {
            bail!("a change of shape {shape:?} of a weight of shape {:?}", weight.shape());
        }
        Ok(())
    }
}

/// Adds to sums, from a place in the product on, scale · B A of A [rank, in] and B [out, rank].
#[inline(always)]
fn add_product([a, b]: [&[f32]; 2], rank: usize, scale: f64, from: usize, sums: &mut [f64]) {
    let inner = a.len() / rank.max(1);
    let mut done = 0;
    while done < sums.len() {
        let (row, column) = ((from + done) / inner, (from + done) % inner);
        let n = (inner - column).min(sums.len() - done);
        for k in 0..rank {
            let factor = scale * f64::from(b[row * rank + k]);
            let a = &a[k * inner + column..][..n];
            sums[done..done + n]
                .iter_mut()
                .zip(a)
                .for_each(|(sum, &a)| *sum += factor * f64::from(a));
        }
        done += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::merge::rounding::{CHUNK, tests::nearest_bf16};
    use candle_core::Device;
    use half::bf16;

    fn numbers(n: usize, step: u64, size: f64) -> Vec<f32> {
        (0..n as u64)
            .map(|i| {
                ((((i + 1) * step * 7919) % 20_011) as f64 / 20_011.0 - 0.5) as f32 * size as f32
            })
            .collect()
    }

    fn f64s(t: &Tensor) -> Result<Vec<f64>> {
        t.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
    }

    /// What a weight and its compensation are the sum of.
    fn sums(weight: &Tensor, compensation: &Tensor) -> Result<Vec<f64>> {
        Ok(f64s(weight)?.into_iter().zip(f64s(compensation)?).map(|(w, r)| w + r).collect())
    }

    /// How many numbers differ.
    fn apart(a: &Tensor, b: &Tensor) -> Result<usize> {
        Ok(f64s(a)?.into_iter().zip(f64s(b)?).filter(|(a, b)| a != b).count())
    }

    /// Whether both took up the same, but for sums at the middle of two numbers, which the
    /// definition may round to the other one.
    fn alike(fast: RoundingStats, slow: RoundingStats) -> bool {
        (fast.moved / slow.moved - 1.0).abs() < 1e-3 && (fast.added / slow.added - 1.0).abs() < 1e-6
    }

    /// Hundreds of changes, of weights that they cancel too, are the sum in f64 rounded once, and
    /// both twins say so.
    #[test]
    fn many_changes_are_their_sum_rounded_once() -> Result<()> {
        let (out, inner) = (130, 140);
        let t = |numbers: &[f32], shape| Tensor::from_slice(numbers, shape, &Device::Cpu);
        let base: Vec<f32> =
            numbers(out * inner, 1, 2e-4).iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
        let weight = t(&base, (out, inner))?.to_dtype(DType::BF16)?;
        let compensation = Tensor::zeros((out, inner), DType::F32, &Device::Cpu)?;
        let (plain, plain_compensation) = (weight.copy()?, compensation.copy()?);
        let mut want: Vec<f64> = base.iter().map(|&x| f64::from(x)).collect();
        for round in 0..300u64 {
            let (a, b) = (numbers(2 * inner, round + 2, 2.0), numbers(2 * out, round + 5, 2e-5));
            for (i, sum) in want.iter_mut().enumerate() {
                let (row, column) = (i / inner, i % inner);
                let term = |k| 1.5 * f64::from(b[row * 2 + k]) * f64::from(a[k * inner + column]);
                *sum += term(0) + term(1);
            }
            let pair = LoraPair { a: t(&a, (2, inner))?, b: t(&b, (out, 2))?, scale: 0.5 };
            let change = WeightUpdate::Product(&pair, 3.0);
            let fast = change.round(&weight, Some(&compensation), DType::BF16)?;
            let slow = change.round_reference(&plain, Some(&plain_compensation), DType::BF16)?;
            assert!(alike(fast, slow), "round {round}");
        }
        for (i, (got, want)) in f64s(&weight)?.iter().zip(&want).enumerate() {
            assert_eq!(*got, nearest_bf16(*want), "{i}: {want}");
        }
        assert!(apart(&weight, &plain)? * 1000 < want.len());
        let mut sums = sums(&weight, &compensation)?.into_iter().zip(want);
        assert!(sums.all(|(sum, want)| (sum - want).abs() < 1e-2 * 2f64.powi(-30)));
        Ok(())
    }

    /// Checks that both twins do the same to weights that begin with `start`.
    fn twins_agree(change: WeightUpdate, start: &Tensor, storage: DType) -> Result<()> {
        let fresh =
            || -> Result<_> { Ok((start.copy()?, start.to_dtype(DType::F32)?.zeros_like()?)) };
        let ((weight, compensation), (plain, plain_compensation)) = (fresh()?, fresh()?);
        let fast = change.round(&weight, Some(&compensation), storage)?;
        let slow = change.round_reference(&plain, Some(&plain_compensation), storage)?;
        assert!(alike(fast, slow));
        let (got, want) = (sums(&weight, &compensation)?, sums(&plain, &plain_compensation)?);
        assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() <= a.abs() * 2f64.powi(-32)));
        let apart = apart(&weight, &plain)?;
        assert!(apart * 1000 < got.len(), "{apart}");
        // What nothing is kept of is rounded to the same.
        let naive = start.copy()?;
        assert_eq!((change.round(&naive, None, storage)?, f64s(&naive)?), (fast, f64s(&weight)?));
        if let WeightUpdate::Lerp(other, 1.0) = change {
            assert_eq!(got, f64s(other)?);
        }
        Ok(())
    }

    #[test]
    fn whole_tensors_and_differences_round_as_products_do() -> Result<()> {
        let n = CHUNK + 37;
        let t = |values: Vec<f32>| Tensor::from_vec(values, n, &Device::Cpu);
        let (other, delta) = (t(numbers(n, 3, 1.0))?, t(numbers(n, 7, 1e-3))?);
        for storage in [DType::BF16, DType::F16] {
            // A norm's weight is held in a wider type than it is stored in.
            for kept in [storage, DType::F32] {
                let start = t(numbers(n, 11, 1.0))?.to_dtype(storage)?.to_dtype(kept)?;
                twins_agree(WeightUpdate::Delta(&delta), &start, storage)?;
                twins_agree(WeightUpdate::Lerp(&other, 0.25), &start, storage)?;
                twins_agree(WeightUpdate::Lerp(&other, 1.0), &start, storage)?;
            }
        }
        Ok(())
    }

    #[test]
    fn changes_of_another_shape_are_refused() -> Result<()> {
        let weight = Tensor::zeros(5, DType::BF16, &Device::Cpu)?;
        let short = Tensor::zeros(4, DType::F32, &Device::Cpu)?;
        let error = WeightUpdate::Delta(&short).round(&weight, None, DType::BF16).unwrap_err();
        assert!(error.to_string().contains("a change of shape"), "{error}");
        Ok(())
    }
}
