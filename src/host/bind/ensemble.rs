//! The boosters that a model is the sum of: taken back, left out, weighed.

use anyhow::Result;
use rhai::plugin::*;
use rhai::{FLOAT, INT, Map, NativeCallContext};
use serde_json::{Value, json};

use super::values::larger_is_better;
use super::{Answer, refuse};
use crate::error::{Error, bail};
use crate::host::journaled::journaled;
use crate::host::options::Options;
use crate::run::Best;
use crate::session::{Effects, Model, Snapshot};

/// Options of `best_round`.
pub(super) const KEYS: [&str; 2] = ["metric", "direction"];

#[export_module]
pub(super) mod natives {
    /// Takes back all but the first `rounds` boosters: the weights are again what they were then.
    /// They are read from the base once more and the boosters' files added, so those of low rank
    /// come out bit for bit.
    ///
    /// # Example
    /// ```rhai,no_run
    /// model.truncate(model.best_round());
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn truncate(context: NativeCallContext, model: &mut Model, rounds: INT) -> Answer<()> {
        let arguments = json!({ "rounds": rounds });
        changed(&context, model, "truncate", arguments, |m| m.truncate(index(rounds)?))
    }

    /// Keeps the boosters from `start` on, before `end`, numbered from 0, as XGBoost's slices.
    #[rhai_fn(return_raw, pure)]
    pub fn slice(
        context: NativeCallContext,
        model: &mut Model,
        start: INT,
        end: INT,
    ) -> Answer<()> {
        let arguments = json!({ "start": start, "end": end });
        changed(&context, model, "slice", arguments, |m| m.slice(index(start)?, index(end)?))
    }

    /// Leaves out the booster `number`, counted from 0; those behind it move up.
    #[rhai_fn(name = "drop", return_raw, pure)]
    pub fn leave_out(context: NativeCallContext, model: &mut Model, number: INT) -> Answer<()> {
        let arguments = json!({ "number": number });
        changed(&context, model, "drop", arguments, |m| m.leave_out(index(number)?))
    }

    /// Multiplies what the booster `number`, counted from 0, added to the weights by `eta`; 1 is as
    /// it was merged.
    ///
    /// # Example
    /// ```rhai,no_run
    /// model.scale(0, 0.5);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn scale(
        context: NativeCallContext,
        model: &mut Model,
        number: INT,
        eta: FLOAT,
    ) -> Answer<()> {
        let arguments = json!({ "number": number, "eta": eta });
        changed(&context, model, "scale", arguments, |m| m.scale(index(number)?, eta))
    }

    /// The list of boosters that the model is the sum of, to go back to with `restore`.
    ///
    /// # Example
    /// ```rhai,no_run
    /// let before = model.snapshot();
    /// model.scale(0, 0.5);
    /// if model.evaluate(task.validation).accuracy < 0.5 { model.restore(before); }
    /// ```
    #[rhai_fn(pure)]
    pub fn snapshot(model: &mut Model) -> Snapshot {
        model.snapshot()
    }

    /// Makes the model the sum of the boosters that it had when `snapshot` was taken, with their
    /// weights then; bit for bit, as `truncate`.
    ///
    /// # Example
    /// ```rhai,no_run
    /// let before = model.snapshot();
    /// model.truncate(1);
    /// model.restore(before);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn restore(
        context: NativeCallContext,
        model: &mut Model,
        snapshot: Snapshot,
    ) -> Answer<()> {
        let arguments = json!({ "rounds": snapshot.round(), "sha256": snapshot.digest() });
        changed(&context, model, "restore", arguments, |m| m.restore(&snapshot))
    }

    /// How many boosters the model had.
    #[rhai_fn(get = "round", pure)]
    pub fn snapshot_round(snapshot: &mut Snapshot) -> INT {
        snapshot.round() as INT
    }

    /// Forms the weights again: the base, and all boosters from their files.
    #[rhai_fn(return_raw, pure)]
    pub fn replay(context: NativeCallContext, model: &mut Model) -> Answer<()> {
        changed(&context, model, "replay", json!({}), Model::replay)
    }

    /// SHA-256 of the weights, as `weights_digest` in `summary.json`.
    #[rhai_fn(return_raw, pure)]
    pub fn digest(context: NativeCallContext, model: &mut Model) -> Answer<String> {
        let arguments = json!({ "model": model.index() });
        journaled(&context, "model.digest", arguments)?.answer(|| model.digest())
    }

    /// The round whose evaluation of `validation` had the highest accuracy, the earliest of equals.
    #[rhai_fn(return_raw, pure)]
    pub fn best_round(context: NativeCallContext, model: &mut Model) -> Answer<INT> {
        best_round_by(context, model, Map::new())
    }

    /// The round whose evaluation of `validation` was best, and what the summary calls so. Options:
    /// `metric` (accuracy), `direction` ("max", "min").
    ///
    /// # Example
    /// ```rhai,no_run
    /// model.truncate(model.best_round(#{ metric: "nll", direction: "min" }));
    /// ```
    #[rhai_fn(name = "best_round", return_raw, pure)]
    pub fn best_round_by(
        context: NativeCallContext,
        model: &mut Model,
        options: Map,
    ) -> Answer<INT> {
        let by = best_options(options).map_err(refuse)?;
        let mut arguments = json!({ "metric": by.metric, "larger": by.larger });
        if model.index() > 0 {
            arguments["model"] = model.index().into();
        }
        let recall = |_: &Effects| model.recall_best(&by);
        let round = journaled(&context, "model.best_round", arguments)?
            .change(recall, || model.best_round(&by))?;
        Ok(round as INT)
    }
}

/// A number of a script as an index.
fn index(number: INT) -> Result<usize> {
    match usize::try_from(number) {
        Ok(number) => Ok(number),
        Err(_) => bail!(Usage, "boosters are numbered from 0, found {number}"),
    }
}

/// Changes which boosters the model is the sum of.
fn changed(
    context: &NativeCallContext,
    model: &Model,
    name: &str,
    mut arguments: Value,
    change: impl FnOnce(&Model) -> Result<()>,
) -> Answer<()> {
    arguments["model"] = model.index().into();
    let recall = |effects: &Effects| model.recall_composition(effects);
    journaled(context, &format!("model.{name}"), arguments)?.change(recall, || change(model))
}

fn best_options(map: Map) -> Result<Best, Error> {
    let mut o = Options::new("best_round", map, &KEYS)?;
    let metric = o.take_or("metric", Best::default().metric)?;
    Ok(Best { metric, larger: larger_is_better(&mut o)? })
}
