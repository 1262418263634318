//! Training a booster on a set.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Map, Value};

use super::booster::{Booster, BoosterState};
use super::console::TrainingStep;
use super::dry_run::{Event, PlannedFit};
use super::held::lock;
use super::model::ModelState;
use super::progress::{FitProgress, Tally};
use super::set::Set;
use super::{Effects, Session};
use crate::boost::write_state;
use crate::data::{DataLoader, DataLoaderState};
use crate::error::{Class, class_of};
use crate::model::cost::Work;
use crate::run::{Point, PointTiming, Training};
use crate::train::memory::{gradient_bytes, step_bytes, trained_bytes};
use crate::train::{self, FitOptions, GradientCheckpointing, StepRecord};

/// Sequences of a step, all of which are laid out before it begins.
pub const MOST_SEQUENCES: usize = 1 << 16;

impl Booster {
    /// Trains the booster on `set`, over the frozen model. The data go on where the last fit on the
    /// set stopped. Answers with `first_loss` and `last_loss` (mean negative log-likelihood of a
    /// supervised token, in nats, before the first and the last step), `mean_loss`, `steps`,
    /// `tokens`, `gain` (the loss of the model without the booster on the last step's batch, less
    /// `last_loss`; null after a single step).
    ///
    /// Errors: a booster that was merged, options that it cannot follow (class usage); a loss that
    /// is no number (class run), which leaves booster and data where they are.
    pub fn fit(&self, set: &Set, options: &FitOptions) -> Result<Map<String, Value>> {
        let session = self.model().session();
        let mut b = self.state();
        b.unmerged("fit")?;
        b.learner.suits(options)?;
        b.moved = b.learner.moved(options.freeze);
        let mut m = self.model().with_weights()?;
        let tally = match session.call.take_begun() {
            Some(begun) => b.take_up(session, &m, set, FitProgress::read(&begun)?)?,
            None => Tally::default(),
        };
        b.materialize(session, &mut m)?;
        session.expect(m.index, &m.network, 0);
        let loader = set.loader(session, &m.reads)?;
        // From here on the journal tells of the fit, even if it fails.
        worded(session, &mut m, set)?;
        FitRun::new(session, &m, options, &b).train(&mut b, &mut lock(&loader), tally)
    }

    /// Takes over what an earlier process made of a fit.
    pub fn recall_fit(&self, set: &Set, options: &FitOptions, effects: &Effects) -> Result<()> {
        let session = self.model().session();
        let mut b = self.state();
        b.moved = b.learner.moved(options.freeze);
        if effects.is_empty() {
            return Ok(());
        }
        let progress = FitProgress::read(effects)?;
        let mut m = self.model().state();
        worded(session, &mut m, set)?;
        let losses = progress.tally.losses(progress.gain);
        b.take_up(session, &m, set, progress)?;
        session.run.note(|run| {
            run.watched(|watch| watch.fitted(m.index, m.round(), losses));
        })
    }

    /// Removes files in training that the journal no longer tells of.
    pub fn tidy(&self) {
        self.state().files.tidy(self.model().session(), false);
    }
}

impl BoosterState {
    /// Takes over how far an earlier process trained it.
    fn take_up(
        &mut self,
        session: &Session,
        m: &ModelState,
        set: &Set,
        progress: FitProgress,
    ) -> Result<Tally> {
        let FitProgress { file, sha256, feed, tally, training, gain: _ } = progress;
        self.left_in(session, &file, sha256)?;
        set.remember(&m.reads, feed);
        session.run.note(|run| run.training = training)?;
        Ok(tally)
    }
}

/// A fit that is under way.
struct FitRun<'a> {
    session: &'a Session,
    m: &'a ModelState,
    options: &'a FitOptions,
    /// What the booster trains, ascending.
    layers: Vec<usize>,
    /// Down to which layer gradients go.
    lowest: usize,
    /// Bytes of the booster and the optimizer's state.
    held: usize,
    /// What the steps so far took, and the most that a batch took.
    work: (Work, Work),
    /// Since when its time is not counted yet.
    uncounted: Instant,
}

impl<'a> FitRun<'a> {
    fn new(
        session: &'a Session,
        m: &'a ModelState,
        options: &'a FitOptions,
        b: &BoosterState,
    ) -> Self {
        let (network, adapter) = (&m.network, &b.learner.adapter);
        let state = options.optimizer.info().state.len();
        Self {
            session,
            m,
            options,
            layers: b.learner.layers(),
            lowest: adapter.lowest().unwrap_or(network.layers()),
            held: trained_bytes(adapter.parameters(), network.factor_dtype(), state),
            work: Default::default(),
            uncounted: Instant::now(),
        }
    }

