//! `model`: a network with its tokenizer, boosted round by round.

use rhai::plugin::*;
use rhai::{Array, Dynamic, FLOAT, INT, Map, NativeCallContext};
use serde_json::json;

use super::values::arguments;
use super::{Answer, booster_options, refuse};
use crate::error::{Error, did_you_mean, error};
use crate::host::journaled::journaled;
use crate::host::options::Options;
use crate::session::{Booster, Effects, HeadOptions, Model};

/// Options of `model.head`, and of `model.load_adapter`.
pub(super) const HEAD: [&str; 3] = ["kind", "labels", "metric"];
pub(super) const ADAPTER: [&str; 1] = ["head"];

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

    /// The labels of its head, in the order of its logits; empty where it says none.
    #[rhai_fn(get = "labels", pure)]
    pub fn labels(model: &mut Model) -> Array {
        model.labels().into_iter().map(Dynamic::from).collect()
    }

    /// Gives the model a head in place of the one that it has, before its first booster. What its
    /// files hold of that head stays; the rest is drawn, from a stream of the seed.
    ///
    /// Options: `kind` ("classes"; "regression", "choices", "masked_lm"), and of classes `labels`:
    /// the names that items have, in the order of the logits. Classes, or a number, are said of a
    /// whole sequence: by its first token in encoders, as transformers' classes for sequence
    /// classification do it, by its last in decoders. `choices` gives each choice of an item a
    /// number, of which the largest wins. `metric` is what the report shows of the run ("matthews";
    /// accuracy, or of numbers Pearson's correlation).
    ///
    /// # Example
    /// ```rhai,no_run
    /// model.head(#{ labels: ["not_entailment", "entailment"] });
    /// let booster = model.booster(#{ layers: [3, 17], head: true });
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn head(context: NativeCallContext, model: &mut Model, options: Map) -> Answer<()> {
        let arguments = arguments(&options, [("model", model.index().into())]);
        let (options, metric) = head_options(options).map_err(refuse)?;
        journaled(&context, "model.head", arguments)?
            .make(|| model.set_head(&options, metric.as_deref()))
    }

    /// A fresh booster, which changes nothing until it is fitted.
    ///
    /// Options: `layers` (a list of indices), `targets` (names; all), `kind` ("low_rank"; "dense"
    /// trains whole weights). Of low rank: `pairs` (single modules such as
    /// `[[3, "q_proj"], [5, "up_proj"]]`, in place of layers and targets), `rank` (r, 1), `alpha`
    /// (the product is scaled by α/r; r, for a scale of 1), `init` of the factor that is drawn
    /// ("kaiming" as PEFT, "gaussian", "orthogonal"; kaiming), `zero` (the factor that begins as 0:
    /// "B"; "A"), `head` (true trains the head of a classifier as a whole beside the factors).
    /// Dense: `embedding`, `norms` (those of `layers`, and the final one), `head` (each false);
    /// `layers` may then be empty.
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
            .make(|| model.load_adapter(path, true))
    }

    /// The same with options: `head` (false leaves out the head, as of an adapter that was trained
    /// on another task; true).
    ///
    /// # Example
    /// ```rhai,no_run
    /// model.head(#{ labels: ["entailment", "not_entailment"] });
    /// model.merge(model.load_adapter(p.mnli, #{ head: false }));
    /// ```
    #[rhai_fn(name = "load_adapter", return_raw, pure)]
    pub fn load_adapter_with(
        context: NativeCallContext,
        model: &mut Model,
        path: &str,
        options: Map,
    ) -> Answer<Booster> {
        let arguments = arguments(&options, [("path", path.into())]);
        let read = |map| Options::new("model.load_adapter", map, &ADAPTER)?.take_or("head", true);
        let with_head = read(options).map_err(refuse)?;
        journaled(&context, "model.load_adapter", arguments)?
            .make(|| model.load_adapter(path, with_head))
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

/// The options of `model.head`. Errors (class usage): a kind that is not known, labels of a head
/// that says none, or none of classes.
fn head_options(map: Map) -> Result<(HeadOptions, Option<String>), Error> {
    const KINDS: [&str; 4] = ["classes", "regression", "choices", "masked_lm"];
    let mut o = Options::new("model.head", map, &HEAD)?;
    let metric = o.take_opt("metric")?;
    let kind: String = o.take_or("kind", KINDS[0].to_owned())?;
    let labels: Option<Vec<String>> = o.take_opt("labels")?;
    if labels.is_some() && kind != KINDS[0] {
        return Err(error!(Usage, "option `labels` of `model.head` is for the kind `classes`"));
    }
    let head = match kind.as_str() {
        "classes" => match labels {
            Some(labels) => HeadOptions::Classes(labels),
            None => {
                return Err(error!(
                    Usage,
                    "option `labels` of `model.head` is missing: the names of its classes"
                ));
            }
        },
        "regression" => HeadOptions::Regression,
        "choices" => HeadOptions::Choices,
        "masked_lm" => HeadOptions::MaskedLm,
        _ => {
            let near = did_you_mean(&kind, KINDS);
            let error = error!(Usage, "unknown kind of head `{kind}`{near}");
            return Err(error.hint(format!("one of {}", KINDS.join(", "))));
        }
    };
    Ok((head, metric))
}
