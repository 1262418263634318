//! How a booster begins: along a gradient, or with what an earlier one's optimizer remembers.

use rhai::plugin::*;
use rhai::{FLOAT, Map, NativeCallContext};
use serde_json::json;

use super::fit_options::sequences;
use super::values::arguments;
use super::{Answer, refuse};
use crate::host::journaled::journaled;
use crate::host::options::Options;
use crate::session::{Booster, Effects, Set};

/// Options of `booster.align`.
pub(super) const KEYS: [&str; 1] = ["batch"];

#[export_module]
pub(super) mod natives {
    /// Lets A begin along the gradient: its rows become the first right singular vectors of the
    /// gradient of each weight, on the next batch that training on `set` would see. With B = 0 the
    /// first steps then fall fastest. For boosters that were not trained yet. Options: `batch`
    /// (sequences, 8).
    ///
    /// # Example
    /// ```rhai,no_run
    /// booster.align(task.train, #{ batch: 16 });
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn align(
        context: NativeCallContext,
        booster: &mut Booster,
        set: Set,
        options: Map,
    ) -> Answer<()> {
        let more = [("booster", booster.number().into()), ("set", set.to_journal())];
        let arguments = arguments(&options, more);
        let batch = Options::new("align", options, &KEYS)
            .and_then(|mut o| sequences(&mut o))
            .map_err(refuse)?;
        let recall = |effects: &Effects| booster.recall_start(effects);
        journaled(&context, "booster.align", arguments)?
            .change(recall, || booster.align(&set, batch))
    }

    /// Gives the booster the moments of another one's optimiser, of whose entries each stays with
    /// probability `keep` and is 0 otherwise: 0.001 is ReLoRA's reset. Both train tensors of the
    /// same sizes. Take them before the other is merged.
    ///
    /// # Example
    /// ```rhai,no_run
    /// let next = model.booster(#{ layers: model.layers, rank: 8 });
    /// next.inherit(booster, 0.001);
    /// model.merge(booster);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn inherit(
        context: NativeCallContext,
        booster: &mut Booster,
        other: Booster,
        keep: FLOAT,
    ) -> Answer<()> {
        let arguments =
            json!({ "booster": booster.number(), "other": other.number(), "keep": keep });
        let recall = |effects: &Effects| booster.recall_start(effects);
        journaled(&context, "booster.inherit", arguments)?
            .change(recall, || booster.inherit(&other, keep))
    }
}
