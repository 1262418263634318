//! Few-shot prompts: solved examples of the same task before each question of a test.

use std::sync::Arc;

use anyhow::Result;

use super::item::{Instruction, Item, Shots};
use super::task::{Dataset, Split};
use crate::error::{Error, bail, did_you_mean, error};
use crate::seed::Stream;

/// Which solved examples stand before a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShotOptions {
    /// How many.
    pub count: usize,
    /// None: those that are there for it, else train, else validation, as in
    /// lm-evaluation-harness.
    pub from: Option<ShotSource>,
    /// Draws them; without, the first of their file are taken, in its order.
    pub seed: Option<u64>,
    /// What stands behind each of them.
    pub separator: String,
}

impl ShotOptions {
    /// A blank line, as in lm-evaluation-harness.
    pub const SEPARATOR: &'static str = "\n\n";

    /// The first `count` of where they usually are from.
    pub fn new(count: usize) -> Self {
        Self { count, from: None, seed: None, separator: Self::SEPARATOR.to_owned() }
    }
}

/// Where solved examples are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShotSource {
    Train,
    Validation,
    /// What a data set has for them, as the folder `dev` of MMLU; validation, where it has nothing
    /// such.
    Dev,
}

impl ShotSource {
    const NAMES: [(&'static str, Self); 3] =
        [("validation", Self::Validation), ("dev", Self::Dev), ("train", Self::Train)];

    /// By name. Errors (class usage): another name.
    pub fn parse(name: &str) -> Result<Self> {
        match Self::NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, source)) => Ok(*source),
            None => {
                let near = did_you_mean(name, Self::NAMES.map(|(name, _)| name));
                Err(error!(
                    Usage,
                    "solved examples cannot be from `{name}`{near}";
                    hint: "they are from `train`, `validation` or `dev`, never from what is tested"
                )
                .into())
            }
        }
    }
}

/// The tasks with each subject, where records name theirs, as a task of its own; in the order in
/// which the subjects come.
pub fn by_subject(tasks: Vec<Dataset>) -> Vec<Dataset> {
    tasks.into_iter().flat_map(divided).collect()
}

fn divided(mut task: Dataset) -> Vec<Dataset> {
    let mut subjects: Vec<String> = vec![];
    for item in task.parts().into_iter().flatten().flatten() {
        if let Some(subject) = subject(item).filter(|s| !subjects.iter().any(|known| known == s)) {
            subjects.push(subject.to_owned());
        }
    }
    if subjects.is_empty() {
        return vec![task];
    }
    let mut out: Vec<Dataset> = subjects.iter().map(|subject| Dataset::bare(subject)).collect();
    // What is told of files stays with the first.
    out[0].digests = std::mem::take(&mut task.digests);
    out[0].notes = std::mem::take(&mut task.notes);
    out[0].unused = std::mem::take(&mut task.unused);
    for (at, part) in task.parts().into_iter().enumerate() {
        for item in part.take().into_iter().flatten() {
            let of = subject(&item).and_then(|s| subjects.iter().position(|known| known == s));
            out[of.unwrap_or(0)].parts()[at].get_or_insert_default().push(item);
        }
    }
    out
}

fn subject(item: &Item) -> Option<&str> {
    if let Item::Instruction(item) = item { item.subject.as_deref() } else { None }
}

