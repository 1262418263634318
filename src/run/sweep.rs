//! Points of a sweep: the same with several settings, and what came of each.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Settings that repeat a point: its results are one mean with a deviation.
pub const REPEATS: [&str; 2] = ["seed", "draw"];

/// The most points, and the most rows, of a run.
pub const MOST: usize = 10_000;

/// The same with one of several settings. All that is trained and measured while it is open is its
/// own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    pub settings: Map<String, Value>,
    /// Whether a smaller result is better.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub smaller: bool,
    /// What came of it; `None` while it is open, or where it failed.
    #[serde(default)]
    pub result: Option<Value>,
}

/// What a run records of its sweeps.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    pub points: Vec<SweepPoint>,
    /// Rows of tables that the recipe made itself.
    pub rows: Vec<Map<String, Value>>,
    open: bool,
}

impl Sweep {
    /// Begins a point; one that is open has no result then.
    pub fn begin(&mut self, point: SweepPoint) {
        self.points.push(point);
        self.open = true;
    }

    /// Ends the point that is open.
    pub fn end(&mut self, result: Value) {
        if let Some(point) = self.points.last_mut().filter(|_| self.open) {
            point.result = Some(result);
        }
        self.open = false;
    }

    /// The point that is open.
    pub fn current(&self) -> Option<usize> {
        self.points.len().checked_sub(1).filter(|_| self.open)
    }

    /// The points by their settings, those that only differ in a seed together.
    pub fn groups(&self) -> Vec<PointGroup> {
        let mut groups: Vec<PointGroup> = vec![];
        for (i, point) in self.points.iter().enumerate() {
            let mut settings = point.settings.clone();
            settings.retain(|key, _| !REPEATS.contains(&key.as_str()));
            match groups.iter_mut().find(|group| group.settings == settings) {
                Some(group) => group.members.push(i),
                None => {
                    groups.push(PointGroup { settings, members: vec![i], ..Default::default() })
                }
            }
        }
        for group in &mut groups {
            let results = group.members.iter().filter_map(|i| self.points[*i].result.clone());
            group.results = results.collect();
            let numbers: Vec<f64> = group.results.iter().filter_map(Value::as_f64).collect();
            group.mean = mean(&numbers);
            group.deviation = deviation(&numbers);
        }
        if let Some(best) = self.best_of(&groups) {
            groups[best].best = true;
        }
        groups
    }

    /// Whether a smaller result is better; the first point decides.
    pub fn smaller_is_better(&self) -> bool {
        self.points.first().is_some_and(|point| point.smaller)
    }

    /// The group with the best mean, the first of equals.
    fn best_of(&self, groups: &[PointGroup]) -> Option<usize> {
        let sign = if self.smaller_is_better() { -1.0 } else { 1.0 };
        let mean = |i: usize| groups[i].mean.map(|mean| sign * mean);
        let known = (0..groups.len()).filter(|i| mean(*i).is_some());
        known.reduce(|best, i| if mean(i) > mean(best) { i } else { best })
    }
}

/// Points with the same settings but for a seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PointGroup {
    pub settings: Map<String, Value>,
    /// Their numbers among all points.
    #[serde(skip)]
    pub members: Vec<usize>,
    pub results: Vec<Value>,
    /// Of results that are numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// Standard deviation of the sample, of two results or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deviation: Option<f64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub best: bool,
}

/// Of each group the settings that not all share, in a line; of a single one all.
pub fn labels(groups: &[PointGroup]) -> Vec<String> {
    let shared = |key: &str, value: &Value| {
        groups.len() > 1 && groups.iter().all(|group| group.settings.get(key) == Some(value))
    };
    let own = |group: &PointGroup| {
        let own = group.settings.iter().filter(|(key, value)| !shared(key, value));
        label(&own.map(|(key, value)| (key.clone(), value.clone())).collect())
    };
    groups.iter().map(own).collect()
}

/// Settings in a line.
pub fn label(settings: &Map<String, Value>) -> String {
    let one = |(key, value): (&String, &Value)| match value {
        Value::String(text) => format!("{key} {text}"),
        value => format!("{key} {value}"),
    };
    settings.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The mean of some numbers; `None` of none.
pub fn mean(numbers: &[f64]) -> Option<f64> {
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}

/// The standard deviation of a sample, √(Σ (x − mean)² / (n − 1)); `None` of fewer than two.
pub fn deviation(numbers: &[f64]) -> Option<f64> {
    let mean = mean(numbers).filter(|_| numbers.len() > 1)?;
    let squares: f64 = numbers.iter().map(|x| (x - mean) * (x - mean)).sum();
    Some((squares / (numbers.len() - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sweep(smaller: bool, points: &[(Value, Option<Value>)]) -> Sweep {
        let mut sweep = Sweep::default();
        for (settings, result) in points {
            let settings = settings.as_object().unwrap().clone();
            sweep.begin(SweepPoint { settings, smaller, result: None });
            if let Some(result) = result {
                sweep.end(result.clone());
            }
        }
        sweep
    }

    #[test]
    fn seeds_of_a_point_are_one_mean_and_the_best_mean_wins() {
        let points = [
            (json!({ "lr": 0.1, "seed": 0 }), Some(json!(0.5))),
            (json!({ "lr": 0.1, "seed": 1 }), Some(json!(0.7))),
            (json!({ "lr": 0.2, "seed": 0 }), Some(json!(0.65))),
            (json!({ "lr": 0.2, "seed": 1 }), None),
        ];
        let told = |smaller| {
            let groups = sweep(smaller, &points).groups();
            let one = |(g, label): (PointGroup, String)| {
                (label, g.members, g.results.len(), g.mean, g.best)
            };
            let labels = labels(&groups);
            groups.into_iter().zip(labels).map(one).collect::<Vec<_>>()
        };
        let (first, second) = ("lr 0.1".to_owned(), "lr 0.2".to_owned());
        let wanted = |best: bool| {
            vec![
                (first.clone(), vec![0, 1], 2, Some(0.6), best),
                (second.clone(), vec![2, 3], 1, Some(0.65), !best),
            ]
        };
        assert_eq!((told(false), told(true)), (wanted(false), wanted(true)));
        let deviation = sweep(false, &points).groups()[0].deviation.unwrap();
        assert!((deviation - 0.02f64.sqrt()).abs() < 1e-12);
        // A point that failed is not open once the next begins, and one that ended is not either.
        assert_eq!(sweep(false, &points).current(), Some(3));
        assert_eq!(sweep(false, &points[..3]).current(), None);
        // Results that are no numbers are kept and not ranked.
        let texts = sweep(false, &[(json!({ "a": "x" }), Some(json!("y")))]).groups();
        assert_eq!(
            (texts[0].mean, texts[0].best, labels(&texts)),
            (None, false, vec!["a x".into()])
        );
        // What all points share is not said of each.
        let same = [1, 2].map(|rank| (json!({ "lr": 0.1, "rank": rank }), None));
        assert_eq!(labels(&sweep(false, &same).groups()), ["rank 1", "rank 2"]);
        assert!(Sweep::default().groups().is_empty());
    }
}
