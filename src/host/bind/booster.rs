//! `booster`: a weak learner over a model, fitted and then merged.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rhai::plugin::*;
use rhai::{Array, Dynamic, INT, Map, NativeCallContext};
use serde_json::{Value, json};

use super::merge::file_digest;
use super::model::{Model, Open};
use super::progress::{Progress, Tally};
use super::set::PromptFormat;
use super::set::Set;
use super::{Answer, dynamic, ensemble, fit_options, refuse, suppose, told_map};
use crate::boost::{self, DenseSpec, Update, adapter, write_state};
use crate::error::{Class, Error, class_of};
use crate::host::console::Step;
use crate::host::context::{Host, host, lock};
use crate::host::door::{self, Doing, Effects};
use crate::host::ledger::Event;
use crate::host::options::{FromOption, Mismatch};
use crate::memory::Apart;
use crate::model;
use crate::run::{Ensemble, Point, PointTiming};
use crate::train::memory::{step_bytes, trained_bytes};
use crate::train::{FitOptions, GradientCheckpointing, StepRecord};

/// A booster; copies are the same.
#[derive(Clone)]
pub struct Booster(Arc<Apart<Mutex<State>>>);

pub(super) struct State {
    /// Boosters that the run made before it.
    number: usize,
    pub(super) booster: boost::Booster,
    pub(super) model: Model,
    /// The round that merged it.
    pub(super) merged: Option<usize>,
    pub(super) numbers: Numbers,
    /// Its files in training, the newest last; older ones go when the journal tells of the newest.
    pub(super) kept: Vec<String>,
    /// Numbers that its last fit moved; all of a booster that was not fitted.
    pub(super) moved: u64,
    /// Counts its numbers for as long as it is there and not merged.
    held: Held,
}

/// Numbers of boosters that are not merged, over the run.
struct Held(Arc<AtomicUsize>, usize);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Where a booster's numbers are.
pub(super) enum Numbers {
    Here,
    /// In a file, since an earlier process trained them, and the file's SHA-256.
    File(PathBuf, Option<String>),
    /// In the file of a merge that an earlier process made.
    Merged(PathBuf),
    /// Still to be copied from the weights as these boosters made them.
    Copies(DenseSpec, Ensemble),
}

impl Booster {
    /// Errors (class usage): with it, boosters that are not merged would hold more than four
    /// models' numbers.
    pub(super) fn new(
        host: &Host,
        booster: boost::Booster,
        model: Model,
        numbers: Numbers,
    ) -> Result<Self, Error> {
        /// What the smallest models may have beside them.
        const LEAST: usize = 16 << 20;
        let own = booster.adapter.parameters();
        let most = LEAST.max(4 * model.with(|m| m.network.parameters()));
        let before = host.unmerged.fetch_add(own, Ordering::Relaxed);
        let held = Held(host.unmerged.clone(), own);
        if before.saturating_add(own) > most {
            return Err(Error::usage(format!(
                "boosters that are not merged would hold {} numbers; at most {most} are allowed",
                before + own
            ))
            .hint("merge a booster, or let its variable go out of scope, before making the next"));
        }
        let number = host.next_booster();
        Ok(Self(Arc::new(Apart::new(Mutex::new(State {
            number,
            booster,
            model,
            merged: None,
            numbers,
            kept: vec![],
            moved: own as u64,
            held,
        })))))
    }

    pub(super) fn with<T>(&self, body: impl FnOnce(&mut State) -> T) -> T {
        body(&mut lock(&self.0))
    }

    /// Boosters that the run made before it.
    pub(super) fn number(&self) -> usize {
        self.with(|b| b.number)
    }

    /// Removes what was kept of its training, now that it is merged.
    pub(super) fn forget(&self, host: &Host) {
        self.with(|b| tidy(host, &mut b.kept, true));
    }
}

/// Removes all files but the newest, or all of a booster that is `merged`.
fn tidy(host: &Host, kept: &mut Vec<String>, merged: bool) {
    let gone: Vec<String> = kept.drain(..kept.len().saturating_sub(usize::from(!merged))).collect();
    let dropped = host.note_in_run(|run| gone.iter().for_each(|name| run.drop_state(name, merged)));
    // Files that stay take space, no more.
    drop(dropped);
}

impl FromOption for Booster {
    const WHAT: &'static str = "a booster";

    fn from_option(value: &Dynamic, key: &str) -> Result<Self, Mismatch> {
        value.clone().try_cast().ok_or_else(|| Mismatch::new::<Self>(value, key))
    }
}

