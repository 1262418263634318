//! Curves of a run: what its steps and evaluations look like as points.

use std::collections::BTreeMap;

use super::line::ChartPoint;
use super::read::{Recorded, metric};

/// The order of splits, and so their looks; others follow.
const SPLITS: [&str; 3] = ["test", "validation", "train"];

/// Steps and losses, without those that were no number.
pub fn losses(run: &Recorded) -> Vec<(f64, f64)> {
    run.steps.iter().filter_map(|s| Some((s.step as f64, s.loss?))).collect()
}

/// Steps and learning rates.
pub fn rates(run: &Recorded) -> Vec<(f64, f64)> {
    run.steps.iter().filter_map(|s| Some((s.step as f64, s.lr?))).collect()
}

/// Points without error bars.
pub fn sure(points: &[(f64, f64)]) -> Vec<ChartPoint> {
    points.iter().map(|(x, y)| (*x, *y, None)).collect()
}

/// What was measured of each split: round, metric, standard error.
pub fn measured(run: &Recorded, name: &str) -> Vec<(String, Vec<ChartPoint>)> {
    let mut by_split: BTreeMap<(usize, &str), Vec<ChartPoint>> = BTreeMap::new();
    for evaluation in run.evaluations.all() {
        let split = evaluation.split.as_str();
        let place = SPLITS.iter().position(|s| *s == split).unwrap_or(SPLITS.len());
        let error = if name == "accuracy" { metric(evaluation, "standard_error") } else { None };
        if let Some(value) = metric(evaluation, name) {
            by_split.entry((place, split)).or_default().push((
                evaluation.round as f64,
                value,
                error,
            ));
        }
    }
    by_split.into_iter().map(|((_, split), points)| (split.to_owned(), points)).collect()
}

/// How a metric is named, with its unit.
pub fn titled(metric: &str) -> String {
    match metric {
        "accuracy" => "accuracy (share of items)".into(),
        "nll" => "negative log-likelihood (nats a token)".into(),
        other => other.to_owned(),
    }
}

/// How a metric is named in few words.
pub fn short(metric: &str) -> &str {
    if metric == "nll" { "NLL (nats a token)" } else { metric }
}

/// Norms of all updates of a layer together: the root of the sum of their squares, over rounds.
pub fn norms(run: &Recorded) -> BTreeMap<usize, f64> {
    let mut squares: BTreeMap<usize, f64> = BTreeMap::new();
    for (layer, norm) in run.merges.iter().flat_map(|m| &m.update_norms) {
        if let Some(square) = super::read::finite(norm * norm) {
            *squares.entry(*layer).or_default() += square;
        }
    }
    squares.into_iter().map(|(layer, square)| (layer, square.sqrt())).collect()
}
