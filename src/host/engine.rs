//! The script engine: a language without file system, clock, process or network.

use std::sync::Arc;

use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicFnPackage, BasicIteratorPackage, BasicMapPackage,
    BasicMathPackage, BasicStringPackage, LogicPackage, MoreStringPackage, Package,
};
use rhai::{Dynamic, Engine, OptimizationLevel};

use super::context::{Host, tag};
use super::modules::Resolver;
use super::{bind, bounded, diagnostics};
use crate::session::{Limits, plain};

/// How many script operations pass between two looks at the clock.
const CLOCK_EVERY: u64 = 1024;

/// An engine whose natives act on `host`.
///
/// The language core package stays out: it holds `sleep`, which blocks unseen by the guard. The
/// time package stays out: no value that a script can read contains a time.
pub(super) fn build(host: &Arc<Host>) -> Engine {
    let mut engine = Engine::new_raw();
    ArithmeticPackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);
    BasicStringPackage::new().register_into_engine(&mut engine);
    MoreStringPackage::new().register_into_engine(&mut engine);
    BasicIteratorPackage::new().register_into_engine(&mut engine);
    BasicFnPackage::new().register_into_engine(&mut engine);
    BasicArrayPackage::new().register_into_engine(&mut engine);
    BasicMapPackage::new().register_into_engine(&mut engine);
    BasicMathPackage::new().register_into_engine(&mut engine);
    bind::register(&mut engine);
    diagnostics::register(&mut engine);

    bounded::register(&mut engine, &host.session.settings.limits);
    engine.disable_symbol("eval");
    // Errors point at the text as written, and a misspelt name fails before hours of training.
    engine.set_optimization_level(OptimizationLevel::None);
    engine.set_strict_variables(true);
    engine.set_fail_on_invalid_map_property(true);
    apply(&host.session.settings.limits, &mut engine);

    // What was printed before a run was taken up is not printed again.
    let print = |host: &Host, text: &str| {
        if !host.is_replaying() {
            host.session.console.print(&plain(text));
        }
    };
    let printing = host.clone();
    engine.on_print(move |text| print(&printing, text));
    let printing = host.clone();
    engine.on_debug(move |text, source, position| {
        print(&printing, &format!("{}:{position:?}: {text}", source.unwrap_or_default()))
    });
    let guarded = host.clone();
    engine.on_progress(move |operations| {
        if let Err(full) = guarded.session.guard.check_memory() {
            return Some(Dynamic::from(full));
        }
        if let Err(much) = guarded.work.count(&guarded.session.settings.limits) {
            return Some(Dynamic::from(much));
        }
        let look = guarded.session.guard.interrupted() || operations % CLOCK_EVERY == 0;
        if look { guarded.session.guard.check().err().map(Dynamic::from) } else { None }
    });
    engine.set_module_resolver(Resolver::new(host.sources.clone()));
    engine.set_default_tag(tag(host.clone()));
    engine
}

/// Every limit of the engine is stated here; none is left to its defaults.
fn apply(limits: &Limits, engine: &mut Engine) {
    // Counted from one piece of work to the next, by `ScriptWork`.
    engine.set_max_operations(0);
    engine.set_max_call_levels(limits.calls);
    engine.set_max_expr_depths(limits.nesting, limits.nesting);
    engine.set_max_string_size(limits.string);
    engine.set_max_array_size(limits.array);
    engine.set_max_map_size(limits.map);
    engine.set_max_variables(limits.variables);
    engine.set_max_functions(limits.functions);
    engine.set_max_modules(limits.modules);
    engine.set_max_strings_interned(1_000);
}
