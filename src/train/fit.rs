//! The training loop: it yields what happened, others show, log and store it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::memory::Recompute;
use super::optimizer::{Optimizer, Rule};
use crate::data::{Batch, Feed};
use crate::error::Error;
use crate::model::{Model, Overlay, Request, Role, Tokens};
use crate::ops::linear::Pair;

/// How to train.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// κ
    pub steps: usize,
    /// Sequences in a batch.
    pub batch: usize,
    /// Batches whose gradients make one step, weighted by their supervised tokens.
    pub accumulate: usize,
    pub rule: Rule,
    /// The learning rate of every step; `steps` numbers.
    pub lr: Vec<f64>,
    /// Largest global norm of a step's gradient, as `torch.nn.utils.clip_grad_norm_`.
    pub clip: Option<f64>,
    /// λ of the penalty ½ λ (‖A‖² + ‖B‖²) (paper Eq. 7); not part of the reported loss.
    pub l2: f64,
    pub recompute: Recompute,
}

/// What one step did.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    /// From 1.
    pub step: usize,
    /// Mean negative log-likelihood of the supervised tokens before the step, in nats.
    pub loss: f64,
    pub lr: f64,
    /// Tokens that went through the network.
    pub tokens: usize,
    /// Those that counted in the loss.
    pub supervised: usize,
    /// Global norm of the gradient, before clipping.
    pub gradient_norm: f64,
    pub seconds: f64,
}

/// A booster in training: an iterator over its steps.
pub struct Fit<'a> {
    model: &'a Model,
    overlay: &'a mut Overlay,
    optimizer: &'a mut Optimizer,
    feed: &'a mut Feed,
    options: &'a FitOptions,
    done: usize,
}

impl<'a> Fit<'a> {
    pub fn new(
        model: &'a Model,
        overlay: &'a mut Overlay,
        optimizer: &'a mut Optimizer,
        feed: &'a mut Feed,
        options: &'a FitOptions,
    ) -> Self {
        Self { model, overlay, optimizer, feed, options, done: 0 }
    }

    fn step(&mut self) -> Result<StepRecord> {
        let start = Instant::now();
        let (step, lr) = (self.done + 1, self.options.lr.get(self.done).copied().context("fewer learning rates than steps")?);
        let batches = (0..self.options.accumulate)
            .map(|_| Batch::pack(&self.feed.next(self.options.batch)?.iter().collect::<Vec<_>>()))
            .collect::<Result<Vec<_>>>()?;
        let supervised: usize = batches.iter().map(|b| b.rows.len()).sum();
        let tokens = batches.iter().map(|b| b.ids.len()).sum();
        let mut loss = 0.0;
        let mut sums: BTreeMap<(usize, Role), (Tensor, Tensor)> = BTreeMap::new();
        for batch in batches {
            let recompute =
                self.options.recompute.decide(self.model, batch.ids.len(), batch.rows.len(), self.overlay.lowest().unwrap_or(0));
            let request = Request { overlay: self.overlay, dense: &BTreeSet::new(), recompute };
            let flat = Tokens::sequences(batch.ids, &batch.starts);
            let (nll, gradients) = self.model.gradients(&flat, &batch.rows, &batch.targets, 1.0 / supervised as f64, &request)?;
            loss += nll.iter().sum::<f64>() / supervised as f64;
            for (key, (da, db)) in gradients.pairs {
                let sum = match sums.remove(&key) {
                    Some((a, b)) => ((a + da)?, (b + db)?),
                    None => (da, db),
                };
                sums.insert(key, sum);
            }
        }
        if !loss.is_finite() {
            let layers: BTreeSet<usize> = self.overlay.pairs().keys().map(|&(layer, _)| layer).collect();
            return Err(Error::run(format!("the loss became {loss} at step {step} of a booster on layers {layers:?}"))
                .hint("lower the learning rate or clip the gradient, e.g. `clip: 1.0`")
                .into());
        }
        let gradient_norm = self.apply(sums, lr)?;
        self.done = step;
        Ok(StepRecord { step, loss, lr, tokens, supervised, gradient_norm, seconds: start.elapsed().as_secs_f64() })
    }

    /// Penalty, clipping and the optimiser's step; the gradient's norm before clipping.
    fn apply(&mut self, sums: BTreeMap<(usize, Role), (Tensor, Tensor)>, lr: f64) -> Result<f64> {
        let pairs = self.overlay.pairs();
        let parameters: Vec<&Tensor> = pairs.values().flat_map(|p| [&p.a, &p.b]).collect();
        let mut gradients: Vec<Tensor> = sums.into_values().flat_map(|(a, b)| [a, b]).collect();
        if self.options.l2 != 0.0 {
            gradients = gradients.iter().zip(&parameters).map(|(g, p)| g + (*p * self.options.l2)?).collect::<candle_core::Result<_>>()?;
        }
        let norm = global_norm(&gradients)?;
        if let Some(clip) = self.options.clip {
            let factor = clip / (norm + 1e-6);
            if factor < 1.0 {
                gradients = gradients.iter().map(|g| g * factor).collect::<candle_core::Result<_>>()?;
            }
        }
        let mut moved = self.optimizer.step(&parameters, &gradients, lr)?.into_iter();
        let keys: Vec<((usize, Role), f64)> = pairs.iter().map(|(k, p)| (*k, p.scale)).collect();
        let pairs = keys.into_iter().zip(std::iter::from_fn(|| Some((moved.next()?, moved.next()?))));
        *self.overlay = Overlay::new(pairs.map(|((key, scale), (a, b))| (key, Pair { a, b, scale })).collect());
        Ok(norm)
    }
}

/// √Σ‖g‖², summed in f64.
fn global_norm(gradients: &[Tensor]) -> Result<f64> {
    let mut sum = 0.0;
    for g in gradients {
        sum += g.sqr()?.sum_all()?.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()?;
    }
    Ok(sum.sqrt())
}

impl Iterator for Fit<'_> {
    type Item = Result<StepRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.done < self.options.steps).then(|| self.step())
    }
}
