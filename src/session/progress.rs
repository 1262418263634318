//! How far a fit is: what the journal keeps of it, and what it answers with.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::call::Effects;
use crate::data::DataLoaderState;
use crate::error::error;
use crate::run::{FitLosses, Training};
use crate::train::StepRecord;

/// Where a fit stands, or where it ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FitProgress {
    /// The booster's file in training.
    pub(super) file: String,
    /// The file's SHA-256; runs of earlier versions did not note it.
    #[serde(default)]
    pub(super) sha256: Option<String>,
    /// Where its data stand.
    pub(super) feed: DataLoaderState,
    pub(super) tally: Tally,
    /// By how much the booster lowered the loss so far; runs of earlier versions did not note it.
    #[serde(default)]
    pub(super) gain: Option<f64>,
    /// What the run has trained so far.
    pub(super) training: Training,
}

impl FitProgress {
    pub(super) fn effects(&self) -> anyhow::Result<Effects> {
        let mut effects = match serde_json::to_value(self)? {
            Value::Object(effects) => effects,
            _ => Effects::new(),
        };
        // The one part that a clock measured.
        let seconds =
            effects.get_mut("training").and_then(|t| t.as_object_mut()?.remove("seconds"));
        effects.insert("timing".into(), json!({ "seconds": seconds }));
        Ok(effects)
    }

    /// Errors (class data): nothing that [`FitProgress::effects`] gave.
    pub(super) fn read(effects: &Effects) -> anyhow::Result<Self> {
        let mut effects = effects.clone();
        let seconds =
            effects.get("timing").and_then(|t| t.get("seconds")).cloned().unwrap_or(json!(0.0));
        if let Some(training) = effects.get_mut("training").and_then(Value::as_object_mut) {
            training.insert("seconds".into(), seconds);
        }
        serde_json::from_value(Value::Object(effects)).map_err(|e| {
            error!(Data, "the journal tells of a fit, but not how far it was: {e}").into()
        })
    }
}

/// The losses of a fit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    first: f64,
    last: f64,
    sum: f64,
    pub(super) steps: usize,
    tokens: u64,
    /// Of the second half of its steps: the sum of their losses, and how many they are.
    #[serde(default)]
    late: (f64, usize),
}

impl Tally {
    /// Takes in a step of the `steps` that the fit has in all.
    pub(super) fn add(&mut self, record: &StepRecord, steps: usize) {
        if self.steps == 0 {
            self.first = record.loss;
        }
        self.last = record.loss;
        self.sum += record.loss;
        if record.step > steps / 2 {
            self.late = (self.late.0 + record.loss, self.late.1 + 1);
        }
        self.steps = record.step;
        self.tokens += record.tokens as u64;
    }

    /// What the fit did to the loss.
    pub(super) fn losses(&self, gain: Option<f64>) -> FitLosses {
        let mean = |sum: f64, steps: usize| sum / steps.max(1) as f64;
        FitLosses {
            steps: self.steps,
            first: self.first,
            mean: mean(self.sum, self.steps),
            late: mean(self.late.0, self.late.1),
            gain,
        }
    }

    /// What `fit` answers with.
    pub(super) fn answer(&self, gain: Option<f64>) -> Map<String, Value> {
        Map::from_iter([
            ("first_loss".into(), json!(self.first)),
            ("last_loss".into(), json!(self.last)),
            ("mean_loss".into(), json!(self.sum / self.steps as f64)),
            ("steps".into(), json!(self.steps)),
            ("tokens".into(), json!(self.tokens)),
            ("gain".into(), json!(gain)),
        ])
    }
}
