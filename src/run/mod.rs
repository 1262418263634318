//! One execution of a recipe, and the folder that holds all it produced.

mod ensemble;
mod evaluations;
mod folder;
pub mod journal;
mod kept;
mod manifest;
mod metrics;
mod noted;
mod predictions;
pub mod report;
mod resume;
mod samples;
mod saved;
mod states;
mod summary;
pub mod sweep;
mod threshold;
mod watch;
mod wording;

pub use ensemble::{Ensemble, Member};
pub use evaluations::{Best, Evaluation, EvaluationTiming, Evaluations, Tested};
pub use folder::{Folder, booster_name};
pub use journal::Journal;
pub use kept::FinishedRun;
pub use manifest::{Begun, CREATED, Manifest, digest};
pub use metrics::{Merge, Metrics, Point, PointTiming};
pub use resume::Left;
pub use samples::Sample;
pub use saved::SavedPaths;
pub use states::BoosterStates;
pub use summary::{Summary, SummaryTiming, TestSummary};
pub use sweep::{MOST as MOST_ROWS, Sweep, SweepPoint};
pub use threshold::{Threshold, ThresholdOutcome};
pub use watch::{FitLosses, Watch};
pub use wording::{duration, grouped};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::sys;
use journal::Record;
use predictions::Predictions;

/// An open run: its folder and what has been recorded so far.
#[derive(Debug)]
pub struct Run {
    pub folder: Folder,
    pub metrics: Metrics,
    pub evaluations: Evaluations,
    /// Which evaluation of `validation` wins.
    pub best: Best,
    pub training: Training,
    pub states: BoosterStates,
    pub saved: SavedPaths,
    pub sweep: Sweep,
    /// Texts that were kept.
    pub samples: usize,
    predictions: Predictions,
    watch: Watch,
    /// What the watch saw.
    warnings: Vec<String>,
    pub ending: Ending,
    manifest: Manifest,
    /// Of a run that writes.
    journal: Option<Journal>,
    /// Which boosters models are the sum of, by the boosters' folder; not written yet.
    lists: BTreeMap<PathBuf, Ensemble>,
    /// Of a run that has no folder yet.
    draft: Option<Draft>,
}

/// What the folder of a run is made of, once there is something to keep.
#[derive(Debug)]
struct Draft {
    out: Option<PathBuf>,
    recipe: String,
}

/// How a run came to its end.
#[derive(Debug, Default)]
pub struct Ending {
    /// Stopped before its recipe ended.
    pub interrupted: bool,
    /// How the thresholds came out.
    pub outcomes: Vec<ThresholdOutcome>,
}

/// What has been trained, summed over the run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Training {
    /// Parameters that the last booster trains.
    pub trainable_now: Option<u64>,
    /// Parameters trained in all boosters together.
    pub trained_in_total: u64,
    pub steps: u64,
    pub tokens: u64,
    /// Time spent in `fit`.
    pub seconds: f64,
    /// What the memory formula said that the run would hold at most, in MiB.
    #[serde(skip)]
    pub predicted_peak_mib: Option<f64>,
    /// Time spent on keeping what was done, by this process.
    #[serde(skip)]
    pub keeping_seconds: f64,
    /// The share of the boosters' sum that 16-bit weights show, when they are final.
    #[serde(skip)]
    pub captured: Option<f64>,
    /// SHA-256 of the weights, when they are final.
    #[serde(skip)]
    pub weights_digest: Option<String>,
}

impl Run {
    /// A run that has no folder until [`Run::settle`] makes it. Errors (class usage): `out` is
    /// taken.
    pub fn draft(out: Option<&Path>, manifest: Manifest, recipe: &str) -> Result<Self> {
        out.map_or(Ok(()), Folder::free)?;
        let draft = Draft { out: out.map(Path::to_path_buf), recipe: recipe.to_owned() };
        let run = Self::begin(Folder::dry(), manifest, None, 0)?;
        Ok(Self { draft: Some(draft), ..run })
    }

    /// Whether the run has its folder, if it is to have one.
    pub fn is_settled(&self) -> bool {
        self.draft.is_none()
    }

    /// Makes the run folder (see [`Folder::create`]) with `run.json` and the recipe's text, where
    /// there is none yet.
    pub fn settle(&mut self) -> Result<()> {
        let Some(Draft { out, recipe }) = self.draft.take() else { return Ok(()) };
        let name = Path::new(&self.manifest.recipe)
            .file_stem()
            .map_or("recipe".into(), |s| s.to_string_lossy().into_owned());
        let folder = Folder::create(out.as_deref(), &name)?;
        folder.write("recipe.rhai", recipe.as_bytes())?;
        self.manifest.save(&folder)?;
        self.journal = Some(Journal::create(folder.path(), self.manifest.seed)?);
        self.metrics = Metrics::open(&folder, 0)?;
        self.folder = folder;
        Ok(())
    }

