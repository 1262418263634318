//! The training loop: it yields what happened, others show, log and store it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::memory::{GradientCheckpointing, check_room, gradient_bytes, reference_bytes};
use super::optim::{Optimizer, OptimizerKind};
use super::state::{Trained, TrainingState};
use super::tokens;
use crate::data::{Batch, DataLoader, DataLoaderState};
use crate::error::bail;
use crate::model::cost::Work;
use crate::model::meta::Assume;
use crate::model::{Adapter, GradRequest, Gradients, Model, ParamId};
use crate::ops::elementwise;
use crate::ops::later::Later;

/// How to train.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// κ
    pub steps: usize,
    /// Sequences in a batch.
    pub batch: usize,
    /// Batches whose gradients make one step, weighted by their supervised tokens.
    pub accumulate: usize,
    pub optimizer: OptimizerKind,
    /// The learning rate of every step; of steps beyond its end the last.
    pub lr: Vec<f64>,
    /// What the learning rate is multiplied by for B (LoRA+, arXiv 2402.12354: λ).
    pub lr_ratio: f64,
    /// What the learning rate is multiplied by for a head that is trained beside factors.
    pub head_lr_ratio: f64,
    /// The factor that stays as it is (RAC-LoRA, arXiv 2410.08305).
    pub freeze: Option<Factor>,
    /// Of each step the layers whose pairs take part in it (CoTo, arXiv 2506.05713); empty for all.
    pub active: Vec<BTreeSet<usize>>,
    /// Largest global norm of a step's gradient, as `torch.nn.utils.clip_grad_norm_`.
    pub clip: Option<f64>,
    /// λ of the penalty ½ λ (‖A‖² + ‖B‖²) (paper Eq. 7), and ½ λ ‖W' − W‖² of whole tensors; not
    /// part of the reported loss.
    pub l2: f64,
    pub gradient_checkpointing: GradientCheckpointing,
}

impl FitOptions {
    /// `steps` steps of one sequence at that rate, and nothing else asked for; no recomputing.
    pub fn new(steps: usize, optimizer: impl Into<OptimizerKind>, lr: f64) -> Self {
        let (active, gradient_checkpointing) = (vec![], GradientCheckpointing::Off);
        Self {
            steps,
            batch: 1,
            accumulate: 1,
            optimizer: optimizer.into(),
            lr: vec![lr],
            clip: None,
            l2: 0.0,
            lr_ratio: 1.0,
            head_lr_ratio: 1.0,
            freeze: None,
            active,
            gradient_checkpointing,
        }
    }
}

/// A factor of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    A,
    B,
}

impl Factor {
    pub fn from_name(name: &str) -> Option<Self> {
        [("A", Self::A), ("B", Self::B)]
            .into_iter()
            .find(|(own, _)| *own == name)
            .map(|(_, factor)| factor)
    }
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
    /// What all batches together took.
    pub work: Work,
    /// The most that a batch took.
    pub largest: Work,
    /// Global norm of the gradient, before clipping.
    pub gradient_norm: f64,
    pub seconds: f64,
}

/// A booster in training: an iterator over its steps.
///
/// On a GPU 16 steps of factors are taken at a time before the first of them is told of, so
/// that the host lays out and queues the next while the device is at work, and waits once for the
/// losses of all. Where one of them is no number, they are taken again one by one.
pub struct Fit<'a> {
    model: &'a Model,
    adapter: &'a mut Adapter,
    trained: &'a mut Trained,
    optimizer: &'a mut Optimizer,
    feed: &'a mut DataLoader,
    options: &'a FitOptions,
    done: usize,
    /// What the steps so far took.
    work: Work,
    /// Steps that are taken together.
    ahead: usize,
    /// Steps that were taken and not told of.
    untold: VecDeque<StepRecord>,
    /// The step up to which they are taken one by one.
    slowly_to: usize,
}

/// Steps that are taken on a GPU between two waits.
const AHEAD: usize = 16;

/// A step whose figures a device may still be at work on.
struct StepTaken {
    record: StepRecord,
    /// The mean loss and the gradient's norm, a number each.
    figures: [Later; 2],
}

/// Batches that a fit of a model without numbers draws; of longer fits these stand for all.
const LOOKED_AT: usize = 2000;

impl<'a> Fit<'a> {
    pub fn new(
        model: &'a Model,
        adapter: &'a mut Adapter,
        trained: &'a mut Trained,
        optimizer: &'a mut Optimizer,
        feed: &'a mut DataLoader,
        options: &'a FitOptions,
    ) -> Self {
        let (done, slowly_to, work) = (0, 0, Work::default());
        // Copies of whole tensors from before would take much of the memory.
        let ahead = !model.device().is_cpu() && adapter.is_low_rank();
        let (ahead, untold) = (if ahead { AHEAD } else { 1 }, VecDeque::new());
        Self {
            model,
            adapter,
            trained,
            optimizer,
            feed,
            options,
            done,
            work,
            ahead,
            untold,
            slowly_to,
        }
    }

