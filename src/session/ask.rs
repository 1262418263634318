//! A single question to a model.

use anyhow::Result;

use super::model::Model;
use crate::data::item::Instruction;
use crate::data::labelled::encode_asked;
use crate::data::{
    ChoiceItem, EncodeOptions, Example, Item, LossOn, Says, Template, encode_choices,
    encode_questions,
};
use crate::error::bail;
use crate::eval::choices::score;
use crate::eval::generate::{Generation, generate};
use crate::eval::labelled;
use crate::model::Adapter;

/// A question ready to be asked.
pub struct EncodedQuestion(Prompt);

enum Prompt {
    Choices(ChoiceItem),
    Text {
        ids: Vec<u32>,
        max_tokens: usize,
    },
    /// For a head that says classes, choices or, if `number`, a number.
    Head {
        example: Example,
        number: bool,
    },
}

/// What a model says.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Of each choice; they sum to 1.
    Shares(Vec<f64>),
    Text(String),
}

impl Reply {
    /// Whether it is the same answer: the same choice, or the same text.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Shares(a), Self::Shares(b)) => winner(a) == winner(b),
            (a, b) => a == b,
        }
    }
}

impl Model {
    /// A question as `template` words it; one without choices is answered by at most `max_tokens`
    /// tokens. Errors: one that is longer than the model sees (class usage), what the template or
    /// the tokenizer refuses.
    pub fn question(
        &self,
        question: &Instruction,
        template: Template,
        max_tokens: usize,
    ) -> Result<EncodedQuestion> {
        let m = self.state();
        let (positions, tokenizer) =
            (m.network.config().max_position_embeddings, m.tokenizer.as_ref());
        if let Some(task) = m.reads.task()? {
            let options = EncodeOptions { max_length: positions, loss: LossOn::Answer };
            let example = encode_asked(question, template, tokenizer, task, &options)?;
            let number = task.says == Says::Number;
            return Ok(EncodedQuestion(Prompt::Head { example, number }));
        }
        m.reads.next("an answer")?;
        let items = [Item::Instruction(question.clone())];
        // Whether it fits is told here, where the answer is not that there is nothing to measure.
        let (mut prompts, _) = encode_questions(&items, template, tokenizer, usize::MAX)?;
        let Some(prompt) = prompts.pop() else { bail!(Data, "the question gives no prompt") };
        let (length, room) =
            (prompt.prompt.len(), if question.choices.is_empty() { max_tokens } else { 0 });
        if length + room > positions {
            let more = if room > 0 { format!(" and {room} of an answer") } else { String::new() };
            bail!(Usage, "the question has {length} tokens{more}; the model sees {positions}");
        }
        if question.choices.is_empty() {
            return Ok(EncodedQuestion(Prompt::Text { ids: prompt.prompt, max_tokens }));
        }
        match encode_choices(&items, template, tokenizer, positions)?.0.pop() {
            Some(item) => Ok(EncodedQuestion(Prompt::Choices(item))),
            None => bail!(Data, "the question gives no choices"),
        }
    }

    /// What it says to a question.
    pub fn answer(&self, question: &EncodedQuestion) -> Result<Reply> {
        let (m, none) = (self.with_weights()?, Adapter::default());
        match &question.0 {
            Prompt::Choices(item) => {
                let items = std::slice::from_ref(item);
                let sums = score(&m.network, &none, items, |_| Ok(()))?.sums.pop();
                let sums = sums.unwrap_or_default();
                let mean = |(sum, ids): (&f64, &Vec<u32>)| sum / ids.len() as f64;
                let means: Vec<f64> = sums.iter().zip(&item.choices).map(mean).collect();
                Ok(Reply::Shares(softmax(&means)))
            }
            Prompt::Head { example, number } => {
                let examples = std::slice::from_ref(example);
                let (said, _) = labelled::logits(&m.network, &none, examples, |_| Ok(()))?;
                let said: Vec<f64> = said.into_iter().flatten().collect();
                Ok(match (number, &said[..]) {
                    (true, [number]) => Reply::Text(format!("{number:.4}")),
                    _ => Reply::Shares(softmax(&said)),
                })
            }
            Prompt::Text { ids, max_tokens } => {
                let how = Generation { max_tokens: *max_tokens, ..Generation::default() };
                let (ids, tokenizer) = (std::slice::from_ref(ids), m.tokenizer.as_ref());
                let going = |_| Ok(self.session().guard.check()?);
                let text = generate(&m.network, &none, ids, tokenizer, &how, going)?.pop();
                let text = text.map(|generated| generated.text.trim().to_owned());
                Ok(Reply::Text(text.unwrap_or_default()))
            }
        }
    }
}

fn softmax(values: &[f64]) -> Vec<f64> {
    let top = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exps: Vec<f64> = values.iter().map(|v| (v - top).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.into_iter().map(|e| e / sum).collect()
}

/// The largest share, the first of equals.
pub fn winner(shares: &[f64]) -> usize {
    (1..shares.len()).fold(0, |best, i| if shares[i] > shares[best] { i } else { best })
}