impl State {
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// It is merged: its numbers are no longer counted.
    pub(super) fn let_go(&mut self) {
        self.held = Held(Arc::default(), 0);
    }

    /// Gets its numbers, where an earlier process made or trained it. That they cannot be had is no
    /// event of the run, so a script cannot catch it.
    pub(super) fn numbers(&mut self, host: &Host, m: &mut Open) -> anyhow::Result<()> {
        self.kept_numbers(host, m).map_err(|e| Error::last(&e).into())
    }

    fn kept_numbers(&mut self, host: &Host, m: &mut Open) -> anyhow::Result<()> {
        match &self.numbers {
            Numbers::Here => return Ok(()),
            Numbers::File(path, sum) => {
                if let Some(sum) = sum
                    && file_digest(path)? != *sum
                {
                    return Err(Error::data(format!(
                        "the booster in training in `{}` is damaged: it is not what was kept",
                        path.display()
                    ))
                    .hint("`--from-round N` goes on from the boosters that were merged before it")
                    .into());
                }
                self.booster.load_state(path)?;
            }
            Numbers::Merged(path) => {
                if let Some(adapter) = Update::load(path, &m.network)?.adapter() {
                    self.booster.adapter = adapter.clone();
                }
            }
            Numbers::Copies(spec, then) => {
                let now = m.ensemble.clone();
                if *then != now {
                    ensemble::compose(host, m, then)?;
                    m.ensemble = then.clone();
                }
                let copies = boost::Booster::dense(&m.network, spec);
                if *then != now {
                    ensemble::compose(host, m, &now)?;
                    m.ensemble = now;
                }
                self.booster = copies?;
            }
        }
        self.numbers = Numbers::Here;
        Ok(())
    }

    /// Notes that an earlier process merged it, as round `round`, into the file at `path`.
    pub(super) fn was_merged(&mut self, round: usize, path: PathBuf) {
        (self.merged, self.numbers) = (Some(round), Numbers::Merged(path));
        self.let_go();
    }

    /// Takes over how far an earlier process trained it.
    fn take_up(
        &mut self,
        host: &Host,
        m: &Open,
        set: &Set,
        progress: Progress,
    ) -> anyhow::Result<Tally> {
        let Progress { file, sha256, feed, tally, training } = progress;
        self.numbers = Numbers::File(host.with_run(|run| run.keep_state(&file))?, sha256);
        self.kept.push(file);
        set.remember(&m.tokenizer, feed);
        host.note_in_run(|run| run.training = training)?;
        Ok(tally)
    }

    /// Errors (class usage) once it has been merged.
    pub(super) fn fresh(&self, what: &str) -> Result<(), Error> {
        match self.merged {
            None => Ok(()),
            Some(round) => Err(Error::usage(format!(
                "cannot {what} a booster that was merged already, as round {round}"
            ))
            .hint("make a new one with `model.booster(…)`")),
        }
    }
}

#[export_module]
pub(super) mod natives {
    /// Layers it trains, in ascending order.
    #[rhai_fn(get = "layers", pure)]
    pub fn layers(booster: &mut Booster) -> Array {
        booster
            .with(|s| s.booster.layers().into_iter().map(|l| Dynamic::from_int(l as INT)).collect())
    }

    /// Numbers that it trains.
    #[rhai_fn(get = "parameters", pure)]
    pub fn parameters(booster: &mut Booster) -> INT {
        booster.with(|s| s.booster.adapter.parameters() as INT)
    }

