//! What a recipe can call: one file per noun. Bindings convert and delegate; they compute nothing.

// What Rhai's macros make of a native unwraps its arguments, whose number and types were matched.
#![allow(clippy::unwrap_used)]

mod booster;
mod booster_options;
mod create;
mod data;
mod data_options;
mod ensemble;
mod evaluate;
mod fit_options;
mod generate;
mod merge;
mod model;
mod optimizer;
mod params;
mod probe;
mod progress;
mod sampler;
mod set;
mod starts;
mod suppose;
mod threshold;

use rhai::plugin::*;
use rhai::{Dynamic, Engine, EvalAltResult, NativeCallContext};
use serde_json::{Value, json};

use super::door::to_script;
use crate::error::Error;

/// Types of values that only natives make, as messages name them.
pub(super) const TYPES: [&str; 7] =
    ["sampler", "optimizer", "model", "booster", "task", "set", "snapshot"];

/// What a native answers with.
type Answer<T> = Result<T, Box<EvalAltResult>>;

/// Gives the engine all natives.
pub(super) fn register(engine: &mut Engine) {
    engine.register_type_with_name::<sampler::Sampler>(TYPES[0]);
    engine.register_type_with_name::<optimizer::Optimizer>(TYPES[1]);
    engine.register_type_with_name::<model::Model>(TYPES[2]);
    engine.register_type_with_name::<booster::Booster>(TYPES[3]);
    engine.register_type_with_name::<data::Task>(TYPES[4]);
    engine.register_type_with_name::<set::Set>(TYPES[5]);
    engine.register_type_with_name::<ensemble::Snapshot>(TYPES[6]);
    for module in [
        exported_module!(sampler::natives),
        optimizer::natives(),
        exported_module!(params::natives),
        exported_module!(model::natives),
        exported_module!(ensemble::natives),
        exported_module!(booster::natives),
        exported_module!(probe::natives),
        exported_module!(starts::natives),
        exported_module!(threshold::natives),
        exported_module!(data::natives),
    ] {
        engine.register_global_module(module.into());
    }
    engine.register_static_module("model", exported_module!(model::module).into());
    engine.register_static_module("data", exported_module!(data::module).into());
}

/// Gives an error the place of the call: Rhai does so itself except for natives in a module
/// (`data::load`).
fn placed<T>(context: &NativeCallContext, answer: Answer<T>) -> Answer<T> {
    answer.map_err(|mut error| {
        if error.position().is_none() {
            error.set_position(context.call_position());
        }
        error
    })
}

/// A JSON value as a script sees it.
fn dynamic(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(b) => (*b).into(),
        Value::Number(n) => match n.as_i64() {
            Some(n) => Dynamic::from_int(n),
            None => Dynamic::from_float(n.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => text.clone().into(),
        Value::Array(list) => Dynamic::from_array(list.iter().map(dynamic).collect()),
        Value::Object(map) => {
            Dynamic::from_map(map.iter().map(|(k, v)| (k.as_str().into(), dynamic(v))).collect())
        }
    }
}

/// The most elements of an array that the journal keeps one by one.
const LISTED: usize = 64;

/// An argument as the journal tells it from others; of a long array its ends and its digest.
fn told(value: &Dynamic) -> Value {
    if let Some(set) = value.clone().try_cast::<set::Set>() {
        return set.told();
    }
    if let Some(booster) = value.clone().try_cast::<booster::Booster>() {
        return json!({ "booster": booster.number() });
    }
    if let Some(optimizer) = value.clone().try_cast::<optimizer::Optimizer>() {
        return optimizer.told();
    }
    if let Ok(map) = value.as_map_ref() {
        return told_map(&map);
    }
    if let Ok(array) = value.as_array_ref() {
        return told_list(array.iter().map(told).collect());
    }
    rhai::serde::from_dynamic(value).unwrap_or_else(|_| value.type_name().into())
}

/// Options, key by key.
fn told_map(map: &rhai::Map) -> Value {
    Value::Object(map.iter().map(|(key, value)| (key.to_string(), told(value))).collect())
}

fn told_list(list: Vec<Value>) -> Value {
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

/// A usage error as a script sees it.
fn refuse(error: Error) -> Box<EvalAltResult> {
    to_script(&error.into())
}