    /// A run that writes nothing: for looking at what a recipe would do.
    pub fn dry(manifest: Manifest) -> Result<Self> {
        Self::begin(Folder::dry(), manifest, None, 0)
    }

    fn begin(
        folder: Folder,
        manifest: Manifest,
        journal: Option<Journal>,
        metrics: u64,
    ) -> Result<Self> {
        Ok(Self {
            metrics: Metrics::open(&folder, metrics)?,
            folder,
            evaluations: Evaluations::default(),
            best: Best::default(),
            training: Training::default(),
            states: BoosterStates::default(),
            saved: SavedPaths::default(),
            sweep: Sweep::default(),
            samples: 0,
            predictions: Predictions::default(),
            watch: Watch::default(),
            warnings: vec![],
            ending: Ending::default(),
            manifest,
            journal,
            lists: BTreeMap::new(),
            draft: None,
        })
    }

    /// The path of the file `name` of a booster in training, which is kept until
    /// [`Run::drop_state`].
    pub fn keep_state(&mut self, name: &str) -> Result<PathBuf> {
        self.states.keep(name);
        self.folder.training(name)
    }

    /// Removes a booster's file: there is a newer one, or it is merged. One that was the newest
    /// while another booster was merged stays, since the run may be done anew from there.
    pub fn drop_state(&mut self, name: &str, merged: bool) {
        self.states.drop(&self.folder, name, merged);
    }

    /// Keeps a module from beside the recipe.
    pub fn keep_module(&mut self, path: &str, text: &str) -> Result<()> {
        self.folder.keep_module(path, text)?;
        let digest = digest(text.as_bytes());
        if self.manifest.digests.get(path) == Some(&digest) {
            Ok(())
        } else {
            self.note_digest(path, digest)
        }
    }

