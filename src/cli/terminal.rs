//! How a run looks while it goes on: a bar on a terminal, a plain line now and then elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::host::{Console, Progress};
use crate::run::Merge;

/// The least time between two plain lines of progress.
const EVERY: Duration = Duration::from_secs(5);

/// The console that fits standard error; with `quiet` it shows what the recipe prints and no progress.
pub fn console(quiet: bool) -> Arc<dyn Console> {
    if quiet {
        Arc::new(Quiet)
    } else if stderr().is_terminal() {
        Arc::new(Bar::new())
    } else {
        Arc::new(Lines::default())
    }
}

/// Writes to standard error; when nobody reads it, nothing can be said about that.
pub fn complain(text: &str) {
    let _ = stderr().write_all(text.as_bytes());
}

/// Columns to write to on standard output: those of the terminal, up to 110, or 100 where it is none.
pub fn stdout_width() -> usize {
    size(libc::STDOUT_FILENO).map_or(100, |(columns, _)| columns.min(110))
}

/// Columns and rows of the terminal behind a file descriptor.
fn size(fd: libc::c_int) -> Option<(usize, usize)> {
    // SAFETY: all-zero bytes are a valid `winsize`.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: `size` is valid for writes of one `winsize`, which is what this request writes.
    let answered = unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &mut size) } == 0;
    (answered && size.ws_col > 0).then_some((size.ws_col.into(), size.ws_row.into()))
}

struct Quiet;

impl Console for Quiet {
    fn print(&self, line: &str) {
        complain(&format!("{line}\n"));
    }

    fn note(&self, _: &str) {}

    fn progress(&self, _: &Progress) {}

    fn merged(&self, _: &Merge, _: usize) {}
}

struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }
}

impl Console for Bar {
    fn print(&self, line: &str) {
        self.0.suspend(|| complain(&format!("{line}\n")));
    }

    fn note(&self, line: &str) {
        self.print(line);
    }

    fn progress(&self, p: &Progress) {
        self.0.set_length(p.total);
        self.0.set_prefix(p.what.clone());
        self.0.set_message(p.detail.clone());
        self.0.set_position(p.done);
    }

    fn merged(&self, _: &Merge, _: usize) {}
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[derive(Default)]
struct Lines(Mutex<Option<Instant>>);

impl Lines {
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
        complain(&format!("{line}\n"));
    }

    fn note(&self, line: &str) {
        self.print(line);
    }

    fn progress(&self, p: &Progress) {
        if self.due(Instant::now()) {
            complain(&format!("{}\n", format!("{} {}/{} {}", p.what, p.done, p.total, p.detail).trim_end()));
        }
    }

    fn merged(&self, _: &Merge, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_now_and_then() {
        let (lines, start) = (Lines::default(), Instant::now());
        let due: Vec<bool> = [0, 1, 4, 5, 6, 11].map(|s| lines.due(start + Duration::from_secs(s))).into();
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
