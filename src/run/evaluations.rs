//! What the evaluations of a run mean together: base, tuned, best round.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One evaluation, as the recipe made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// `train`, `validation` or `test`.
    pub split: String,
    /// Boosters merged when it was made.
    pub round: usize,
    /// The model that was measured, in the order in which the recipe made models; left out of the
    /// first.
    #[serde(default, skip_serializing_if = "is_first")]
    pub model: usize,
    pub metrics: Map<String, Value>,
}

fn is_first(model: &usize) -> bool {
    *model == 0
}

/// What the clock said of an evaluation.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct EvaluationTiming {
    pub seconds: f64,
}

/// Which metric of the validation split tells the best round, and which way is better.
#[derive(Clone, Debug, PartialEq)]
pub struct Best {
    pub metric: String,
    pub larger: bool,
}

impl Default for Best {
    /// The highest accuracy.
    fn default() -> Self {
        Self { metric: "accuracy".into(), larger: true }
    }
}

/// All evaluations of a run, in the order made.
#[derive(Clone, Debug, Default)]
pub struct Evaluations(Vec<Evaluation>);

impl Evaluations {
    pub fn push(&mut self, evaluation: Evaluation) {
        self.0.push(evaluation);
    }

    pub fn all(&self) -> &[Evaluation] {
        &self.0
    }

    /// The last evaluation of a split.
    pub fn last(&self, split: &str) -> Option<&Evaluation> {
        self.0.iter().rev().find(|e| e.split == split)
    }

    /// The first evaluation of `test` with no booster merged: of the model that was tuned, else of
    /// any.
    pub fn base(&self) -> Option<&Evaluation> {
        let bases = || self.0.iter().filter(|e| e.split == "test" && e.round == 0);
        bases().find(|e| e.model == self.model()).or_else(|| bases().next())
    }

    /// The last evaluation of `test`.
    pub fn tuned(&self) -> Option<&Evaluation> {
        self.last("test")
    }

    /// The model that was tuned, where there are several: the last that was measured on `test`, or
    /// at all.
    fn model(&self) -> usize {
        self.tuned().or(self.0.last()).map_or(0, |e| e.model)
    }

    /// The round of `validation` that is best for a model, the one that was tuned unless it is
    /// named, the earliest of equals; NaN and absent metrics never win.
    pub fn best_round(&self, best: &Best, model: Option<usize>) -> Option<usize> {
        let model = model.unwrap_or_else(|| self.model());
        let value = |e: &Evaluation| {
            e.metrics.get(&best.metric).and_then(Value::as_f64).filter(|v| !v.is_nan())
        };
        let sign = if best.larger { 1.0 } else { -1.0 };
        let mut winner: Option<(f64, usize)> = None;
        for evaluation in self.0.iter().filter(|e| e.split == "validation" && e.model == model) {
            if let Some(value) = value(evaluation).map(|v| v * sign)
                && winner.is_none_or(|(top, round)| {
                    value > top || (value == top && evaluation.round < round)
                })
            {
                winner = Some((value, evaluation.round));
            }
        }
        winner.map(|(_, round)| round)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation(split: &str, round: usize, accuracy: f64) -> Evaluation {
        Evaluation {
            split: split.into(),
            round,
            model: 0,
            metrics: Map::from_iter([("accuracy".into(), accuracy.into())]),
        }
    }

    #[test]
    fn base_tuned_and_best() {
        let mut all = Evaluations::default();
        assert_eq!(
            (all.base(), all.tuned(), all.best_round(&Best::default(), None)),
            (None, None, None)
        );
        for e in [
            ("test", 0, 0.25),
            ("validation", 8, 0.5),
            ("validation", 16, 0.75),
            ("validation", 24, 0.75),
            ("test", 16, 0.7),
        ] {
            all.push(evaluation(e.0, e.1, e.2));
        }
        assert_eq!(all.base().map(|e| e.metrics["accuracy"].clone()), Some(0.25.into()));
        assert_eq!(all.tuned().map(|e| e.round), Some(16));
        assert_eq!(all.best_round(&Best::default(), None), Some(16));
        assert_eq!(
            all.best_round(&Best { metric: "accuracy".into(), larger: false }, None),
            Some(8)
        );
        assert_eq!(all.best_round(&Best { metric: "loss".into(), larger: false }, None), None);
        // Another model has rounds of its own.
        all.push(Evaluation { model: 1, ..evaluation("validation", 4, 0.9) });
        assert_eq!(all.best_round(&Best::default(), None), Some(16));
        assert_eq!(all.best_round(&Best::default(), Some(1)), Some(4));
        all.push(Evaluation { model: 1, ..evaluation("test", 4, 0.8) });
        assert_eq!(all.base().map(|e| e.model), Some(0));
        all.push(Evaluation { model: 1, ..evaluation("test", 0, 0.3) });
        assert_eq!(all.base().map(|e| e.model), Some(1));
        assert_eq!(all.best_round(&Best::default(), None), Some(4));
    }
}
