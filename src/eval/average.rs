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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
