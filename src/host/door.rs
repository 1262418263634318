//! The one door: every native whose answer depends on weights, data, device or earlier effects.
//!
//! What holds for all such calls is here and nowhere else: the look at clock and interrupt, panics
//! caught, errors turned into values that a script can catch, and the journal. A run that was taken
//! up goes through its script from the first line; calls that its journal tells of are answered
//! from there, until its end.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rhai::{Dynamic, EvalAltResult, NativeCallContext, Position};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::context::Host;
use super::tape::{Next, differs};
use crate::error::{Class, Error, class_of};
use crate::memory::apart;
use crate::run::journal::{self, Asked, Checkpoint, Outcome, Record};

/// What a call changed, as the journal keeps it.
pub type Effects = Map<String, Value>;
type Answer<T> = Result<T, Box<EvalAltResult>>;

/// A native that was called.
pub struct Call<'a> {
    context: &'a NativeCallContext<'a>,
    host: &'a Host,
    asked: Asked,
}

/// A call that is being done.
pub struct Doing<'a> {
    host: &'a Host,
    asked: &'a Asked,
    /// What it changes, as far as that is not in files.
    pub effects: Effects,
    /// How far it was, where an earlier process began it.
    pub begun: Option<Effects>,
}

/// Something that is being made, or made again.
#[derive(Default)]
pub struct Making {
    /// What must be the same each time.
    pub effects: Effects,
    /// An earlier process made it; what that wrote is there.
    pub again: bool,
}

impl Doing<'_> {
    /// Keeps how far the call is.
    pub fn checkpoint(&self, state: Effects) -> anyhow::Result<()> {
        let asked = self.asked.clone();
        self.host.record(|timing| Record::Checkpoint(Checkpoint { asked, state, timing }))
    }
}

/// The call of the native `name`, told from others of that name by `arguments`.
pub fn call<'a>(
    context: &'a NativeCallContext,
    host: &'a Host,
    name: &str,
    arguments: Value,
) -> Call<'a> {
    Call { context, host, asked: Asked { name: name.to_owned(), arguments } }
}

