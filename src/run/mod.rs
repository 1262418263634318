//! One execution of a recipe, and the folder that holds all it produced.

mod ensemble;
mod evaluations;
mod folder;
mod kept;
mod manifest;
mod metrics;
pub mod report;
mod summary;
mod wording;

pub use ensemble::{Ensemble, Member};
pub use evaluations::{Best, Evaluation, EvaluationTiming, Evaluations};
pub use folder::{Folder, booster_name};
pub use kept::Kept;
pub use manifest::{Manifest, digest};
pub use metrics::{Merge, Metrics, Point, PointTiming};
pub use summary::{Summary, SummaryTiming, peak_rss_mib, resident_bytes};
pub use wording::{duration, grouped};

use std::path::Path;

use anyhow::{Context, Result};

/// An open run: its folder and what has been recorded so far.
#[derive(Debug)]
pub struct Run {
    pub folder: Folder,
    pub metrics: Metrics,
    pub evaluations: Evaluations,
    /// Which evaluation of `validation` wins.
    pub best: Best,
    pub training: Training,
    /// Stopped before its recipe ended.
    pub interrupted: bool,
    manifest: Manifest,
}

/// What has been trained, summed over the run.
#[derive(Clone, Debug, Default)]
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
    pub predicted_peak_mib: Option<f64>,
    /// SHA-256 of the weights, when they are final.
    pub weights_digest: Option<String>,
}

impl Run {
    /// Makes the run folder (see [`Folder::create`]) with `run.json` and the recipe's text.
    pub fn create(out: Option<&Path>, manifest: Manifest, recipe: &str) -> Result<Self> {
        let name = Path::new(&manifest.recipe).file_stem().map_or("recipe".into(), |s| s.to_string_lossy().into_owned());
        Self::begin(Folder::create(out, &name)?, manifest, recipe)
    }

    /// A run that writes nothing: for looking at what a recipe would do.
    pub fn dry(manifest: Manifest) -> Result<Self> {
        Self::begin(Folder::dry(), manifest, "")
    }

    fn begin(folder: Folder, manifest: Manifest, recipe: &str) -> Result<Self> {
        folder.write("recipe.rhai", recipe.as_bytes())?;
        manifest.save(&folder)?;
        let metrics = Metrics::create(&folder)?;
        let (evaluations, best, training) = Default::default();
        Ok(Self { folder, metrics, evaluations, best, training, interrupted: false, manifest })
    }

    /// Records an evaluation, in memory for the summary and as a line of `metrics.jsonl`.
    pub fn evaluated(&mut self, evaluation: Evaluation, timing: EvaluationTiming) -> Result<()> {
        #[derive(serde::Serialize)]
        struct Line<'a> {
            #[serde(flatten)]
            evaluation: &'a Evaluation,
            timing: EvaluationTiming,
        }
        self.metrics.log(&Line { evaluation: &evaluation, timing })?;
        self.evaluations.push(evaluation);
        Ok(())
    }

    /// Records a merge, as a line of `metrics.jsonl`; `seconds` is the time since the run began.
    pub fn merged(&mut self, merge: &Merge, seconds: f64) -> Result<()> {
        self.metrics.log(&serde_json::json!({ "merge": merge, "timing": { "seconds": seconds } }))
    }

    /// Records which boosters the model is the sum of, where it is no longer that of all, as a line of `metrics.jsonl`.
    pub fn composed(&mut self, ensemble: &Ensemble) -> Result<()> {
        self.metrics.log(&serde_json::json!({ "ensemble": ensemble.members() }))
    }

    /// Notes the SHA-256 of something that was read, in `run.json`.
    pub fn note_digest(&mut self, name: impl Into<String>, digest: impl Into<String>) -> Result<()> {
        self.manifest.digests.insert(name.into(), digest.into());
        self.manifest.save(&self.folder)
    }

    /// Notes a model that was loaded, and the SHA-256 of its weights, in `run.json`; its index, 0 for the run's own.
    pub fn note_model(&mut self, name: &str, digest: impl Into<String>) -> Result<usize> {
        self.manifest.models.push(name.into());
        self.note_digest(name, digest)?;
        Ok(self.manifest.models.len() - 1)
    }

    /// The run's own model, by the name that the recipe gave it.
    pub fn model(&self) -> Option<&str> {
        self.manifest.models.first().map(String::as_str)
    }

    /// Notes the template of what is trained on, in `run.json`.
    pub fn note_template(&mut self, name: &str) -> Result<()> {
        if self.manifest.template.as_deref() == Some(name) {
            return Ok(());
        }
        self.manifest.template = Some(name.into());
        self.manifest.save(&self.folder)
    }

    /// Writes `summary.json` and, of all that is then in the folder, `report.html`; `seconds` is the time that the run took.
    pub fn finish(&self, seconds: f64) -> Result<Summary> {
        let training = &self.training;
        let summary = Summary {
            base: self.evaluations.base().map(|e| e.metrics.clone()),
            tuned: self.evaluations.tuned().map(|e| e.metrics.clone()),
            best_round: self.evaluations.best_round(&self.best),
            trainable_now: training.trainable_now,
            trained_in_total: training.trained_in_total,
            weights_digest: training.weights_digest.clone(),
            interrupted: self.interrupted,
            timing: SummaryTiming {
                seconds,
                tokens_per_second: (training.seconds > 0.0).then(|| training.tokens as f64 / training.seconds),
                peak_rss_mib: peak_rss_mib(),
                predicted_peak_mib: training.predicted_peak_mib,
            },
        };
        summary.save(&self.folder)?;
        let folder = self.folder.path().display();
        let again = || format!("the run `{folder}` is complete but for its report, which `xgbrun report {folder}` writes");
        report::write(&self.folder).with_context(again)?;
        Ok(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_cannot_be_written_is_named_and_nothing_else_is_lost() {
        let home = tempfile::tempdir().unwrap();
        let mut run = Run::create(Some(home.path()), Manifest::default(), "").unwrap();
        std::fs::create_dir_all(home.path().join("report.html/in the way")).unwrap();
        run.note_digest("model", "0").unwrap();
        let error = format!("{:#}", run.finish(1.0).unwrap_err());
        assert!(error.contains("is complete but for its report, which `xgbrun report "), "{error}");
        assert!(error.contains("/report.html`: "), "{error}");
        assert!(home.path().join("summary.json").exists());
    }
}
