//! Items to prompts after which an answer is generated.

use anyhow::Result;

use crate::data::choices::{ChoiceReport, fitting, nothing, scorable};
use crate::data::encode::Words;
use crate::data::item::Item;
use crate::data::template::Template;
use crate::data::tokenizer::Encode;

/// A question whose answer is looked for in a generated text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationItem {
    /// Tokens of the prompt, with the beginning-of-sequence token if the model wants one.
    pub prompt: Vec<u32>,
    /// What the answers are called.
    pub names: Vec<String>,
    /// The right one.
    pub label: usize,
}

/// Encodes the items that can be scored, in their order. A prompt of more than `max_prompt` tokens
/// is left out: what the model takes, less what is to be generated. Nothing is cut.
///
/// # Errors
/// What the tokenizer or the template refuses, naming the item, and no item that can be scored.
pub fn encode_questions(
    items: &[Item],
    template: Template,
    tokenizer: &dyn Encode,
    max_prompt: usize,
) -> Result<(Vec<GenerationItem>, ChoiceReport)> {
    let mut out = Vec::with_capacity(items.len());
    let mut report = ChoiceReport { items: items.len(), ..ChoiceReport::default() };
    let words = Words::new(template, tokenizer)?;
    for item in items {
        let Some((instruction, label)) = scorable(item, &mut report)? else { continue };
        let prompt = fitting(instruction, &mut report, |item| {
            let prompt = words.test_tokens(item)?;
            Ok((prompt.len() <= max_prompt).then_some(prompt))
        })?;
        let Some(prompt) = prompt else { continue };
        out.push(GenerationItem { prompt, names: instruction.names.clone(), label });
    }
    report.scored = out.len();
    if out.is_empty() {
        return Err(nothing(items, "no item can be scored by its answer", &report).into());
    }
    Ok((out, report))
}