impl Call<'_> {
    /// Answers with what `compute` says, which changes nothing that a later call depends on but
    /// files of its own.
    pub fn answer<T: Serialize + DeserializeOwned>(
        self,
        compute: impl FnOnce() -> anyhow::Result<T>,
    ) -> Answer<T> {
        self.change(|_| Ok(()), |_| compute())
    }

    /// Answers with what `compute` says; what it changed, `recall` makes of the effects that it
    /// noted. It may begin where an earlier process kept how far it was.
    pub fn change<T: Serialize + DeserializeOwned>(
        self,
        recall: impl FnOnce(&Effects) -> anyhow::Result<()>,
        compute: impl FnOnce(&mut Doing) -> anyhow::Result<T>,
    ) -> Answer<T> {
        let begun = match self.next()? {
            Next::Live(begun) => begun,
            Next::Done(done) => {
                recall(&done.effects).map_err(|e| self.stop(&e))?;
                let read = |value| {
                    serde_json::from_value(value).map_err(|e| {
                        self.stop(&Error::data(format!("an answer in the journal: {e}")).into())
                    })
                };
                return outcome(done.outcome).and_then(read);
            }
        };
        let mut doing =
            Doing { host: self.host, asked: &self.asked, effects: Effects::new(), begun };
        let answer = self.guarded(|| compute(&mut doing));
        let effects = doing.effects;
        let kept = answer
            .as_ref()
            .map(|answer| serde_json::to_value(answer).unwrap_or_default())
            .map_err(|e| &**e);
        self.keep(kept, effects)?;
        self.over(answer)
    }

    /// Makes something that exists in this process only, and is made again in the next: what `make`
    /// notes must then be the same.
    pub fn make<T>(self, make: impl FnOnce(&mut Making) -> anyhow::Result<T>) -> Answer<T> {
        let mut making = Making::default();
        match self.next()? {
            Next::Live(_) => {
                let answer = self.guarded(|| make(&mut making));
                self.keep(answer.as_ref().map(|_| Value::Null).map_err(|e| &**e), making.effects)?;
                self.over(answer)
            }
            Next::Done(done) => {
                outcome(done.outcome)?;
                making.again = true;
                let made = self.guarded(|| make(&mut making))?;
                let (then, now) = (Value::Object(done.effects), Value::Object(making.effects));
                match differs(&then, &now) {
                    None => Ok(made),
                    Some(key) => {
                        let shown = |value: &Value| {
                            value.pointer(&key).map_or("not there".to_owned(), ToString::to_string)
                        };
                        let name =
                            key.trim_start_matches('/').replace("~1", "/").replace("~0", "~");
                        let said = format!(
                            "{} is not what it was: {name} was {} and is {}",
                            self.asked.name,
                            shown(&then),
                            shown(&now)
                        );
                        let error = Error::data(said)
                            .hint("a run goes on with the model and the data that it began with");
                        Err(self.stop(&error.into()))
                    }
                }
            }
        }
    }

    /// What the journal says of it; nothing on shapes.
    fn next(&self) -> Answer<Next> {
        self.host.guard.check().map_err(|e| self.stop(&e.into()))?;
        self.host.next(&self.asked).map_err(|e| self.stop(&e.into()))
    }

    /// Runs `body`; its errors are those that a script sees, and so are its panics.
    fn guarded<T>(&self, body: impl FnOnce() -> anyhow::Result<T>) -> Answer<T> {
        let Asked { name, arguments } = &self.asked;
        // What a panic leaves half done is dropped with the run, or guarded by `lock`.
        apart(|| catch_unwind(AssertUnwindSafe(body)))
            .unwrap_or_else(|payload| {
                Err(Error::run(format!(
                    "`{name}` {arguments} failed inside: {}",
                    panic_text(&*payload)
                ))
                .into())
            })
            .map_err(|e| to_script(&e))
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
        self.host.record(call).map_err(|e| self.stop(&e))
    }

    /// Ends the call, unless the run is to stop.
    fn over<T>(&self, answer: Answer<T>) -> Answer<T> {
        let answer = answer?;
        self.host.guard.check().map_err(|e| self.stop(&e.into()))?;
        Ok(answer)
    }

    /// An error that a script cannot catch.
    fn stop(&self, error: &anyhow::Error) -> Box<EvalAltResult> {
        Box::new(EvalAltResult::ErrorTerminated(value_of(error), self.context.call_position()))
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

fn value_of(error: &anyhow::Error) -> Dynamic {
    Dynamic::from(Error::from(error))
}

/// An error as a script sees it, with class and hint; it can be caught unless going on makes no
/// sense (interrupt, a disk that takes no more, a file that the run had kept and lost).
pub fn to_script(error: &anyhow::Error) -> Box<EvalAltResult> {
    let class = class_of(error);
    let value = value_of(error);
    let last =
        |e: &(dyn std::error::Error + 'static)| e.downcast_ref::<Error>().is_some_and(|e| e.last);
    Box::new(if class == Class::Interrupted || error.chain().any(|e| no_room(e) || last(e)) {
        EvalAltResult::ErrorTerminated(value, Position::NONE)
    } else {
        EvalAltResult::ErrorRuntime(value, Position::NONE)
    })
}

/// Whether a disk does not take what is to be kept: full, over a quota or a limit of file sizes,
/// read-only, broken.
fn no_room(e: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    const BROKEN: i32 = 5; // EIO
    e.downcast_ref::<std::io::Error>().is_some_and(|e| {
        matches!(e.kind(), StorageFull | QuotaExceeded | FileTooLarge | ReadOnlyFilesystem)
            || cfg!(unix) && e.raw_os_error() == Some(BROKEN)
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
        call(&context, &host, "fail", json!({ "how": how })).make(|_| match how {
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
            let host = context::host(&context)?;
            call(&context, &host, "stop", Value::Null).make(|_| {
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
