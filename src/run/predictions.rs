//! `predictions.jsonl`: what a model said to each item, of evaluations that ask for it.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Evaluation, Folder};
use crate::error::bail;

/// The file. What lies behind its bytes was written by a process that ended before its journal
/// could tell of it.
#[derive(Debug, Default)]
pub(super) struct Predictions {
    /// How many the journal tells of.
    pub(super) bytes: u64,
}

/// A line.
#[derive(Serialize)]
struct PredictionLine<'a> {
    split: &'a str,
    round: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<usize>,
    /// The point of a sweep, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    point: Option<usize>,
    #[serde(flatten)]
    told: &'a Map<String, Value>,
}

impl Predictions {
    pub(super) fn path(folder: &Folder) -> PathBuf {
        folder.path().join("predictions.jsonl")
    }

    /// Adds those of an evaluation, in one write. Errors (class data): the file is shorter than the
    /// journal tells.
    pub(super) fn add(
        &mut self,
        folder: &Folder,
        evaluation: &Evaluation,
        told: &[Map<String, Value>],
    ) -> Result<u64> {
        if folder.is_dry() {
            return Ok(0);
        }
        let mut text = vec![];
        for told in told {
            let Evaluation { split, round, point, .. } = evaluation;
            let model = Some(evaluation.model).filter(|model| *model > 0);
            let line = PredictionLine { split, round: *round, model, point: *point, told };
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        let path = Self::path(folder);
        let shown = || format!("cannot write `{}`", path.display());
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let mut file = file.with_context(shown)?;
        let length = file.metadata().with_context(shown)?.len();
        if length < self.bytes {
            bail!(
                Data,
                "`{}` has {length} bytes; the journal tells of {}",
                path.display(),
                self.bytes
            );
        }
        file.set_len(self.bytes).with_context(shown)?;
        file.write_all(&text).with_context(shown)?;
        self.bytes += text.len() as u64;
        Ok(self.bytes)
    }

    /// Takes off what the journal does not tell of.
    pub(super) fn cut(&self, folder: &Folder) -> Result<()> {
        let path = Self::path(folder);
        let length = match fs::metadata(&path) {
            Ok(file) => file.len(),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e).with_context(|| format!("cannot read `{}`", path.display())),
        };
        if folder.is_dry() || length <= self.bytes {
            return Ok(());
        }
        let cut = || match self.bytes {
            0 => fs::remove_file(&path),
            bytes => OpenOptions::new().write(true).open(&path)?.set_len(bytes),
        };
        cut().with_context(|| format!("cannot write `{}`", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_journal_does_not_tell_of_is_written_over_or_taken_off() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::create(Some(home.path()), "x").unwrap();
        let evaluation = Evaluation { split: "test".into(), round: 3, ..Evaluation::default() };
        let told = |n: u64| vec![Map::from_iter([("item".to_owned(), n.into())])];
        let read = || fs::read_to_string(Predictions::path(&folder)).unwrap();
        let line = |n: u64| format!("{{\"split\":\"test\",\"round\":3,\"item\":{n}}}\n");
        let mut first = Predictions::default();
        let kept = first.add(&folder, &evaluation, &told(1)).unwrap();
        first.add(&folder, &evaluation, &told(2)).unwrap();
        assert_eq!(read(), line(1) + &line(2)[..]);
        // Another process goes on from the first.
        let mut next = Predictions { bytes: kept };
        next.add(&folder, &evaluation, &told(5)).unwrap();
        assert_eq!(read(), line(1) + &line(5)[..]);
        Predictions { bytes: kept }.cut(&folder).unwrap();
        assert_eq!(read(), line(1));
        let error = Predictions { bytes: 1000 }.add(&folder, &evaluation, &told(1)).unwrap_err();
        assert!(error.to_string().contains("the journal tells of 1000"), "{error}");
        Predictions::default().cut(&folder).unwrap();
        assert!(!Predictions::path(&folder).exists());
        Predictions::default().cut(&folder).unwrap();
    }
}
