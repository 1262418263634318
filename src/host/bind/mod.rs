//! What a recipe can call: one file per noun. A binding reads options, calls the session, and turns
//! the answer into a value of the script; it computes nothing.

// What Rhai's macros make of a native unwraps its arguments, whose number and types were matched.
#![allow(clippy::unwrap_used)]

mod booster;
mod booster_options;
mod data;
mod data_options;
mod ensemble;
mod evaluate;
mod fit_options;
mod generate;
mod load;
mod model;
mod optimizer;
mod params;
mod probe;
mod sampler;
mod set;
mod start;
mod sweep;
mod threshold;
mod values;

pub use data_options::{template_file, template_of};

use rhai::plugin::*;
use rhai::{Engine, EvalAltResult};

use super::script_error::{Answer, to_script};
use crate::session::{Booster, Model, Sampler, Set, Snapshot, Task};

/// Types of values that only natives make, as messages name them.
pub(super) const TYPES: [&str; 7] =
    ["sampler", "optimizer", "model", "booster", "task", "set", "snapshot"];

/// The name and the options of the native `call`, written `name` or `type.name` of a method; `None`
/// of one that has none, or is not known.
pub(super) fn options_of(call: &str) -> Option<(&'static str, Vec<&'static str>)> {
    let (named, keys): (&'static str, &[&'static str]) = match call {
        "model::load" => ("model::load", &load::LOAD),
        "model::from_run" => ("model::from_run", &load::FROM_RUN),
        "data::load" => ("data::load", &data_options::KEYS),
        "model.head" => ("model.head", &model::HEAD),
        "model.load_adapter" => ("model.load_adapter", &model::ADAPTER),
        "model.booster" => ("booster", &booster_options::KEYS),
        "booster.fit" => ("fit", &fit_options::KEYS),
        "booster.align" => ("align", &start::KEYS),
        "model.evaluate" => ("evaluate", &evaluate::KEYS),
        "model.generate" => ("generate", &generate::KEYS),
        "model.sample" => ("sample", &generate::KEYS),
        "model.probe" => ("probe", &probe::KEYS),
        "model.best_round" => ("best_round", &ensemble::KEYS),
        _ => return optimizer::options_of(call),
    };
    Some((named, keys.to_vec()))
}

/// Gives the engine all natives.
pub(super) fn register(engine: &mut Engine) {
    engine.register_type_with_name::<Sampler>(TYPES[0]);
    engine.register_type_with_name::<optimizer::OptimizerOption>(TYPES[1]);
    engine.register_type_with_name::<Model>(TYPES[2]);
    engine.register_type_with_name::<Booster>(TYPES[3]);
    engine.register_type_with_name::<Task>(TYPES[4]);
    engine.register_type_with_name::<Set>(TYPES[5]);
    engine.register_type_with_name::<Snapshot>(TYPES[6]);
    for module in [
        exported_module!(sampler::natives),
        optimizer::natives(),
        exported_module!(params::natives),
        exported_module!(model::natives),
        exported_module!(evaluate::natives),
        exported_module!(generate::natives),
        exported_module!(ensemble::natives),
        exported_module!(booster::natives),
        exported_module!(probe::natives),
        exported_module!(start::natives),
        exported_module!(threshold::natives),
        exported_module!(data::natives),
        exported_module!(set::natives),
    ] {
        engine.register_global_module(module.into());
    }
    engine.register_static_module("model", exported_module!(load::module).into());
    engine.register_static_module("sweep", exported_module!(sweep::module).into());
    engine.register_static_module("data", exported_module!(data::module).into());
}

/// What is wrong with a call, as a script sees it.
fn refuse(error: impl Into<anyhow::Error>) -> Box<EvalAltResult> {
    to_script(&error.into())
}
