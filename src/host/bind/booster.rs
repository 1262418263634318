//! `booster`: a weak learner over a model, fitted and then merged.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use rhai::plugin::*;
use rhai::{Array, Dynamic, INT, Map, NativeCallContext};
use serde_json::json;

use super::model::Model;
use super::optimizer::{Optimizer, Rate};
use super::set::Set;
use super::{Answer, refuse, suppose};
use crate::boost::{self, adapter};
use crate::error::Error;
use crate::host::console::Step;
use crate::host::context::{Host, host, lock};
use crate::host::door;
use crate::host::ledger::Event;
use crate::host::options::{FromOption, Mismatch, Options};
use crate::model;
use crate::run::{Point, PointTiming};
use crate::train::memory::step_bytes;
use crate::train::{FitOptions, Recompute, Rule, StepRecord};

/// A booster; copies are the same.
#[derive(Clone)]
pub struct Booster(Arc<Mutex<State>>);

pub(super) struct State {
    pub(super) booster: boost::Booster,
    pub(super) model: Model,
    /// The round that merged it.
    pub(super) merged: Option<usize>,
}

impl Booster {
    pub(super) fn new(booster: boost::Booster, model: Model) -> Self {
        Self(Arc::new(Mutex::new(State { booster, model, merged: None })))
    }

    pub(super) fn with<T>(&self, body: impl FnOnce(&mut State) -> T) -> T {
        body(&mut lock(&self.0))
    }
}

impl FromOption for Booster {
    const WHAT: &'static str = "a booster";

    fn from_option(value: &Dynamic, key: &str) -> Result<Self, Mismatch> {
        value.clone().try_cast().ok_or_else(|| Mismatch::new::<Self>(value, key))
    }
}

impl State {
    /// Errors (class usage) once it has been merged.
    pub(super) fn fresh(&self, what: &str) -> Result<(), Error> {
        match self.merged {
            None => Ok(()),
            Some(round) => Err(Error::usage(format!("cannot {what} a booster that was merged already, as round {round}"))
                .hint("make a new one with `model.booster(…)`")),
        }
    }
}

#[export_module]
pub(super) mod natives {
    /// Layers it trains, in ascending order.
    #[rhai_fn(get = "layers", pure)]
    pub fn layers(booster: &mut Booster) -> Array {
        booster.with(|s| s.booster.layers().into_iter().map(|l| Dynamic::from_int(l as INT)).collect())
    }

    /// Numbers that it trains.
    #[rhai_fn(get = "parameters", pure)]
    pub fn parameters(booster: &mut Booster) -> INT {
        booster.with(|s| s.booster.overlay.parameters() as INT)
    }

    /// Trains the booster for `steps` steps on `set`, over the frozen model. The data go on where the last fit on
    /// the set stopped. Answers with `first_loss` and `last_loss` (mean negative log-likelihood of a supervised
    /// token, in nats, before the first and the last step), `mean_loss`, `steps`, `tokens`, `gain`
    /// (the loss of the model without the booster on the last step's batch, less `last_loss`; () after a single step).
    ///
    /// Options: `steps` (κ), `optimizer` (`adamw(…)` or `sgd(…)`), `batch` (sequences a step, 8), `accumulate`
    /// (batches a step, 1), `clip` (largest norm of the gradient, none), `l2` (λ of ½ λ (‖A‖² + ‖B‖²), paper Eq. 7, or
    /// of ½ λ ‖W' − W‖² of a dense booster; 0), `recompute` ("off", "on", "auto": form activations again to save memory; auto).
    ///
    /// # Example
    /// ```rhai,no_run
    /// booster.fit(task.train, #{ steps: 8, optimizer: adamw(#{ lr: 1e-3 }) });
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn fit(context: NativeCallContext, booster: &mut Booster, set: Set, options: Map) -> Answer<Map> {
        let host = host(&context)?;
        let options = options_of(options).map_err(refuse)?;
        let summary = json!({ "steps": options.steps, "batch": options.batch });
        door::call(&host, "booster.fit", &summary, || train(&context, &host, booster, &set, &options))
    }

    /// Writes the factors as a PEFT adapter folder called `name`, below the run folder. A dense booster has none.
    #[rhai_fn(return_raw, pure)]
    pub fn save(context: NativeCallContext, booster: &mut Booster, name: &str) -> Answer<()> {
        let host = host(&context)?;
        door::call(&host, "booster.save", &json!({ "name": name }), || {
            let folder = host.with_run(|run| run.folder.child(name))?;
            if host.outlook().is_some() {
                booster.with(|s| adapter::check(&s.booster))?;
                return host.note(&context, Event::Save { name: name.to_owned() });
            }
            booster.with(|s| adapter::save(&s.booster, &folder, s.model.name()))
        })
    }
}

