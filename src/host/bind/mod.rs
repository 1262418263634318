//! What a recipe can call: one file per noun. Bindings convert and delegate; they compute nothing.

mod optimizer;
mod params;
mod sampler;

use rhai::plugin::*;
use rhai::{Engine, EvalAltResult};

use super::door::to_script;
use crate::error::Error;

/// Types of values that only natives make, as messages name them.
pub(super) const TYPES: [&str; 2] = ["sampler", "optimizer"];

/// What a native answers with.
type Answer<T> = Result<T, Box<EvalAltResult>>;

/// Gives the engine all natives.
pub(super) fn register(engine: &mut Engine) {
    engine.register_type_with_name::<sampler::Sampler>(TYPES[0]);
    engine.register_type_with_name::<optimizer::Optimizer>(TYPES[1]);
    for module in [exported_module!(sampler::natives), exported_module!(optimizer::natives), exported_module!(params::natives)] {
        engine.register_global_module(module.into());
    }
}

/// A usage error as a script sees it.
fn refuse(error: Error) -> Box<EvalAltResult> {
    to_script(&error.into())
}
