//! Looks out for training that does harm, and says so once.
//!
//! Losses of single batches are noise: a rise must show in the gain, which compares the model with
//! and without a booster on one batch, and over a window of steps or a row of boosters.

use std::collections::{BTreeMap, BTreeSet};

/// By what share of the loss before it a booster must have raised it, on its last batch and in the
/// second half of its steps.
const RAISED: f64 = 0.1;
/// The least steps of a fit that is judged by its losses.
const STEPS: usize = 4;
/// How many merged boosters in a row must have raised the loss, and by what share together.
const IN_A_ROW: usize = 4;
const TOGETHER: f64 = 0.05;

/// What a fit did to the loss.
#[derive(Clone, Copy, Debug, Default)]
pub struct FitLosses {
    pub steps: usize,
    /// Before the first step.
    pub first: f64,
    /// The mean over its steps.
    pub mean: f64,
    /// The mean over the second half of its steps.
    pub late: f64,
    /// By how much the booster lowered the loss of its last batch.
    pub gain: Option<f64>,
}

/// What was seen of a model, since it was loaded or a point of a sweep began.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// The mean loss of the last fit.
    loss: f64,
    /// Boosters in a row that raised the loss, and by how much together.
    row: (usize, f64),
    said: BTreeSet<&'static str>,
}

/// What was seen in a run, by model.
#[derive(Clone, Debug, Default)]
pub struct Watch(BTreeMap<usize, Seen>);

impl Watch {
    /// Begins anew: a point of a sweep is a training of its own.
    pub fn restart(&mut self) {
        self.0.clear();
    }

    /// Takes in a fit of a booster for `round`; says what is wrong, the first time.
    pub fn fitted(&mut self, model: usize, round: usize, fit: FitLosses) -> Option<String> {
        let seen = self.0.entry(model).or_default();
        seen.loss = fit.mean;
        let raised = fit.gain.is_some_and(|gain| gain < -RAISED * fit.first);
        let wrong = fit.steps >= STEPS && raised && fit.late > (1.0 + RAISED) * fit.first;
        (wrong && seen.said.insert("fit")).then(|| {
            format!(
                "training diverges in round {round}: the loss was {:.2} before the booster and \
                 {:.2} over the second half of its steps; lower the learning rate or clip the \
                 gradient",
                fit.first, fit.late
            )
        })
    }

    /// Takes in a merge of a booster of `round`; says what is wrong, the first time.
    pub fn merged(&mut self, model: usize, round: usize, gain: Option<f64>) -> Option<String> {
        let seen = self.0.entry(model).or_default();
        match gain {
            Some(gain) if gain < 0.0 => seen.row = (seen.row.0 + 1, seen.row.1 - gain),
            Some(_) => seen.row = (0, 0.0),
            None => {}
        }
        let (count, sum) = seen.row;
        let wrong = count >= IN_A_ROW && sum > TOGETHER * seen.loss;
        (wrong && seen.said.insert("row")).then(|| {
            format!(
                "{count} boosters in a row have raised the loss, up to round {round} by {sum:.2} \
                 nats a token; lower the learning rate or stop earlier"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(first: f64, late: f64, gain: f64) -> FitLosses {
        FitLosses { steps: 16, first, mean: (first + late) / 2.0, late, gain: Some(gain) }
    }

    #[test]
    fn divergence_is_said_once_and_noise_is_not() {
        let mut watch = Watch::default();
        // One batch is harder than the first, but the booster helped; or it harmed by little.
        assert_eq!(watch.fitted(0, 0, fit(4.28, 4.9, 2.0)), None);
        assert_eq!(watch.fitted(0, 1, fit(2.6, 2.7, -0.05)), None);
        // One batch was harmed, the others were not, or by little.
        assert_eq!(watch.fitted(0, 1, fit(3.1, 3.24, -0.5)), None);
        assert_eq!(watch.fitted(0, 1, fit(2.6, 2.1, -0.5)), None);
        assert_eq!(watch.fitted(0, 1, FitLosses { steps: 3, ..fit(4.28, 9.1, -1.7) }), None);
        let said = watch.fitted(0, 2, fit(4.28, 9.1, -1.7)).unwrap();
        assert!(said.starts_with("training diverges in round 2: the loss was 4.28"), "{said}");
        assert_eq!(watch.fitted(0, 3, fit(4.28, 9.1, -1.7)), None);
        assert!(watch.fitted(1, 3, fit(4.28, 9.1, -1.7)).is_some());
        watch.restart();
        assert!(watch.fitted(0, 0, fit(4.28, 9.1, -1.7)).is_some());
    }

    #[test]
    fn losses_in_a_row_are_said_and_small_ones_are_not() {
        let mut watch = Watch::default();
        watch.fitted(0, 0, fit(1.0, 1.0, 0.0));
        for round in 0..20 {
            assert_eq!(watch.merged(0, round, Some(-0.001)), None);
        }
        assert_eq!(watch.merged(0, 20, Some(0.1)), None);
        for round in 21..24 {
            assert_eq!(watch.merged(0, round, Some(-0.1)), None);
        }
        // What was not measured tells nothing.
        assert_eq!(watch.merged(0, 24, None), None);
        let said = watch.merged(0, 25, Some(-0.1)).unwrap();
        assert!(said.starts_with("4 boosters in a row have raised the loss, up to round 25"));
        assert_eq!(watch.merged(0, 26, Some(-0.1)), None);
    }
}
