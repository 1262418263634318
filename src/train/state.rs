//! A booster in training, between two steps: its numbers and the optimizer's state as named
//! tensors, and what goes with them.

use anyhow::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::optim::{Optimizer, OptimizerKind};
use crate::error::bail;
use crate::model::Adapter;

/// What training has come to, over all fits of a booster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    pub steps: u64,
    /// By how much the booster lowers the mean loss on the batches of the last step, in nats a
    /// token, measured before that step trained on them: the loss of the model without the booster
    /// less the step's loss. None before the end of a fit, and after a single step, when the
    /// booster was still as it started.
    pub gain: Option<f64>,
}

/// What goes with the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingState {
    pub version: u32,
    pub trained: Trained,
    /// The optimizer, the most steps that a tensor took, and how many tensors are kept of each;
    /// `None` before the first fit.
    pub optimizer: Option<(OptimizerKind, u32, usize)>,
    /// Steps that each tensor took, where they are not all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<u32>,
}

const VERSION: u32 = 1;

/// Names of the `number`-th trained tensor and, as parts from 1, of what the optimizer keeps of it.
fn name(number: usize, part: usize) -> String {
    match ["number", "first", "second"].get(part) {
        Some(name) => format!("{number:04}.{name}"),
        None => format!("{number:04}.{part}"),
    }
}

impl TrainingState {
    /// All that is needed to go on: the numbers of [`Adapter::tensors`] in their order, each
    /// followed by what the optimizer keeps of it.
    pub fn of(
        adapter: &Adapter,
        trained: Trained,
        optimizer: Option<&Optimizer>,
    ) -> Result<(Self, Vec<(String, Tensor)>)> {
        let (steps, kept) = optimizer.map(Optimizer::state).transpose()?.unwrap_or_default();
        let each = kept.first().map_or(0, Vec::len);
        let mut tensors = vec![];
        for (number, tensor) in adapter.tensors().into_iter().enumerate() {
            tensors.push((name(number, 0), tensor.clone()));
            for (part, kept) in kept.get(number).into_iter().flatten().enumerate() {
                tensors.push((name(number, part + 1), kept.clone()));
            }
        }
        let most = steps.iter().copied().max().unwrap_or(0);
        let apart = if steps.iter().all(|&s| s == most) { vec![] } else { steps };
        Ok((
            Self {
                version: VERSION,
                trained,
                optimizer: optimizer.map(|o| (o.kind(), most, each)),
                steps: apart,
            },
            tensors,
        ))
    }

    /// Gives `adapter` its numbers back and makes the optimizer; `load` gives a tensor by name.
    /// Errors (class data): a later version, tensors of other shapes.
    pub fn restore(
        &self,
        adapter: &Adapter,
        load: impl Fn(&str) -> Result<Tensor>,
    ) -> Result<(Adapter, Option<Optimizer>)> {
        if self.version != VERSION {
            bail!(Data, "of version {}; this program reads version {VERSION}", self.version);
        }
        let count = adapter.tensors().len();
        let numbers = (0..count).map(|i| load(&name(i, 0))).collect::<Result<Vec<_>>>()?;
        for (new, old) in numbers.iter().zip(adapter.tensors()) {
            if new.shape() != old.shape() {
                bail!(Data, "a tensor has shape {:?}, not {:?}", new.dims(), old.dims());
            }
        }
        let adapter = adapter.with_tensors(numbers);
        let optimizer = self.resumed(&adapter, load)?;
        Ok((adapter, optimizer))
    }

    /// The optimizer as it was, over the tensors of `adapter`; `None` before the first fit.
    fn resumed(
        &self,
        adapter: &Adapter,
        load: impl Fn(&str) -> Result<Tensor>,
    ) -> Result<Option<Optimizer>> {
        let Some((kind, steps, each)) = self.optimizer else { return Ok(None) };
        let tensors = adapter.tensors();
        // Before its first step an optimizer keeps nothing.
        let held = if each == 0 { 0 } else { tensors.len() };
        let kept = (0..held)
            .map(|i| (1..=each).map(|part| load(&name(i, part))).collect())
            .collect::<Result<_>>()?;
        let steps = match self.steps.len() {
            0 => vec![steps; held],
            _ if self.steps.len() == held => self.steps.clone(),
            other => {
                bail!(Data, "{other} counts of steps for {held} tensors");
            }
        };
        Ok(Some(Optimizer::resumed(kind, steps, kept, &tensors)?))
    }
}
