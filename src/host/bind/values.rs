//! Values of scripts: as JSON for the journal, and out of JSON.

use rhai::{Dynamic, Map, NativeCallContext};
use serde_json::{Value, json};

use super::Answer;
use super::optimizer::{OptimizerOption, Rate};
use crate::error::Error;
use crate::host::options::Options;
use crate::session::{Booster, Set};

/// Gives an error the place of the call: Rhai does so itself except for natives in a module
/// (`data::load`).
pub(super) fn placed<T>(context: &NativeCallContext, answer: Answer<T>) -> Answer<T> {
    answer.map_err(|mut error| {
        if error.position().is_none() {
            error.set_position(context.call_position());
        }
        error
    })
}

/// A JSON value as a script sees it.
pub(super) fn dynamic(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(b) => (*b).into(),
        Value::Number(n) => match n.as_i64() {
            Some(n) => Dynamic::from_int(n),
            None => Dynamic::from_float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => text.clone().into(),
        Value::Array(list) => Dynamic::from_array(list.iter().map(dynamic).collect()),
        Value::Object(map) => Dynamic::from_map(to_map(map)),
    }
}

/// A JSON object as a map of a script.
pub(super) fn to_map(object: &serde_json::Map<String, Value>) -> Map {
    object.iter().map(|(key, value)| (key.as_str().into(), dynamic(value))).collect()
}

/// What tells a call from others of its name: its options, and `more`.
pub(super) fn arguments<const N: usize>(options: &Map, more: [(&str, Value); N]) -> Value {
    let mut arguments = map_to_journal(options);
    for (key, value) in more {
        arguments[key] = value;
    }
    arguments
}

/// The option `direction`: whether a larger value is better.
pub(super) fn larger_is_better(o: &mut Options) -> Result<bool, Error> {
    let direction: String = o.take_or("direction", "max".into())?;
    o.check(
        "direction",
        ["max", "min"].contains(&direction.as_str()),
        "\"max\" or \"min\"",
        format!("{direction:?}"),
    )?;
    Ok(direction == "max")
}

/// An argument as the journal tells it from others; of a long array its ends and its digest.
pub(super) fn to_journal(value: &Dynamic) -> Value {
    if let Some(set) = value.clone().try_cast::<Set>() {
        return set.to_journal();
    }
    if let Some(booster) = value.clone().try_cast::<Booster>() {
        return json!({ "booster": booster.number() });
    }
    if let Some(optimizer) = value.clone().try_cast::<OptimizerOption>() {
        return optimizer.to_journal(match &optimizer.lr {
            Rate::Constant(lr) => json!(lr),
            Rate::PerStep(rates) => list_to_journal(rates.iter().map(|lr| json!(lr)).collect()),
        });
    }
    if let Ok(map) = value.as_map_ref() {
        return map_to_journal(&map);
    }
    if let Ok(array) = value.as_array_ref() {
        return list_to_journal(array.iter().map(to_journal).collect());
    }
    rhai::serde::from_dynamic(value).unwrap_or_else(|_| value.type_name().into())
}

fn map_to_journal(map: &Map) -> Value {
    Value::Object(map.iter().map(|(key, value)| (key.to_string(), to_journal(value))).collect())
}

/// A list as the journal tells it from others.
pub(super) fn list_to_journal(list: Vec<Value>) -> Value {
    /// The most elements that are kept one by one.
    const LISTED: usize = 64;
    match (list.first(), list.last()) {
        (Some(first), Some(last)) if list.len() > LISTED => {
            let text = Value::Array(list.clone()).to_string();
            json!({
                "elements": list.len(), "first": first, "last": last,
                "sha256": crate::run::digest(text.as_bytes()),
            })
        }
        _ => Value::Array(list),
    }
}
