//! Curves of a run: what its steps and evaluations look like as points.

use std::collections::BTreeMap;

use super::line::ChartPoint;
use super::read::metric;
use super::trace::Trace;

/// The order of splits, and so their looks; others follow.
const SPLITS: [&str; 3] = ["test", "validation", "train"];

/// Steps and losses, without those that were no number.
pub fn losses(run: &Trace) -> Vec<(f64, f64)> {
    run.steps.iter().filter_map(|s| Some((s.step as f64, s.loss?))).collect()
}

/// Steps and learning rates.
pub fn rates(run: &Trace) -> Vec<(f64, f64)> {
    run.steps.iter().filter_map(|s| Some((s.step as f64, s.lr?))).collect()
}

/// Points without error bars.
pub fn sure(points: &[(f64, f64)]) -> Vec<ChartPoint> {
    points.iter().map(|(x, y)| (*x, *y, None)).collect()
}

/// The place of a split, its name, and the tasks that were measured.
type SetKey<'a> = (usize, &'a str, String);

/// What was measured of each split: round, metric, standard error. Sets that were measured one by
/// one are apart, with the names of their tasks.
pub fn measured(run: &Trace, name: &str) -> Vec<(String, Vec<ChartPoint>)> {
    let mut by_split: Vec<(SetKey, Vec<ChartPoint>)> = vec![];
    for evaluation in run.evaluations.all() {
        let split = evaluation.split.as_str();
        let place = SPLITS.iter().position(|s| *s == split).unwrap_or(SPLITS.len());
        let error = if name == "accuracy" { metric(evaluation, "standard_error") } else { None };
        let Some(value) = metric(evaluation, name) else { continue };
        let (key, point) =
            ((place, split, evaluation.label()), (evaluation.round as f64, value, error));
        match by_split.iter_mut().find(|(known, _)| *known == key) {
            Some((_, points)) => points.push(point),
            None => by_split.push((key, vec![point])),
        }
    }
    by_split.sort_by_key(|((place, ..), _)| *place);
    let apart = |split: &str| by_split.iter().filter(|((_, s, _), _)| *s == split).count() > 1;
    let names: Vec<String> = by_split
        .iter()
        .map(|((_, split, label), _)| match apart(split) && !label.is_empty() {
            true => format!("{split}: {label}"),
            false => (*split).to_owned(),
        })
        .collect();
    names.into_iter().zip(by_split.into_iter().map(|(_, points)| points)).collect()
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
pub fn norms(run: &Trace) -> BTreeMap<usize, f64> {
    let mut squares: BTreeMap<usize, f64> = BTreeMap::new();
    for (layer, norm) in run.merges.iter().flat_map(|m| &m.update_norms) {
        if let Some(square) = super::read::finite(norm * norm) {
            *squares.entry(*layer).or_default() += square;
        }
    }
    squares.into_iter().map(|(layer, square)| (layer, square.sqrt())).collect()
}

/// A text with a capital letter.
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
