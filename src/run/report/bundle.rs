//! Several trainings with the same settings as one curve: their mean, and how far they lie apart.

use super::curves::{losses, measured};
use super::line::ChartPoint;
use super::series::{smoothed, thinned};
use super::trace::Trace;
use crate::run::sweep::{deviation, mean};

/// Trainings that differ in a seed alone.
#[derive(Clone, Debug)]
pub struct Bundle<'a> {
    pub name: String,
    pub traces: Vec<&'a Trace>,
}

impl Bundle<'_> {
    /// The smoothed loss in at most `most` points; of several trainings their mean, as far as the
    /// shortest goes.
    pub fn losses(&self, most: usize) -> Vec<(f64, f64)> {
        let curves: Vec<_> = self.traces.iter().map(|trace| smoothed(&losses(trace)).0).collect();
        let length = curves.iter().map(Vec::len).min().unwrap_or(0);
        let at = |i: usize| {
            let values: Vec<f64> = curves.iter().map(|curve| curve[i].1).collect();
            Some((curves.first()?[i].0, mean(&values)?))
        };
        thinned(&(0..length).filter_map(at).collect::<Vec<_>>(), most).0
    }

    /// What was measured of each split, with its standard error; of several trainings the mean of
    /// each round that all have measured, with the standard deviation.
    pub fn measured(&self, metric: &str) -> Vec<(String, Vec<ChartPoint>)> {
        let all: Vec<_> = self.traces.iter().map(|trace| measured(trace, metric)).collect();
        let [first, others @ ..] = &all[..] else { return vec![] };
        if others.is_empty() {
            return first.clone();
        }
        let together = |(split, points): &(String, Vec<ChartPoint>)| {
            let others: Option<Vec<&Vec<ChartPoint>>> = others
                .iter()
                .map(|other| other.iter().find(|(name, _)| name == split).map(|(_, p)| p))
                .collect();
            let others = others?;
            let one = |(x, y, _): &ChartPoint| {
                let beside = others.iter().map(|points| points.iter().find(|p| p.0 == *x));
                let beside = beside.map(|point| point.map(|p| p.1)).collect::<Option<Vec<f64>>>();
                let values = [vec![*y], beside?].concat();
                Some((*x, mean(&values)?, deviation(&values)))
            };
            Some((split.clone(), points.iter().filter_map(one).collect()))
        };
        first.iter().filter_map(together).collect()
    }
}
