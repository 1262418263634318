//! Names of layers and targets turned into what a model has of them.

use std::collections::BTreeSet;

use anyhow::Result;

use crate::error::{Error, bail, did_you_mean, error};
use crate::model::{LinearId, Model};

/// Layers in ascending order. Errors (class usage): one that the model does not have, or that is
/// named twice.
pub(super) fn layers_of(model: &Model, layers: &[usize]) -> Result<Vec<usize>> {
    let mut sorted = layers.to_vec();
    sorted.sort_unstable();
    if let Some(layer) = sorted.iter().find(|l| **l >= model.layers()) {
        bail!(
            Usage,
            "layer {layer} does not exist";
            hint: "the model has layers 0 to {}",
            model.layers() - 1
        );
    }
    if let Some(pair) = sorted.windows(2).find(|w| w[0] == w[1]) {
        bail!(Usage, "layer {} is named twice in `layers`", pair[0]);
    }
    Ok(sorted)
}

/// The targets that are named, each once, as a layer computes them; all where none is named. Errors
/// (class usage): one that the model does not have.
pub(super) fn targets_of(model: &Model, targets: &[String]) -> Result<Vec<&'static str>> {
    let known = model.targets();
    // As PEFT has it, a part of a name after a dot will do: `c_proj` is all of GPT-2's.
    let is = |known: &str, name: &String| {
        known.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    for (i, target) in targets.iter().enumerate() {
        if !known.iter().any(|known| is(known, target)) {
            return Err(unknown(&format!("target at `targets[{i}]`:"), target, &known).into());
        }
    }
    let named = |known: &&str| targets.is_empty() || targets.iter().any(|name| is(known, name));
    Ok(known.into_iter().filter(named).collect())
}

/// The linear modules with these targets in these layers.
pub(super) fn linears_of(model: &Model, layers: &[usize], targets: &[&str]) -> BTreeSet<LinearId> {
    let chosen =
        |linear: &&LinearId| layers.contains(&linear.layer) && targets.contains(&linear.target);
    model.linears().filter(chosen).cloned().collect()
}

/// A name that is none of `known`.
pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> Error {
    let near = did_you_mean(name, known.iter().copied());
    error!(Usage, "unknown {what} `{name}`{near}"; hint: "one of {}", known.join(", "))
}
