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
pub fn call<T>(host: &Host, name: &str, arguments: &Value, compute: impl FnOnce() -> anyhow::Result<T>) -> Result<T, Box<EvalAltResult>> {
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
pub fn to_script(error: &anyhow::Error) -> Box<EvalAltResult> {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use anyhow::Context;
    use rhai::{FnNamespace, FuncRegistration, NativeCallContext};
    use serde_json::json;

    use super::*;
    use crate::host::{Limits, context, engine, testing};

    static NEVER: AtomicBool = AtomicBool::new(false);

    /// A native that fails as its argument says.
    fn fail(context: NativeCallContext, how: &str) -> Result<i64, Box<EvalAltResult>> {
        let host = context::host(&context)?;
        call(&host, "fail", &json!({ "how": how }), || match how {
            "data" => Err(Error::data("cut short").hint("download it again")).context("model.gguf"),
            "panic" => panic!("out of step"),
            "disk" => Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into()),
            _ => Ok(7),
        })
    }

    /// What a script that calls `fail` prints, and the error that ends it.
    fn run(text: &str) -> (Vec<String>, Option<Error>) {
        let (host, console) = testing::host(text, Limits::default(), &NEVER);
        let mut engine = engine::build(&host);
        FuncRegistration::new("fail").with_namespace(FnNamespace::Global).register_into_engine(&mut engine, fail);
        let error = engine.run(text).err().map(|e| match *e {
            EvalAltResult::ErrorRuntime(value, _) | EvalAltResult::ErrorTerminated(value, _) => value.cast::<Error>(),
            other => panic!("{other}"),
        });
        (console.lines(), error)
    }

    #[test]
    fn an_answer_passes_and_an_error_keeps_class_and_hint() {
        assert_eq!(run("print(fail(`no`));").0, ["7"]);
        let error = run("fail(`data`);").1.unwrap();
        assert_eq!(error.class, Class::Data);
        assert_eq!(error.message, "model.gguf: cut short");
        assert_eq!(error.hint.as_deref(), Some("download it again"));
        let (lines, error) = run("try { fail(`data`); } catch (e) { print(`${e.message}; ${e.hint}`); }");
        assert_eq!(lines, ["model.gguf: cut short; download it again"]);
        assert!(error.is_none());
    }

    #[test]
    fn a_panic_is_an_error_and_names_the_call() {
        let error = run("fail(`panic`);").1.unwrap();
        assert_eq!(error.class, Class::Run);
        assert_eq!(error.message, r#"`fail` {"how":"panic"} failed inside: out of step"#);
    }

    #[test]
    fn a_full_disk_cannot_be_caught() {
        let (lines, error) = run("try { fail(`disk`); } catch { print(`went on`); }");
        assert!(lines.is_empty() && error.is_some());
    }

    #[test]
    fn an_interrupt_stops_before_and_after_and_cannot_be_caught() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let (host, _) = testing::host("", Limits::default(), &STOP);
        let stopped = |answer: Result<(), Box<EvalAltResult>>| {
            let EvalAltResult::ErrorTerminated(value, _) = *answer.unwrap_err() else { panic!("can be caught") };
            assert_eq!(value.cast::<Error>().class, Class::Interrupted);
        };
        let during = || {
            STOP.store(true, Ordering::Relaxed);
            Ok(())
        };
        stopped(call(&host, "fit", &Value::Null, during));
        stopped(call(&host, "fit", &Value::Null, || unreachable!("stopped before")));
    }
}
