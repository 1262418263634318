//! One voice for whatever goes wrong in a script: what was found, where, and what is possible.

mod excerpt;
mod known;
mod wording;

use std::fmt;

use rhai::{Engine, EvalAltResult, Position};

use super::modules::Sources;
use crate::error::Error;
use crate::session::{Limits, plain};

pub(super) use known::{Known, keys};

/// An error in a script, with the place and the way there.
#[derive(Debug)]
pub struct Report {
    error: Error,
    place: Option<Place>,
    /// The calls that led there, innermost first, each with what it was.
    calls: Vec<(String, Option<Place>)>,
    /// How to go on from what was done until then.
    kept: Option<String>,
}

/// A position in a script, with the line it is on.
#[derive(Debug)]
struct Place {
    source: String,
    line: usize,
    column: usize,
    text: String,
}

impl Place {
    fn new(source: &str, position: Position, sources: &Sources) -> Option<Self> {
        let (line, column) = (position.line()?, position.position().unwrap_or(1));
        let text = sources.named(source)?.text.lines().nth(line - 1).unwrap_or_default().to_owned();
        Some(Self { source: source.into(), line, column, text })
    }
}

impl Report {
    /// What `error` means to the person who wrote the script.
    pub(super) fn of(
        error: &EvalAltResult,
        sources: &Sources,
        known: &Known,
        limits: &Limits,
    ) -> Self {
        let mut source = sources.recipe().name.clone();
        let mut calls = vec![];
        let mut error = error;
        loop {
            match error {
                EvalAltResult::ErrorInFunctionCall(name, inside, inner, position) => {
                    calls.insert(
                        0,
                        (
                            format!("in this call of {}", wording::function(name)),
                            Place::new(&source, *position, sources),
                        ),
                    );
                    if let Some(written) = sources.with_closure(name) {
                        source = written;
                    } else if !inside.is_empty() {
                        source.clone_from(inside);
                    }
                    error = inner;
                }
                EvalAltResult::ErrorInModule(name, inner, position) => {
                    calls.insert(
                        0,
                        ("imported here".into(), Place::new(&source, *position, sources)),
                    );
                    source.clone_from(name);
                    error = inner;
                }
                _ => break,
            }
        }
        let place = Place::new(&source, error.position(), sources);
        let context = wording::Context {
            source: sources.named(&source).unwrap_or_default(),
            sources,
            known,
            limits,
        };
        let mut error = context.explain(error);
        if error.hint.is_none()
            && place.as_ref().is_some_and(|p| p.line > context.source.text.lines().count())
        {
            error = error.hint("the script ends here");
        }
        Self { error, place, calls, kept: None }
    }
}

impl Report {
    /// Says how to go on from what was done until then.
    pub(super) fn with_kept(self, kept: Option<String>) -> Self {
        Self { kept, ..self }
    }
}

/// Calls that are shown at each end of a long way.
const SHOWN: usize = 3;

/// A text for a message: a long one is cut, and says so.
fn shortened(text: &str) -> String {
    const LETTERS: usize = 800;
    const LINES: usize = 12;
    let short: String =
        text.lines().take(LINES).collect::<Vec<_>>().join("\n").chars().take(LETTERS).collect();
    if short.len() + 1 >= text.len() {
        text.to_owned()
    } else {
        format!("{short}… (cut; {} characters in all)", text.chars().count())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", plain(&shortened(&self.error.message)))?;
        let hint =
            self.error.hint.as_deref().map(|hint| plain(&shortened(hint))).unwrap_or_default();
        match &self.place {
            Some(place) => excerpt::write(f, place, &hint)?,
            None if !hint.is_empty() => writeln!(f, "  = {hint}")?,
            None => {}
        }
        for (number, (note, place)) in self.calls.iter().enumerate() {
            let last = self.calls.len().saturating_sub(SHOWN);
            if (SHOWN..last).contains(&number) {
                if number == SHOWN {
                    writeln!(f, "  = and {} calls more", last - SHOWN)?;
                }
                continue;
            }
            match place {
                Some(place) => excerpt::write(f, place, note)?,
                None => writeln!(f, "  = {note}")?,
            }
        }
        match &self.kept {
            Some(kept) => writeln!(f, "  = {kept}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Report {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Lets a script look at a native's error that it caught: `e.message`, `e.hint`.
pub(super) fn register(engine: &mut Engine) {
    engine.register_type_with_name::<Error>("error");
    engine.register_get("message", |e: &mut Error| e.message.clone());
    engine.register_get("hint", |e: &mut Error| e.hint.clone().unwrap_or_default());
    engine.register_fn("to_string", |e: &mut Error| e.message.clone());
    engine.register_fn("to_debug", |e: &mut Error| e.message.clone());
}
