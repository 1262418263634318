//! `summary.json`: what came out of a run, in one object.

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};

use super::sweep::PointGroup;
use super::{Evaluation, Evaluations, Folder, ThresholdOutcome};

/// The outcome; `None` stands for what the recipe did not do.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Metrics of the same before any booster.
    pub base: Option<Map<String, Value>>,
    /// Metrics of the last evaluation of `test`; with the name of its task, where that is one.
    pub tuned: Option<Map<String, Value>>,
    /// Of several sets of `test` that were measured one by one, each; the key is absent otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<TestSummary>,
    /// The best round of `validation`.
    pub best_round: Option<usize>,
    /// Parameters that the last booster trains.
    pub trainable_now: Option<u64>,
    /// Parameters trained in all boosters together.
    pub trained_in_total: u64,
    /// The share of all boosters' sum that 16-bit weights show; the key is absent where they are
    /// wider, or each merge was rounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub captured: Option<f64>,
    /// SHA-256 of the weights at the end.
    pub weights_digest: Option<String>,
    /// Points of a sweep by their settings; the key is absent without one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<PointGroup>,
    /// Rows of tables that the recipe made; the key is absent without one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Map<String, Value>>,
    /// What the program saw go wrong in training; the key is absent otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The run was stopped before its recipe ended; the key is absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// How the recipe's thresholds came out; the key is absent without one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub thresholds: Vec<ThresholdOutcome>,
    pub timing: SummaryTiming,
}

/// What the clock and the operating system said.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SummaryTiming {
    pub seconds: f64,
    /// Training tokens over the time spent in `fit`; `None` if nothing was trained.
    pub tokens_per_second: Option<f64>,
    pub peak_rss_mib: f64,
    /// What the memory formula said before it was held; `None` where nothing went through a
    /// network.
    pub predicted_peak_mib: Option<f64>,
    /// Spent on the journal, boosters' files and checkpoints; of a run taken up, since then.
    pub keeping_seconds: f64,
}

/// What `test` of one of several sets gave at first and at last.
#[derive(Clone, Debug, Serialize)]
pub struct TestSummary {
    /// Its task, or how many it has.
    pub task: String,
    pub base: Option<Map<String, Value>>,
    pub tuned: Map<String, Value>,
}

impl TestSummary {
    /// Each of several sets; nothing of a single one.
    pub fn several(evaluations: &Evaluations) -> Vec<Self> {
        let tests = evaluations.tests();
        if tests.len() < 2 {
            return vec![];
        }
        let metrics = |e: &Evaluation| e.metrics.clone();
        let one = |test: &super::Tested| Self {
            task: test.tuned.label(),
            base: test.base.map(metrics),
            tuned: metrics(test.tuned),
        };
        tests.iter().map(one).collect()
    }
}

impl Summary {
    pub fn save(&self, folder: &Folder) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        folder.write("summary.json", text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_memory_are_under_timing() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::create(Some(home.path()), "x").unwrap();
        Summary { best_round: Some(3), ..Summary::default() }.save(&folder).unwrap();
        let value: Value =
            serde_json::from_slice(&std::fs::read(home.path().join("summary.json")).unwrap())
                .unwrap();
        let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            [
                "base",
                "tuned",
                "best_round",
                "trainable_now",
                "trained_in_total",
                "weights_digest",
                "timing"
            ]
        );
        assert!(value["timing"]["peak_rss_mib"].is_number());
    }
}
