//! Merging: what boosters add to weights, and what rounding leaves of it.

mod rounding;
mod update;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use candle_core::{DType, Tensor};

use super::adapter::Adapter;
use super::params::{LinearId, ParamId};
use super::{Model, meta};
use crate::error::error;
use crate::ops::linear::{LoraPair, UnmergedDelta};

pub use rounding::RoundingStats;
pub use update::WeightUpdate;

/// What a merge does with the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MergeMode {
    /// 16-bit weights are the sum of all merges, rounded once.
    #[default]
    Exact,
    /// Each merge is rounded into 16-bit weights, as is common practice.
    Naive,
    /// Weights stay as they are; factors of low rank are stacked beside them, or their sum where
    /// that is smaller.
    None,
}

impl MergeMode {
    pub const ALL: [Self; 3] = [Self::Exact, Self::Naive, Self::None];

    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Naive => "naive",
            Self::None => "none",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

impl Model {
    /// W ← W + step · s · B A on every pair of the adapter (paper Eq. 8), W ← W + step · (W' − W)
    /// on every tensor of it. Over 16-bit storage the sum is formed in f64, kept to 33 bits and
    /// rounded once (on other devices than the CPU through f32), however many merges there are;
    /// [`MergeMode`] says what else may be. Errors (class usage): full tensors where merges leave
    /// the weights as they are.
    pub fn merge(&mut self, adapter: &Adapter, step: f64) -> Result<()> {
        if self.is_meta() {
            return self.dry_merge(adapter);
        }
        for (linear, pair) in adapter.pairs() {
            let Some(weight) = self.params.weight(linear).cloned() else {
                return Err(missing(&format!("{}.weight", linear.name)));
            };
            if self.mode == MergeMode::None {
                let stacked = stacked(self.params.unmerged(linear), pair, step, linear)?;
                self.params.set_unmerged(linear, stacked);
            } else {
                self.change(&weight, WeightUpdate::Product(pair, step))?;
            }
        }
        for (id, other) in adapter.full() {
            self.takes_full_tensor(id)?;
            self.change(id, WeightUpdate::Lerp(other, step))?;
        }
        Ok(())
    }

    /// W ← W + delta on every parameter named; sums as in [`Model::merge`].
    pub fn add(&mut self, deltas: &BTreeMap<ParamId, Tensor>) -> Result<()> {
        deltas.keys().try_for_each(|id| self.takes_full_tensor(id))?;
        if self.is_meta() {
            return deltas.keys().try_for_each(|id| self.dry_change(id));
        }
        deltas.iter().try_for_each(|(id, delta)| self.change(id, WeightUpdate::Delta(delta)))
    }

    pub fn merge_mode(&self) -> MergeMode {
        self.mode
    }

    /// What merges do from here on.
    pub fn set_merge_mode(&mut self, mode: MergeMode) {
        self.mode = mode;
    }

    /// Errors (class usage) where merges leave the weights as they are.
    pub fn takes_full_tensors(&self) -> Result<()> {
        if self.mode != MergeMode::None {
            return Ok(());
        }
        Err(error!(
            Usage,
            "a dense booster changes whole weights, which `merge_mode: \"none\"` leaves as they \
             are";
            hint: "load the model with `merge_mode: \"exact\"`, or use boosters of low rank"
        )
        .into())
    }

    /// The same of one tensor; those of a head are changed in any mode.
    fn takes_full_tensor(&self, id: &ParamId) -> Result<()> {
        if id.is_task_head() { Ok(()) } else { self.takes_full_tensors() }
    }

    /// Copies of parameters in the factors' type: of 16-bit weights the sums that they are rounded
    /// from, in f32. Those that the model does not have are left out.
    pub fn copies(&self, wanted: &BTreeSet<ParamId>) -> Result<BTreeMap<ParamId, Tensor>> {
        if self.is_meta() {
            let known = wanted.iter().filter(|id| self.params.get(id).is_some());
            let copy = |id: &ParamId| {
                Ok((id.clone(), meta::empty(id.shape.as_slice(), self.factor_dtype())?))
            };
            return known.map(copy).collect();
        }
        Ok(self.params.copies(wanted, self.factor_dtype())?)
    }

    /// All parameters; where something lies beside a weight, their sum in the factors' type.
    pub fn summed(&self) -> Result<Vec<(ParamId, Tensor)>> {
        let of = |(id, own): (&ParamId, &Tensor)| {
            let linear = id.linear().filter(|linear| self.params.weight(linear) == Some(id));
            let Some(unmerged) = linear.and_then(|linear| self.params.unmerged(linear)) else {
                return Ok((id.clone(), own.clone()));
            };
            let sum = own.to_dtype(self.factor_dtype())?.copy()?;
            match unmerged {
                UnmergedDelta::Factors(pair) => WeightUpdate::Product(pair, 1.0),
                UnmergedDelta::Sum(sum) => WeightUpdate::Delta(sum),
            }
            .apply(&sum)?;
            Ok((id.clone(), sum))
        };
        self.params.iter().map(of).collect()
    }

