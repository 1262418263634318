//! How a run looks: redrawn on a terminal, line by line elsewhere, or next to nothing.

use std::io::{IsTerminal, stderr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::live::Live;
use super::rounds::Rounds;
use super::terminal::{asks, eprint};
use crate::run::Merge;
use crate::session::{Console, Progress, TrainingStep};

/// The least time between a plain line and one of progress within a round.
const EVERY: Duration = Duration::from_secs(5);

/// The console that fits standard error; with `quiet` it shows what the recipe prints and no
/// progress.
pub fn console(quiet: bool) -> Arc<dyn Console> {
    detailed(quiet, false)
}

/// The same; with `verbose` it shows details too.
pub fn detailed(quiet: bool, verbose: bool) -> Arc<dyn Console> {
    if quiet {
        Arc::new(Quiet)
    } else if stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
    {
        Arc::new(Live::new(verbose))
    } else {
        Arc::new(Lines::new(verbose))
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

/// A line for each round, and from time to time within a long one.
struct Lines {
    started: Instant,
    verbose: bool,
    state: Mutex<LinesState>,
}

#[derive(Default)]
struct LinesState {
    rounds: Rounds,
    /// Losses of the round's steps.
    losses: Vec<f64>,
    /// When something was last said.
    said: Option<Duration>,
}

impl LinesState {
    /// Whether a line of progress is due; the first always is.
    fn due(&mut self, now: Duration) -> bool {
        let due = self.said.is_none_or(|said| now.saturating_sub(said) >= EVERY);
        if due {
            self.said = Some(now);
        }
        due
    }

    /// A line for a round that has just ended: `round 3 of 64: merged a booster on layers [1, 5],
    /// gain 0.1, loss 2.0, 4 min left`.
    fn round(&mut self, merge: &Merge, now: Duration) -> String {
        self.rounds.end(now.as_secs_f64());
        self.said = Some(now);
        let steps = self.losses.len() as f64;
        let figures = [
            merge.gain.map(|gain| format!(", gain {gain:.4}")),
            (steps > 0.0).then(|| format!(", loss {:.4}", self.losses.iter().sum::<f64>() / steps)),
            self.rounds.left(now.as_secs_f64()).map(|left| format!(", {left}")),
        ];
        self.losses.clear();
        format!(
            "{}: merged a booster on layers {:?}{}",
            self.rounds.shown(),
            merge.layers,
            figures.into_iter().flatten().collect::<String>()
        )
    }
}

impl Lines {
    fn new(verbose: bool) -> Self {
        Self { started: Instant::now(), verbose, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, LinesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn detail(&self, line: &str) {
        if self.verbose {
            self.print(line);
        }
    }

    fn progress(&self, p: &Progress) {
        if self.state().due(self.started.elapsed()) {
            let line = format!("{} {}/{} {}", p.what, p.done, p.total, p.detail);
            eprint(&format!("{}\n", line.trim_end()));
        }
    }

    fn step(&self, step: &TrainingStep) {
        let now = self.started.elapsed().as_secs_f64();
        let mut state = self.state();
        state.rounds.begin(now);
        state.losses.push(step.loss);
        let left = state.rounds.left(now);
        drop(state);
        let mut progress = step.progress();
        progress.detail += &left.map_or(String::new(), |left| format!(", {left}"));
        self.progress(&progress);
    }

    fn rounds(&self, total: usize) {
        self.state().rounds.of(total);
    }

    fn merged(&self, merge: &Merge, _: usize) {
        let line = self.state().round(merge, self.started.elapsed());
        eprint(&format!("{line}\n"));
    }

    fn recalled(&self, _: &Merge, _: usize) {
        self.state().rounds.recall();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_now_and_then_and_with_each_round() {
        let mut state = LinesState::default();
        let due: Vec<bool> = [0, 1, 4, 5, 6, 11].map(|s| state.due(Duration::from_secs(s))).into();
        assert_eq!(due, [true, false, false, true, false, true]);
        state.rounds.of(4);
        state.rounds.begin(10.0);
        state.losses.extend([1.0, 2.0]);
        let merge = Merge { layers: vec![1, 5], gain: Some(0.25), ..Merge::default() };
        let line = state.round(&merge, Duration::from_secs(12));
        assert_eq!(
            line,
            "round 1 of 4: merged a booster on layers [1, 5], gain 0.2500, loss 1.5000, 6 s left"
        );
        // A round is a line, which progress waits for.
        assert!(!state.due(Duration::from_secs(16)) && state.due(Duration::from_secs(17)));
        let line = state.round(&Merge::default(), Duration::from_secs(18));
        assert_eq!(line, "round 2 of 4: merged a booster on layers [], 8 s left");
    }
}
