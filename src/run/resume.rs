//! A run that stopped before its end, taken up again.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::folder::MODULES;
use super::journal::{Call, Journal, Record};
use super::{Folder, Manifest, Run};
use crate::error::{bail, error};

/// What a run left: its folder, what it was started with, and what it did.
#[derive(Debug)]
pub struct Left {
    folder: PathBuf,
    pub manifest: Manifest,
    /// The recipe's text.
    pub recipe: String,
    /// In order.
    pub records: Vec<Record>,
    /// Bytes of `metrics.jsonl` that they tell of.
    metrics: u64,
    journal: Journal,
    /// How many records stay, where the others are to be done anew.
    keep: Option<usize>,
    /// Other engines, threads and devices are taken, whose numbers may differ in the last bits.
    inexact: bool,
}

impl Left {
    /// Whether the run in `folder` has ended by itself.
    pub fn ended(folder: &Path) -> bool {
        let text = std::fs::read(folder.join("summary.json")).unwrap_or_default();
        let whole = serde_json::from_slice::<serde_json::Value>(&text)
            .is_ok_and(|summary| summary.get("interrupted").is_none());
        // The report is written last.
        whole && folder.join("report.html").is_file()
    }

    /// Opens the run in `folder`; with `from_round` all that was done after so many boosters is
    /// left out.
    ///
    /// Errors: no run's folder, one that another process works on, fewer boosters than that (class
    /// usage); a damaged `run.json` or journal (class data).
    pub fn open(folder: &Path, from_round: Option<usize>, inexact: bool) -> Result<Self> {
        let manifest = Manifest::read(folder)?;
        let path = folder.join("recipe.rhai");
        let recipe = std::fs::read_to_string(&path)
            .map_err(|e| error!(Data, "cannot read `{}`: {e}", path.display()))?;
        // An editor may have put a byte order mark before it.
        let recipe = recipe.strip_prefix('\u{feff}').map_or(recipe.clone(), str::to_owned);
        let (journal, mut records) = Journal::open(folder, manifest.seed)?;
        let keep = from_round.map(|round| behind(&records, round)).transpose()?;
        records.truncate(keep.unwrap_or(usize::MAX));
        let metrics = records.last().map_or(0, |record| record.timing().metrics);
        Ok(Self {
            folder: folder.to_path_buf(),
            manifest,
            recipe,
            records,
            metrics,
            journal,
            keep,
            inexact,
        })
    }

    /// Where the run keeps its modules.
    pub fn modules(&self) -> PathBuf {
        self.folder.join(MODULES)
    }

    /// Takes the run up with what it is started with now, which must be what it was started with
    /// then. `summary.json` and `report.html` go until it ends, and so does what is done anew.
    ///
    /// Errors (class usage) name what differs.
    pub fn take_up(mut self, mut now: Manifest) -> Result<Run> {
        self.same(&now)?;
        now.template.clone_from(&self.manifest.template);
        now.begun.clone_from(&self.manifest.begun);
        let folder = Folder::open(&self.folder)?;
        if let Some(count) = self.keep {
            self.journal.keep(count)?;
        }
        for name in ["summary.json", "report.html"] {
            match std::fs::remove_file(folder.path().join(name)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(e).with_context(|| format!("cannot remove `{name}` of the run"));
                }
                _ => {}
            }
        }
        let mut run = Run::begin(folder, now, Some(self.journal), self.metrics)?;
        run.saved.resumed = true;
        Ok(run)
    }

    /// Errors (class usage) name what is not as it was when the run began.
    fn same(&self, now: &Manifest) -> Result<()> {
        let then = &self.manifest;
        let card = |manifest: &Manifest| manifest.card.clone().unwrap_or("none".into());
        for (what, now, then) in [
            ("version of the program", &now.engine, &then.engine),
            ("number of threads", &now.threads.to_string(), &then.threads.to_string()),
            ("device", &now.device, &then.device),
            ("GPU", &card(now), &card(then)),
            ("family of CPU kernels", &now.kernels, &then.kernels),
        ] {
            if now != then && !self.inexact {
                bail!(
                    Usage,
                    "the {what} was {then} in the run and is {now} here, so numbers may differ in \
                     the last bits";
                    hint: "`--allow-inexact` goes on all the same"
                );
            }
        }
        if now.seed != then.seed || now.dtype != then.dtype {
            bail!(
                Usage,
                "the run had the seed {} and kept weights in `{}`, not {} and `{}`",
                then.seed,
                then.dtype,
                now.seed,
                now.dtype
            );
        }
        for (name, value) in now.parameters.iter().filter(|_| self.keep.is_none()) {
            let before = then.parameters.get(name);
            if before != Some(value) {
                let before = before.map_or("not there".into(), ToString::to_string);
                bail!(
                    Usage,
                    "the parameter `{name}` was {before} in the run and is {value} now";
                    hint: "`--from-round N` keeps the first N boosters and goes on with other \
                           parameters"
                );
            }
        }
        for (module, digest) in &now.digests {
            if then.digests.get(module).is_some_and(|before| before != digest)
                && self.keep.is_none()
            {
                bail!(Usage, "the module `{module}` was changed since the run began");
            }
        }
        Ok(())
    }
}

/// How many records there are up to the merge that makes `round` boosters of the run's own model.
fn behind(records: &[Record], round: usize) -> Result<usize> {
    if round == 0 {
        return Ok(0);
    }
    let merged = |record: &Record| match record {
        Record::Call(Call { effects, .. })
            if effects.get("model").and_then(serde_json::Value::as_u64) == Some(0) =>
        {
            effects.get("rounds").and_then(serde_json::Value::as_u64).map(|n| n as usize)
        }
        _ => None,
    };
    let at = records.iter().position(|record| merged(record) == Some(round));
    let most = records.iter().filter_map(merged).max().unwrap_or(0);
    match at {
        Some(at) => Ok(at + 1),
        None => bail!(
            Usage,
            "the run has no round {round} to go on from: its journal tells of {most} merged \
             boosters"
        ),
    }
}