    /// Takes the steps. A fit that fails leaves the booster and the data where they are then.
    fn train(
        mut self,
        b: &mut BoosterState,
        loader: &mut DataLoader,
        mut tally: Tally,
    ) -> Result<Map<String, Value>> {
        let BoosterState { learner, files, .. } = b;
        let mut kept_at = Instant::now();
        let mut fitted = Ok(());
        let mut steps = learner.trained.steps;
        let mut fit = learner.fit(&self.m.network, loader, self.options).from(tally.steps);
        while let Some(record) = fit.next() {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    fitted = Err(error);
                    break;
                }
            };
            steps += (record.step - tally.steps) as u64;
            tally.add(&record, self.options.steps);
            self.tell(&record)?;
            // Steps that were taken together are told of together.
            if !fit.is_settled() {
                continue;
            }
            let going = self.session.guard.check();
            let due = kept_at.elapsed() >= self.session.settings.checkpoint;
            // A fit that is over is kept as a whole.
            if record.step < self.options.steps && (going.is_err() || due) {
                self.checkpoint(&fit, files.after(self.session, steps)?, &tally)?;
                files.tidy(self.session, false);
                kept_at = Instant::now();
            }
            if let Err(error) = going {
                fitted = Err(error.into());
                break;
            }
        }
        let feed = fit.feed();
        self.end(b, feed, &tally, fitted)?;
        Ok(tally.answer(b.learner.trained.gain))
    }

    /// Tells of a step: to the memory formula, the metrics and the console.
    fn tell(&mut self, record: &StepRecord) -> Result<()> {
        let (session, options) = (self.session, self.options);
        self.work = (self.work.0.and(record.work), self.work.1.or(record.largest));
        let network = &self.m.network;
        let bytes = step_bytes(
            &network.cost(),
            network.compute(),
            record.tokens / options.accumulate,
            record.supervised / options.accumulate,
            self.lowest,
            options.gradient_checkpointing == GradientCheckpointing::On,
        );
        session.expect(self.m.index, network, bytes + self.held);
        let (round, layers) = (self.m.round(), &self.layers[..]);
        self.log(round, record)?;
        let StepRecord { step, loss, tokens, seconds, .. } = *record;
        let steps = options.steps;
        session.console.step(&TrainingStep { round, layers, step, steps, loss, tokens, seconds });
        Ok(())
    }

    /// A line of `metrics.jsonl`.
    fn log(&self, round: usize, record: &StepRecord) -> Result<()> {
        let seconds = self.session.guard.elapsed().as_secs_f64();
        self.session.run.with(|run| {
            run.training.steps += 1;
            run.training.tokens += record.tokens as u64;
            let point = Point {
                round,
                step: run.training.steps,
                loss: record.loss,
                lr: record.lr,
                gradient_norm: record.gradient_norm,
                tokens: run.training.tokens,
                layers: &self.layers,
                timing: PointTiming {
                    seconds,
                    step_seconds: record.seconds,
                    tokens_per_second: record.tokens as f64 / record.seconds,
                },
            };
            run.metrics.log(&point)
        })
    }

    /// Counts the time since it was last counted, and what `more` says.
    fn count(&mut self, more: impl FnOnce(&mut Training)) -> Result<Training> {
        let seconds = self.uncounted.elapsed().as_secs_f64();
        self.uncounted = Instant::now();
        self.session.run.with(|run| {
            run.training.seconds += seconds;
            more(&mut run.training);
            Ok(run.training.clone())
        })
    }

    /// Keeps how far it is between two steps.
    fn checkpoint(
        &mut self,
        fit: &train::Fit,
        (file, path): (String, PathBuf),
        tally: &Tally,
    ) -> Result<()> {
        let session = self.session;
        let sum = session.keep(|| {
            let (state, tensors) = fit.state()?;
            write_state(&path, &state, &tensors)
        })?;
        let training = self.count(|_| {})?;
        session.run.note(|run| run.tells_of(path))?;
        let (sha256, feed, tally, gain) = (Some(sum), fit.feed(), tally.clone(), None);
        session.checkpoint(FitProgress { file, sha256, feed, tally, gain, training }.effects()?)
    }

    /// Keeps what came of it.
    fn end(
        mut self,
        b: &mut BoosterState,
        feed: DataLoaderState,
        tally: &Tally,
        fitted: Result<()>,
    ) -> Result<()> {
        let (session, parameters) = (self.session, b.moved);
        let training = self.count(|training| {
            training.trainable_now = Some(parameters);
            training.trained_in_total += parameters;
        })?;
        if fitted.as_ref().is_err_and(|e| class_of(e) == Class::Interrupted) {
            return fitted;
        }
        let (file, path) = b.files.after(session, b.learner.trained.steps)?;
        let sum = session.keep(|| b.learner.save_state(&path))?;
        session.run.note(|run| run.tells_of(path))?;
        let (sha256, tally, gain) = (Some(sum), tally.clone(), b.learner.trained.gain);
        let losses = tally.losses(gain);
        let progress = FitProgress { file, sha256, feed, tally, gain, training };
        session.call.tell_all(progress.effects()?);
        let (index, round) = (self.m.index, self.m.round());
        session.watch(|watch| watch.fitted(index, round, losses))?;
        fitted?;
        session.observe(|| Event::Fit(self.noted(b)))
    }

    /// What a session on shapes notes of it.
    fn noted(&self, b: &BoosterState) -> PlannedFit {
        let (network, options, (work, largest)) = (&self.m.network, self.options, self.work);
        let adapter = &b.learner.adapter;
        let (parameters, dtype) = (adapter.parameters(), network.factor_dtype());
        let gradients = gradient_bytes(parameters, dtype, options.accumulate);
        PlannedFit {
            round: self.m.round(),
            layers: self.layers.clone(),
            parameters: b.moved,
            dense: adapter.full().values().map(|t| t.elem_count()).sum(),
            state: options.optimizer.info().state.len(),
            lowest: self.lowest,
            steps: options.steps,
            batches: options.steps.saturating_mul(options.accumulate),
            work,
            largest,
            gradient_checkpointing: options.gradient_checkpointing,
            forms_again: options.gradient_checkpointing.decide(
                network,
                largest.tokens,
                largest.rows,
                self.lowest,
                gradients,
            ),
        }
    }
}

/// Notes how the data are worded that a model is trained on.
fn worded(session: &Session, m: &mut ModelState, set: &Set) -> Result<()> {
    m.wording = set.wording();
    session.run.with(|run| {
        set.parts().first().map_or(Ok(()), |part| run.note_template(part.wording.name()))
    })
}
