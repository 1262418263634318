//! What the evaluations of a run mean together: base, tuned, best round.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One evaluation, as the recipe made it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// `train`, `validation` or `test`.
    pub split: String,
    /// Boosters merged when it was made.
    pub round: usize,
    /// The model that was measured, in the order in which the recipe made models; left out of the
    /// first.
    #[serde(default, skip_serializing_if = "is_first")]
    pub model: usize,
    /// The task that was measured; empty where there were several, which `metrics` then names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub task: String,
    /// The point of a sweep that it belongs to.
    #[serde(skip)]
    pub point: Option<usize>,
    pub metrics: Map<String, Value>,
}

impl Evaluation {
    /// The tasks that were measured; none in runs of earlier versions, which named one only.
    pub fn tasks(&self) -> Vec<&str> {
        match self.metrics.get("tasks").and_then(Value::as_object) {
            Some(tasks) => tasks.keys().map(String::as_str).collect(),
            None => Some(self.task.as_str()).filter(|task| !task.is_empty()).into_iter().collect(),
        }
    }

    /// What was measured, in a few words: `piqa`, `ARC-Easy, piqa`, `8 tasks`.
    pub fn label(&self) -> String {
        match self.tasks() {
            few if few.len() <= 3 => few.join(", "),
            many => format!("{} tasks", many.len()),
        }
    }

    /// The metrics, with the task where that was one.
    pub fn named(&self) -> Map<String, Value> {
        let mut out = Map::new();
        if !self.task.is_empty() {
            out.insert("task".into(), self.task.as_str().into());
        }
        out.extend(self.metrics.clone());
        out
    }
}

/// What `test` of a task, or of several that are measured together, gave at first and at last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tested<'a> {
    /// With no booster merged, where it was measured so.
    pub base: Option<&'a Evaluation>,
    pub tuned: &'a Evaluation,
}

impl<'a> Tested<'a> {
    /// The base, where boosters were merged or taken back between it and the last.
    pub fn before(&self) -> Option<&'a Evaluation> {
        self.base.filter(|base| base.round != self.tuned.round)
    }
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

    /// What `test` gave at first and at last, for each of the sets that were measured, in the order
    /// in which they first were. What points of a sweep measured is theirs.
    pub fn tests(&self) -> Vec<Tested<'_>> {
        let tests = || self.0.iter().filter(|e| e.split == "test" && e.point.is_none());
        let mut out: Vec<Tested> = vec![];
        for tuned in tests() {
            match out.iter_mut().find(|known| known.tuned.tasks() == tuned.tasks()) {
                Some(known) => known.tuned = tuned,
                None => out.push(Tested { base: None, tuned }),
            }
        }
        for Tested { base, tuned } in &mut out {
            let bases = || tests().filter(|e| e.round == 0 && e.tasks() == tuned.tasks());
            *base = bases().find(|e| e.model == tuned.model).or_else(|| bases().next());
        }
        out
    }

    /// The first evaluation of what was last measured of `test`, with no booster merged: of the
    /// model that was tuned, else of any.
    pub fn base(&self) -> Option<&Evaluation> {
        let tuned = self.tuned()?;
        self.tests().into_iter().find(|test| test.tuned.tasks() == tuned.tasks())?.base
    }

    /// The last evaluation of `test`, those of points aside.
    pub fn tuned(&self) -> Option<&Evaluation> {
        self.0.iter().rev().find(|e| e.split == "test" && e.point.is_none())
    }

    /// The model that was tuned, where there are several: the last that was measured on `test`, or
    /// at all.
    fn model(&self) -> usize {
        self.tuned().or(self.0.last()).map_or(0, |e| e.model)
    }

    /// The round of `validation` that is best for the model that was tuned; see
    /// [`Evaluations::best_round_of`].
    pub fn best_round(&self, best: &Best) -> Option<usize> {
        self.best_round_of(best, self.model(), None)
    }

    /// The round of `validation` that is best for a model, in a point of a sweep or outside of all,
    /// the earliest of equals; NaN and absent metrics never win.
    pub fn best_round_of(&self, best: &Best, model: usize, point: Option<usize>) -> Option<usize> {
        let value = |e: &Evaluation| {
            e.metrics.get(&best.metric).and_then(Value::as_f64).filter(|v| !v.is_nan())
        };
        let sign = if best.larger { 1.0 } else { -1.0 };
        let mut winner: Option<(f64, usize)> = None;
        let own = |e: &&Evaluation| e.split == "validation" && e.model == model && e.point == point;
        for evaluation in self.0.iter().filter(own) {
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
            metrics: Map::from_iter([("accuracy".into(), accuracy.into())]),
            ..Evaluation::default()
        }
    }

    #[test]
    fn base_tuned_and_best() {
        let mut all = Evaluations::default();
        assert_eq!((all.base(), all.tuned(), all.best_round(&Best::default())), (None, None, None));
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
        assert_eq!(all.best_round(&Best::default()), Some(16));
        assert_eq!(all.best_round(&Best { metric: "accuracy".into(), larger: false }), Some(8));
        assert_eq!(all.best_round(&Best { metric: "loss".into(), larger: false }), None);
        // Another model has rounds of its own.
        all.push(Evaluation { model: 1, ..evaluation("validation", 4, 0.9) });
        assert_eq!(all.best_round(&Best::default()), Some(16));
        assert_eq!(all.best_round_of(&Best::default(), 1, None), Some(4));
        all.push(Evaluation { model: 1, ..evaluation("test", 4, 0.8) });
        assert_eq!(all.base().map(|e| e.model), Some(0));
        all.push(Evaluation { model: 1, ..evaluation("test", 0, 0.3) });
        assert_eq!(all.base().map(|e| e.model), Some(1));
        assert_eq!(all.best_round(&Best::default()), Some(4));
    }
    #[test]
    fn each_set_has_its_base_and_points_of_a_sweep_are_their_own() {
        let mut all = Evaluations::default();
        let of = |task: &str, round, accuracy| Evaluation {
            task: task.into(),
            ..evaluation("test", round, accuracy)
        };
        for (task, round, accuracy) in
            [("law", 0, 0.2), ("art", 0, 0.3), ("law", 4, 0.5), ("art", 4, 0.6), ("new", 4, 0.7)]
        {
            all.push(of(task, round, accuracy));
        }
        all.push(Evaluation { point: Some(0), ..of("law", 8, 0.9) });
        let told: Vec<(String, Option<f64>, f64)> = all
            .tests()
            .iter()
            .map(|test| {
                let value = |e: &Evaluation| e.metrics["accuracy"].as_f64().unwrap();
                (test.tuned.label(), test.before().map(value), value(test.tuned))
            })
            .collect();
        let wanted = [("law", Some(0.2), 0.5), ("art", Some(0.3), 0.6), ("new", None, 0.7)];
        assert_eq!(told, wanted.map(|(task, base, tuned)| (task.to_owned(), base, tuned)));
        assert_eq!((all.base(), all.tuned().map(|e| e.task.as_str())), (None, Some("new")));
        assert_eq!(all.tuned().unwrap().named()["task"], "new");
        let tasks = serde_json::json!({ "a": {}, "b": {}, "c": {}, "d": {} });
        let metrics = Map::from_iter([("tasks".to_owned(), tasks)]);
        assert_eq!(Evaluation { metrics, ..Evaluation::default() }.label(), "4 tasks");
    }
}