fn train(context: &NativeCallContext, host: &Host, booster: &Booster, set: &Set, options: &FitOptions) -> anyhow::Result<Map> {
    booster.with(|state| {
        state.fresh("fit")?;
        let State { booster, model, .. } = state;
        let layers = booster.layers();
        let parameters = booster.overlay.parameters() as u64;
        model.clone().with(|open| {
            let round = open.round;
            if let Some(part) = set.parts().first() {
                host.with_run(|run| run.note_template(part.wording.name()))?;
            }
            open.wording = set.parts().iter().map(|part| (part.task.clone(), part.wording.clone())).collect();
            if let Some(outlook) = host.outlook() {
                return suppose::fitted(context, host, outlook, booster, open, (set, options));
            }
            let (mut losses, mut tokens) = (vec![], 0);
            let started = Instant::now();
            let lowest = booster.overlay.lowest().unwrap_or(open.network.layers());
            host.expect(0);
            // Numbers, gradients, two moments.
            let held = 4 * booster.overlay.parameters() * open.network.factor_dtype().size_in_bytes();
            let fitted = set.with_feed(host, &open.tokenizer, |feed| {
                for record in booster.fit(&open.network, feed, options) {
                    let record = record?;
                    losses.push(record.loss);
                    expect(host, &open.network, options, lowest, held, &record);
                    tokens += record.tokens as u64;
                    log(host, round, &layers, &record)?;
                    show(host, round, options.steps, &layers, &record);
                    host.guard.check()?;
                }
                Ok(())
            });
            host.with_run(|run| {
                run.training.trainable_now = Some(parameters);
                run.training.trained_in_total += parameters;
                run.training.seconds += started.elapsed().as_secs_f64();
                Ok(())
            })?;
            fitted?;
            let mean = losses.iter().sum::<f64>() / losses.len() as f64;
            let value = |x: Option<&f64>| Dynamic::from_float(x.copied().unwrap_or(f64::NAN));
            Ok(Map::from_iter([
                ("first_loss".into(), value(losses.first())),
                ("last_loss".into(), value(losses.last())),
                ("mean_loss".into(), Dynamic::from_float(mean)),
                ("steps".into(), Dynamic::from_int(losses.len() as INT)),
                ("tokens".into(), Dynamic::from_int(tokens as INT)),
                ("gain".into(), booster.trained.gain.map_or(Dynamic::UNIT, Dynamic::from_float)),
            ]))
        })
    })
}

/// Tells the memory formula of a step.
fn expect(host: &Host, network: &model::Model, options: &FitOptions, lowest: usize, held: usize, record: &StepRecord) {
    let (tokens, rows) = (record.tokens / options.accumulate, record.supervised / options.accumulate);
    let recompute = options.recompute == Recompute::On;
    host.expect(step_bytes(network.config(), network.compute(), tokens, rows, lowest, recompute) + held);
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
            timing: PointTiming { seconds, step_seconds: record.seconds, tokens_per_second: record.tokens as f64 / record.seconds },
        };
        run.metrics.log(&point)
    })
}

fn show(host: &Host, round: usize, steps: usize, layers: &[usize], record: &StepRecord) {
    let StepRecord { step, loss, tokens, seconds, .. } = *record;
    host.console.step(&Step { round, layers, step, steps, loss, tokens, seconds });
}

fn options_of(map: Map) -> Result<FitOptions, Error> {
    let mut o = Options::new("fit", map, &["steps", "optimizer", "batch", "accumulate", "clip", "l2", "recompute"])?;
    let steps: usize = o.take("steps")?;
    o.check("steps", (1..=1_000_000_000).contains(&steps), "from 1 to 1000000000", steps)?;
    let optimizer: Optimizer = o.take("optimizer")?;
    let batch: usize = o.take_or("batch", 8)?;
    o.check("batch", (1..=1 << 20).contains(&batch), "from 1 to 1048576", batch)?;
    let accumulate: usize = o.take_or("accumulate", 1)?;
    o.check("accumulate", (1..=1 << 20).contains(&accumulate), "from 1 to 1048576", accumulate)?;
    let clip: Option<f64> = o.take_opt("clip")?;
    if let Some(clip) = clip {
        o.check("clip", clip > 0.0, "above 0", clip)?;
    }
    let l2: f64 = o.take_or("l2", 0.0)?;
    o.check("l2", l2 >= 0.0, "0 or more", l2)?;
    let name: String = o.take_or("recompute", "auto".into())?;
    let Some(recompute) = Recompute::from_name(&name) else {
        o.check("recompute", false, "\"off\", \"on\" or \"auto\"", format!("{name:?}"))?;
        return Err(Error::usage("unknown `recompute`"));
    };
    let (rule, lr) = match optimizer {
        Optimizer::AdamW { lr, beta1, beta2, eps, weight_decay } => (Rule::AdamW { beta1, beta2, eps, weight_decay }, lr),
        Optimizer::Sgd { lr, momentum, weight_decay } => (Rule::Sgd { momentum, weight_decay }, lr),
    };
    let lr = match lr {
        Rate::Constant(lr) => vec![lr; steps],
        Rate::PerStep(rates) => {
            o.check(
                "optimizer",
                rates.len() == steps,
                "given a learning rate for each step",
                format!("{} for {steps} steps", rates.len()),
            )?;
            rates
        }
    };
    Ok(FitOptions { steps, batch, accumulate, rule, lr, clip, l2, recompute })
}
