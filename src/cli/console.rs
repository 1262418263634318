//! How a run looks: redrawn on a terminal, line by line elsewhere, or next to nothing.

use std::io::{IsTerminal, stderr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::live::Live;
use super::terminal::{asks, eprint};
use crate::run::Merge;
use crate::session::{Console, Progress};

/// The least time between two plain lines of progress, and between two of merges.
const EVERY: Duration = Duration::from_secs(5);

/// The console that fits standard error; with `quiet` it shows what the recipe prints and no
/// progress.
pub fn console(quiet: bool) -> Arc<dyn Console> {
    if quiet {
        Arc::new(Quiet)
    } else if stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
    {
        Arc::new(Live::new())
    } else {
        Arc::new(Lines::default())
    }
}

/// Says what a person should know of the files of `name`.
pub fn notes(console: &Arc<dyn Console>, name: &str, notes: &[String]) {
    notes.iter().for_each(|note| console.note(&format!("`{name}`: {note}")));
}

struct Quiet;

impl Console for Quiet {
    fn print(&self, line: &str) {
        eprint(&format!("{line}\n"));
    }

    fn allows(&self, question: &str) -> bool {
        asks(question)
    }

    fn note(&self, _: &str) {}

    fn progress(&self, _: &Progress) {}

    fn merged(&self, _: &Merge, _: usize) {}
}

#[derive(Default)]
struct Lines {
    progress: Pace,
    merges: Pace,
}

/// When something was last said.
#[derive(Default)]
struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// Whether a line is due; the first always is.
    fn due(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|l| now.duration_since(l) >= EVERY);
        if due {
            *last = Some(now);
        }
        due
    }
}

impl Console for Lines {
    fn print(&self, line: &str) {
        eprint(&format!("{line}\n"));
    }

    fn allows(&self, question: &str) -> bool {
        asks(question)
    }

    fn note(&self, line: &str) {
        self.print(line);
    }

    fn progress(&self, p: &Progress) {
        if self.progress.due(Instant::now()) {
            eprint(&format!(
                "{}\n",
                format!("{} {}/{} {}", p.what, p.done, p.total, p.detail).trim_end()
            ));
        }
    }

    fn merged(&self, merge: &Merge, _: usize) {
        if self.merges.due(Instant::now()) {
            let gain = merge.gain.map_or(String::new(), |gain| format!(", gain {gain:.4}"));
            eprint(&format!(
                "round {}: merged a booster on layers {:?}{gain}\n",
                merge.round, merge.layers
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_now_and_then() {
        let (lines, start) = (Pace::default(), Instant::now());
        let due: Vec<bool> =
            [0, 1, 4, 5, 6, 11].map(|s| lines.due(start + Duration::from_secs(s))).into();
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
