//! `booster`: a weak learner over a model, fitted and then merged.

use rhai::plugin::*;
use rhai::{Array, Dynamic, INT, Map, NativeCallContext};
use serde_json::json;

use super::values::{arguments, to_map};
use super::{Answer, fit_options, refuse};
use crate::host::journaled::journaled;
use crate::host::options::{FromOption, Mismatch};
use crate::session::{Booster, Effects, Set};

impl FromOption for Booster {
    const WHAT: &'static str = "a booster";

    fn from_option(value: &Dynamic, key: &str) -> Result<Self, Mismatch> {
        value.clone().try_cast().ok_or_else(|| Mismatch::new::<Self>(value, key))
    }
}

#[export_module]
pub(super) mod natives {
    /// Layers it trains, in ascending order.
    #[rhai_fn(get = "layers", pure)]
    pub fn layers(booster: &mut Booster) -> Array {
        booster.layers().into_iter().map(|l| Dynamic::from_int(l as INT)).collect()
    }

    /// Numbers that it trains.
    #[rhai_fn(get = "parameters", pure)]
    pub fn parameters(booster: &mut Booster) -> INT {
        booster.parameters() as INT
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
    /// `head_lr_ratio` (the learning rate of a classifier's head over that of the rest; 1); of low
    /// rank `lr_ratio` (the learning rate of B over that of A, LoRA+; 1), `freeze` (the
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
        let more = [("booster", booster.number().into()), ("set", set.to_journal())];
        let arguments = arguments(&options, more);
        let options = fit_options::parse(options).map_err(refuse)?;
        let recall = |effects: &Effects| booster.recall_fit(&set, &options, effects);
        let answer = journaled(&context, "booster.fit", arguments)?
            .change(recall, || booster.fit(&set, &options))?;
        // What the journal tells of now is the newest.
        booster.tidy();
        Ok(to_map(&answer))
    }

    /// Writes the factors as a PEFT adapter folder called `name`, below the run folder. A dense
    /// booster has none.
    #[rhai_fn(return_raw, pure)]
    pub fn save(context: NativeCallContext, booster: &mut Booster, name: &str) -> Answer<()> {
        let arguments = json!({ "name": name, "booster": booster.number() });
        let recall = |_: &Effects| booster.model().session().recall_save(name);
        journaled(&context, "booster.save", arguments)?.change(recall, || booster.save(name))
    }
}