    /// With the first `done` steps behind it.
    pub fn from(self, done: usize) -> Self {
        Self { done, ..self }
    }

    /// Takes so many steps between two waits, as on a GPU.
    #[cfg(test)]
    pub(crate) fn ahead(self, ahead: usize) -> Self {
        Self { ahead, ..self }
    }

    /// Whether all steps that were taken were told of: [`Fit::state`] and [`Fit::feed`] are then
    /// those behind the last one.
    pub fn is_settled(&self) -> bool {
        self.untold.is_empty()
    }

    /// Where the data stand.
    pub fn feed(&self) -> DataLoaderState {
        self.feed.state()
    }

    /// The booster as it is between two steps.
    pub fn state(&self) -> Result<(TrainingState, Vec<(String, Tensor)>)> {
        TrainingState::of(self.adapter, *self.trained, Some(self.optimizer))
    }

    /// Takes the next steps.
    fn advance(&mut self) -> Result<()> {
        if let Some(assume) = self.model.assume() {
            let record = self.dry_step(assume)?;
            self.untold.push_back(record);
            return Ok(());
        }
        if self.ahead > 1 && self.done >= self.slowly_to && self.advance_ahead()? {
            return Ok(());
        }
        let record = self.step_told()?;
        self.untold.push_back(record);
        Ok(())
    }

    /// Takes several steps and then waits for the device. Where that fails, or a loss is no number,
    /// all is as it was before, and they are to be taken one by one.
    fn advance_ahead(&mut self) -> Result<bool> {
        let before = (self.adapter.clone(), *self.trained, self.optimizer.clone());
        let (feed, done, start) = (self.feed.state(), self.done, Instant::now());
        let steps = done..self.options.steps.min(done + self.ahead);
        let count = steps.len();
        let taken = steps.map(|_| self.step(false)).collect::<Result<Vec<_>>>();
        if let Ok(records) = taken.and_then(settled)
            && records.iter().all(|record| record.loss.is_finite())
        {
            let seconds = start.elapsed().as_secs_f64() / count as f64;
            self.untold.extend(records.into_iter().map(|record| StepRecord { seconds, ..record }));
            return Ok(true);
        }
        (*self.adapter, *self.trained, *self.optimizer) = before;
        self.feed.resume(&feed)?;
        (self.done, self.slowly_to) = (done, done + count);
        Ok(false)
    }

    /// Takes a step and waits for what came of it.
    fn step_told(&mut self) -> Result<StepRecord> {
        settled(vec![self.step(true)?])?.pop().context("no step")
    }

    /// Takes the step that comes; with `wait` it is not taken where its loss is no number.
    fn step(&mut self, wait: bool) -> Result<StepTaken> {
        let start = Instant::now();
        let (step, lr) = (self.done + 1, self.rate()?);
        let batches = self.batches()?;
        let supervised: usize = batches.iter().map(Batch::supervised).sum();
        let tokens = batches.iter().map(|b| b.ids.len()).sum();
        let (work, largest) = work_of(&batches);
        let now = self.taking_part();
        let (mut loss, gradients) = self.gradients(&now, &batches, supervised)?;
        if wait {
            let own = loss.wait()?;
            self.finite(own.iter().sum(), step)?;
            loss = Later::Here(own);
        }
        let norm = self.apply(now, gradients, lr)?;
        self.done = step;
        let fresh = self.trained.steps == 0;
        *self.trained = Trained { steps: self.trained.steps + 1, gain: None };
        let seconds = start.elapsed().as_secs_f64();
        if step == self.options.steps && !fresh {
            let own = loss.wait()?;
            self.trained.gain = Some(self.base_loss(&batches)? - own.iter().sum::<f64>())
                .filter(|gain| gain.is_finite());
            loss = Later::Here(own);
        }
        let record = StepRecord {
            step,
            loss: f64::NAN,
            lr,
            tokens,
            supervised,
            work,
            largest,
            gradient_norm: f64::NAN,
            seconds,
        };
        Ok(StepTaken { record, figures: [loss, norm] })
    }

    /// Errors (class run) where a step's loss is no number.
    fn finite(&self, loss: f64, step: usize) -> Result<()> {
        if loss.is_finite() {
            return Ok(());
        }
        let layers = self.adapter.layers();
        bail!(
            Run,
            "the loss became {loss} at step {step} of a booster on layers {layers:?}";
            hint: "lower the learning rate or clip the gradient, e.g. `clip: 1.0`"
        )
    }

