//! The run folder, made when there is something to keep: what fails before it has done anything,
//! since a name of a model or data is wrong, leaves none behind.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::held::lock;
use crate::error::bail;
use crate::run::Run;
use crate::run::journal::{Call, Outcome, Record};

/// Begins the run.
pub type Begin = Box<dyn FnMut() -> Result<Run> + Send>;

/// Calls that wait for a run folder.
const MOST_WAITING: usize = 1000;

/// A run, once something was done.
pub struct OpenRun {
    run: Mutex<Option<Run>>,
    begin: Mutex<Begin>,
    /// Records of calls before there was a run folder.
    waiting: Mutex<Vec<Record>>,
    /// Time spent on keeping what is done: the journal, boosters' files, checkpoints.
    keeping: Mutex<Duration>,
}

impl OpenRun {
    pub(super) fn new(begin: Begin) -> Self {
        let (run, waiting, keeping) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { run, begin: Mutex::new(begin), waiting, keeping }
    }

    /// Does something with the run folder, which is made where there is none yet.
    pub fn with<T>(&self, body: impl FnOnce(&mut Run) -> Result<T>) -> Result<T> {
        self.begun(|run| {
            run.settle()?;
            lock(&self.waiting).drain(..).try_for_each(|record| run.record(&record))?;
            body(run)
        })
    }

    /// Notes something of what was read, which needs no run folder yet.
    pub fn begun<T>(&self, body: impl FnOnce(&mut Run) -> Result<T>) -> Result<T> {
        let mut run = lock(&self.run);
        let run = match &mut *run {
            Some(run) => run,
            none => none.insert((lock(&self.begin))()?),
        };
        body(run)
    }

    /// Notes something in the run.
    pub fn note(&self, note: impl FnOnce(&mut Run)) -> Result<()> {
        self.with(|run| {
            note(run);
            Ok(())
        })
    }

    /// Does something with the run folder, if there is one.
    pub fn if_open<T>(&self, body: impl FnOnce(&mut Run) -> T) -> Option<T> {
        lock(&self.run).as_mut().filter(|run| run.is_settled()).map(body)
    }

    /// Does what keeps a run, and counts its time.
    pub(super) fn keeping<T>(&self, body: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let done = body();
        *lock(&self.keeping) += start.elapsed();
        done
    }

    pub(super) fn keeping_seconds(&self) -> f64 {
        lock(&self.keeping).as_secs_f64()
    }

    /// Writes a record into the journal, which may have `most` MiB; `record` gets the length of
    /// `metrics.jsonl`. Those of calls before there is a run folder wait for it.
    pub(super) fn record(&self, most: usize, record: impl FnOnce(u64) -> Record) -> Result<()> {
        if let Some(run) = lock(&self.run).as_mut().filter(|run| run.is_settled()) {
            if run.journal_bytes() >> 20 >= most as u64 {
                bail!(
                    Usage,
                    "the run's journal has more than {most} MiB: natives were called too often";
                    hint: "raise it with `--limit-journal MIB`"
                );
            }
            let record = record(run.metrics.bytes());
            return self.keeping(|| run.record(&record));
        }
        let record = record(0);
        let good = |record: &Record| {
            matches!(record, Record::Call(Call { outcome: Outcome::Answer(_), .. }))
        };
        let mut waiting = lock(&self.waiting);
        waiting.push(record);
        if waiting.len() <= MOST_WAITING {
            return Ok(());
        }
        if !waiting.iter().any(good) {
            bail!(Usage, "{MOST_WAITING} calls have failed, and none has done anything");
        }
        drop(waiting);
        self.with(|_| Ok(()))
    }
}
