//! The one door: every native whose answer depends on weights, data, device or earlier effects.
//!
//! What holds for all such calls is here and nowhere else: the look at clock and interrupt, panics
//! caught, errors turned into values that a script can catch.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rhai::{Dynamic, EvalAltResult, Position};
use serde_json::Value;

use super::context::Host;
use crate::error::{Class, Error, class_of, hint_of};

/// Answers the native `name`, called with what `arguments` sums up, by running `compute`.
pub(super) fn call<T>(
    host: &Host,
    name: &str,
    arguments: &Value,
    compute: impl FnOnce() -> anyhow::Result<T>,
) -> Result<T, Box<EvalAltResult>> {
    let stop = |e: Error| Box::new(EvalAltResult::ErrorTerminated(Dynamic::from(e), Position::NONE));
    host.guard.check().map_err(stop)?;
    // What a panic leaves half done is dropped with the run, or guarded by `lock`.
    let answer = catch_unwind(AssertUnwindSafe(compute))
        .unwrap_or_else(|payload| Err(Error::run(format!("`{name}` {arguments} failed inside: {}", panic_text(&*payload))).into()))
        .map_err(|e| to_script(&e))?;
    host.guard.check().map_err(stop)?;
    Ok(answer)
}

/// An error as a script sees it, with class and hint; it can be caught unless going on makes no sense
/// (interrupt, full disk).
pub(super) fn to_script(error: &anyhow::Error) -> Box<EvalAltResult> {
    let class = class_of(error);
    let value = Dynamic::from(Error { class, message: format!("{error:#}"), hint: hint_of(error).map(str::to_owned) });
    let full = |e: &(dyn std::error::Error + 'static)| {
        e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::StorageFull)
    };
    Box::new(if class == Class::Interrupted || error.chain().any(full) {
        EvalAltResult::ErrorTerminated(value, Position::NONE)
    } else {
        EvalAltResult::ErrorRuntime(value, Position::NONE)
    })
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}
