//! Items to prompts and choices that are scored by their probability.

use std::fmt;

use anyhow::Result;

use crate::data::continuation::{Continued, Joined};
use crate::data::encode::{Words, count, unworded};
use crate::data::formats::looks_like;
use crate::data::item::{Instruction, Item};
use crate::data::template::Template;
use crate::data::tokenizer::Encode;
use crate::error::{Error, error};

/// A question with the texts that may follow it.
#[derive(Clone, Debug, PartialEq)]
pub struct ChoiceItem {
    /// Tokens of the prompt, with the beginning-of-sequence token if the model wants one; without
    /// the white space at its end where that counts with the choices.
    pub prompt: Vec<u32>,
    /// Tokens of each choice, with no end-of-sequence token.
    pub choices: Vec<Vec<u32>>,
    /// How many tokens at the beginning of each choice are given and not scored; empty where none
    /// are. Only then may `prompt` be empty.
    pub given: Vec<usize>,
    /// Characters of each choice, a space before it aside: what lm-evaluation-harness divides by
    /// for `acc_norm`.
    pub choice_chars: Vec<usize>,
    /// What the choices are called, as many.
    pub names: Vec<String>,
    /// The right choice.
    pub label: usize,
    /// Its number among the items that it was made of.
    pub index: usize,
    /// The number that the choices estimate; their names are numbers then.
    pub target: Option<f64>,
}

/// What became of the items. [`fmt::Display`] says it in a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChoiceReport {
    pub items: usize,
    /// Items to be scored.
    pub scored: usize,
    /// Left out: they name no choices, or their answer is none of them.
    pub unscorable: usize,
    /// Left out: longer with their longest choice than the model can see.
    pub too_long: usize,
    /// Scored items before which fewer solved examples stand than were asked for, so that the model
    /// sees all of the question.
    pub fewer_shots: usize,
    /// Scored items whose prompt and choices were tokenised as one text.
    pub joined: Joined,
}

impl fmt::Display for ChoiceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} scored of {}", self.scored, count(self.items, "item"))?;
        let notes = [
            ("no choice is the answer", self.unscorable),
            ("too long for the model", self.too_long),
            ("with fewer solved examples, to fit", self.fewer_shots),
        ];
        for (what, count) in
            notes.into_iter().chain(self.joined.notes()).filter(|(_, count)| *count > 0)
        {
            write!(f, "; {what}: {count}")?;
        }
        Ok(())
    }
}

/// An instruction with its right choice; `None` for an item that has none, which is counted. Errors
/// (class data): a record that no template has worded.
pub(super) fn scorable<'a>(
    item: &'a Item,
    report: &mut ChoiceReport,
) -> Result<Option<(&'a Instruction, usize)>> {
    let found = match item {
        Item::Instruction(instruction) => instruction.label.map(|label| (instruction, label)),
        Item::Row(row) => return Err(unworded(row)),
        _ => None,
    };
    report.unscorable += usize::from(found.is_none());
    Ok(found)
}

/// Encodes the items that can be scored, in their order. Prompt and choices are one text to the
/// model: where that gives other tokens than the two apart, the border of all choices of the item
/// is that of lm-evaluation-harness, and counted. `max_length` is the most tokens that the model
/// takes; nothing is cut.
///
/// # Errors
/// What the tokenizer or the template refuses, naming the item, and no item that can be scored.
pub fn encode_choices(
    items: &[Item],
    template: Template,
    tokenizer: &dyn Encode,
    max_length: usize,
) -> Result<(Vec<ChoiceItem>, ChoiceReport)> {
    let mut out = Vec::with_capacity(items.len());
    let mut report = ChoiceReport { items: items.len(), ..ChoiceReport::default() };
    let words = Words::new(template, tokenizer)?;
    for (index, item) in items.iter().enumerate() {
        let Some((instruction, label)) = scorable(item, &mut report)? else { continue };
        let texts = words.choices(instruction);
        let fitting = fitting(instruction, &mut report, |item| {
            let (parts, given) = words.scored(item, &texts)?;
            let longest = parts.texts.iter().map(Vec::len).max().unwrap_or(0);
            Ok((parts.prompt.len() + longest <= max_length).then_some((parts, given)))
        })?;
        let Some((Continued { prompt, texts: choices, border }, given)) = fitting else { continue };
        report.joined.add(border);
        let choice_chars = texts.iter().map(|text| text.trim_start().chars().count()).collect();
        let (names, target) = (instruction.names.clone(), instruction.target);
        out.push(ChoiceItem { prompt, choices, given, choice_chars, names, label, index, target });
    }
    report.scored = out.len();
    if out.is_empty() {
        return Err(nothing(items, "no item can be scored by its choices", &report).into());
    }
    Ok((out, report))
}

/// What `make` gives of an item, for which it says `None` where the item is too long: with all of
/// its solved examples, or with as many of the last as fit. What is too long without any is counted
/// and left out.
pub(super) fn fitting<T>(
    item: &Instruction,
    report: &mut ChoiceReport,
    make: impl Fn(&Instruction) -> Result<Option<T>>,
) -> Result<Option<T>> {
    if let Some(made) = make(item)? {
        return Ok(Some(made));
    }
    for count in (0..item.solved().len()).rev() {
        if let Some(made) = make(&item.with_shots(count))? {
            report.fewer_shots += 1;
            return Ok(Some(made));
        }
    }
    report.too_long += 1;
    Ok(None)
}

/// The error where no item can be scored; of plain texts it says what they may be instead.
pub(super) fn nothing(items: &[Item], what: &str, report: &ChoiceReport) -> Error {
    let Some(Item::Text(document)) = items.first() else {
        return error!(Data, "{what}: {report}");
    };
    let file = &document.place.file;
    let error = error!(Data, "{what}: `{}` was read as plain text", file.display());
    match looks_like(&document.text) {
        Some((looks, format)) => {
            let what = format!("{}, and looks like {looks}", error.message);
            let error = Error { message: what, ..error };
            error.hint(format!(
                "`format: \"{format}\"` reads its records; for `xgbrun eval`, `--format {format}`"
            ))
        }
        None => error.hint("a text has no choices; the protocol `perplexity` measures it"),
    }
}
