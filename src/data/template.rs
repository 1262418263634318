//! How an instruction is worded for the model.
//!
//! Accuracies under different templates are not comparable: the prompts tokenise differently.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use crate::bail_data;
use crate::data::encode::{Encode, LossOn};
use crate::data::item::{Instruction, Place};
use crate::error::{Error, nearest};

/// A wording of instruction, context and answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// The prompts of AGI-Edgerunners/LLM-Adapters and NVlabs/DoRA, byte for byte: indented by 16
    /// spaces as their source is, and not the same in training and in testing. The test prompt ends
    /// in 16 spaces, which tokenise differently before a word.
    LlmAdapters,
    /// The clean prompt of Stanford Alpaca, the same in training and in testing.
    Alpaca,
    /// Nothing is added: the item's own text, and the answer directly behind it.
    None,
    /// The model's own chat template; the instruction is the user's turn.
    Chat,
}

/// The names that [`Template::parse`] knows.
pub const NAMES: [&str; 4] = ["alpaca", "llm-adapters", "none", "chat"];

const TASK: &str = "Below is an instruction that describes a task. Write a response that appropriately completes the request.";
const TASK_WITH_INPUT: &str = "Below is an instruction that describes a task, paired with an input that provides further context. \
                               Write a response that appropriately completes the request.";

impl Template {
    /// The template of that name; an unknown one is a usage error with the nearest.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "alpaca" => Ok(Template::Alpaca),
            "llm-adapters" => Ok(Template::LlmAdapters),
            "none" => Ok(Template::None),
            "chat" => Ok(Template::Chat),
            _ => {
                let near = nearest(name, NAMES).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                let message = format!("unknown template `{name}`{near}");
                Err(Error::usage(message).hint("templates are `alpaca`, `llm-adapters`, `none` and `chat`").into())
            }
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Template::Alpaca => "alpaca",
            Template::LlmAdapters => "llm-adapters",
            Template::None => "none",
            Template::Chat => "chat",
        }
    }

    /// What the loss falls on where nobody says: everything in LLM-Adapters, as published
    /// (`train_on_inputs`), else the answer.
    pub fn default_loss(self) -> LossOn {
        match self {
            Template::Alpaca | Template::None | Template::Chat => LossOn::Answer,
            Template::LlmAdapters => LossOn::All,
        }
    }

    /// The template with `{instruction}`, `{input}` and `{output}` in their places, for keeping with a model: for training and
    /// for testing. For `chat` the model's own.
    pub fn text(self, tokenizer: &dyn Encode) -> Value {
        if self == Template::Chat {
            return tokenizer.chat_template().into();
        }
        let place = Place { file: Arc::from(Path::new("")), unit: "item", number: 1 };
        let item = |input: &str| Instruction {
            place: place.clone(),
            instruction: "{instruction}".into(),
            input: input.into(),
            answer_text: "{output}".into(),
            choices: vec![],
            names: vec![],
            label: None,
            target: None,
        };
        let train = |item: &Instruction| self.train_text(item).map(|(prompt, answer)| format!("{prompt}{answer}")).ok();
        json!({
            "train": train(&item("")),
            "train_with_input": train(&item("{input}")),
            "test": self.test_prompt(&item("")).ok(),
        })
    }

    /// The training text in two parts, the prompt and the answer that follows it directly.
    ///
    /// # Errors
    /// `llm-adapters` refuses an item with an `input`: its sets have none. `chat` has no text without a model.
    pub fn train_text(self, item: &Instruction) -> Result<(String, String)> {
        let prompt = match self {
            Template::Alpaca => alpaca(item),
            Template::None => plain(item),
            Template::Chat => return Err(chat_alone(item)),
            Template::LlmAdapters => {
                let instruction = without_input(item)?;
                let i = " ".repeat(16);
                format!("{TASK}  \n\n{i}### Instruction:\n{i}{instruction}\n{i}\n{i}### Response:\n{i}")
            }
        };
        Ok((prompt, item.answer_text.clone()))
    }

    /// The prompt after which an answer is generated or scored. Errors as in [`Self::train_text`].
    pub fn test_prompt(self, item: &Instruction) -> Result<String> {
        match self {
            Template::Alpaca => Ok(alpaca(item)),
            Template::None => Ok(plain(item)),
            Template::Chat => Err(chat_alone(item)),
            Template::LlmAdapters => {
                let instruction = without_input(item)?;
                let i = " ".repeat(16);
                Ok(format!("{TASK} \n\n{i}### Instruction:\n{i}{instruction}\n\n{i}### Response:\n{i}"))
            }
        }
    }
}

fn alpaca(item: &Instruction) -> String {
    let Instruction { instruction, input, .. } = item;
    if input.is_empty() {
        format!("{TASK}\n\n### Instruction:\n{instruction}\n\n### Response:\n")
    } else {
        format!("{TASK_WITH_INPUT}\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n")
    }
}

fn plain(item: &Instruction) -> String {
    let Instruction { instruction, input, .. } = item;
    if input.is_empty() { instruction.clone() } else { format!("{instruction}\n{input}") }
}

fn chat_alone(item: &Instruction) -> anyhow::Error {
    Error::run(format!("{}: the template `chat` was asked for a text without a model", item.place)).into()
}

fn without_input(item: &Instruction) -> Result<&str> {
    if !item.input.is_empty() {
        bail_data!("{}: `input` is not empty, which the template `llm-adapters` has no place for; `alpaca` has", item.place);
    }
    Ok(&item.instruction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of};

    #[test]
    fn names_are_known_and_suggested() {
        for name in NAMES {
            assert_eq!(Template::parse(name).unwrap().name(), name);
        }
        let error = Template::parse("llm-adapter").unwrap_err();
        assert_eq!(error.to_string(), "unknown template `llm-adapter`; did you mean `llm-adapters`?");
        assert_eq!(class_of(&error), Class::Usage);
        assert_eq!(Template::parse("mistral").unwrap_err().to_string(), "unknown template `mistral`");
    }
}