    /// The batches of the step that comes.
    fn batches(&mut self) -> Result<Vec<Batch>> {
        (0..self.options.accumulate)
            .map(|_| Batch::pack(&self.feed.next(self.options.batch)?.iter().collect::<Vec<_>>()))
            .collect()
    }

    /// A step of a model without numbers: the batches that it would train on, and a loss that is
    /// assumed. Behind [`LOOKED_AT`] batches one record stands for all steps that are left.
    fn dry_step(&mut self, assume: Assume) -> Result<StepRecord> {
        let FitOptions { steps, accumulate, .. } = *self.options;
        let (lr, done) = (self.rate()?, self.done);
        let (work, largest) = if done * accumulate < LOOKED_AT {
            self.done += 1;
            work_of(&self.batches()?)
        } else {
            self.done = steps;
            (self.work.extended(done, steps).less(self.work), Work::default())
        };
        self.work = self.work.and(work);
        let step = self.done;
        let loss = assume.loss(step, steps);
        let gain = (step == steps && steps > 1).then(|| assume.loss(1, steps) - loss);
        *self.trained = Trained { steps: self.trained.steps + (step - done) as u64, gain };
        let (tokens, supervised, gradient_norm, seconds) = (work.tokens, work.rows, 0.0, 0.0);
        Ok(StepRecord { step, loss, lr, tokens, supervised, work, largest, gradient_norm, seconds })
    }

    /// The mean loss over the supervised tokens of all batches, and its gradients.
    fn gradients(
        &self,
        now: &Adapter,
        batches: &[Batch],
        supervised: usize,
    ) -> Result<(Later, Gradients)> {
        let (model, options) = (self.model, self.options);
        let full: BTreeSet<ParamId> = now.full().keys().cloned().collect();
        let lowest = now.lowest().unwrap_or(model.layers());
        let beside = gradient_bytes(now.parameters(), model.factor_dtype(), options.accumulate);
        let weight = 1.0 / supervised as f64;
        let mut losses = vec![];
        let mut sums: Option<Gradients> = None;
        for batch in batches {
            let flat = tokens(batch);
            let (tokens, rows) = (batch.ids.len(), batch.rows.len());
            let beside = beside + on_device(model, Work::of(&flat, rows));
            let gradient_checkpointing =
                options.gradient_checkpointing.decide(model, tokens, rows, lowest, beside);
            check_room(model, tokens, rows, lowest, gradient_checkpointing, beside)?;
            let request = GradRequest { adapter: now, full: &full, gradient_checkpointing };
            let wanted = (&batch.rows[..], batch.wanted());
            let (nll, gradients) =
                model.gradients_by_layer(&flat, wanted, weight, &request, &mut |_, _| Ok(()))?;
            losses.push(nll.mean_over(supervised)?);
            sums = Some(match sums {
                Some(sums) => sums.plus(gradients)?,
                None => gradients,
            });
        }
        Ok((Later::sum(losses)?, sums.unwrap_or_default()))
    }

    /// The mean loss of the model without the booster.
    fn base_loss(&self, batches: &[Batch]) -> Result<f64> {
        let (mut sum, mut count) = (0.0, 0);
        for batch in batches {
            let flat = tokens(batch);
            sum += self
                .model
                .nll(&flat, &batch.rows, batch.wanted(), &Adapter::default())?
                .iter()
                .sum::<f64>();
            count += batch.supervised();
        }
        Ok(sum / count as f64)
    }

    /// The learning rate of the step that comes.
    fn rate(&self) -> Result<f64> {
        let rates = &self.options.lr;
        rates.get(self.done).or(rates.last()).copied().context("no learning rate")
    }

    /// What takes part in the step that comes.
    fn taking_part(&self) -> Adapter {
        match self.options.active.get(self.done) {
            Some(layers) => self.adapter.only(layers),
            None => self.adapter.clone(),
        }
    }

    /// Of each tensor of the adapter its gradient and rate, where it moves; `gradients` are those
    /// of the tensors of `now`.
    fn moves(&self, now: &Adapter, gradients: Vec<Tensor>, lr: f64) -> Vec<Option<(Tensor, f64)>> {
        let FitOptions { lr_ratio, head_lr_ratio, freeze, .. } = *self.options;
        let mut found = gradients.into_iter();
        let mut moves = vec![];
        for key in self.adapter.pairs().keys() {
            let there = now.pairs().contains_key(key);
            for (factor, rate) in [(Factor::A, lr), (Factor::B, lr * lr_ratio)] {
                let gradient = if there { found.next() } else { None };
                moves.push(gradient.filter(|_| freeze != Some(factor)).map(|g| (g, rate)));
            }
        }
        for id in self.adapter.full().keys() {
            let gradient = if now.full().contains_key(id) { found.next() } else { None };
            let rate = if id.is_task_head() { lr * head_lr_ratio } else { lr };
            moves.push(gradient.map(|g| (g, rate)));
        }
        moves
    }

