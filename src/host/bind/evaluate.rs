//! `model.evaluate`: each task of a set by a protocol, and the average.

use rhai::plugin::*;
use rhai::{Map, NativeCallContext};

use super::values::{arguments, to_map};
use super::{Answer, refuse};
use crate::eval::Protocol;
use crate::host::journaled::journaled;
use crate::host::options::Options;
use crate::session::{Booster, Effects, EvaluateOptions, Model, Set};

/// Options of `model.evaluate`.
pub(super) const KEYS: [&str; 5] = ["items", "booster", "eta", "protocol", "predictions"];

#[export_module]
pub(super) mod natives {
    /// Measures the model on `set` and records it under the set's split and the model's round, by
    /// the protocol that suits the items: "lm-eval" for choices, otherwise "perplexity". Answers
    /// with the metrics. Of several tasks these are the unweighted average, with those of each task
    /// under `tasks`.
    #[rhai_fn(return_raw, pure)]
    pub fn evaluate(context: NativeCallContext, model: &mut Model, set: Set) -> Answer<Map> {
        evaluate_with(context, model, set, Map::new())
    }

    /// Measures the model on `set`. Options: `items` (only the first so many of each task; 0, the
    /// default, for all), `booster` (laid over the model, not merged; then nothing is recorded),
    /// `eta` (the booster's step weight, 1), `protocol` ("lm-eval": choices by their likelihood;
    /// "llm-adapters": 4 beams generate up to 32 tokens, the first answer found in them counts;
    /// "perplexity"), `predictions` (true adds what the model said to each item to
    /// `predictions.jsonl` in the run folder: the log-likelihood of each choice, the text, or what
    /// a head says, with the right answer).
    ///
    /// # Example
    /// ```rhai,no_run
    /// let now = model.evaluate(task.validation, #{ items: 200 });
    /// print(now.accuracy);
    /// ```
    #[rhai_fn(name = "evaluate", return_raw, pure)]
    pub fn evaluate_with(
        context: NativeCallContext,
        model: &mut Model,
        set: Set,
        options: Map,
    ) -> Answer<Map> {
        let more = [("set", set.to_journal()), ("model", model.index().into())];
        let arguments = arguments(&options, more);
        let options = parse(options).map_err(refuse)?;
        let recall = |effects: &Effects| model.recall_evaluation(effects);
        let metrics = journaled(&context, "model.evaluate", arguments)?
            .change(recall, || model.evaluate(&set, &options))?;
        Ok(to_map(&metrics))
    }
}

fn parse(map: Map) -> anyhow::Result<EvaluateOptions> {
    let mut o = Options::new("evaluate", map, &KEYS)?;
    let items = o.take_opt("items")?.filter(|&n: &usize| n > 0);
    let booster: Option<Booster> = o.take_opt("booster")?;
    let eta = o.take_opt("eta")?;
    o.check(
        "eta",
        eta.is_none() || booster.is_some(),
        "left out where no `booster` is laid over the model",
        eta.unwrap_or(1.0),
    )?;
    let protocol =
        o.take_opt::<String>("protocol")?.map(|name| Protocol::parse(&name)).transpose()?;
    let eta = eta.unwrap_or(1.0);
    let predictions = o.take_or("predictions", false)?;
    o.check(
        "predictions",
        !(predictions && booster.is_some()),
        "left out where a `booster` is laid over the model: nothing is recorded",
        predictions,
    )?;
    Ok(EvaluateOptions { items, booster, eta, protocol, predictions, ..EvaluateOptions::default() })
}
