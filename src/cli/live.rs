//! A run on a terminal: what is said scrolls by, and below it stands a block of lines that is drawn
//! over in place.

use std::env::var;
use std::io::stderr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use terminal_size::{Height, Width, terminal_size_of};

use super::color;
use super::heatmap::{HeatMap, Paint};
use super::terminal::{answers, asks, eprint};
use crate::run::{Evaluation, Merge};
use crate::session::{Console, Progress, TrainingStep};

/// The least time between two drawings.
const EVERY: Duration = Duration::from_millis(100);

/// The lines that stand at the bottom.
#[derive(Debug, Default)]
struct Block {
    /// Columns of each line that was drawn.
    drawn: Vec<usize>,
}

impl Block {
    /// What draws `lines` over those that were drawn before, in one piece so that nothing flickers,
    /// with `above` (whole lines, or nothing) said over them.
    fn draw(&mut self, above: &str, lines: &[String], columns: usize) -> String {
        // A terminal that became narrower has broken long lines into several.
        let up: usize = self.drawn.iter().map(|n| n.div_ceil(columns.max(1)).max(1)).sum();
        // Synchronized output, which terminals that do not know it pass over.
        let mut out = "\x1b[?2026h\r".to_owned();
        if up > 0 {
            out += &format!("\x1b[{up}A");
        }
        if !above.is_empty() {
            out += "\x1b[J";
            out += above;
        }
        for line in lines {
            out += line;
            out += "\x1b[K\n";
        }
        self.drawn = lines.iter().map(|line| width(line)).collect();
        out + "\x1b[J\x1b[?2026l"
    }
}

/// Columns of a line, escape sequences aside.
fn width(line: &str) -> usize {
    let mut inside = false;
    let visible = |c: &char| {
        let escape = *c == '\x1b' || inside;
        inside = escape && (!c.is_ascii_alphabetic());
        !escape
    };
    line.chars().filter(visible).count()
}

/// The bar of a long native: `round 3: fit ━━━━╌╌╌╌ 4/8 loss 1.2`, in less than `columns`.
fn bar(p: &Progress, columns: usize) -> String {
    let counted = format!(" {}/{} {}", p.done, p.total, p.detail);
    let room = columns
        .saturating_sub(1 + p.what.chars().count() + 1 + counted.trim_end().chars().count())
        .min(40);
    let full = (p.done.min(p.total) as f64 / p.total.max(1) as f64 * room as f64) as usize;
    let line =
        format!("{} {}{}{}", p.what, "━".repeat(full), "╌".repeat(room - full), counted.trim_end());
    line.chars().take(columns.saturating_sub(1)).collect()
}

struct State {
    map: HeatMap,
    progress: Option<Progress>,
    block: Block,
    drawn: Option<Instant>,
    /// The block stays as it is, and lines come below.
    finished: bool,
}

/// The console of a terminal.
pub struct Live {
    state: Mutex<State>,
    started: Instant,
    paint: Paint,
    verbose: bool,
}

impl Live {
    /// With `verbose` it shows details too.
    pub fn new(verbose: bool) -> Self {
        let [colorterm, term] = ["COLORTERM", "TERM"].map(|name| var(name).unwrap_or_default());
        let state = State {
            map: HeatMap::default(),
            progress: None,
            block: Block::default(),
            drawn: None,
            finished: false,
        };
        Self {
            state: Mutex::new(state),
            started: Instant::now(),
            paint: Paint::of(color::of_stderr(), &colorterm, &term),
            verbose,
        }
    }

    fn now(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws the block, if it is due or something is said above it.
    fn draw(&self, state: &mut State, above: &str) {
        if state.finished {
            return eprint(above);
        }
        let now = Instant::now();
        if above.is_empty() && state.drawn.is_some_and(|last| now.duration_since(last) < EVERY) {
            return;
        }
        state.drawn = Some(now);
        let (columns, rows) = terminal_size_of(stderr())
            .map_or((80, 24), |(Width(columns), Height(rows))| (columns.into(), rows.into()));
        let mut lines = state.map.lines(columns, rows, self.paint, self.now());
        lines.extend(state.progress.as_ref().map(|p| bar(p, columns)));
        eprint(&state.block.draw(above, &lines, columns));
    }
}

impl Console for Live {
    fn print(&self, line: &str) {
        self.draw(&mut self.state(), &format!("{line}\n"));
    }

    fn allows(&self, question: &str) -> bool {
        if !answers() {
            return false;
        }
        // What is drawn below starts anew under the answer.
        let mut state = self.state();
        self.draw(&mut state, "\n");
        state.block = Block::default();
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
        let mut state = self.state();
        state.progress = Some(p.clone());
        self.draw(&mut state, "");
    }

    fn step(&self, step: &TrainingStep) {
        let mut state = self.state();
        state.map.step(step, self.now());
        // The loss and the speed stand above already, smoothed.
        state.progress = Some(Progress { detail: String::new(), ..step.progress() });
        self.draw(&mut state, "");
    }

    fn rounds(&self, total: usize) {
        self.state().map.rounds(total);
    }

    fn merged(&self, merge: &Merge, layers: usize) {
        let mut state = self.state();
        state.map.merge(merge, layers, self.now());
        self.draw(&mut state, "");
    }

    fn recalled(&self, merge: &Merge, layers: usize) {
        let mut state = self.state();
        state.map.recall(merge, layers);
        self.draw(&mut state, "");
    }

    fn evaluated(&self, evaluation: &Evaluation) {
        self.state().map.evaluated(evaluation);
    }

    fn finish(&self) {
        let mut state = self.state();
        state.progress = None;
        state.map.end();
        state.drawn = None;
        if !state.block.drawn.is_empty() {
            self.draw(&mut state, "");
        }
        state.finished = true;
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: &str = "\x1b[?2026h\r";
    const OFF: &str = "\x1b[J\x1b[?2026l";

    #[test]
    fn a_block_is_drawn_over_in_place_and_what_is_said_goes_above() {
        let mut block = Block::default();
        let lines = ["one".to_owned(), "\x1b[48;5;53m  \x1b[0mtwo".to_owned()];
        let drawn = format!("one\x1b[K\n{}\x1b[K\n", lines[1]);
        assert_eq!(block.draw("", &lines, 80), format!("{ON}{drawn}{OFF}"));
        assert_eq!(block.drawn, [3, 5]);
        assert_eq!(block.draw("", &lines, 80), format!("{ON}\x1b[2A{drawn}{OFF}"));
        assert_eq!(
            block.draw("said\n", &lines, 80),
            format!("{ON}\x1b[2A\x1b[Jsaid\n{drawn}{OFF}")
        );
        // Narrower than it was: `two` has been broken into two lines.
        assert_eq!(block.draw("", &lines[..1], 4), format!("{ON}\x1b[3Aone\x1b[K\n{OFF}"));
        assert_eq!(block.draw("", &[], 80), format!("{ON}\x1b[1A{OFF}"));
    }

    #[test]
    fn a_bar_fills_and_fits() {
        let p = |done| Progress { what: "fit".into(), done, total: 8, detail: "x".into() };
        assert_eq!(bar(&p(4), 20), "fit ━━━━╌╌╌╌╌ 4/8 x");
        assert_eq!(bar(&p(8), 20), "fit ━━━━━━━━━ 8/8 x");
        assert_eq!(bar(&p(0), 11), "fit  0/8 x");
        assert!((0..100).all(|columns| bar(&p(3), columns).chars().count() < columns.max(1)));
    }
}