    /// Penalty, clipping and the optimizer's step; the norm before clipping of the gradient of all
    /// that moves.
    fn apply(&mut self, now: Adapter, sums: Gradients, lr: f64) -> Result<Later> {
        let mut gradients = sums.in_order(&now)?;
        if self.options.l2 != 0.0 {
            gradients = self.penalised(&now, gradients)?;
        }
        let mut moves = self.moves(&now, gradients, lr);
        // What moves in place nobody else may hold.
        drop(now);
        let norm = global_norm(moves.iter().flatten().map(|(g, _)| g))?;
        if let Some(clip) = self.options.clip {
            clipped(moves.iter_mut().flatten().map(|(g, _)| g), clip, &norm)?;
        }
        let moved = self.optimizer.step(&self.adapter.tensors(), &moves)?;
        *self.adapter = self.adapter.with_tensors(moved);
        Ok(norm)
    }

    /// Adds the gradient of the penalty: λ A, λ B, and λ (W' − W) of whole tensors.
    fn penalised(&self, now: &Adapter, gradients: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let l2 = self.options.l2;
        let factors = now.pairs().values().flat_map(|p| [&p.a, &p.b]).map(|own| (own.clone(), l2));
        let base = self.model.copies(&now.full().keys().cloned().collect())?;
        let away = base
            .into_values()
            .zip(now.full().values())
            .map(|(base, own)| elementwise::add_scaled(base, own, -1.0));
        let away = away.map(|t| Ok((t?, -l2))).collect::<candle_core::Result<Vec<_>>>()?;
        let all = gradients.into_iter().zip(factors.chain(away));
        Ok(all
            .map(|(g, (t, scale))| elementwise::add_scaled(g, &t, scale))
            .collect::<candle_core::Result<_>>()?)
    }
}

/// What a batch takes beside the formula where it runs on a GPU.
fn on_device(model: &Model, work: Work) -> usize {
    if model.device().is_cpu() { 0 } else { reference_bytes(&model.cost(), work) }
}

/// What batches take together, and the most that one of them takes.
fn work_of(batches: &[Batch]) -> (Work, Work) {
    let of = |batch: &Batch| Work::of(&tokens(batch), batch.rows.len());
    let works: Vec<Work> = batches.iter().map(of).collect();
    let sum = works.iter().copied().fold(Work::default(), Work::and);
    (sum, works.into_iter().fold(Work::default(), Work::or))
}

/// √Σ‖g‖², summed in f64.
fn global_norm<'a>(gradients: impl Iterator<Item = &'a Tensor>) -> Result<Later> {
    let gradients: Vec<&Tensor> = gradients.collect();
    Ok(elementwise::squares_of_each(&gradients)?.root_of_sum()?)
}

/// Makes gradients of that global norm smaller where it is above `clip`.
fn clipped<'a>(
    gradients: impl Iterator<Item = &'a mut Tensor>,
    clip: f64,
    norm: &Later,
) -> Result<()> {
    match norm {
        Later::Here(norm) => {
            let factor = clip / (norm.iter().sum::<f64>() + 1e-6);
            if factor < 1.0 {
                for g in gradients {
                    *g = elementwise::scale(g.clone(), factor)?;
                }
            }
        }
        Later::OnDevice(norm) => {
            let factor = ((norm + 1e-6)?.recip()? * clip)?.minimum(1.0)?;
            for g in gradients {
                *g = elementwise::scale_by(g, &factor)?;
            }
        }
    }
    Ok(())
}

/// The records of steps, once a device has given their figures.
fn settled(steps: Vec<StepTaken>) -> Result<Vec<StepRecord>> {
    let (mut records, mut figures) = (vec![], vec![]);
    for StepTaken { record, figures: own } in steps {
        records.push(record);
        figures.extend(own);
    }
    let numbers = Later::wait_for_all(figures)?;
    let told = records.into_iter().zip(numbers.chunks(2));
    Ok(told
        .map(|(record, own)| match *own {
            [loss, gradient_norm] => StepRecord { loss, gradient_norm, ..record },
            _ => record,
        })
        .collect())
}

impl Iterator for Fit<'_> {
    type Item = Result<StepRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.untold.is_empty()
            && self.done < self.options.steps
            && let Err(error) = self.advance()
        {
            return Some(Err(error));
        }
        self.untold.pop_front().map(Ok)
    }
}
