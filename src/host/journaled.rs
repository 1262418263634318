//! Natives whose answer depends on weights, data, device or earlier effects.
//!
//! What holds for all such calls is here and nowhere else: the look at clock and interrupt, panics
//! caught, errors turned into values that a script can catch, and the journal. A run that was taken
//! up goes through its script from the first line; calls that its journal tells of are answered
//! from there, until its end.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anyhow::Result;
use rhai::{Dynamic, EvalAltResult, NativeCallContext, Position};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::context::{Host, host};
use super::replay::{Next, differs};
use super::script_error::{Answer, to_script, value_of};
use crate::error::{Class, Error, error};
use crate::memory::uncounted;
use crate::run::journal::{self, NativeCall, Outcome, Record};
use crate::session::{CallContext, Effects};

/// A native that was called.
pub struct Journaled {
    host: Arc<Host>,
    asked: NativeCall,
    /// Where.
    position: Position,
    /// Its line, if that is one of the recipe.
    line: Option<usize>,
}

/// The call of the native `name`, told from others of that name by `arguments`.
pub fn journaled(context: &NativeCallContext, name: &str, arguments: Value) -> Answer<Journaled> {
    let (host, position) = (host(context)?, context.call_position());
    let recipe = &host.sources.recipe().name;
    let in_recipe = context.call_source().is_none_or(|source| source == recipe);
    let line = if in_recipe { position.line() } else { None };
    Ok(Journaled { asked: NativeCall { name: name.to_owned(), arguments }, host, position, line })
}

impl Journaled {
    /// Answers with what `compute` says, which changes nothing that a later call depends on but
    /// files of its own.
    pub fn answer<T: Serialize + DeserializeOwned>(
        self,
        compute: impl FnOnce() -> Result<T>,
    ) -> Answer<T> {
        self.change(|_| Ok(()), compute)
    }

    /// Answers with what `compute` says; what it changed, `recall` makes of the effects that the
    /// session told. It may begin where an earlier process kept how far it was.
    pub fn change<T: Serialize + DeserializeOwned>(
        self,
        recall: impl FnOnce(&Effects) -> Result<()>,
        compute: impl FnOnce() -> Result<T>,
    ) -> Answer<T> {
        let begun = match self.next()? {
            Next::Live(begun) => begun,
            Next::Done(done) => {
                recall(&done.effects).map_err(|e| self.stop(&e))?;
                let read = |value| {
                    serde_json::from_value(value).map_err(|e| {
                        self.stop(&error!(Data, "an answer in the journal: {e}").into())
                    })
                };
                let answer = outcome(done.outcome).and_then(read)?;
                self.host.work.did(&self.asked.name);
                return Ok(answer);
            }
        };
        // What takes its time is done once it has a place to be kept.
        self.host.session.run.with(|_| Ok(())).map_err(|e| self.stop(&e))?;
        let (answer, effects) =
            self.run(CallContext { begun, ..CallContext::default() }, compute)?;
        let kept = answer
            .as_ref()
            .map(|answer| serde_json::to_value(answer).unwrap_or_default())
            .map_err(|e| &**e);
        self.keep(kept, effects)?;
        self.over(answer)
    }

    /// Makes something that exists in this process only, and is made again in the next: what the
    /// session tells of it must then be the same.
    pub fn make<T>(self, make: impl FnOnce() -> Result<T>) -> Answer<T> {
        match self.next()? {
            Next::Live(_) => {
                let (answer, effects) = self.run(CallContext::default(), make)?;
                self.keep(answer.as_ref().map(|_| Value::Null).map_err(|e| &**e), effects)?;
                self.over(answer)
            }
            Next::Done(done) => {
                outcome(done.outcome)?;
                let (made, effects) =
                    self.run(CallContext { again: true, ..CallContext::default() }, make)?;
                let (then, now) = (Value::Object(done.effects), Value::Object(effects));
                match differs(&then, &now) {
                    Some(key) if made.is_ok() => Err(self.stop(&self.changed(&key, &then, &now))),
                    _ => made.inspect(|_| self.host.work.did(&self.asked.name)),
                }
            }
        }
    }

    /// What is said where something is made again and is another.
    fn changed(&self, key: &str, then: &Value, now: &Value) -> anyhow::Error {
        let shown =
            |value: &Value| value.pointer(key).map_or("not there".to_owned(), ToString::to_string);
        let name = key.trim_start_matches('/').replace("~1", "/").replace("~0", "~");
        error!(
            Data,
            "{} is not what it was: {name} was {} and is {}",
            self.asked.name,
            shown(then),
            shown(now);
            hint: "a run goes on with the model and the data that it began with"
        )
        .into()
    }

    /// What the journal says of it; nothing on shapes.
    fn next(&self) -> Answer<Next> {
        self.host.session.guard.check().map_err(|e| self.stop(&e.into()))?;
        self.host.next(&self.asked).map_err(|e| self.stop(&e.into()))
    }

