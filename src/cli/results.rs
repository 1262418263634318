//! What a run measured, in the lines that end it.

use serde_json::{Map, Value};

use crate::run::sweep::{PointGroup, labels};
use crate::run::{Evaluation, Tested};

/// Metrics that a run is told by, the first that is there.
const TOLD: [&str; 3] = ["accuracy", "pearson", "nll"];
/// The most points of a sweep that are listed.
const MOST_POINTS: usize = 12;

/// What `test` gave at first and at last: a table of tasks, or of sets that were measured one by
/// one, and a line where they have an average.
pub(super) fn tests(tests: &[Tested]) -> Vec<String> {
    match tests {
        [] => vec![],
        [test] => {
            let mut lines = tasks(test);
            lines.extend(TOLD.iter().find_map(|name| line(test, name)));
            lines.extend(line(test, "accuracy_norm"));
            lines
        }
        several => {
            let Some(metric) = metric_of(several[0].tuned) else { return vec![] };
            let row = |test: &Tested| {
                let base = test.before().map(|e| &e.metrics);
                cells(metric, &test.tuned.label(), base, &test.tuned.metrics)
            };
            table(metric, several.iter().map(row).collect())
        }
    }
}

fn metric_of(evaluation: &Evaluation) -> Option<&'static str> {
    TOLD.into_iter().find(|metric| evaluation.metrics.contains_key(*metric))
}

/// A table of the tasks that were measured together, where there were several.
fn tasks(test: &Tested) -> Vec<String> {
    let tasks = test.tuned.metrics.get("tasks").and_then(Value::as_object);
    let Some((tasks, metric)) = tasks.zip(metric_of(test.tuned)) else { return vec![] };
    let base = test.before().and_then(|b| b.metrics.get("tasks"));
    let row = |(name, metrics): (&String, &Value)| {
        let base = base.and_then(|b| b.get(name)).and_then(Value::as_object);
        Some(cells(metric, name, base, metrics.as_object()?))
    };
    table(metric, tasks.iter().filter_map(row).collect())
}

/// Heads of the columns behind the name.
const HEADS: [&str; 6] = ["base", "tuned", "±", "norm", "majority", "items"];

/// A row of the table: the name, and what stands under each head; nothing where it is not known.
fn cells(
    metric: &str,
    name: &str,
    base: Option<&Map<String, Value>>,
    tuned: &Map<String, Value>,
) -> (String, [Option<String>; 6]) {
    let of = |metrics: &Map<String, Value>, key: &str| {
        metrics.get(key).and_then(Value::as_f64).map(|value| format!("{value:.4}"))
    };
    // Of another metric than accuracy neither is known.
    let beside = |key: &str| of(tuned, key).filter(|_| metric == "accuracy");
    let cells = [
        base.and_then(|base| of(base, metric)),
        of(tuned, metric),
        beside("standard_error"),
        beside("accuracy_norm"),
        beside("majority"),
        tuned.get("items").map(ToString::to_string),
    ];
    (name.to_owned(), cells)
}

/// Rows below their heads; columns in which nothing stands are left out.
fn table(metric: &str, rows: Vec<(String, [Option<String>; 6])>) -> Vec<String> {
    let shown: Vec<usize> = (0..HEADS.len())
        .filter(|column| rows.iter().any(|(_, cells)| cells[*column].is_some()))
        .collect();
    let names = rows.iter().map(|(name, _)| name.chars().count());
    let width = names.max().unwrap_or(0).max(metric.len());
    let line = |name: &str, cells: [&str; 6]| {
        let cells = shown.iter().map(|column| format!("  {:>8}", cells[*column]));
        format!("{name:<width$}{}", cells.collect::<String>())
    };
    let head = line(metric, HEADS);
    let row = |(name, cells): &(String, [Option<String>; 6])| {
        line(name, std::array::from_fn(|i| cells[i].as_deref().unwrap_or("-")))
    };
    std::iter::once(head).chain(rows.iter().map(row)).collect()
}

/// `test accuracy 0.2613 ± 0.0098 → 0.3107 ± 0.0103`; a single number where only one was measured.
fn line(test: &Tested, metric: &str) -> Option<String> {
    let value = |e: &Evaluation| {
        let value = e.metrics.get(metric)?.as_f64()?;
        let error = e.metrics.get("standard_error").and_then(Value::as_f64);
        let error = error.filter(|_| metric == "accuracy");
        let error = error.map_or(String::new(), |e| format!(" ± {e:.4}"));
        Some(format!("{value:.4}{error}"))
    };
    let tuned = value(test.tuned)?;
    Some(match test.before().and_then(value) {
        Some(base) => format!("test {metric} {base} → {tuned}"),
        None => format!("test {metric} {tuned}"),
    })
}

