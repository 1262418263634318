//! A booster in training, between two steps: its numbers and moments as named tensors, and what
//! goes with them.

use anyhow::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::fit::Trained;
use super::optimizer::{Optimizer, Rule};
use crate::error::Error;
use crate::model::Adapter;

/// What goes with the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub version: u32,
    pub trained: Trained,
    /// The optimiser's rule, the most steps that a tensor took, and moments a tensor; `None` before
    /// the first fit.
    pub optimizer: Option<(Rule, u32, usize)>,
    /// Steps that each tensor took, where they are not all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<u32>,
}

const VERSION: u32 = 1;

/// Names of the `number`-th trained tensor and of its moments.
fn name(number: usize, part: usize) -> String {
    format!("{number:04}.{}", ["number", "first", "second"].get(part).unwrap_or(&"more"))
}

impl State {
    /// All that is needed to go on: the numbers of [`Adapter::tensors`] in their order, each
    /// followed by its moments.
    pub fn of(
        adapter: &Adapter,
        trained: Trained,
        optimizer: Option<&Optimizer>,
    ) -> Result<(Self, Vec<(String, Tensor)>)> {
        let (steps, moments) = optimizer.map(Optimizer::state).transpose()?.unwrap_or_default();
        let each = moments.first().map_or(0, Vec::len);
        let mut tensors = vec![];
        for (number, tensor) in adapter.tensors().into_iter().enumerate() {
            tensors.push((name(number, 0), tensor.clone()));
            for (part, moment) in moments.get(number).into_iter().flatten().enumerate() {
                tensors.push((name(number, part + 1), moment.clone()));
            }
        }
        let most = steps.iter().copied().max().unwrap_or(0);
        let apart = if steps.iter().all(|&s| s == most) { vec![] } else { steps };
        Ok((
            Self {
                version: VERSION,
                trained,
                optimizer: optimizer.map(|o| (o.rule(), most, each)),
                steps: apart,
            },
            tensors,
        ))
    }

    /// Gives `adapter` its numbers back and makes the optimiser; `load` gives a tensor by name.
    /// Errors (class data): a later version, tensors of other shapes.
    pub fn restore(
        &self,
        adapter: &Adapter,
        load: impl Fn(&str) -> Result<Tensor>,
    ) -> Result<(Adapter, Option<Optimizer>)> {
        if self.version != VERSION {
            return Err(Error::data(format!(
                "of version {}; this program reads version {VERSION}",
                self.version
            ))
            .into());
        }
        let count = adapter.tensors().len();
        let numbers = (0..count).map(|i| load(&name(i, 0))).collect::<Result<Vec<_>>>()?;
        for (new, old) in numbers.iter().zip(adapter.tensors()) {
            if new.shape() != old.shape() {
                return Err(Error::data(format!(
                    "a tensor has shape {:?}, not {:?}",
                    new.dims(),
                    old.dims()
                ))
                .into());
            }
        }
        let adapter = adapter.with_tensors(numbers);
        let Some((rule, steps, each)) = self.optimizer else { return Ok((adapter, None)) };
        // Before its first step an optimiser has no moments.
        let held = if each == 0 { 0 } else { count };
        let moments = (0..held)
            .map(|i| (1..=each).map(|part| load(&name(i, part))).collect())
            .collect::<Result<_>>()?;
        let steps = match self.steps.len() {
            0 => vec![steps; held],
            _ if self.steps.len() == held => self.steps.clone(),
            other => {
                return Err(
                    Error::data(format!("{other} counts of steps for {held} tensors")).into()
                );
            }
        };
        let optimizer = Optimizer::resumed(rule, steps, moments, &adapter.tensors())?;
        Ok((adapter, Some(optimizer)))
    }
}
