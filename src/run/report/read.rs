//! A run folder read back. Only `run.json` must be there; what else is missing, cut short or not
//! understood is left out and told.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::trace::{LoggedStep, Trace};
use crate::error::bail;
use crate::run::sweep;
use crate::run::{Best, Evaluation, Folder, MOST_ROWS, Merge, Sample, Sweep};

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
    /// What was trained and measured; of a run that did so in points of a sweep only, what the best
    /// of them did.
    pub trace: Trace,
    pub sweep: Sweep,
    /// What was trained and measured in each point of the sweep.
    pub points: Vec<Trace>,
    /// The point that `trace` is of.
    pub shown: Option<String>,
    /// Texts that were generated on the way.
    pub samples: Vec<Sample>,
    /// What is not as it should be, in sentences.
    pub notices: Vec<String>,
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
        run.show_a_point();
        Ok(run)
    }

    /// Where nothing was trained but in points of a sweep, shows the best of them, or else the
    /// first.
    fn show_a_point(&mut self) {
        self.points =
            std::mem::take(&mut self.points).into_iter().map(Trace::counted_anew).collect();
        if self.points.is_empty() {
            return;
        }
        if !self.trace.is_untrained() {
            self.trace = std::mem::take(&mut self.trace).counted_anew();
            return;
        }
        let groups = self.sweep.groups();
        let best = groups.iter().find(|group| group.best);
        let i = best.and_then(|group| group.members.first()).copied().unwrap_or(0);
        let before = std::mem::replace(&mut self.trace, self.points[i].clone());
        let (mut evaluations, own) = (before.evaluations, self.trace.evaluations.all().to_vec());
        own.into_iter().for_each(|evaluation| evaluations.push(evaluation));
        self.trace.evaluations = evaluations;
        self.shown = Some(sweep::label(&self.sweep.points[i].settings));
    }

    /// Where a line belongs: to the point that is open, or to the run.
    fn open(&mut self) -> &mut Trace {
        match self.sweep.current() {
            Some(point) => &mut self.points[point],
            None => &mut self.trace,
        }
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
            #[serde(default)]
            task: String,
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
            let trace = self.open();
            trace.length = merge.round + 1;
            trace.merges.push(merge);
        } else if let Some(members) = value.get("ensemble") {
            self.open().length = members.as_array()?.len();
        } else if let Some(point) = value.get_mut("point") {
            if self.points.len() >= MOST_ROWS {
                return None;
            }
            self.sweep.begin(serde_json::from_value(point.take()).ok()?);
            self.points.push(Trace::default());
        } else if let Some(result) = value.get_mut("result") {
            self.sweep.end(result.take());
        } else if let Some(row) = value.get_mut("row") {
            self.sweep.rows.push(serde_json::from_value(row.take()).ok()?);
        } else if let Some(sample) = value.get_mut("sample") {
            self.samples.push(serde_json::from_value(sample.take()).ok()?);
        } else if let Some(warning) = value.get("warning") {
            self.notices.push(format!("{}.", warning.as_str()?));
        } else if value.get("split").is_some() {
            let LoggedEvaluation { split, round, model, task, metrics } =
                serde_json::from_value(value).ok()?;
            let point = None;
            let evaluation = Evaluation { split, round, model, task, point, metrics };
            self.open().evaluations.push(evaluation);
        } else {
            let LoggedPoint { round, step, loss, lr, layers } =
                serde_json::from_value(value).ok()?;
            if !believed(&layers) {
                return None;
            }
            let trace = self.open();
            trace.trained.entry(round).or_default().extend(layers);
            trace.steps.push(LoggedStep {
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
        let evaluations = &self.trace.evaluations;
        let evaluation = evaluations.tuned().or_else(|| evaluations.all().last())?;
        let told = self.manifest.get("head").and_then(|head| head["metric"].as_str());
        let told = known.into_iter().find(|metric| Some(*metric) == told);
        told.into_iter().chain(known).find(|metric| has(evaluation, metric))
    }

    /// Which point of the sweep is shown, where nothing was trained outside of points.
    pub fn shown_point(&self) -> String {
        self.shown.as_ref().map_or(String::new(), |point| format!(" Shown is the point {point}."))
    }

    /// Boosters that the model was the sum of in the end.
    pub fn rounds(&self) -> usize {
        self.trace.length
    }

    pub fn best_round(&self) -> Option<usize> {
        let told = self
            .of_summary("best_round")
            .and_then(Value::as_u64)
            .and_then(|round| usize::try_from(round).ok());
        told.or_else(|| self.trace.evaluations.best_round(&Best::default()))
    }

    /// Parameters that the last booster trained.
    pub fn trainable_now(&self) -> Option<u64> {
        self.of_summary("trainable_now")
            .and_then(Value::as_u64)
            .or_else(|| self.trace.merges.last().map(|m| m.parameters))
    }

    /// Parameters trained in all boosters together.
    pub fn trained_in_total(&self) -> Option<u64> {
        let told = self.of_summary("trained_in_total").and_then(Value::as_u64);
        let sum = || self.trace.merges.iter().map(|m| m.parameters).fold(0, u64::saturating_add);
        told.or_else(|| (!self.trace.merges.is_empty()).then(sum))
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
