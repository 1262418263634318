//! How an instruction is worded for the model.
//!
//! Accuracies under different templates are not comparable: the prompts tokenise differently.

use anyhow::Result;

use crate::bail_data;
use crate::data::encode::LossOn;
use crate::data::item::Instruction;
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
}

/// The names that [`Template::parse`] knows.
pub const NAMES: [&str; 2] = ["alpaca", "llm-adapters"];

const TASK: &str = "Below is an instruction that describes a task. Write a response that appropriately completes the request.";
const TASK_WITH_INPUT: &str = "Below is an instruction that describes a task, paired with an input that provides further context. \
                               Write a response that appropriately completes the request.";

impl Template {
    /// The template of that name; an unknown one is a usage error with the nearest.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "alpaca" => Ok(Template::Alpaca),
            "llm-adapters" => Ok(Template::LlmAdapters),
            _ => {
                let near = nearest(name, NAMES).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                let message = format!("unknown template `{name}`{near}");
                Err(Error::usage(message).hint("templates are `alpaca` and `llm-adapters`").into())
            }
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Template::Alpaca => "alpaca",
            Template::LlmAdapters => "llm-adapters",
        }
    }

    /// What the loss falls on where nobody says: everything in LLM-Adapters, as published
    /// (`train_on_inputs`), else the answer.
    pub fn default_loss(self) -> LossOn {
        match self {
            Template::Alpaca => LossOn::Answer,
            Template::LlmAdapters => LossOn::All,
        }
    }

    /// The training text in two parts, the prompt and the answer that follows it directly.
    ///
    /// # Errors
    /// `llm-adapters` refuses an item with an `input`: its sets have none.
    pub fn train_text(self, item: &Instruction) -> Result<(String, String)> {
        let prompt = match self {
            Template::Alpaca => alpaca(item),
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
        assert_eq!(Template::parse("chatml").unwrap_err().to_string(), "unknown template `chatml`");
    }
}