    /// Trains the booster for `steps` steps on `set`, over the frozen model. The data go on where
    /// the last fit on the set stopped. Answers with `first_loss` and `last_loss` (mean negative
    /// log-likelihood of a supervised token, in nats, before the first and the last step),
    /// `mean_loss`, `steps`, `tokens`, `gain` (the loss of the model without the booster on the
    /// last step's batch, less `last_loss`; () after a single step).
    ///
    /// Options: `steps` (κ), `optimizer` (`adamw(…)` or another of them), `batch` (sequences a
    /// step, 8), `accumulate` (batches a step, 1), `clip` (largest norm of the gradient, none),
    /// `l2` (λ of ½ λ (‖A‖² + ‖B‖²), paper Eq. 7, or of ½ λ ‖W' − W‖² of a dense booster; 0),
    /// `gradient_checkpointing` ("off", "on", "auto": form activations again to save memory; auto);
    /// of low rank `lr_ratio` (the learning rate of B over that of A, LoRA+; 1), `freeze` (the
    /// factor that stays as it is, "A" or "B"; none), `active` (for each step an array of the
    /// layers that take part, others are as if they were not there; all).
    ///
    /// # Example
    /// ```rhai,no_run
    /// booster.fit(task.train, #{ steps: 8, optimizer: adamw(#{ lr: 1e-3 }) });
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn fit(
        context: NativeCallContext,
        booster: &mut Booster,
        set: Set,
        options: Map,
    ) -> Answer<Map> {
        let host = host(&context)?;
        let mut arguments = told_map(&options);
        arguments["booster"] = booster.number().into();
        arguments["set"] = set.told();
        let options = fit_options::parse(options).map_err(refuse)?;
        let call = door::call(&context, &host, "booster.fit", arguments);
        let recall = |effects: &Effects| {
            booster.with(|state| state.moved = state.booster.moved(options.freeze));
            trained_before(&host, booster, &set, effects)
        };
        let answer: serde_json::Map<String, Value> =
            call.change(recall, |doing| train(&context, &host, booster, &set, &options, doing))?;
        booster.with(|b| tidy(&host, &mut b.kept, false));
        Ok(answer.iter().map(|(key, value)| (key.as_str().into(), dynamic(value))).collect())
    }

    /// Writes the factors as a PEFT adapter folder called `name`, below the run folder. A dense
    /// booster has none.
    #[rhai_fn(return_raw, pure)]
    pub fn save(context: NativeCallContext, booster: &mut Booster, name: &str) -> Answer<()> {
        let host = host(&context)?;
        let arguments = json!({ "name": name, "booster": booster.number() });
        let recall = |_: &Effects| host.note_in_run(|run| run.has_saved(name));
        door::call(&context, &host, "booster.save", arguments).change(recall, |_| {
            let folder = host.with_run(|run| run.saves(name))?;
            if host.outlook().is_some() {
                booster.with(|s| adapter::check(&s.booster))?;
                return host.note(&context, Event::Save { name: name.to_owned() });
            }
            booster.with(|s| {
                s.model.clone().live(|m| s.numbers(&host, m))?;
                adapter::save(&s.booster, &folder, s.model.name())
            })
        })
    }
}

fn train(
    context: &NativeCallContext,
    host: &Host,
    handle: &Booster,
    set: &Set,
    options: &FitOptions,
    doing: &mut Doing,
) -> anyhow::Result<serde_json::Map<String, Value>> {
    handle.with(|state| {
        state.fresh("fit")?;
        fit_options::suits(&state.booster, options)?;
        let layers = state.booster.layers();
        let parameters = state.booster.moved(options.freeze);
        state.moved = parameters;
        if let Some(outlook) = host.outlook() {
            return state.model.clone().with(|open| {
                worded(host, &mut open.wording, set)?;
                suppose::fitted(context, host, outlook, &state.booster, open, (set, options))
            });
        }
        state.model.clone().live(|open| {
            let round = open.round;
            let mut tally = Tally::default();
            if let Some(begun) = doing.begun.take() {
                tally = state.take_up(host, open, set, Progress::read(&begun)?)?;
            }
            state.numbers(host, open)?;
            let State { number, booster, kept, .. } = state;
            let (mut started, mut kept_at) = (Instant::now(), Instant::now());
            let lowest = booster.adapter.lowest().unwrap_or(open.network.layers());
            host.expect(open.index, &open.network, 0);
            let state = options.optimizer.info().state.len();
            let held =
                trained_bytes(booster.adapter.parameters(), open.network.factor_dtype(), state);
            let fitted = set.with_feed(host, &open.tokenizer, |feed| {
                // From here on the journal tells of the fit, even if it fails.
                worded(host, &mut open.wording, set)?;
                let mut steps = booster.trained.steps;
                let mut fit = booster.fit(&open.network, feed, options).from(tally.steps);
                while let Some(record) = fit.next() {
                    let record = match record {
                        Ok(record) => record,
                        Err(e) => return Ok((fit.feed(), Err(e))),
                    };
                    steps += 1;
                    tally.add(&record);
                    expect(host, (open.index, &open.network), options, lowest, held, &record);
                    log(host, round, &layers, &record)?;
                    show(host, round, options.steps, &layers, &record);
                    let going = host.guard.check();
                    // A fit that is over is kept as a whole.
                    if record.step < options.steps
                        && (going.is_err() || kept_at.elapsed() >= host.settings.checkpoint)
                    {
                        let (file, path) = place(host, *number, steps)?;
                        let sum = host.keeping(|| {
                            let (state, tensors) = fit.state()?;
                            write_state(&path, &state, &tensors)
                        })?;
                        kept.push(file.clone());
                        let seconds =
                            std::mem::replace(&mut started, Instant::now()).elapsed().as_secs_f64();
                        let training = host.with_run(|run| {
                            run.training.seconds += seconds;
                            run.tells_of(path);
                            Ok(run.training.clone())
                        })?;
                        doing.checkpoint(
                            Progress {
                                file,
                                sha256: Some(sum),
                                feed: fit.feed(),
                                tally: tally.clone(),
                                training,
                            }
                            .told()?,
                        )?;
                        tidy(host, kept, false);
                        kept_at = Instant::now();
                    }
                    if let Err(e) = going {
                        return Ok((fit.feed(), Err(e.into())));
                    }
                }
                Ok((fit.feed(), Ok(())))
            });
            let (feed, fitted) = fitted?;
            let training = host.with_run(|run| {
                run.training.trainable_now = Some(parameters);
                run.training.trained_in_total += parameters;
                run.training.seconds += started.elapsed().as_secs_f64();
                Ok(run.training.clone())
            })?;
            if fitted.as_ref().is_err_and(|e| class_of(e) == Class::Interrupted) {
                return Err(fitted.err().unwrap_or_else(|| anyhow::anyhow!("interrupted")));
            }
            // A fit that failed leaves the booster and the data where they are.
            let (file, path) = place(host, *number, booster.trained.steps)?;
            let sum = host.keeping(|| booster.save_state(&path))?;
            kept.push(file.clone());
            host.note_in_run(|run| run.tells_of(path))?;
            doing.effects =
                Progress { file, sha256: Some(sum), feed, tally: tally.clone(), training }
                    .told()?;
            fitted?;
            Ok(tally.answer(booster.trained.gain))
        })
    })
}

