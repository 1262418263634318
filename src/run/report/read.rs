//! A run folder read back. Only `run.json` must be there; what else is missing, cut short or not
//! understood is left out and told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::bail;
use crate::run::{Best, Evaluation, Evaluations, Folder, Merge};

/// The largest JSON file and the longest line that are read, in bytes; the program writes far
/// smaller ones.
const LONGEST: u64 = 16 << 20;
/// More layers than any model has; a line that names one beyond is not believed.
const MOST_LAYERS: usize = 4096;
/// Numbers beyond are taken for none: no chart could show them.
const LARGEST: f64 = 1e100;

/// What a run has recorded.
#[derive(Debug, Default)]
pub struct Recorded {
    /// `run.json`.
    pub manifest: Map<String, Value>,
    /// The recipe's text.
    pub recipe: Option<String>,
    /// `summary.json`, of a run that has ended.
    pub summary: Option<Map<String, Value>>,
    pub steps: Vec<LoggedStep>,
    /// Layers that were trained, by round.
    pub trained: BTreeMap<usize, BTreeSet<usize>>,
    pub merges: Vec<Merge>,
    /// Boosters that the model is the sum of, as far as merges and changes tell.
    length: usize,
    pub evaluations: Evaluations,
    /// What is not as it should be, in sentences.
    pub notices: Vec<String>,
}

/// A logged training step; a loss that was no number is `None`.
#[derive(Clone, Copy, Debug)]
pub struct LoggedStep {
    pub step: u64,
    pub loss: Option<f64>,
    pub lr: Option<f64>,
}

impl Recorded {
    /// Reads the run in `folder`. Errors: what cannot be read at all; a `run.json` that is no JSON
    /// object (class data).
    pub fn read(folder: &Folder) -> Result<Self> {
        let path = folder.path();
        let Some(manifest) = text(&path.join("run.json"))? else {
            bail!(Data, "`{}` is missing or larger than 16 MiB", path.join("run.json").display())
        };
        let manifest = match serde_json::from_str(&manifest) {
            Ok(Value::Object(manifest)) => manifest,
            Ok(_) => bail!(Data, "`{}` is not a JSON object", path.join("run.json").display()),
            Err(e) => bail!(Data, "cannot read `{}`: {e}", path.join("run.json").display()),
        };
        let mut run =
            Self { manifest, recipe: text(&path.join("recipe.rhai"))?, ..Self::default() };
        match text(&path.join("summary.json"))?.map(|text| serde_json::from_str(&text)) {
            Some(Ok(Value::Object(summary))) => run.summary = Some(summary),
            Some(_) => run.notices.push("summary.json is not a JSON object and left out.".into()),
            None => run.notices.push(
                "This run has not ended, or ended early: it has no summary.json. Shown is what it \
                 had recorded."
                    .into(),
            ),
        }
        if run.summary.as_ref().is_some_and(|s| s.get("interrupted") == Some(&Value::Bool(true))) {
            run.notices.push(
                "This run was interrupted before its recipe ended. Shown is what it had recorded."
                    .into(),
            );
        }
        run.read_metrics(&path.join("metrics.jsonl"))?;
        Ok(run)
    }

    fn read_metrics(&mut self, path: &Path) -> Result<()> {
        if !path.is_file() {
            self.notices.push("There is no metrics.jsonl, so there are no curves.".into());
            return Ok(());
        }
        let unreadable = || format!("cannot read `{}`", path.display());
        let mut lines = BufReader::new(File::open(path).with_context(unreadable)?);
        let (mut line, mut number, mut broken) = (vec![], 0, vec![]);
        loop {
            line.clear();
            if lines.by_ref().take(LONGEST).read_until(b'\n', &mut line).with_context(unreadable)?
                == 0
            {
                break;
            }
            number += 1;
            let whole = line.ends_with(b"\n");
            if !whole && line.len() as u64 == LONGEST {
                self.notices.push(format!(
                    "Line {number} of metrics.jsonl is longer than 16 MiB; it and all after it are \
                     left out."
                ));
                break;
            }
            match self.take(&line) {
                Some(()) => {}
                None if whole => broken.push(number),
                None => self.notices.push(format!(
                    "The last line of metrics.jsonl, line {number}, is cut short and left out."
                )),
            }
        }
        if let [first, rest @ ..] = broken.as_slice() {
            let more =
                if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            self.notices.push(format!(
                "Of metrics.jsonl, line {first}{more} could not be understood and is left out."
            ));
        }
        Ok(())
    }

