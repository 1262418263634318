//! `model`: a network with its tokenizer, boosted round by round.

use rhai::plugin::*;
use rhai::{Array, Dynamic, FLOAT, INT, Map, NativeCallContext};
use serde_json::json;

use super::values::arguments;
use super::{Answer, booster_options, refuse};
use crate::host::journaled::journaled;
use crate::session::{Booster, Effects, Model};

#[export_module]
pub(super) mod natives {
    /// Indices of the transformer blocks, 0 at the input.
    #[rhai_fn(get = "layers", pure)]
    pub fn layers(model: &mut Model) -> Array {
        model.layers().into_iter().map(|l| Dynamic::from_int(l as INT)).collect()
    }

    /// Names of the linear modules in a layer that a booster can train.
    #[rhai_fn(get = "targets", pure)]
    pub fn targets(model: &mut Model) -> Array {
        model.targets().into_iter().map(Dynamic::from).collect()
    }

    /// Number of weights.
    #[rhai_fn(get = "parameters", pure)]
    pub fn parameters(model: &mut Model) -> INT {
        model.parameters() as INT
    }

    /// Number of boosters merged.
    #[rhai_fn(get = "round", pure)]
    pub fn round(model: &mut Model) -> INT {
        model.round() as INT
    }

    /// A fresh booster, which changes nothing until it is fitted.
    ///
    /// Options: `layers` (a list of indices), `targets` (names; all), `kind` ("low_rank"; "dense"
    /// trains whole weights). Of low rank: `pairs` (single modules such as
    /// `[[3, "q_proj"], [5, "up_proj"]]`, in place of layers and targets), `rank` (r, 1), `alpha`
    /// (the product is scaled by α/r; r, for a scale of 1), `init` of the factor that is drawn
    /// ("kaiming" as PEFT, "gaussian", "orthogonal"; kaiming), `zero` (the factor that begins as 0:
    /// "B"; "A"). Dense: `embedding`, `norms` (those of `layers`, and the final one), `head` (each
    /// false); `layers` may then be empty.
    ///
    /// # Example
    /// ```rhai,no_run
    /// let booster = model.booster(#{ layers: [3, 17], targets: ["q_proj", "v_proj"], rank: 1 });
    /// let lisa = model.booster(#{ kind: "dense", layers: [3, 17], embedding: true, norms: true });
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn booster(context: NativeCallContext, model: &mut Model, options: Map) -> Answer<Booster> {
        let arguments = arguments(&options, [("model", model.index().into())]);
        let options = booster_options::parse(options).map_err(refuse)?;
        journaled(&context, "model.booster", arguments)?.make(|| model.booster(&options))
    }

    /// Adds the booster to the weights: W ← W + s·BA; of a dense booster W ← W'. The run keeps it
    /// as a file below `boosters/`.
    #[rhai_fn(return_raw, pure)]
    pub fn merge(context: NativeCallContext, model: &mut Model, booster: Booster) -> Answer<()> {
        merge_with(context, model, booster, 1.0)
    }

    /// Adds the booster to the weights with step weight `eta` (paper Eq. 8): W ← W + η·s·BA; of a
    /// dense booster W ← W + η (W' − W).
    ///
    /// # Example
    /// ```rhai,no_run
    /// model.merge(booster, 0.5);
    /// ```
    #[rhai_fn(name = "merge", return_raw, pure)]
    pub fn merge_with(
        context: NativeCallContext,
        model: &mut Model,
        booster: Booster,
        eta: FLOAT,
    ) -> Answer<()> {
        let arguments = json!({ "model": model.index(), "booster": booster.number(), "eta": eta });
        let recall = |effects: &Effects| model.recall_merge(&booster, effects);
        journaled(&context, "model.merge", arguments)?
            .change(recall, || model.merge(&booster, eta))?;
        // Its training is over.
        booster.forget();
        Ok(())
    }

    /// The PEFT LoRA adapter in the folder at `path`, which `-p` gave, as a booster of this model.
    /// What the adapter changes as a whole (DoRA, modules that were saved, embedding and head) are
    /// whole tensors of the booster, and the model must be the base still; they stand in for the
    /// weights, so merge it before others. PiSSA and OLoRA adapters have twice their rank, since
    /// their start is taken out of the weights.
    ///
    /// # Example
    /// ```rhai,no_run
    /// model.merge(model.load_adapter(p.adapter));
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn load_adapter(
        context: NativeCallContext,
        model: &mut Model,
        path: &str,
    ) -> Answer<Booster> {
        journaled(&context, "model.load_adapter", json!({ "path": path }))?
            .make(|| model.load_adapter(path))
    }

    /// Writes the current weights as a Hugging Face folder called `name`, below the run folder;
    /// `template.json` in it says how the data were worded that it was last trained on.
    #[rhai_fn(return_raw, pure)]
    pub fn save(context: NativeCallContext, model: &mut Model, name: &str) -> Answer<()> {
        let arguments = json!({ "name": name, "model": model.index() });
        let recall = |_: &Effects| model.session().recall_save(name);
        journaled(&context, "model.save", arguments)?.change(recall, || model.save(name))
    }
}
