//! `xgbrun RECIPE`.

use anyhow::Result;

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
    let console = console::console(quiet);
    let finished = host::run(&args.asked.recipe, settings, console.clone(), &INTERRUPTED);
    console.finish();
    let finished = finished?;
    if !quiet {
        tell(&finished, &*console);
    }
    met(&finished)
}

/// Errors (class threshold) where the run did not reach what its recipe asks for.
pub(super) fn met(finished: &Finished) -> Result<()> {
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

/// Says what came out of a run.
pub(super) fn tell(finished: &Finished, console: &dyn Console) {
    for line in summary(finished) {
        console.print(&line);
    }
}

/// What came out of a run, in a few lines: only what there is to tell.
fn summary(finished: &Finished) -> Vec<String> {
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
    if training.steps > 0 {
        lines.extend(next(finished));
    }
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