/// Name and path of the file of a booster after so many steps.
fn place(host: &Host, number: usize, steps: u64) -> anyhow::Result<(String, PathBuf)> {
    let file = format!("{number:05}-{steps}.safetensors");
    let path = host.with_run(|run| run.keep_state(&file))?;
    Ok((file, path))
}

/// What an earlier process made of a fit.
fn trained_before(
    host: &Host,
    booster: &Booster,
    set: &Set,
    effects: &Effects,
) -> anyhow::Result<()> {
    if effects.is_empty() {
        return Ok(());
    }
    let progress = Progress::read(effects)?;
    booster.with(|state| {
        let model = state.model.clone();
        model.with(|open| {
            worded(host, &mut open.wording, set)?;
            state.take_up(host, open, set, progress).map(|_| ())
        })
    })
}

/// Notes how the data are worded that a model is trained on.
fn worded(
    host: &Host,
    wording: &mut Vec<(String, Arc<PromptFormat>)>,
    set: &Set,
) -> anyhow::Result<()> {
    *wording = set.wording();
    host.with_run(|run| {
        set.parts().first().map_or(Ok(()), |part| run.note_template(part.wording.name()))
    })
}

/// Tells the memory formula of a step.
fn expect(
    host: &Host,
    (index, network): (usize, &model::Model),
    options: &FitOptions,
    lowest: usize,
    held: usize,
    record: &StepRecord,
) {
    let (tokens, rows) =
        (record.tokens / options.accumulate, record.supervised / options.accumulate);
    let gradient_checkpointing = options.gradient_checkpointing == GradientCheckpointing::On;
    host.expect(
        index,
        network,
        step_bytes(
            &network.cost(),
            network.compute(),
            tokens,
            rows,
            lowest,
            gradient_checkpointing,
        ) + held,
    );
}

fn log(host: &Host, round: usize, layers: &[usize], record: &StepRecord) -> anyhow::Result<()> {
    let seconds = host.guard.elapsed().as_secs_f64();
    host.with_run(|run| {
        run.training.steps += 1;
        run.training.tokens += record.tokens as u64;
        let point = Point {
            round,
            step: run.training.steps,
            loss: record.loss,
            lr: record.lr,
            gradient_norm: record.gradient_norm,
            tokens: run.training.tokens,
            layers,
            timing: PointTiming {
                seconds,
                step_seconds: record.seconds,
                tokens_per_second: record.tokens as f64 / record.seconds,
            },
        };
        run.metrics.log(&point)
    })
}

fn show(host: &Host, round: usize, steps: usize, layers: &[usize], record: &StepRecord) {
    let StepRecord { step, loss, tokens, seconds, .. } = *record;
    host.console.step(&Step { round, layers, step, steps, loss, tokens, seconds });
}
