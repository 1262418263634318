//! Ctrl-C: the first asks the run to stop at the next safe point, a second ends the process at
//! once, by the signal itself (which a shell shows as 130). SIGTERM counts as Ctrl-C.

use std::io::{IsTerminal, Write, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// Set by the first interrupt, once a person at a terminal was told of it.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Set by the first interrupt within the signal handler: the next one kills.
static ARMED: AtomicBool = AtomicBool::new(false);

/// Over the terminal's own `^C`, and with no line end: what is drawn next, or said at the end, goes
/// over it.
const SAID: &[u8] = b"\rstopping after this step; once more stops at once ";

/// Takes over SIGINT and SIGTERM.
pub fn install() -> Result<()> {
    let handled = [SIGINT, SIGTERM];
    for signal in handled {
        // Actions run in the order in which they are registered.
        flag::register_conditional_default(signal, &ARMED)?;
        flag::register(signal, &ARMED)?;
    }
    let mut signals = Signals::new(handled)?;
    let listen = move || {
        if signals.forever().next().is_some() {
            if stderr().is_terminal() {
                let _ = stderr().write_all(SAID);
            }
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
    };
    thread::Builder::new().name("interrupts".to_owned()).spawn(listen)?;
    Ok(())
}

/// What puts a line in the place of what was said at the interrupt.
pub fn over() -> &'static str {
    if stderr().is_terminal() { "\r\x1b[K" } else { "" }
}
