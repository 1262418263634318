//! `journal.jsonl`: what a run did, call by call, so that it can be taken up where it stopped.
//!
//! A line is `{"sum":"…","record":…}`: a record, and the first half of the SHA-256 of the sum
//! before it and the record's own bytes. So a line that is cut, changed, moved or missing is found.
//! A line is one write: of a killed run at most the last one is cut, and what it would have said is
//! simply done again.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::digest;
use crate::error::{bail, error};

/// The file's name in the run folder.
pub const NAME: &str = "journal.jsonl";
/// Of the records.
const VERSION: u32 = 1;
/// How long what was written may wait for the disk: a kill loses nothing, a power cut at most this.
const SYNC_EVERY: Duration = Duration::from_secs(5);

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// The first one.
    Begin {
        version: u32,
        /// Of all that is drawn; runs of earlier versions did not note it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seed: Option<u64>,
    },
    /// A call that has ended.
    Call(Call),
    /// A call that goes on, and how far it is; it counts as long as no later record of the call is
    /// there.
    Checkpoint(Checkpoint),
}

/// A native that was called, by a name and with arguments that tell it from others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NativeCall {
    pub name: String,
    pub arguments: Value,
}

/// A call that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    #[serde(flatten)]
    pub asked: NativeCall,
    pub outcome: Outcome,
    /// What it changed, as far as that is not in files.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub effects: Map<String, Value>,
    pub timing: Timing,
}

/// What a call answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Answer(Value),
    Error {
        class: u8,
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

/// How far a call is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    #[serde(flatten)]
    pub asked: NativeCall,
    pub state: Map<String, Value>,
    pub timing: Timing,
}

/// What the clock said, and where that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Since the run began, the time between two processes aside.
    pub seconds: f64,
    /// Bytes of `metrics.jsonl`, whose lines tell times.
    pub metrics: u64,
    /// What the memory formula said so far, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_peak_mib: Option<f64>,
}

impl Record {
    /// When it was written.
    pub fn timing(&self) -> Timing {
        match self {
            Self::Begin { .. } => Timing::default(),
            Self::Call(Call { timing, .. }) | Self::Checkpoint(Checkpoint { timing, .. }) => {
                *timing
            }
        }
    }
}

/// The open journal of a run; no other process can open it.
#[derive(Debug)]
pub struct Journal {
    file: File,
    sum: String,
    synced: Instant,
    /// Files whose records were written since, which go to the disk before the records do.
    waiting: Vec<PathBuf>,
    /// Waits for the disk beside what goes on.
    syncing: Option<JoinHandle<Result<()>>>,
    /// Where each record ends that was there when it was opened.
    ends: Vec<End>,
    bytes: u64,
}

/// Where a record ends, and the sum there.
type End = (usize, String);

impl Journal {
    /// Begins the journal of a run in `folder`.
    pub fn create(folder: &Path, seed: u64) -> Result<Self> {
        let mut journal = Self::over(locked(folder)?, vec![]);
        journal.append(&Record::Begin { version: VERSION, seed: Some(seed) })?;
        Ok(journal)
    }

    fn over(file: File, ends: Vec<End>) -> Self {
        let sum = ends.last().map_or_else(String::new, |(_, sum)| sum.clone());
        let bytes = ends.last().map_or(0, |(end, _)| *end) as u64;
        Self { file, sum, synced: Instant::now(), waiting: vec![], syncing: None, ends, bytes }
    }

    /// Opens the journal in `folder` to go on behind its records, which come back; a last line that
    /// is cut is taken off. One that is missing is begun.
    ///
    /// Errors: another process has it open (class usage); a line that is damaged, a later version,
    /// the journal of a run with another seed (class data).
    pub fn open(folder: &Path, seed: u64) -> Result<(Self, Vec<Record>)> {
        let mut file = locked(folder)?;
        let mut bytes = vec![];
        file.read_to_end(&mut bytes).context("cannot read `journal.jsonl`")?;
        let (records, ends) = parse(&bytes, &folder.join(NAME))?;
        file.set_len(ends.last().map_or(0, |(end, _)| *end) as u64)
            .context("cannot write `journal.jsonl`")?;
        let mut journal = Self::over(file, ends);
        match records.first() {
            None => journal.append(&Record::Begin { version: VERSION, seed: Some(seed) })?,
            Some(Record::Begin { seed: Some(then), .. }) if *then != seed => {
                bail!(Data, "the run began with the seed {then}, but its `run.json` says {seed}")
            }
            _ => {}
        }
        Ok((journal, records.into_iter().skip(1).collect()))
    }

