//! `xgbrun RECIPE`.

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value};

use super::args::RunArgs;
use super::console;
use super::interrupt::INTERRUPTED;
use crate::error::{Class, Error};
use crate::host::{self, Finished};
use crate::run::{Evaluation, ThresholdOutcome, duration, grouped};
use crate::session::Console;

pub fn run(args: RunArgs) -> Result<()> {
    let settings = args.asked.settings(args.out)?;
    let quiet = args.asked.compute.quiet;
    let console = console::detailed(quiet, args.shown.verbose);
    let finished = host::run(&args.asked.recipe, settings, console.clone(), &INTERRUPTED);
    console.finish();
    tell(&finished?, args.shown.json, quiet, &*console)
}

/// Says what came out of a run, on standard output, and how to go on, elsewhere.
///
/// Errors (class threshold) where the run did not reach what its recipe asks for.
pub(super) fn tell(
    finished: &Finished,
    json: bool,
    quiet: bool,
    console: &dyn Console,
) -> Result<()> {
    if json {
        object(&finished.folder, serde_json::to_value(&finished.summary)?)?;
    } else {
        writeln!(stdout(), "{}", result(finished).join("\n"))?;
    }
    if !quiet && finished.training.steps > 0 {
        next(finished).iter().for_each(|line| console.print(line));
    }
    met(finished)
}

/// Writes a run's summary as one object, with its folder.
pub(super) fn object(folder: &Path, summary: Value) -> Result<()> {
    let mut object = Map::new();
    object.insert("run_folder".into(), folder.display().to_string().into());
    if let Value::Object(summary) = summary {
        object.extend(summary);
    }
    Ok(writeln!(stdout(), "{}", Value::Object(object))?)
}

/// Errors (class threshold) where the run did not reach what its recipe asks for.
fn met(finished: &Finished) -> Result<()> {
    let missed: Vec<&str> = finished
        .summary
        .thresholds
        .iter()
        .filter(|t| !t.met)
        .map(|t| t.threshold.as_str())
        .collect();
    if missed.is_empty() {
        Ok(())
    } else {
        Err(Error::new(Class::Threshold, format!("not reached: {}", missed.join(", "))).into())
    }
}

/// What came out of a run, in a few lines: only what there is to tell.
fn result(finished: &Finished) -> Vec<String> {
    let Finished { folder, summary, training, evaluations, .. } = finished;
    let mut lines = vec![];
    lines.extend(tasks(evaluations.base(), evaluations.tuned()));
    lines.extend(test(evaluations.base(), evaluations.tuned()));
    if training.steps > 0 {
        let now = training
            .trainable_now
            .map_or(String::new(), |n| format!("{} parameters at a time, ", grouped(n)));
        let speed = summary
            .timing
            .tokens_per_second
            .map_or(String::new(), |speed| format!(" at {speed:.0} tokens/s"));
        lines.push(format!(
            "trained {now}{} in total, in {} steps{speed}",
            grouped(training.trained_in_total),
            grouped(training.steps)
        ));
    }
    if !lines.is_empty() {
        let predicted = summary
            .timing
            .predicted_peak_mib
            .map_or(String::new(), |mib| format!(" ({mib:.0} predicted)"));
        lines.push(format!(
            "time {}, peak memory {:.0} MiB{predicted}",
            duration(summary.timing.seconds),
            summary.timing.peak_rss_mib
        ));
    }
    for ThresholdOutcome { threshold, value, met } in &summary.thresholds {
        let value = value.map_or("not measured".into(), |value| format!("{value:.4}"));
        lines.push(format!("{} {threshold}: {value}", if *met { "✓" } else { "✗" }));
    }
    lines.push(format!("run folder: {}", folder.display()));
    lines
}

/// Three commands to go on with.
fn next(finished: &Finished) -> [String; 3] {
    let (folder, recipe) = (finished.folder.display(), &finished.recipe);
    // A question that the micro world answers and no training question asks.
    let question = match finished.model.as_deref() {
        Some("builtin:micro") => {
            "What does the owl eat? Answer1: seeds Answer2: fish Answer3: meat"
        }
        _ => "…",
    };
    [
        format!("next: xgbrun ask {folder} \"{question}\""),
        format!("      xgbrun report {folder}"),
        format!("      xgbrun plan {recipe}"),
    ]
}

