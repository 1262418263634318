//! Thresholds: what a run must reach, told by its exit code.

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use super::Evaluations;
use crate::error::bail;

/// A metric and the bound that it must keep.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    /// `test`, or the split that stands before the metric.
    split: String,
    metric: String,
    comparison: Comparison,
    bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// Signs; longer ones first, so that `>=` is not read as `>`.
const SIGNS: [(&str, Comparison); 4] = [
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    (">", Comparison::Above),
    ("<", Comparison::Below),
];

/// How a threshold came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ThresholdOutcome {
    /// As the recipe wrote it: `accuracy >= 0.7`.
    pub threshold: String,
    /// What the last evaluation of the split measured; `None` where there was none, or it has no
    /// such metric.
    pub value: Option<f64>,
    pub met: bool,
}

impl Threshold {
    /// `metric` may have a split before it (`validation.nll`); `condition` is a sign and a number
    /// (`>= 0.7`).
    ///
    /// Errors (class usage): a condition of another form.
    pub fn parse(metric: &str, condition: &str) -> Result<Self> {
        let (split, metric) = metric.split_once('.').unwrap_or(("test", metric));
        if !["train", "validation", "test"].contains(&split) || metric.is_empty() {
            bail!(
                Usage,
                "`threshold` is for a metric such as `accuracy` or `validation.nll`, found \
                 `{split}.{metric}`"
            );
        }
        let text = condition.trim();
        let Some((sign, comparison)) = SIGNS.into_iter().find(|(sign, _)| text.starts_with(sign))
        else {
            bail!(Usage, "a condition begins with one of >=, <=, > and <, found `{condition}`");
        };
        match text[sign.len()..].trim().parse::<f64>() {
            Ok(bound) if bound.is_finite() => {
                Ok(Self { split: split.into(), metric: metric.into(), comparison, bound })
            }
            _ => bail!(Usage, "a condition ends with a number, found `{condition}`"),
        }
    }

    fn holds(&self, value: f64) -> bool {
        match self.comparison {
            Comparison::Above => value > self.bound,
            Comparison::AtLeast => value >= self.bound,
            Comparison::Below => value < self.bound,
            Comparison::AtMost => value <= self.bound,
        }
    }

    /// Whether the last evaluation of its split keeps it.
    pub fn outcome(&self, evaluations: &Evaluations) -> ThresholdOutcome {
        let value = evaluations
            .last(&self.split)
            .and_then(|e| e.metrics.get(&self.metric))
            .and_then(Value::as_f64);
        let sign = SIGNS
            .into_iter()
            .find(|(_, comparison)| *comparison == self.comparison)
            .map_or("", |(sign, _)| sign);
        let split = if self.split == "test" { String::new() } else { format!("{}.", self.split) };
        let threshold = format!("{split}{} {sign} {}", self.metric, self.bound);
        ThresholdOutcome { threshold, value, met: value.is_some_and(|value| self.holds(value)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Evaluation;

    #[test]
    fn conditions_are_read_and_kept() {
        let mut evaluations = Evaluations::default();
        for (split, round, value) in [("test", 0, 0.9), ("test", 4, 0.5), ("validation", 4, 0.25)] {
            let metrics = serde_json::Map::from_iter([("accuracy".into(), value.into())]);
            evaluations.push(Evaluation {
                split: split.into(),
                round,
                metrics,
                ..Default::default()
            });
        }
        for (metric, condition, value, met) in [
            ("accuracy", ">= 0.5", Some(0.5), true),
            ("accuracy", ">0.5", Some(0.5), false),
            ("test.accuracy", "<= 0.5", Some(0.5), true),
            ("validation.accuracy", " < 1e-1 ", Some(0.25), false),
            ("nll", "< 3", None, false),
            ("train.accuracy", "> 0", None, false),
        ] {
            let found = Threshold::parse(metric, condition).unwrap().outcome(&evaluations);
            assert_eq!((found.value, found.met), (value, met), "{metric} {condition}");
        }
        assert_eq!(
            Threshold::parse("validation.nll", "<2.50").unwrap().outcome(&evaluations).threshold,
            "validation.nll < 2.5"
        );
        for (metric, condition) in [
            ("accuracy", "0.5"),
            ("accuracy", ">= many"),
            ("accuracy", ""),
            ("accuracy", "> inf"),
            ("best.accuracy", "> 1"),
            ("", "> 1"),
        ] {
            assert!(Threshold::parse(metric, condition).is_err(), "{metric} {condition}");
        }
    }
}
