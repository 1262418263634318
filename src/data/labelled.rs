//! Items for a model with a head: texts, alone or in pairs, with the class or the number that is
//! wanted of them.

use anyhow::Result;

use super::encode::{EncodeOptions, EncodeReport, Encoded, Words, unworded};
use super::example::{Example, Labelled, Wanted};
use super::item::{Instruction, Item, ItemPlace};
use super::template::Template;
use super::tokenizer::Encode;
use crate::error::{Error, bail, error};

/// What a head says, and what it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadTask {
    pub says: Says,
    /// Whether it reads the last token of a sequence, not the first.
    pub last: bool,
}

/// What a head says.
#[derive(Clone, Debug, PartialEq)]
pub enum Says {
    /// One of these classes.
    Class(Vec<String>),
    Number,
    /// Which of an item's choices is right.
    Choice,
}

/// Encodes labelled items for a head, in their order: `prompt`, with `pair` behind it where there
/// is one, between the special tokens that the tokenizer puts there. What is longer than the limit
/// is cut, the longer text of a pair first. Items without a label are left out.
///
/// Errors: those of the template; (class data) a label that the head does not know, no item with
/// one, items that are no questions.
pub fn encode_labelled(
    items: &[Item],
    template: Template,
    tokenizer: &dyn Encode,
    head: &HeadTask,
    options: &EncodeOptions,
) -> Result<Encoded> {
    let mut out = Encoded {
        examples: Vec::with_capacity(items.len()),
        report: EncodeReport { items: items.len(), ..EncodeReport::default() },
    };
    let words = Words::new(template, tokenizer)?;
    for item in items {
        out.add_labelled(item, &words, head, options)?;
    }
    if out.examples.is_empty() {
        bail!(Data, "no item has a label that the head could learn: {}", out.report);
    }
    Ok(out)
}

/// Encodes one item; `None` where it has no label.
pub fn encode_labelled_one(
    item: &Item,
    template: Template,
    tokenizer: &dyn Encode,
    head: &HeadTask,
    options: &EncodeOptions,
) -> Result<Option<Example>> {
    let mut out = Encoded { examples: vec![], report: EncodeReport::default() };
    out.add_labelled(item, &Words::new(template, tokenizer)?, head, options)?;
    Ok(out.examples.pop())
}

/// The sequences that a head reads of a question, whatever its label.
pub fn encode_asked(
    item: &Instruction,
    template: Template,
    tokenizer: &dyn Encode,
    head: &HeadTask,
    options: &EncodeOptions,
) -> Result<Example> {
    let words = Words::new(template, tokenizer)?;
    Ok(sequences(item, &words, head, options, Wanted::Class(0))?.0)
}

impl Encoded {
    fn add_labelled(
        &mut self,
        item: &Item,
        words: &Words,
        head: &HeadTask,
        options: &EncodeOptions,
    ) -> Result<()> {
        let item = match item {
            Item::Instruction(item) => item,
            Item::Row(row) => return Err(unworded(row)),
            other => return Err(no_question(other.place()).into()),
        };
        let Some(wanted) = wanted(item, head)? else {
            self.report.dropped += 1;
            return Ok(());
        };
        let (example, cut) = sequences(item, words, head, options, wanted)?;
        let report = &mut self.report;
        report.cut += usize::from(cut);
        report.examples += 1;
        report.tokens += example.ids.len();
        report.labels += 1;
        self.examples.push(example);
        Ok(())
    }
}

fn no_question(place: &ItemPlace) -> Error {
    error!(
        Data,
        "{place} is no question with an answer to choose, which the model's head asks for";
        hint: "give `template` as a map with `prompt` and `label` or `target`"
    )
}

/// What the head should say of an item, where that is known.
fn wanted(item: &Instruction, head: &HeadTask) -> Result<Option<Wanted>> {
    Ok(match &head.says {
        Says::Number => match item.target {
            Some(number) => Some(Wanted::Number(number)),
            None => bail!(
                Data,
                "{} has no number, which the model's head should estimate",
                item.place;
                hint: "`target` of `template` names its column"
            ),
        },
        Says::Choice if item.choices.is_empty() => {
            bail!(Data, "{} has no choices, among which the model's head chooses", item.place)
        }
        Says::Choice => item.label.map(|right| Wanted::Choice(right as u32)),
        Says::Class(labels) => {
            let Some(name) = item.label.and_then(|label| item.names.get(label)) else {
                return Ok(None);
            };
            match labels.iter().position(|label| label == name) {
                Some(class) => Some(Wanted::Class(class as u32)),
                None => bail!(
                    Data,
                    "{} has the label `{name}`, which the model's head does not know",
                    item.place;
                    hint: "its labels are {}",
                    labels.join(", ")
                ),
            }
        }
    })
}

/// The sequences of an item, and whether one was cut.
fn sequences(
    item: &Instruction,
    words: &Words,
    head: &HeadTask,
    options: &EncodeOptions,
    wanted: Wanted,
) -> Result<(Example, bool)> {
    let prompt = words.test_text(item)?;
    let pair = item.pair.as_deref();
    let texts = match head.says {
        Says::Choice => item.choices.iter().map(|choice| Some(choice.as_str())).collect(),
        _ => vec![pair],
    };
    let (mut ids, mut types, mut starts, mut rows, mut cut) =
        (vec![], vec![], vec![0], vec![], false);
    for text in texts {
        let one = words.whole(&prompt, text, options.max_length, &item.place)?;
        let begin = ids.len();
        ids.extend(one.ids);
        types.extend(one.types);
        cut |= one.cut;
        if ids.len() == begin {
            bail!(Data, "{}: the tokenizer makes nothing of the text", item.place);
        }
        rows.push(if head.last { ids.len() - 1 } else { begin });
        starts.push(ids.len());
    }
    if types.iter().all(|kind| *kind == 0) {
        types.clear();
    }
    let supervised = vec![false; ids.len()];
    let labelled = Some(Labelled { types, starts, rows, wanted });
    Ok((Example { ids, supervised, labelled }, cut))
}