/// A table of the tasks, where there were several: the test metric at first and at last, the
/// commonest answer's share, items.
fn tasks(base: Option<&Evaluation>, tuned: Option<&Evaluation>) -> Vec<String> {
    let Some((tuned, tasks)) = tuned.and_then(|t| Some((t, t.metrics.get("tasks")?.as_object()?)))
    else {
        return vec![];
    };
    let Some(metric) =
        ["accuracy", "pearson", "nll"].into_iter().find(|m| tuned.metrics.contains_key(*m))
    else {
        return vec![];
    };
    let width = tasks.keys().map(|name| name.chars().count()).max().unwrap_or(0).max(7);
    let cell = |value: Option<&serde_json::Value>| match value.and_then(serde_json::Value::as_f64) {
        Some(value) => format!("{value:.4}"),
        None => "-".into(),
    };
    let row = |name: &str, base: Option<&serde_json::Value>, metrics: &serde_json::Value| {
        let [base, tuned, majority] =
            [base.and_then(|b| b.get(metric)), metrics.get(metric), metrics.get("majority")]
                .map(cell);
        let items = metrics.get("items").map_or("-".into(), ToString::to_string);
        format!("{name:<width$}  {base:>8}  {tuned:>8}  {majority:>8}  {items:>6}")
    };
    let base = base.filter(|b| b.round != tuned.round).and_then(|b| b.metrics.get("tasks"));
    let mut lines = vec![format!(
        "{metric:<width$}  {:>8}  {:>8}  {:>8}  {:>6}",
        "base", "tuned", "majority", "items"
    )];
    lines.extend(
        tasks.iter().map(|(name, metrics)| row(name, base.and_then(|b| b.get(name)), metrics)),
    );
    lines
}

/// `test accuracy 0.2613 → 0.3107`; a single number where only one was measured.
fn test(base: Option<&Evaluation>, tuned: Option<&Evaluation>) -> Option<String> {
    let tuned = tuned?;
    let metric =
        ["accuracy", "pearson", "nll"].into_iter().find(|m| tuned.metrics.contains_key(*m))?;
    let value = |e: &Evaluation| {
        e.metrics.get(metric).and_then(serde_json::Value::as_f64).unwrap_or(f64::NAN)
    };
    Some(match base.filter(|base| base.round != tuned.round) {
        Some(base) => format!("test {metric} {:.4} → {:.4}", value(base), value(tuned)),
        None => format!("test {metric} {:.4}", value(tuned)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation(round: usize, metric: &str, value: f64) -> Evaluation {
        Evaluation {
            split: "test".into(),
            round,
            model: 0,
            metrics: serde_json::Map::from_iter([(metric.into(), value.into())]),
        }
    }

    #[test]
    fn base_and_tuned_are_told_apart() {
        let (base, tuned) = (evaluation(0, "accuracy", 0.26131), evaluation(8, "accuracy", 0.3107));
        assert_eq!(
            test(Some(&base), Some(&tuned)).as_deref(),
            Some("test accuracy 0.2613 → 0.3107")
        );
        assert_eq!(test(Some(&base), Some(&base)).as_deref(), Some("test accuracy 0.2613"));
        assert_eq!(
            test(None, Some(&evaluation(3, "nll", 2.5))).as_deref(),
            Some("test nll 2.5000")
        );
        assert_eq!(test(None, None), None);
    }

    #[test]
    fn several_tasks_make_a_table() {
        let with = |round, a: f64, b: f64| {
            let tasks = serde_json::json!({
                "ARC-Easy": { "accuracy": a, "majority": 0.266, "items": 2376 },
                "piqa": { "accuracy": b, "items": 9 },
            });
            let mut e = evaluation(round, "accuracy", (a + b) / 2.0);
            e.metrics.insert("tasks".into(), tasks);
            e
        };
        let lines = tasks(Some(&with(0, 0.25, 0.5)), Some(&with(8, 0.3, 0.6)));
        let want = [
            "accuracy      base     tuned  majority   items",
            "ARC-Easy    0.2500    0.3000    0.2660    2376",
            "piqa        0.5000    0.6000         -       9",
        ];
        assert_eq!(lines, want);
        assert!(tasks(None, Some(&evaluation(8, "accuracy", 0.5))).is_empty());
    }
}
