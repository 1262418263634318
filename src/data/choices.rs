//! Items to prompts and choices that are scored by their probability.

use std::fmt;

use anyhow::Result;

use crate::data::continuation::{Continued, Joined};
use crate::data::encode::{Words, count, unworded};
use crate::data::item::{Instruction, Item};
use crate::data::template::Template;
use crate::data::tokenizer::Encode;
use crate::error::bail;

/// A question with the texts that may follow it.
#[derive(Clone, Debug, PartialEq)]
pub struct ChoiceItem {
    /// Tokens of the prompt, with the beginning-of-sequence token if the model wants one; without
    /// the white space at its end where that counts with the choices.
    pub prompt: Vec<u32>,
    /// Tokens of each choice, with no end-of-sequence token.
    pub choices: Vec<Vec<u32>>,
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
    /// Scored items whose prompt and choices were tokenised as one text.
    pub joined: Joined,
}

impl fmt::Display for ChoiceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} scored of {}", self.scored, count(self.items, "item"))?;
        let notes = [
            ("no choice is the answer", self.unscorable),
            ("too long for the model", self.too_long),
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
        let Continued { prompt, texts: choices, border } = words.scored(instruction, &texts)?;
        let longest = choices.iter().map(Vec::len).max().unwrap_or(0);
        if prompt.len() + longest > max_length {
            report.too_long += 1;
            continue;
        }
        report.joined.add(border);
        let choice_chars = texts.iter().map(|text| text.trim_start().chars().count()).collect();
        let (names, target) = (instruction.names.clone(), instruction.target);
        out.push(ChoiceItem { prompt, choices, choice_chars, names, label, index, target });
    }
    report.scored = out.len();
    if out.is_empty() {
        bail!(Data, "no item can be scored by its choices: {report}");
    }
    Ok((out, report))
}