    /// Does the call; its answer, and what it changed. Errors of `body` are those that a script
    /// sees, and so are its panics.
    fn run<T>(
        &self,
        call: CallContext,
        body: impl FnOnce() -> Result<T>,
    ) -> Answer<(Answer<T>, Effects)> {
        let NativeCall { name, arguments } = &self.asked;
        let current = &self.host.session.call;
        self.host.keep_modules().map_err(|e| self.stop(&e))?;
        current.begin(CallContext { asked: Some(self.asked.clone()), line: self.line, ..call });
        // What a panic leaves half done is dropped with the run, or guarded by `lock`.
        let native = || uncounted(|| catch_unwind(AssertUnwindSafe(body)));
        let answer = self.host.work.without(native).unwrap_or_else(|payload| {
            let text = panic_text(&*payload);
            Err(error!(Run, "`{name}` {arguments} failed inside: {text}").into())
        });
        Ok((answer.map_err(|e| to_script(&e)), current.end()))
    }

    /// Writes the call into the journal, unless it ends the script: then it is done again.
    fn keep(&self, answer: Result<Value, &EvalAltResult>, effects: Effects) -> Answer<()> {
        let outcome = match answer {
            Ok(value) => Outcome::Answer(value),
            Err(error) => match error {
                EvalAltResult::ErrorRuntime(value, _) => {
                    let Some(error) = value.clone().try_cast::<Error>() else { return Ok(()) };
                    Outcome::Error {
                        class: error.class.code(),
                        message: error.message,
                        hint: error.hint,
                    }
                }
                _ => return Ok(()),
            },
        };
        let asked = self.asked.clone();
        let call = |timing| Record::Call(journal::Call { asked, outcome, effects, timing });
        let kept = self.host.keep_modules().and_then(|()| self.host.session.record(call));
        kept.map_err(|e| self.stop(&e))
    }

    /// Ends the call, unless the run is to stop.
    fn over<T>(&self, answer: Answer<T>) -> Answer<T> {
        let answer = answer?;
        self.host.work.did(&self.asked.name);
        self.host.session.guard.check().map_err(|e| self.stop(&e.into()))?;
        Ok(answer)
    }

    /// An error that a script cannot catch.
    fn stop(&self, error: &anyhow::Error) -> Box<EvalAltResult> {
        Box::new(EvalAltResult::ErrorTerminated(value_of(error), self.position))
    }
}

/// An outcome of the journal as a script sees it.
fn outcome(outcome: Outcome) -> Answer<Value> {
    match outcome {
        Outcome::Answer(value) => Ok(value),
        Outcome::Error { class, message, hint } => {
            let error =
                Error { hint, ..Error::new(Class::of_code(class).unwrap_or(Class::Run), message) };
            Err(Box::new(EvalAltResult::ErrorRuntime(Dynamic::from(error), Position::NONE)))
        }
    }
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
    use crate::host::{engine, testing};
    use crate::session::Limits;

    static NEVER: AtomicBool = AtomicBool::new(false);

    /// A native that fails as its argument says.
    fn fail(context: NativeCallContext, how: &str) -> Result<i64, Box<EvalAltResult>> {
        journaled(&context, "fail", json!({ "how": how }))?.make(|| match how {
            "data" => {
                Err(error!(Data, "cut short"; hint: "download it again")).context("model.gguf")
            }
            "panic" => panic!("out of step"),
            "disk" => Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into()),
            _ => Ok(7),
        })
    }

    /// What a script that calls `fail` prints, and the error that ends it.
    fn run(text: &str) -> (Vec<String>, Option<Error>) {
        let (host, console) = testing::host(text, Limits::default(), &NEVER);
        let mut engine = engine::build(&host);
        FuncRegistration::new("fail")
            .with_namespace(FnNamespace::Global)
            .register_into_engine(&mut engine, fail);
        let error = engine.run(text).err().map(|e| match *e {
            EvalAltResult::ErrorRuntime(value, _) | EvalAltResult::ErrorTerminated(value, _) => {
                value.cast::<Error>()
            }
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
        let (lines, error) =
            run("try { fail(`data`); } catch (e) { print(`${e.message}; ${e.hint}`); }");
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
        fn stop(context: NativeCallContext) -> Result<(), Box<EvalAltResult>> {
            journaled(&context, "stop", Value::Null)?.make(|| {
                STOP.store(true, Ordering::Relaxed);
                Ok(())
            })
        }
        let text = "try { stop(); } catch { print(`went on`); }";
        for _ in 0..2 {
            let (host, console) = testing::host(text, Limits::default(), &STOP);
            let mut engine = engine::build(&host);
            FuncRegistration::new("stop")
                .with_namespace(FnNamespace::Global)
                .register_into_engine(&mut engine, stop);
            let EvalAltResult::ErrorTerminated(value, _) = *engine.run(text).unwrap_err() else {
                panic!("can be caught")
            };
            assert_eq!(
                (value.cast::<Error>().class, console.lines().len()),
                (Class::Interrupted, 0)
            );
        }
    }
}
