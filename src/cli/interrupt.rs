//! Ctrl-C: the first asks the run to stop at the next safe point, a second ends the process at
//! once, by the signal itself (which a shell shows as 130).

use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the first interrupt.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether somebody sees what the handler says.
static SEEN: AtomicBool = AtomicBool::new(false);

/// Over the terminal's own `^C`, and with no line end: what is drawn next, or said at the end, goes
/// over it.
const SAID: &[u8] = b"\rstopping after this step; once more stops at once ";

extern "C" fn on_signal(signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
    if SEEN.load(Ordering::Relaxed) {
        // SAFETY: `write` may be called within a handler (POSIX, async-signal-safe), and `SAID` is
        // valid for reads of its length.
        unsafe { libc::write(libc::STDERR_FILENO, SAID.as_ptr().cast(), SAID.len()) };
    }
    // SAFETY: `signal` may be called within a handler (POSIX, async-signal-safe), and the default
    // action is a valid handler for the signal that was just received.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Takes over SIGINT and SIGTERM.
pub fn install() {
    SEEN.store(stderr().is_terminal(), Ordering::Relaxed);
    let handler = on_signal as extern "C" fn(libc::c_int);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler has the signature that `signal` expects and touches nothing but
        // atomics and standard error.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// What puts a line in the place of what the handler said.
pub fn over() -> &'static str {
    if SEEN.load(Ordering::Relaxed) { "\r\x1b[K" } else { "" }
}
