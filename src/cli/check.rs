//! `xgbrun check RECIPE`: what is wrong with a recipe, found without loading weights.

use std::io::{Write, stdout};

use anyhow::Result;

use super::args::{CheckArgs, RecipeArgs};
use super::interrupt::INTERRUPTED;
use crate::host;
use crate::model::meta::Assume;
use crate::run::grouped;
use crate::session::{DryRun, Event, Settings};

pub fn run(args: CheckArgs) -> Result<()> {
    let (good, bad) = examined(&args.asked, &args.asked.settings(None)?)?;
    let text = lines(&args.asked.recipe.display().to_string(), &good, &bad).join("\n");
    Ok(writeln!(stdout(), "{text}")?)
}

/// The recipe's notes, with the best and with the worst that it could measure.
pub(super) fn examined(args: &RecipeArgs, settings: &Settings) -> Result<(DryRun, DryRun)> {
    let examine = |assume| host::examine(&args.recipe, settings.clone(), assume, &INTERRUPTED);
    Ok((examine(Assume::Best)?, examine(Assume::Worst)?))
}

/// Tells events of a kind.
type Kind = fn(&Event) -> bool;

/// What was found: names that it asks for, and how much it does.
fn lines(recipe: &str, good: &DryRun, bad: &DryRun) -> Vec<String> {
    let mut lines = vec![format!("{recipe}: no mistake found")];
    for note in &good.notes {
        match &note.event {
            Event::Model(m) => lines.push(format!(
                "reads the model {}: {} layers, {} weights",
                m.name,
                m.cost.blocks.len(),
                grouped(m.parameters as u64)
            )),
            Event::Data { name, tasks: 1 } => lines.push(format!("reads the data {name}")),
            Event::Data { name, tasks } => {
                lines.push(format!("reads the data {name}: {tasks} tasks"))
            }
            Event::Advice(line) => lines.push(format!("warning: {line}")),
            Event::Save { name } => lines.push(format!("saves `{name}` in the run folder")),
            _ => {}
        }
    }
    let count =
        |dry_run: &DryRun, what: Kind| dry_run.notes.iter().filter(|n| what(&n.event)).count();
    let kinds: [(&str, Kind); 4] = [
        ("fits", |e| matches!(e, Event::Fit(_))),
        ("merges", |e| matches!(e, Event::Merge { .. })),
        ("evaluations", |e| matches!(e, Event::Evaluate { .. })),
        ("generations", |e| matches!(e, Event::Generate { .. })),
    ];
    let one = |name: &'static str, n: usize| {
        if n == 1 { name.strip_suffix('s').unwrap_or(name) } else { name }
    };
    let shown = |dry_run: &DryRun, n: usize| {
        if dry_run.endless { format!("more than {n}") } else { n.to_string() }
    };
    let all: Vec<String> = kinds
        .into_iter()
        .map(|(name, what)| (name, count(good, what), count(bad, what)))
        .filter(|(_, a, b)| a + b > 0)
        .map(|(name, a, b)| {
            if a == b {
                format!("{a} {}", one(name, a))
            } else {
                format!("{} to {} {name}", shown(good, a), shown(bad, b))
            }
        })
        .collect();
    if !all.is_empty() {
        lines.push(all.join(", "));
    }
    if let Some(line) = good.differs(bad) {
        lines.push(depends(line));
    }
    lines
}

/// What is said where a recipe's way depends on what it measures; `line` is the first call that
/// differs.
pub(super) fn depends(line: Option<usize>) -> String {
    let place = line.map_or(String::new(), |line| format!(", the first time before line {line}"));
    format!("what it does depends on what it measures{place}")
}
