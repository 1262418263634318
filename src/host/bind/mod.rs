//! What a recipe can call: one file per noun. Bindings convert and delegate; they compute nothing.

mod booster;
mod create;
mod data;
mod data_options;
mod ensemble;
mod evaluate;
mod model;
mod optimizer;
mod params;
mod sampler;
mod set;
mod suppose;

use rhai::plugin::*;
use rhai::{Engine, EvalAltResult, NativeCallContext};

use super::door::to_script;
use crate::error::Error;

/// Types of values that only natives make, as messages name them.
pub(super) const TYPES: [&str; 6] = ["sampler", "optimizer", "model", "booster", "task", "set"];

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
    for module in [
        exported_module!(sampler::natives),
        exported_module!(optimizer::natives),
        exported_module!(params::natives),
        exported_module!(model::natives),
        exported_module!(ensemble::natives),
        exported_module!(booster::natives),
        exported_module!(data::natives),
    ] {
        engine.register_global_module(module.into());
    }
    engine.register_static_module("model", exported_module!(model::module).into());
    engine.register_static_module("data", exported_module!(data::module).into());
}

/// Gives an error the place of the call: Rhai does so itself except for natives in a module (`data::load`).
fn placed<T>(context: &NativeCallContext, answer: Answer<T>) -> Answer<T> {
    answer.map_err(|mut error| {
        if error.position().is_none() {
            error.set_position(context.call_position());
        }
        error
    })
}

/// A JSON value as a script sees it.
fn dynamic(value: &serde_json::Value) -> Dynamic {
    match value {
        serde_json::Value::Null => Dynamic::UNIT,
        serde_json::Value::Bool(b) => (*b).into(),
        serde_json::Value::Number(n) => match n.as_i64() {
            Some(n) => Dynamic::from_int(n),
            None => Dynamic::from_float(n.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => text.clone().into(),
        serde_json::Value::Array(list) => Dynamic::from_array(list.iter().map(dynamic).collect()),
        serde_json::Value::Object(map) => Dynamic::from_map(map.iter().map(|(k, v)| (k.as_str().into(), dynamic(v))).collect()),
    }
}

/// A usage error as a script sees it.
fn refuse(error: Error) -> Box<EvalAltResult> {
    to_script(&error.into())
}
