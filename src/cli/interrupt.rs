//! Ctrl-C: the first asks the run to stop at the next safe point, a second ends the process at once.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the first interrupt.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
    // SAFETY: `signal` may be called within a handler (POSIX, async-signal-safe), and the default action
    // is a valid handler for the signal that was just received.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Takes over SIGINT and SIGTERM.
pub fn install() {
    let handler = on_signal as extern "C" fn(libc::c_int);
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler has the signature that `signal` expects and touches nothing but an atomic.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}