/// The points of a sweep, the best marked.
pub(super) fn points(groups: &[PointGroup]) -> Vec<String> {
    let Some(best) = groups.iter().find(|group| group.best) else { return vec![] };
    let value = |group: &PointGroup| {
        let mean = group.mean.map_or("-".into(), |mean| format!("{mean:.4}"));
        let n = group.results.len();
        let spread = group.deviation.map(|d| format!(" ± {d:.4} (deviation of {n})"));
        format!("{mean}{}", spread.unwrap_or_default())
    };
    let labels = labels(groups);
    if groups.len() > MOST_POINTS {
        let label = groups.iter().zip(&labels).find(|(group, _)| group.best);
        let label = label.map_or("", |(_, label)| label);
        return vec![format!("best of {} points: {label}: {}", groups.len(), value(best))];
    }
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let row = |(group, label): (&PointGroup, &String)| {
        let mark = if group.best { "  ← best" } else { "" };
        format!("{label:<width$}  {}{mark}", value(group))
    };
    groups.iter().zip(&labels).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn evaluation(round: usize, task: &str, metrics: Value) -> Evaluation {
        let metrics = metrics.as_object().unwrap().clone();
        let (split, task) = ("test".into(), task.into());
        Evaluation { split, round, task, metrics, ..Evaluation::default() }
    }

    #[test]
    fn base_and_tuned_are_told_apart_with_their_errors() {
        let of = |round, accuracy, error| {
            let metrics = json!({
                "accuracy": accuracy, "accuracy_norm": accuracy, "standard_error": error,
            });
            evaluation(round, "piqa", metrics)
        };
        let (base, tuned) = (of(0, 0.26131, 0.01), of(8, 0.3107, 0.012));
        let both = Tested { base: Some(&base), tuned: &tuned };
        let wanted = [
            "test accuracy 0.2613 ± 0.0100 → 0.3107 ± 0.0120",
            "test accuracy_norm 0.2613 → 0.3107",
        ];
        assert_eq!(super::tests(&[both]), wanted);
        let same = Tested { base: Some(&base), tuned: &base };
        assert_eq!(super::tests(&[same])[0], "test accuracy 0.2613 ± 0.0100");
        let nll = evaluation(3, "", json!({ "nll": 2.5 }));
        assert_eq!(super::tests(&[Tested { base: None, tuned: &nll }]), ["test nll 2.5000"]);
        assert!(super::tests(&[]).is_empty());
    }

    #[test]
    fn several_tasks_make_a_table() {
        let with = |round, a: f64, b: f64| {
            let tasks = json!({
                "ARC-Easy": {
                    "accuracy": a, "standard_error": 0.01, "majority": 0.266, "items": 2376,
                },
                "piqa": { "accuracy": b, "items": 9 },
            });
            evaluation(round, "", json!({ "accuracy": (a + b) / 2.0, "tasks": tasks }))
        };
        let (base, tuned) = (with(0, 0.25, 0.5), with(8, 0.3, 0.6));
        let wanted = [
            "accuracy      base     tuned         ±  majority     items",
            "ARC-Easy    0.2500    0.3000    0.0100    0.2660      2376",
            "piqa        0.5000    0.6000         -         -         9",
            "test accuracy 0.3750 → 0.4500",
        ];
        assert_eq!(super::tests(&[Tested { base: Some(&base), tuned: &tuned }]), wanted);
    }

    #[test]
    fn sets_that_were_measured_one_by_one_are_named() {
        let of = |task: &str, accuracy: f64| {
            let metrics = json!({ "accuracy": accuracy, "standard_error": 0.02, "items": 100 });
            evaluation(0, task, metrics)
        };
        let (law, art) = (of("law", 0.44), of("art", 0.5));
        let tests = [&law, &art].map(|tuned| Tested { base: Some(tuned), tuned });
        let wanted = [
            "accuracy     tuned         ±     items",
            "law         0.4400    0.0200       100",
            "art         0.5000    0.0200       100",
        ];
        assert_eq!(super::tests(&tests), wanted);
    }

    #[test]
    fn points_are_listed_and_the_best_is_marked() {
        let group = |lr: f64, mean: f64, deviation: Option<f64>, best| PointGroup {
            settings: json!({ "lr": lr }).as_object().unwrap().clone(),
            results: vec![json!(mean); 3],
            mean: Some(mean),
            deviation,
            best,
            ..PointGroup::default()
        };
        let groups = [group(0.01, 0.61, Some(0.02), true), group(0.3, 0.5, None, false)];
        assert_eq!(
            points(&groups),
            ["lr 0.01  0.6100 ± 0.0200 (deviation of 3)  ← best", "lr 0.3   0.5000"]
        );
        let many: Vec<PointGroup> = (0..20).map(|i| group(i as f64, 0.5, None, i == 3)).collect();
        assert_eq!(points(&many), ["best of 20 points: lr 3.0: 0.5000"]);
        assert!(points(&[]).is_empty());
    }
}
