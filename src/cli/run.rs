//! `xgbrun RECIPE`.

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value};

use super::args::RunArgs;
use super::console;
use super::interrupt::INTERRUPTED;
use super::results;
use crate::error::{Class, Error};
use crate::host::{self, Finished};
use crate::run::{ThresholdOutcome, duration, grouped};
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
    lines.extend(results::tests(&evaluations.tests()));
    lines.extend(results::points(&summary.points));
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
    lines.extend(summary.warnings.iter().map(|warning| format!("note: {warning}")));
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
