//! The interrupt and the wall clock, looked at between script operations and around every native.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::limits::Limits;
use crate::error::{Class, Error, error};
use crate::memory;

/// A flag that nobody sets, for sessions that are not interrupted.
pub(super) fn never() -> &'static AtomicBool {
    static NEVER: AtomicBool = AtomicBool::new(false);
    &NEVER
}

/// Says when a run must stop.
#[derive(Debug)]
pub struct Guard {
    started: Instant,
    /// What earlier processes took for the same run.
    earlier: OnceLock<Duration>,
    seconds: u64,
    interrupt: &'static AtomicBool,
    /// Bytes that the script may hold.
    memory: isize,
}

impl Guard {
    /// Starts the clock; `interrupt` is set from outside, by a signal handler.
    pub fn new(limits: &Limits, interrupt: &'static AtomicBool) -> Self {
        let memory = isize::try_from(limits.memory).unwrap_or(isize::MAX).saturating_mul(1 << 20);
        Self {
            started: Instant::now(),
            earlier: OnceLock::new(),
            seconds: limits.seconds,
            interrupt,
            memory,
        }
    }

    /// An error once the script holds too much. It costs next to nothing.
    pub fn check_memory(&self) -> Result<(), Error> {
        if memory::of_script() <= self.memory {
            return Ok(());
        }
        Err(error!(
            Usage,
            "the script holds values of more than {} MiB",
            self.memory >> 20;
            hint: "raise it with `--limit-memory MIB`"
        ))
    }

    /// Since the run began; for `timing` only.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed() + self.earlier.get().copied().unwrap_or_default()
    }

    /// Counts what earlier processes took for the same run; their time is not that of this one's
    /// limit.
    pub(super) fn after(&self, seconds: f64) {
        let _ = self.earlier.set(Duration::try_from_secs_f64(seconds).unwrap_or_default());
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
        if self.started.elapsed().as_secs() >= self.seconds {
            return Err(error!(
                Usage,
                "the run took longer than {} seconds",
                self.seconds;
                hint: "raise it with `--limit-seconds N`"
            ));
        }
        Ok(())
    }
}
