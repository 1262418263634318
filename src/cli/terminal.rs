//! The terminal: what is said and asked there.

use std::io::{IsTerminal, Write, stderr, stdin, stdout};
use std::sync::atomic::Ordering;

use terminal_size::{Width, terminal_size_of};

use super::interrupt::INTERRUPTED;

/// Writes to standard error; when nobody reads it, nothing can be said about that.
pub fn eprint(text: &str) {
    let _ = stderr().write_all(text.as_bytes());
}

/// Whether somebody is there to answer a question.
pub fn answers() -> bool {
    stdin().is_terminal() && stderr().is_terminal()
}

/// Asks a question that is answered at the terminal with a line; anything but yes, and nobody at a
/// terminal, is a no.
pub fn asks(question: &str) -> bool {
    if !answers() {
        return false;
    }
    eprint(&format!("{question} [y/N] "));
    // The answer is waited for in pieces, so that the first interrupt ends the wait.
    let mut input = libc::pollfd { fd: libc::STDIN_FILENO, events: libc::POLLIN, revents: 0 };
    // SAFETY: `input` is one valid `pollfd`.
    while unsafe { libc::poll(&mut input, 1, 100) } <= 0 {
        if INTERRUPTED.load(Ordering::Relaxed) {
            eprint("\n");
            return false;
        }
    }
    let mut answer = String::new();
    let read = stdin().read_line(&mut answer);
    read.is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}

/// Columns to write to on standard output: those of the terminal, up to 110, or 100 where it is
/// none.
pub fn stdout_width() -> usize {
    terminal_size_of(stdout()).map_or(100, |(Width(columns), _)| usize::from(columns).min(110))
}
