//! Results of several tasks in one: the unweighted average, as the commonsense sets are reported
//! (paper.md §8).

use serde_json::{Map, Value};

/// Metrics that are averaged where every task has them.
const AVERAGED: [&str; 10] = [
    "accuracy",
    "accuracy_norm",
    "unparsed",
    "majority",
    "f1",
    "matthews",
    "pearson",
    "spearman",
    "nll",
    "perplexity",
];

/// The average of the tasks' metrics, each task counting the same; `items` and `tokens` are sums,
/// `standard_error` is that of the average. The metrics of each task lie under `tasks`. What all
/// tasks say alike, such as the protocol, is said of the whole.
pub fn average(tasks: &[(String, Map<String, Value>)]) -> Map<String, Value> {
    let mut out = Map::new();
    let Some((_, first)) = tasks.first() else { return out };
    let numbers = |key: &str| -> Option<Vec<f64>> {
        tasks.iter().map(|(_, metrics)| metrics.get(key)?.as_f64()).collect()
    };
    let n = tasks.len() as f64;
    for (key, value) in first {
        if value.is_string() {
            let same = tasks.iter().all(|(_, metrics)| metrics.get(key) == Some(value));
            out.insert(key.clone(), if same { value.clone() } else { "mixed".into() });
        } else if let Some(values) = numbers(key) {
            let sum: f64 = values.iter().sum();
            match key.as_str() {
                "items" | "tokens" => out.insert(key.clone(), (sum as u64).into()),
                "standard_error" => out.insert(
                    key.clone(),
                    (values.iter().map(|v| v * v).sum::<f64>().sqrt() / n).into(),
                ),
                key if AVERAGED.contains(&key) => out.insert(key.into(), (sum / n).into()),
                _ => None,
            };
        }
    }
    let by_name =
        tasks.iter().map(|(name, metrics)| (name.clone(), Value::Object(metrics.clone())));
    out.insert("tasks".into(), Value::Object(by_name.collect()));
    out
}

/// Metrics that are means over items, so that those of several tasks are, too.
const OVER_ITEMS: [&str; 4] = ["accuracy", "accuracy_norm", "unparsed", "majority"];

/// The same as a mean over items, as lm-evaluation-harness weights the subjects of MMLU, not over
/// tasks: each task counts by its items. Under `groups` lie the means of the groups that `group`
/// names for tasks.
pub fn average_by_group(
    tasks: &[(String, Map<String, Value>)],
    group: impl Fn(&str) -> Option<&'static str>,
) -> Map<String, Value> {
    let mut out = Map::new();
    let all: Vec<&Map<String, Value>> = tasks.iter().map(|(_, metrics)| metrics).collect();
    let Some(first) = all.first() else { return out };
    for (key, value) in first.iter().filter(|(_, value)| value.is_string()) {
        let same = all.iter().all(|metrics| metrics.get(key) == Some(value));
        out.insert(key.clone(), if same { value.clone() } else { "mixed".into() });
    }
    out.extend(over_items(&all));
    out.insert("weights".into(), "items".into());
    let mut names: Vec<&str> = vec![];
    for name in tasks.iter().filter_map(|(task, _)| group(task)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let of = |name: &&str| {
        let own = tasks.iter().filter(|(task, _)| group(task) == Some(*name));
        let own: Vec<&Map<String, Value>> = own.map(|(_, metrics)| metrics).collect();
        ((*name).to_owned(), Value::Object(over_items(&own)))
    };
    out.insert("groups".into(), Value::Object(names.iter().map(of).collect()));
    let by_name =
        tasks.iter().map(|(name, metrics)| (name.clone(), Value::Object(metrics.clone())));
    out.insert("tasks".into(), Value::Object(by_name.collect()));
    out
}

/// Means over items, with their standard error and the number of items.
fn over_items(all: &[&Map<String, Value>]) -> Map<String, Value> {
    let column = |key: &str| -> Option<Vec<f64>> {
        all.iter().map(|metrics| metrics.get(key)?.as_f64()).collect()
    };
    let mut out = Map::new();
    let Some(counts) = column("items") else { return out };
    let items: f64 = counts.iter().sum();
    let sum = |values: Vec<f64>| -> f64 { values.iter().zip(&counts).map(|(v, n)| v * n).sum() };
    for key in OVER_ITEMS {
        if let Some(values) = column(key) {
            out.insert(key.into(), (sum(values) / items).into());
        }
    }
    if let Some(errors) = column("standard_error") {
        let squares = errors.iter().zip(&counts).map(|(e, n)| (e * n).powi(2));
        out.insert("standard_error".into(), (squares.sum::<f64>().sqrt() / items).into());
    }
    out.insert("items".into(), (items as u64).into());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn subjects_count_by_their_items() {
        let task = |name: &str, accuracy: f64, error: f64, items: u64| {
            let metrics = json!({
                "protocol": "lm-eval", "accuracy": accuracy, "standard_error": error,
                "items": items, "f1": 0.5,
            });
            (name.to_owned(), metrics.as_object().unwrap().clone())
        };
        let tasks = [task("a", 0.5, 0.1, 30), task("b", 0.9, 0.2, 10), task("c", 0.25, 0.3, 20)];
        let group = |name: &str| (name != "c").then_some("stem");
        let mut found = average_by_group(&tasks, group);
        assert_eq!(found.remove("tasks").unwrap()["c"]["accuracy"], json!(0.25));
        assert_eq!(
            found.remove("groups").unwrap(),
            json!({ "stem": {
                "accuracy": 0.6, "standard_error": (9.0f64 + 4.0).sqrt() / 40.0, "items": 40,
            } })
        );
        assert_eq!(
            Value::Object(found),
            json!({
                "protocol": "lm-eval", "accuracy": 29.0 / 60.0,
                "standard_error": (9.0f64 + 4.0 + 36.0).sqrt() / 60.0, "items": 60,
                "weights": "items",
            })
        );
    }

    #[test]
    fn tasks_count_the_same_whatever_their_size() {
        let task =
            |name: &str, value: Value| (name.to_string(), value.as_object().unwrap().clone());
        let tasks = [
            task(
                "a",
                json!({
                    "protocol": "lm-eval", "template": "none", "accuracy": 0.5,
                    "accuracy_norm": 0.4, "standard_error": 0.03, "items": 1000,
                }),
            ),
            task(
                "b",
                json!({
                    "protocol": "lm-eval", "template": "alpaca", "accuracy": 0.8,
                    "standard_error": 0.04, "items": 10,
                }),
            ),
        ];
        let mut average = average(&tasks);
        let by_task = average.remove("tasks").unwrap();
        assert_eq!(by_task["b"]["accuracy"], json!(0.8));
        assert_eq!(
            Value::Object(average),
            json!({
                "protocol": "lm-eval", "template": "mixed", "accuracy": 0.65,
                "standard_error": 0.025, "items": 1010,
            })
        );
    }
}
