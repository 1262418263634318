//! The interrupt and the wall clock, looked at between script operations and around every native.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Class, Error};

/// Says when a run must stop.
#[derive(Debug)]
pub struct Guard {
    started: Instant,
    seconds: u64,
    interrupt: &'static AtomicBool,
}

impl Guard {
    /// Starts the clock; `interrupt` is set from outside, by a signal handler.
    pub fn new(seconds: u64, interrupt: &'static AtomicBool) -> Self {
        Self { started: Instant::now(), seconds, interrupt }
    }

    /// Since the run began; for `timing` only.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether the user has asked to stop.
    pub fn interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    /// An error once the user has interrupted or the time is used up. Long natives call this too.
    pub fn check(&self) -> Result<(), Error> {
        if self.interrupted() {
            return Err(Error::new(Class::Interrupted, "interrupted"));
        }
        if self.elapsed().as_secs() >= self.seconds {
            let message = format!("the run took longer than {} seconds", self.seconds);
            return Err(Error::usage(message).hint("raise it with `--limit-seconds N`"));
        }
        Ok(())
    }
}