/// Puts solved examples before the items of a task. They are taken out of the split that they are
/// from, and no question that is among them is left anywhere else.
///
/// Errors: the task has no such split, or too few examples with an answer in it (class data); items
/// that are no questions (class usage).
pub fn give(task: &mut Dataset, options: &ShotOptions) -> Result<()> {
    if options.count == 0 {
        return Ok(());
    }
    let (split, name) = (source(task, options)?, task.name.clone());
    let items = task.parts()[split.index()].take().unwrap_or_default();
    let good: Vec<usize> = (0..items.len()).filter(|&i| is_solved(&items[i])).collect();
    if good.len() < options.count {
        return Err(too_few(&name, split, &items, good.len(), options.count).into());
    }
    let chosen: Vec<usize> = match options.seed {
        None => good[..options.count].to_vec(),
        Some(seed) => {
            let mut stream = Stream::new(seed, &format!("shots/{name}"));
            stream.choose(good.len(), options.count).into_iter().map(|i| good[i]).collect()
        }
    };
    let question = |i: &usize| match &items[*i] {
        Item::Instruction(item) => Some(item.clone()),
        _ => None,
    };
    let solved: Vec<Instruction> = chosen.iter().filter_map(question).collect();
    let shots = Arc::new(Shots { solved, separator: options.separator.clone() });
    if split != Place::Shots {
        let rest = items.into_iter().enumerate().filter(|(i, _)| !chosen.contains(i));
        *task.parts()[split.index()] = Some(rest.map(|(_, item)| item).collect());
    }
    let mut shown = 0;
    for part in task.parts().into_iter().take(Place::Shots.index()) {
        let Some(items) = part else { continue };
        let before = items.len();
        items.retain(|item| !shots.solved.iter().any(|shot| is_same(item, shot)));
        shown += before - items.len();
        for item in items.iter_mut() {
            if let Item::Instruction(item) = item {
                item.shots = Some(shots.clone());
            }
        }
        part.take_if(|items| items.is_empty());
    }
    if shown > 0 {
        task.notes.push(format!(
            "`{name}`: {shown} items are left out, which are among the solved examples before the \
             others"
        ));
    }
    Ok(())
}

/// A part of a data set, in the order of [`Dataset::parts`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Of(Split),
    /// What is there for solved examples.
    Shots,
}

impl Place {
    fn index(self) -> usize {
        match self {
            Self::Of(Split::Train) => 0,
            Self::Of(Split::Validation) => 1,
            Self::Of(Split::Test) => 2,
            Self::Shots => 3,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Of(split) => split.name(),
            Self::Shots => "dev",
        }
    }
}

/// Where the examples are taken from.
fn source(task: &mut Dataset, options: &ShotOptions) -> Result<Place> {
    let (train, validation) = (Place::Of(Split::Train), Place::Of(Split::Validation));
    let wanted = match options.from {
        None => vec![Place::Shots, train, validation],
        Some(ShotSource::Dev) => vec![Place::Shots, validation],
        Some(ShotSource::Validation) => vec![validation],
        Some(ShotSource::Train) => vec![train],
    };
    let there: Vec<bool> = task.parts().into_iter().map(|part| part.is_some()).collect();
    if let Some(place) = wanted.iter().find(|place| there[place.index()]) {
        return Ok(*place);
    }
    let names = |places: &[Place]| {
        let names: Vec<String> = places.iter().map(|p| format!("`{}`", p.name())).collect();
        names.join(", ")
    };
    let all = [train, validation, Place::Of(Split::Test), Place::Shots];
    let has: Vec<Place> = all.into_iter().filter(|place| there[place.index()]).collect();
    Err(error!(
        Data,
        "the task `{}` has no {} to take solved examples from; it has {}",
        task.name,
        names(&wanted).replace(", ", " or "),
        names(&has);
        hint: "what is tested is not shown: give a folder with a file for train or validation too"
    )
    .into())
}

/// Whether an item can be shown with its answer.
fn is_solved(item: &Item) -> bool {
    let Item::Instruction(item) = item else { return false };
    item.label.is_some() || (item.choices.is_empty() && !item.answer_text.is_empty())
}

fn too_few(name: &str, place: Place, items: &[Item], good: usize, wanted: usize) -> Error {
    if !items.iter().any(|item| matches!(item, Item::Instruction(_))) {
        return error!(
            Usage,
            "option `shots` is for questions with an answer, and `{name}` holds none in `{}`",
            place.name()
        );
    }
    error!(
        Data,
        "the task `{name}` has {good} items with an answer in `{}`, and {wanted} solved examples \
         are asked for",
        place.name()
    )
}

/// Whether an item asks what a solved example does.
fn is_same(item: &Item, shot: &Instruction) -> bool {
    let Item::Instruction(item) = item else { return false };
    let asked =
        |item: &Instruction| -> [String; 2] { [item.instruction.clone(), item.input.clone()] };
    asked(item) == asked(shot) && item.choices == shot.choices && item.given == shot.given
}

/// Refuses what solved examples do not go with.
pub fn check(options: Option<&ShotOptions>, stream: bool) -> Result<()> {
    if stream && options.is_some_and(|options| options.count > 0) {
        bail!(
            Usage,
            "`shots` of `data::load` needs items in memory; leave out `stream`, or `shots`"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
