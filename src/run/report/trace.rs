//! What was trained and measured, in a run or in a point of its sweep.

use std::collections::{BTreeMap, BTreeSet};

use crate::run::{Evaluations, Merge};

/// Steps, merges and evaluations, in their order.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    pub steps: Vec<LoggedStep>,
    /// Layers that were trained, by round.
    pub trained: BTreeMap<usize, BTreeSet<usize>>,
    pub merges: Vec<Merge>,
    /// Boosters that the model is the sum of, as far as merges and changes tell.
    pub length: usize,
    pub evaluations: Evaluations,
}

/// A logged training step; a loss that was no number is `None`.
#[derive(Clone, Copy, Debug)]
pub struct LoggedStep {
    pub step: u64,
    pub loss: Option<f64>,
    pub lr: Option<f64>,
}

impl Trace {
    /// Whether nothing was trained.
    pub fn is_untrained(&self) -> bool {
        self.steps.is_empty() && self.merges.is_empty()
    }

    /// The same with its steps counted from 1, as if nothing had been trained beside it.
    pub fn counted_anew(mut self) -> Self {
        self.steps.iter_mut().zip(1..).for_each(|(step, n)| step.step = n);
        self
    }
}
