//! What a script computes by itself: bounded from one piece of work to the next, so that a loop
//! that does nothing ends soon, and a recipe that does much is not bounded by the sum.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::{Error, error};
use crate::session::Limits;
use crate::sys;

/// Natives that do what a recipe is for; nothing else begins the count anew.
const WORK: [&str; 9] = [
    "booster.fit",
    "data::load",
    "model.evaluate",
    "model.generate",
    "model.load_adapter",
    "model.sample",
    "model::create",
    "model::from_run",
    "model::load",
];

/// How many operations pass between two looks at the clock.
const CLOCK_EVERY: u64 = 64;
/// Fewer operations than that are no loop, however long each takes: one native of a script may go
/// over millions of rows.
const LOOP: u64 = 128;

/// What a script has done since its last piece of work.
#[derive(Debug, Default)]
pub(super) struct ScriptWork {
    operations: AtomicU64,
    /// The thread's processor time when the count began, later by what natives took.
    began: AtomicU64,
}

impl ScriptWork {
    /// Counts an operation. Errors (class usage): more of them, or of the script's own processor
    /// time, than `limits` allow.
    pub fn count(&self, limits: &Limits) -> Result<(), Error> {
        let operations = self.operations.fetch_add(1, Relaxed) + 1;
        let since = "since it last fitted, measured, generated or loaded anything";
        if operations > limits.operations {
            return Err(error!(
                Usage,
                "the script took more than {} operations {since}",
                limits.operations;
                hint: "raise it with `--limit-operations N`"
            ));
        }
        if operations.is_multiple_of(CLOCK_EVERY) && operations >= LOOP {
            let computed = now().saturating_sub(self.began.load(Relaxed));
            if computed as f64 > limits.script_seconds * 1e9 {
                return Err(error!(
                    Usage,
                    "the script computed for more than {} s {since}",
                    limits.script_seconds;
                    hint: "raise it with `--limit-script-seconds N`"
                ));
            }
        }
        Ok(())
    }

    /// Leaves out what `native` takes.
    pub fn without<T>(&self, native: impl FnOnce() -> T) -> T {
        let before = now();
        let answer = native();
        self.began.fetch_add(now().saturating_sub(before), Relaxed);
        answer
    }

    /// The native `name` has done what it was asked for.
    pub fn did(&self, name: &str) {
        if WORK.contains(&name) {
            self.operations.store(0, Relaxed);
            self.began.store(now(), Relaxed);
        }
    }
}

/// The thread's processor time, in nanoseconds.
fn now() -> u64 {
    sys::thread_time().as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: u64 = 10_000;

    fn limits() -> Limits {
        Limits { operations: FEW, ..Limits::default() }
    }

    /// Operations until the error.
    fn until(work: &ScriptWork) -> (u64, String) {
        (0..).find_map(|n| Some((n, work.count(&limits()).err()?.to_string()))).unwrap()
    }

    #[test]
    fn work_alone_begins_the_count_anew() {
        let work = ScriptWork::default();
        work.did("data::load");
        (0..FEW).for_each(|_| work.count(&limits()).unwrap());
        work.did("model.digest");
        let (more, said) = until(&work);
        assert_eq!(more, 0);
        assert!(said.contains("took more than 10000 operations since it last fitted"), "{said}");
        work.did("booster.fit");
        assert_eq!(until(&work).0, FEW);
    }

    #[test]
    fn the_time_of_natives_is_not_the_scripts() {
        let limits = Limits { script_seconds: 0.0, ..Limits::default() };
        let busy = || {
            let began = now();
            while now() < began + 3_000_000 {}
        };
        let work = ScriptWork::default();
        work.did("model::load");
        work.without(busy);
        let began = work.began.load(Relaxed);
        assert!(now() - began < 2_000_000, "{}", now() - began);
        busy();
        let said = (0..LOOP).find_map(|_| work.count(&limits).err()).unwrap().to_string();
        assert!(said.contains("the script computed for more than 0 s"), "{said}");
    }
}