    /// Takes in a line of `metrics.jsonl`; `None` if it is not one that a run writes.
    fn take(&mut self, line: &[u8]) -> Option<()> {
        #[derive(Deserialize)]
        struct LoggedPoint {
            round: usize,
            step: u64,
            loss: Option<f64>,
            lr: Option<f64>,
            layers: Vec<usize>,
        }
        #[derive(Deserialize)]
        struct LoggedEvaluation {
            split: String,
            round: usize,
            #[serde(default)]
            model: usize,
            metrics: Map<String, Value>,
        }
        let mut value: Value = serde_json::from_slice(line).ok()?;
        let believed = |layers: &[usize]| layers.iter().all(|l| *l < MOST_LAYERS);
        if let Some(merge) = value.get_mut("merge") {
            let mut merge: Merge = serde_json::from_value(merge.take()).ok()?;
            merge.gain = merge.gain.and_then(finite);
            if !believed(&merge.layers) || !merge.update_norms.keys().all(|l| *l < MOST_LAYERS) {
                return None;
            }
            self.length = merge.round + 1;
            self.merges.push(merge);
        } else if let Some(members) = value.get("ensemble") {
            self.length = members.as_array()?.len();
        } else if value.get("split").is_some() {
            let LoggedEvaluation { split, round, model, metrics } =
                serde_json::from_value(value).ok()?;
            self.evaluations.push(Evaluation { split, round, model, metrics });
        } else {
            let LoggedPoint { round, step, loss, lr, layers } =
                serde_json::from_value(value).ok()?;
            if !believed(&layers) {
                return None;
            }
            self.trained.entry(round).or_default().extend(layers);
            self.steps.push(LoggedStep {
                step,
                loss: loss.and_then(finite),
                lr: lr.and_then(finite),
            });
        }
        Some(())
    }

    /// The recipe's file name.
    pub fn name(&self) -> String {
        let recipe = self.manifest.get("recipe").and_then(Value::as_str).unwrap_or("run");
        Path::new(recipe)
            .file_name()
            .map_or_else(|| recipe.into(), |name| name.to_string_lossy().into_owned())
    }

    /// The parameters after `-p` was applied.
    pub fn parameters(&self) -> Map<String, Value> {
        self.manifest.get("parameters").and_then(Value::as_object).cloned().unwrap_or_default()
    }

    /// The metric that the run is told by: the first of those known that the test, or else any
    /// split, has.
    pub fn metric(&self) -> Option<&'static str> {
        let known =
            ["accuracy", "pearson", "spearman", "f1", "matthews", "nll", "perplexity", "mse"];
        let has =
            |e: &Evaluation, metric: &str| e.metrics.get(metric).is_some_and(Value::is_number);
        let evaluation = self.evaluations.tuned().or_else(|| self.evaluations.all().last())?;
        let told = self.manifest.get("head").and_then(|head| head["metric"].as_str());
        let told = known.into_iter().find(|metric| Some(*metric) == told);
        told.into_iter().chain(known).find(|metric| has(evaluation, metric))
    }

    /// Boosters that the model was the sum of in the end.
    pub fn rounds(&self) -> usize {
        self.length
    }

    pub fn best_round(&self) -> Option<usize> {
        let told = self
            .of_summary("best_round")
            .and_then(Value::as_u64)
            .and_then(|round| usize::try_from(round).ok());
        told.or_else(|| self.evaluations.best_round(&Best::default(), None))
    }

    /// Parameters that the last booster trained.
    pub fn trainable_now(&self) -> Option<u64> {
        self.of_summary("trainable_now")
            .and_then(Value::as_u64)
            .or_else(|| self.merges.last().map(|m| m.parameters))
    }

    /// Parameters trained in all boosters together.
    pub fn trained_in_total(&self) -> Option<u64> {
        let told = self.of_summary("trained_in_total").and_then(Value::as_u64);
        let sum = || self.merges.iter().map(|m| m.parameters).fold(0, u64::saturating_add);
        told.or_else(|| (!self.merges.is_empty()).then(sum))
    }

    /// A number that the clock or the operating system gave at the end.
    pub fn timing(&self, key: &str) -> Option<f64> {
        self.of_summary("timing")?.get(key)?.as_f64().and_then(finite)
    }

    fn of_summary(&self, key: &str) -> Option<&Value> {
        self.summary.as_ref()?.get(key)
    }
}

/// A number of an evaluation, if a chart can show it.
pub fn metric(evaluation: &Evaluation, name: &str) -> Option<f64> {
    evaluation.metrics.get(name).and_then(Value::as_f64).and_then(finite)
}

pub fn finite(value: f64) -> Option<f64> {
    (value.abs() < LARGEST).then_some(value)
}

/// A file's text, whatever is no UTF-8 in it replaced; `None` if there is no such file or it is
/// larger than any of a run.
fn text(path: &Path) -> Result<Option<String>> {
    if !path.is_file() {
        return Ok(None);
    }
    let mut bytes = vec![];
    let read = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
    read.with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok((bytes.len() as u64 <= LONGEST).then(|| String::from_utf8_lossy(&bytes).into_owned()))
}
