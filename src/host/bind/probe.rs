//! What a policy may ask of a model before it chooses: norms of gradients and weights, and which
//! items it gets wrong.

use rhai::plugin::*;
use rhai::{INT, Map, NativeCallContext};
use serde_json::json;

use super::fit_options::sequences;
use super::values::{arguments, to_map};
use super::{Answer, refuse};
use crate::error::{Error, error};
use crate::host::journaled::journaled;
use crate::host::options::Options;
use crate::session::{Model, Set};

/// Options of `model.probe`.
pub(super) const KEYS: [&str; 2] = ["batch", "layers"];

#[export_module]
pub(super) mod natives {
    /// Norms of the gradient on the next batch that training on `set` would see, which stays the
    /// next: `layers` (a number for each layer of the model, 0 of those not asked for), `targets`
    /// (a map of such arrays by target) and `loss` (nats a token). Nothing is trained.
    ///
    /// Options: `batch` (sequences, 8), `layers` (to look at; all).
    ///
    /// # Example
    /// ```rhai,no_run
    /// let seen = model.probe(task.train, #{ batch: 16 });
    /// let weights = seen.layers.map(|norm| norm * norm);
    /// let layers = sampler("layers").weighted(model.layers, weights, 2);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn probe(
        context: NativeCallContext,
        model: &mut Model,
        set: Set,
        options: Map,
    ) -> Answer<Map> {
        let more = [("set", set.to_journal()), ("model", model.index().into())];
        let arguments = arguments(&options, more);
        let (batch, layers) = parse(options).map_err(refuse)?;
        let found = journaled(&context, "model.probe", arguments)?
            .answer(|| model.probe(&set, batch, layers.as_deref()))?;
        Ok(to_map(&found))
    }

    /// As `probe(set, options)` with a batch of 8 and all layers.
    #[rhai_fn(name = "probe", return_raw, pure)]
    pub fn probe_all(context: NativeCallContext, model: &mut Model, set: Set) -> Answer<Map> {
        probe(context, model, set, Map::new())
    }

    /// Frobenius norms of the weights as they are: `layers` (over all targets of a layer),
    /// `targets` (a map of arrays by target), `embedding`, `head` (of tied weights the same).
    ///
    /// # Example
    /// ```rhai,no_run
    /// let skew = model.norms().embedding / model.norms().layers[0];
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn norms(context: NativeCallContext, model: &mut Model) -> Answer<Map> {
        let arguments = json!({ "model": model.index() });
        let found = journaled(&context, "model.norms", arguments)?.answer(|| model.norms())?;
        Ok(to_map(&found))
    }

    /// The cosine between what two merged boosters, counted from 0, added to the weights: `all`,
    /// and `targets` (a map by target); () where one of them changed nothing. Near 1 they do the
    /// same, at 0 they have nothing in common.
    ///
    /// # Example
    /// ```rhai,no_run
    /// print(model.similarity(0, 1).all);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn similarity(
        context: NativeCallContext,
        model: &mut Model,
        a: INT,
        b: INT,
    ) -> Answer<Map> {
        let [first, second] = [number(a)?, number(b)?];
        let arguments = json!({ "model": model.index(), "a": a, "b": b });
        let found = journaled(&context, "model.similarity", arguments)?
            .answer(|| model.similarity(first, second))?;
        Ok(to_map(&found))
    }

    /// The items of `set` that the model gets wrong by choices, as a set to train on (as BoostLoRA
    /// does); of each task the first `items` are looked at, 0 for all.
    ///
    /// # Example
    /// ```rhai,no_run
    /// let hard = model.wrong(task.train, 200);
    /// if hard.len > 0 { booster.fit(hard, #{ steps: 8, optimizer: adamw(#{ lr: 1e-3 }) }); }
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn wrong(
        context: NativeCallContext,
        model: &mut Model,
        set: Set,
        items: INT,
    ) -> Answer<Set> {
        let most = usize::try_from(items).map_err(|_| {
            refuse(error!(Usage, "`wrong` looks at 0 items or more, found {items}"))
        })?;
        let arguments = json!({ "set": set.to_journal(), "model": model.index(), "items": items });
        let indices = journaled(&context, "model.wrong", arguments)?
            .answer(|| model.wrong(&set, Some(most).filter(|&n| n > 0)))?;
        Ok(set.of_parts("wrong", indices))
    }
}

/// The number of a booster.
fn number(number: INT) -> Answer<usize> {
    usize::try_from(number)
        .map_err(|_| refuse(error!(Usage, "boosters are numbered from 0, found {number}")))
}

/// Sequences of the batch, and layers to look at.
fn parse(map: Map) -> Result<(usize, Option<Vec<usize>>), Error> {
    let mut o = Options::new("probe", map, &KEYS)?;
    Ok((sequences(&mut o)?, o.take_opt("layers")?))
}
