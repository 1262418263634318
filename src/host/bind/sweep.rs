//! `sweep`: points of a comparison and rows of results, which the run keeps.

use rhai::plugin::*;
use rhai::{Dynamic, Map, NativeCallContext};
use serde_json::{Value, json};

use super::values::{larger_is_better, placed, to_journal};
use super::{Answer, refuse};
use crate::error::Error;
use crate::host::context::host;
use crate::host::journaled::journaled;
use crate::host::options::Options;
use crate::session::Effects;

#[export_module]
pub(super) mod module {
    /// Begins a point of a sweep with `settings`, a map of what sets it apart. What is trained and
    /// measured until `sweep::end` belongs to the point: the report draws a curve of it, and
    /// `model.best_round` looks at its evaluations alone. `grid::sweep` does this by itself.
    ///
    /// Points that differ in `seed` or `draw` alone are told as one, with mean and deviation.
    ///
    /// # Example
    /// ```rhai
    /// for lr in [1e-3, 1e-2] {
    ///     sweep::begin(#{ lr: lr });
    ///     sweep::end(lr * 2.0);
    /// }
    /// ```
    #[rhai_fn(return_raw)]
    pub fn begin(context: NativeCallContext, settings: Map) -> Answer<()> {
        placed(&context, begun(&context, &settings, Map::new()))
    }

    /// Begins a point of a sweep. Options: `direction` of the best result ("max"; "min", as of a
    /// loss).
    ///
    /// # Example
    /// ```rhai
    /// sweep::begin(#{ lr: 1e-3 }, #{ direction: "min" });
    /// sweep::end(2.5);
    /// ```
    #[rhai_fn(name = "begin", return_raw)]
    pub fn begin_with(context: NativeCallContext, settings: Map, options: Map) -> Answer<()> {
        placed(&context, begun(&context, &settings, options))
    }

    /// Ends the point that is open, with what came of it: a number, of which the best is marked, or
    /// any other value.
    #[rhai_fn(return_raw)]
    pub fn end(context: NativeCallContext, result: Dynamic) -> Answer<()> {
        placed(&context, ended(&context, &result))
    }

    /// Keeps a row of a table of results, a map by column, for `summary.json` and the report.
    /// `grid::table` does this by itself.
    ///
    /// # Example
    /// ```rhai
    /// sweep::row(#{ way: "lora", accuracy: 0.61, seconds: 3 });
    /// ```
    #[rhai_fn(return_raw)]
    pub fn row(context: NativeCallContext, row: Map) -> Answer<()> {
        placed(&context, kept(&context, &row))
    }
}

fn begun(context: &NativeCallContext, settings: &Map, options: Map) -> Answer<()> {
    let (session, settings) = (host(context)?.session.clone(), values(settings));
    let smaller = direction(options).map_err(refuse)?;
    let arguments = json!({ "settings": settings, "smaller": smaller });
    let recall = |effects: &Effects| session.recall_sweep(effects);
    journaled(context, "sweep::begin", arguments)?
        .change(recall, || session.begin_point(settings, smaller))
}

fn ended(context: &NativeCallContext, result: &Dynamic) -> Answer<()> {
    let (session, result) = (host(context)?.session.clone(), to_journal(result));
    let recall = |effects: &Effects| session.recall_sweep(effects);
    journaled(context, "sweep::end", json!({ "result": result }))?
        .change(recall, || session.end_point(result))
}

fn kept(context: &NativeCallContext, row: &Map) -> Answer<()> {
    let (session, row) = (host(context)?.session.clone(), values(row));
    let recall = |effects: &Effects| session.recall_sweep(effects);
    journaled(context, "sweep::row", json!({ "row": row }))?
        .change(recall, || session.keep_row(row))
}

fn values(map: &Map) -> serde_json::Map<String, Value> {
    map.iter().map(|(key, value)| (key.to_string(), to_journal(value))).collect()
}

/// Whether a smaller result is better.
fn direction(map: Map) -> Result<bool, Error> {
    let mut o = Options::new("sweep::begin", map, &["direction"])?;
    Ok(!larger_is_better(&mut o)?)
}