    /// Takes off all but the first `count` of the records that were there when it was opened.
    pub fn keep(&mut self, count: usize) -> Result<()> {
        if let Some((end, sum)) = self.ends.get(count) {
            self.file.set_len(*end as u64).context("cannot write `journal.jsonl`")?;
            self.sum.clone_from(sum);
        }
        Ok(())
    }

    /// Adds a record, in one write.
    pub fn append(&mut self, record: &Record) -> Result<()> {
        let text = serde_json::to_string(record)?;
        let sum = next(&self.sum, text.as_bytes());
        let line = format!("{{\"sum\":\"{sum}\",\"record\":{text}}}\n");
        self.file.write_all(line.as_bytes()).context("cannot write `journal.jsonl`")?;
        self.bytes += line.len() as u64;
        self.sum = sum;
        Ok(())
    }

    /// How many bytes it has.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether what was written has waited long enough.
    pub fn is_due(&self) -> bool {
        self.synced.elapsed() >= SYNC_EVERY
            && self.syncing.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Notes a file that a record to come tells of: it goes to the disk before the record does.
    pub fn tells_of(&mut self, path: PathBuf) {
        self.waiting.push(path);
    }

    /// Begins to bring everything to the disk. Errors: the last time failed.
    pub fn sync_soon(&mut self) -> Result<()> {
        self.settle()?;
        let file = self.file.try_clone().context("cannot write `journal.jsonl`")?;
        let files = std::mem::take(&mut self.waiting);
        self.synced = Instant::now();
        self.syncing = Some(thread::spawn(move || to_disk(&file, &files)));
        Ok(())
    }

    /// Brings everything to the disk.
    pub fn sync(&mut self) -> Result<()> {
        self.settle()?;
        to_disk(&self.file, &std::mem::take(&mut self.waiting))?;
        self.synced = Instant::now();
        Ok(())
    }

    /// Waits for what was begun.
    fn settle(&mut self) -> Result<()> {
        let Some(syncing) = self.syncing.take() else { return Ok(()) };
        syncing.join().unwrap_or_else(|_| bail!(Run, "what waits for the disk broke off"))
    }
}

impl Drop for Journal {
    /// Nobody else can open the file before that.
    fn drop(&mut self) {
        let _ = self.settle();
    }
}

/// Brings `files` to the disk, then the journal.
fn to_disk(journal: &File, files: &[PathBuf]) -> Result<()> {
    for path in files {
        // What is gone again needs no care.
        if let Ok(file) = File::open(path) {
            file.sync_all().with_context(|| format!("cannot write `{}`", path.display()))?;
        }
    }
    journal.sync_data().context("cannot write `journal.jsonl`")
}

fn locked(folder: &Path) -> Result<File> {
    let path = folder.join(NAME);
    let shown = folder.display();
    let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
    let file = file.with_context(|| format!("cannot open `{}`", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!(Usage, "the run in `{shown}` is going on in another process")
        }
        Err(TryLockError::Error(e)) => {
            Err(e).with_context(|| format!("cannot lock `{}`", path.display()))
        }
    }
}

/// The sum behind `before` and a record.
fn next(before: &str, record: &[u8]) -> String {
    let mut sum = digest(&[before.as_bytes(), record].concat());
    sum.truncate(32);
    sum
}

/// The records, and where each ends.
fn parse(bytes: &[u8], path: &Path) -> Result<(Vec<Record>, Vec<End>)> {
    let (mut records, mut ends, mut whole, mut sum) = (vec![], vec![], 0, String::new());
    for (number, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let at = format!("`{}`, line {}", path.display(), number + 1);
        let last = whole + line.len() == bytes.len();
        let Some((found, text)) =
            line_of(line).filter(|(found, text)| *found == next(&sum, text).as_bytes())
        else {
            if last {
                break;
            }
            bail!(
                Data,
                "{at}: damaged; its checksum is not that of its text and of the lines before it";
                hint: "`--from-round N` goes on from an earlier round, whose lines must be whole"
            );
        };
        let begin = serde_json::from_slice::<Value>(text)
            .ok()
            .and_then(|v| v.pointer("/begin/version")?.as_u64());
        if number == 0 && begin.is_some_and(|version| version != u64::from(VERSION)) {
            bail!(
                Data,
                "{at}: a journal of version {}; this program reads version {VERSION}",
                begin.unwrap_or_default()
            );
        }
        let record: Record = serde_json::from_slice(text)
            .map_err(|e| error!(Data, "{at}: no record of a journal: {e}"))?;
        if (number == 0) != matches!(record, Record::Begin { .. }) {
            bail!(Data, "{at}: a journal begins with its version, and has it once");
        }
        sum = String::from_utf8_lossy(found).into_owned();
        whole += line.len();
        records.push(record);
        ends.push((whole, sum.clone()));
    }
    Ok((records, ends))
}

/// Sum and text of a whole line.
fn line_of(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = line.strip_prefix(b"{\"sum\":\"")?.strip_suffix(b"}\n")?;
    let (sum, rest) = rest.split_at_checked(32)?;
    Some((sum, rest.strip_prefix(b"\",\"record\":")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of};
    use serde_json::json;

    fn call(n: u64) -> Record {
        let asked =
            NativeCall { name: "model.evaluate".into(), arguments: json!({ "n": n, "x": 0.1 }) };
        let outcome = match n % 2 {
            0 => Outcome::Answer(json!({ "nll": 1.0 / 3.0 })),
            _ => Outcome::Error { class: 3, message: "cut\nshort".into(), hint: None },
        };
        Record::Call(Call {
            asked,
            outcome,
            effects: Map::new(),
            timing: Timing { seconds: n as f64, metrics: n * 100, predicted_peak_mib: None },
        })
    }

    fn three(home: &Path) -> Vec<Record> {
        let records: Vec<Record> = (1..4).map(call).collect();
        let mut journal = Journal::create(home, 0).unwrap();
        records.iter().for_each(|r| journal.append(r).unwrap());
        records
    }

    #[test]
    fn what_is_written_is_read_and_gone_on_with() {
        let home = tempfile::tempdir().unwrap();
        let mut records = three(home.path());
        for n in 4..6 {
            let (mut journal, found) = Journal::open(home.path(), 0).unwrap();
            assert_eq!(found, records);
            records.push(call(n));
            journal.append(&records[n as usize - 1]).unwrap();
        }
        let (mut journal, _) = Journal::open(home.path(), 0).unwrap();
        journal.keep(2).unwrap();
        journal.sync().unwrap();
        drop(journal);
        assert_eq!(Journal::open(home.path(), 0).unwrap().1, records[..2]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_did_not_get_to_the_disk_is_told_later() {
        let home = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(home.path(), 0).unwrap();
        // A device that can be opened and not be brought to any disk.
        journal.tells_of("/dev/null".into());
        journal.sync_soon().unwrap();
        let error = journal.sync().unwrap_err();
        assert!(error.to_string().contains("/dev/null"), "{error}");
        journal.sync().unwrap();
        journal.sync_soon().unwrap();
        drop(journal);
        Journal::open(home.path(), 0).unwrap();
    }

    #[test]
    fn a_cut_anywhere_costs_the_last_record_only() {
        let home = tempfile::tempdir().unwrap();
        let records = three(home.path());
        let path = home.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        let ends: Vec<usize> =
            whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let (mut journal, found) = Journal::open(home.path(), 0).unwrap();
            let left = ends.iter().filter(|end| **end <= length).count().saturating_sub(1);
            assert_eq!(found, records[..left], "cut at {length}");
            journal.append(&call(9)).unwrap();
            drop(journal);
            assert_eq!(Journal::open(home.path(), 0).unwrap().1.last(), Some(&call(9)));
        }
    }

    #[test]
    fn damage_is_named_and_so_is_a_second_process() {
        let home = tempfile::tempdir().unwrap();
        three(home.path());
        let path = home.path().join(NAME);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let said = |lines: &[&str]| {
            std::fs::write(&path, lines.join("\n") + "\n").unwrap();
            let error = Journal::open(home.path(), 0).unwrap_err();
            assert_eq!(class_of(&error), Class::Data);
            format!("{error:#}")
        };
        let changed = lines[1].replace("\"n\":1", "\"n\":7");
        assert!(said(&[lines[0], &changed, lines[2], lines[3]]).contains("line 2: damaged"));
        assert!(
            said(&[lines[0], lines[2], lines[3]]).contains("line 2: damaged"),
            "a line is missing"
        );
        assert!(
            said(&[lines[0], lines[2], lines[1], lines[3]]).contains("line 2: damaged"),
            "lines are exchanged"
        );
        let later = r#"{"begin":{"version":2}}"#;
        let later = format!("{{\"sum\":\"{}\",\"record\":{later}}}", next("", later.as_bytes()));
        assert!(said(&[&later, lines[1]]).contains("of version 2; this program reads version 1"));
        std::fs::write(&path, &text).unwrap();
        let held = Journal::open(home.path(), 0).unwrap();
        let error = Journal::open(home.path(), 0).unwrap_err();
        assert_eq!(
            (class_of(&error), error.to_string().contains("going on in another process")),
            (Class::Usage, true)
        );
        drop(held);
        Journal::open(home.path(), 0).unwrap();
    }
}