    /// Bytes of what merges left: behind 16-bit weights, and beside weights that stay as they are.
    pub fn left_bytes(&self) -> usize {
        let bytes = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        let beside = |(_, unmerged): (&LinearId, &UnmergedDelta)| match unmerged {
            UnmergedDelta::Factors(pair) => bytes(&pair.a) + bytes(&pair.b),
            UnmergedDelta::Sum(sum) => bytes(sum),
        };
        self.params.compensated().map(|(_, compensation)| bytes(compensation)).sum::<usize>()
            + self.params.all_unmerged().map(beside).sum::<usize>()
    }

    /// The share of what was added since the last question that 16-bit weights took up: ⟨stored
    /// change, δ⟩/‖δ‖². `None` of wider weights, and where nothing was added.
    pub fn retained_fraction(&mut self) -> Option<f64> {
        let RoundingStats { moved, added } = std::mem::take(&mut self.rounding);
        // Of sums that left the type's range nothing can be said.
        (added > 0.0).then(|| moved / added).filter(|share| share.is_finite())
    }

    /// Changes a parameter, or the sum that it is rounded from.
    fn change(&mut self, id: &ParamId, update: WeightUpdate) -> Result<()> {
        let (storage, exact) = (self.storage, self.mode != MergeMode::Naive);
        let Some(tensor) = self.params.get(id) else { return Err(missing(&id.name)) };
        if matches!(storage, DType::F32 | DType::F64) {
            return Ok(update.apply(tensor)?);
        }
        let compensation = match self.params.compensation(id).cloned() {
            None if exact => Some(Tensor::zeros(tensor.shape(), DType::F32, tensor.device())?),
            kept => kept,
        };
        let RoundingStats { moved, added } =
            update.round(tensor, compensation.as_ref(), storage)?;
        self.rounding.moved += moved;
        self.rounding.added += added;
        self.params.set_compensation(id, compensation.filter(|_| exact));
        Ok(())
    }

    /// Lets a model without numbers hold what a merge of `adapter` would leave: see
    /// [`Model::left_bytes`].
    fn dry_merge(&mut self, adapter: &Adapter) -> Result<()> {
        for (linear, pair) in adapter.pairs() {
            if self.mode != MergeMode::None {
                if let Some(weight) = self.params.weight(linear).cloned() {
                    self.dry_change(&weight)?;
                }
                continue;
            }
            let before = match self.params.unmerged(linear) {
                Some(UnmergedDelta::Sum(_)) => continue,
                Some(UnmergedDelta::Factors(own)) => own.a.dim(0)?,
                None => 0,
            };
            let ((out, inner), dtype) = (linear.shape(), pair.a.dtype());
            let rank = before + pair.a.dim(0)?;
            let unmerged = if outgrown(rank, linear) {
                UnmergedDelta::Sum(meta::empty((out, inner), dtype)?)
            } else {
                let (a, b) = (meta::empty((rank, inner), dtype)?, meta::empty((out, rank), dtype)?);
                UnmergedDelta::Factors(LoraPair { a, b, scale: 1.0 })
            };
            self.params.set_unmerged(linear, unmerged);
        }
        adapter.full().keys().try_for_each(|id| {
            self.takes_full_tensor(id)?;
            self.dry_change(id)
        })
    }

    /// The same of a parameter that is changed.
    fn dry_change(&mut self, id: &ParamId) -> Result<()> {
        let kept = self.mode != MergeMode::Naive && self.storage.size_in_bytes() == 2;
        if let Some(tensor) = self.params.get(id)
            && kept
            && self.params.compensation(id).is_none()
        {
            let compensation = meta::empty(tensor.shape(), DType::F32)?;
            self.params.set_compensation(id, Some(compensation));
        }
        Ok(())
    }
}

/// Whether factors of that rank are larger than their sum [out, in].
fn outgrown(rank: usize, linear: &LinearId) -> bool {
    let (out, inner) = linear.shape();
    rank * (out + inner) > out * inner
}

/// What lies beside a weight once step · s · B A was laid behind what is there. Factors of a rank R
/// at which R (out + in) numbers would be more than the out · in of their sum become that sum, in
/// their own type, added in their order.
fn stacked(
    before: Option<&UnmergedDelta>,
    pair: &LoraPair,
    step: f64,
    linear: &LinearId,
) -> candle_core::Result<UnmergedDelta> {
    if let Some(UnmergedDelta::Sum(sum)) = before {
        WeightUpdate::Product(pair, step).apply(sum)?;
        return Ok(UnmergedDelta::Sum(sum.clone()));
    }
    let b = (&pair.b * (step * pair.scale))?;
    let (a, b) = match before {
        Some(UnmergedDelta::Factors(own)) => {
            (Tensor::cat(&[&own.a, &pair.a], 0)?, Tensor::cat(&[&own.b, &b], 1)?.contiguous()?)
        }
        _ => (pair.a.copy()?, b),
    };
    let outgrown = outgrown(a.dim(0)?, linear);
    let factors = LoraPair { a, b, scale: 1.0 };
    if !outgrown {
        return Ok(UnmergedDelta::Factors(factors));
    }
    let sum = Tensor::zeros(linear.shape(), factors.a.dtype(), factors.a.device())?;
    WeightUpdate::Product(&factors, 1.0).apply(&sum)?;
    Ok(UnmergedDelta::Sum(sum))
}

fn missing(name: &str) -> anyhow::Error {
    error!(Run, "merge into `{name}`, which the model does not have").into()
}