    /// Adds a record to the journal.
    pub fn record(&mut self, record: &Record) -> Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.append(record)?;
        if !journal.is_due() {
            return Ok(());
        }
        journal.tells_of(Metrics::path(&self.folder));
        journal.sync_soon()?;
        self.write_lists()
    }

    /// Length of the journal.
    pub fn journal_bytes(&self) -> u64 {
        self.journal.as_ref().map_or(0, Journal::bytes)
    }

    /// Notes a file that the next record tells of.
    pub fn tells_of(&mut self, path: PathBuf) {
        if let Some(journal) = &mut self.journal {
            journal.tells_of(path);
        }
    }

    /// Notes which boosters, in `folder`, a model is the sum of. It is written from time to time: a
    /// run that goes on reads its journal.
    pub fn lists(&mut self, folder: PathBuf, ensemble: &Ensemble) {
        self.lists.insert(folder, ensemble.clone());
    }

    /// Brings the journal, and what it tells of, to the disk.
    pub fn sync(&mut self) -> Result<()> {
        self.write_lists()?;
        self.metrics.sync()?;
        self.journal.as_mut().map_or(Ok(()), Journal::sync)
    }

    fn write_lists(&mut self) -> Result<()> {
        std::mem::take(&mut self.lists)
            .iter()
            .try_for_each(|(folder, ensemble)| ensemble.save(folder))
    }

    /// Notes what the recipe saved as `name` before the run was taken up.
    pub fn has_saved(&mut self, name: &str) {
        self.saved.note(&self.folder, name);
    }

    /// The path of something that the recipe saves as `name` (see [`SavedPaths::add`]).
    pub fn saves(&mut self, name: &str) -> Result<PathBuf> {
        self.saved.add(&self.folder, name)
    }

    /// Records an evaluation, in memory for the summary and as a line of `metrics.jsonl`.
    pub fn evaluated(&mut self, evaluation: Evaluation, timing: EvaluationTiming) -> Result<()> {
        #[derive(serde::Serialize)]
        struct EvaluationLine<'a> {
            #[serde(flatten)]
            evaluation: &'a Evaluation,
            timing: EvaluationTiming,
        }
        self.metrics.log(&EvaluationLine { evaluation: &evaluation, timing })?;
        self.recall_evaluation(evaluation);
        Ok(())
    }

    /// Takes over an evaluation of an earlier process.
    pub fn recall_evaluation(&mut self, evaluation: Evaluation) {
        self.evaluations.push(Evaluation { point: self.sweep.current(), ..evaluation });
    }

    /// Looks out for what does harm; what is seen is kept, with the point of a sweep that it
    /// belongs to.
    pub fn watched(&mut self, look: impl FnOnce(&mut Watch) -> Option<String>) -> Option<String> {
        let seen = look(&mut self.watch)?;
        let point = self.sweep.current().map(|i| sweep::label(&self.sweep.points[i].settings));
        let warning = point.map_or(seen.clone(), |point| format!("{point}: {seen}"));
        self.warnings.push(warning.clone());
        Some(warning)
    }

    /// Begins a point of a sweep.
    pub fn begin_point(&mut self, point: SweepPoint) {
        self.sweep.begin(point);
        self.watch.restart();
    }

    /// Keeps what was said to each item of an evaluation; how many bytes `predictions.jsonl` has
    /// then.
    pub fn predicted(
        &mut self,
        evaluation: &Evaluation,
        told: &[Map<String, Value>],
    ) -> Result<u64> {
        let bytes = self.predictions.add(&self.folder, evaluation, told)?;
        self.tells_of(Predictions::path(&self.folder));
        Ok(bytes)
    }

    /// Takes over that `predictions.jsonl` had so many bytes.
    pub fn recall_predictions(&mut self, bytes: u64) {
        self.predictions.bytes = bytes;
    }

    /// Records something by its name, as a line of `metrics.jsonl`.
    pub fn log_kept(&mut self, name: &str, kept: &impl Serialize) -> Result<()> {
        self.metrics.log(&BTreeMap::from([(name, kept)]))
    }

    /// Records a merge, as a line of `metrics.jsonl`; `seconds` is the time since the run began,
    /// `merge_seconds` how long the weights were changed.
    pub fn merged(&mut self, merge: &Merge, seconds: f64, merge_seconds: f64) -> Result<()> {
        self.metrics.log(&serde_json::json!({
            "merge": merge, "timing": { "seconds": seconds, "merge_seconds": merge_seconds },
        }))
    }

    /// Records which boosters the model is the sum of, where it is no longer that of all, as a line
    /// of `metrics.jsonl`.
    pub fn composed(&mut self, ensemble: &Ensemble) -> Result<()> {
        self.metrics.log(&serde_json::json!({ "ensemble": ensemble.members() }))
    }

    /// Writes `summary.json` and, of all that is then in the folder, `report.html`; `seconds` is
    /// the time that the run took. Until a run that was taken up is `through` what it did before,
    /// its files may be needed yet.
    pub fn finish(&mut self, seconds: f64, through: bool) -> Result<Summary> {
        let training = &self.training;
        let summary = Summary {
            base: self.evaluations.base().map(Evaluation::named),
            tuned: self.evaluations.tuned().map(Evaluation::named),
            tests: TestSummary::several(&self.evaluations),
            best_round: self.evaluations.best_round(&self.best),
            trainable_now: training.trainable_now,
            trained_in_total: training.trained_in_total,
            captured: training.captured,
            weights_digest: training.weights_digest.clone(),
            points: self.sweep.groups(),
            rows: self.sweep.rows.clone(),
            warnings: self.warnings.clone(),
            interrupted: self.ending.interrupted,
            thresholds: self.ending.outcomes.clone(),
            timing: SummaryTiming {
                seconds,
                tokens_per_second: (training.seconds > 0.0)
                    .then(|| training.tokens as f64 / training.seconds),
                peak_rss_mib: sys::peak_rss_mib(),
                predicted_peak_mib: training.predicted_peak_mib,
                keeping_seconds: training.keeping_seconds,
            },
        };
        self.sync()?;
        if through {
            self.predictions.cut(&self.folder)?;
            self.states.tidy(&self.folder);
            self.saved.tidy(&self.folder);
        }
        summary.save(&self.folder)?;
        let folder = self.folder.path().display();
        let again = || {
            format!(
                "the run `{folder}` is complete but for its report, which `xgbrun report {folder}` \
                 writes"
            )
        };
        report::write(&self.folder).with_context(again)?;
        Ok(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_before_there_is_a_folder_is_in_it_then() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("run");
        let mut run = Run::draft(Some(&out), Manifest::default(), "text").unwrap();
        run.note_digest("model", "0").unwrap();
        assert!(!run.is_settled() && !out.exists());
        run.settle().unwrap();
        assert!(run.is_settled() && out.join("journal.jsonl").exists());
        assert_eq!(Manifest::read(&out).unwrap().digests["model"], "0");
        assert_eq!(std::fs::read_to_string(out.join("recipe.rhai")).unwrap(), "text");
        let taken = Run::draft(Some(&out), Manifest::default(), "").unwrap_err().to_string();
        assert!(taken.ends_with("is not empty; give `--out` a new or empty folder"), "{taken}");
    }

    #[test]
    fn a_report_that_cannot_be_written_is_named_and_nothing_else_is_lost() {
        let home = tempfile::tempdir().unwrap();
        let mut run = Run::draft(Some(home.path()), Manifest::default(), "").unwrap();
        run.settle().unwrap();
        std::fs::create_dir_all(home.path().join("report.html/in the way")).unwrap();
        run.note_digest("model", "0").unwrap();
        let error = format!("{:#}", run.finish(1.0, true).unwrap_err());
        assert!(error.contains("is complete but for its report, which `xgbrun report "), "{error}");
        assert!(error.contains("/report.html`: "), "{error}");
        assert!(home.path().join("summary.json").exists());
    }
}
