//! How an instruction is worded for the model.
//!
//! Accuracies under different templates are not comparable: the prompts tokenise differently.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use crate::data::item::{Instruction, ItemPlace};
use crate::data::loss::LossOn;
use crate::data::published::Published;
use crate::data::tokenizer::Encode;
use crate::error::{bail, did_you_mean, error};

/// A wording of instruction, context and answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// The prompts of AGI-Edgerunners/LLM-Adapters and NVlabs/DoRA, byte for byte: indented by 16
    /// spaces as their source is, and not the same in training and in testing. The test prompt ends
    /// in 16 spaces, which tokenise differently before a word.
    LlmAdapters,
    /// The clean prompt of Stanford Alpaca, the same in training and in testing.
    Alpaca,
    /// The cloze formulation, as lm-evaluation-harness words these sets: `Question: …` without its
    /// options, `Answer:`, and the text of an option behind it (" snow") where the published answer
    /// is its name ("the correct answer is answer2"). Where options have no text of their own (true
    /// and false), their names are. What names no options is worded as in `alpaca`.
    Cloze,
    /// Nothing is added: the item's own text, and the answer directly behind it.
    None,
    /// The model's own chat template; the instruction is the user's turn.
    Chat,
}

/// The names that [`Template::parse`] knows.
pub const NAMES: [&str; 5] = ["alpaca", "cloze", "llm-adapters", "none", "chat"];

const TASK: &str = "Below is an instruction that describes a task. Write a response that \
                    appropriately completes the request.";
const TASK_WITH_INPUT: &str = "Below is an instruction that describes a task, paired with an input \
                               that provides further context. Write a response that appropriately \
                               completes the request.";

impl Template {
    /// The template of that name; an unknown one is a usage error with the nearest.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "alpaca" => Ok(Template::Alpaca),
            "cloze" => Ok(Template::Cloze),
            "llm-adapters" => Ok(Template::LlmAdapters),
            "none" => Ok(Template::None),
            "chat" => Ok(Template::Chat),
            _ => {
                if Published::find(name).is_some() {
                    bail!(
                        Usage,
                        "the template `{name}` words records of a data set, and no question by \
                         itself";
                        hint: "templates of questions are {}",
                        NAMES.join(", ")
                    );
                }
                let near = did_you_mean(name, NAMES);
                Err(error!(
                    Usage,
                    "unknown template `{name}`{near}";
                    hint: "templates are `alpaca`, `cloze`, `llm-adapters`, `none` and `chat`"
                )
                .into())
            }
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Template::Alpaca => "alpaca",
            Template::Cloze => "cloze",
            Template::LlmAdapters => "llm-adapters",
            Template::None => "none",
            Template::Chat => "chat",
        }
    }

    /// What the loss falls on where nobody says: everything in LLM-Adapters, as published
    /// (`train_on_inputs`), else the answer.
    pub fn default_loss(self) -> LossOn {
        match self {
            Template::Alpaca | Template::Cloze | Template::None | Template::Chat => LossOn::Answer,
            Template::LlmAdapters => LossOn::All,
        }
    }

    /// The template with `{instruction}`, `{input}` and `{output}` in their places, for keeping
    /// with a model: for training and for testing. For `chat` the model's own.
    pub fn text(self, tokenizer: &dyn Encode) -> Value {
        if self == Template::Chat {
            return tokenizer.chat_template().into();
        }
        let place = ItemPlace { file: Arc::from(Path::new("")), unit: "item", number: 1 };
        let item = |input: &str| Instruction {
            input: input.into(),
            ..Instruction::new(place.clone(), "{instruction}".into(), "{output}".into())
        };
        let train = |item: &Instruction| {
            self.train_text(item).map(|(prompt, answer)| format!("{prompt}{answer}")).ok()
        };
        json!({
            "train": train(&item("")),
            "train_with_input": train(&item("{input}")),
            "test": self.test_prompt(&item("")).ok(),
        })
    }

    /// The training text in two parts, the prompt and the answer that follows it directly.
    ///
    /// # Errors `llm-adapters` refuses an item with an `input`: its sets have none. `chat` has no
    /// text without a model. None but `chat` has a place for a system text, earlier questions and
    /// tools.
    pub fn train_text(self, item: &Instruction) -> Result<(String, String)> {
        self.has_place(item)?;
        let prompt = match self {
            Template::Alpaca => alpaca(item),
            Template::Cloze => question(item),
            Template::None => plain(item),
            Template::Chat => return Err(chat_alone(item)),
            Template::LlmAdapters => {
                let instruction = without_input(item)?;
                let i = " ".repeat(16);
                format!(
                    "{TASK}  \n\n{i}### Instruction:\n{i}{instruction}\n{i}\n{i}### Response:\n{i}"
                )
            }
        };
        Ok((format!("{}{prompt}", item.description), self.answer(item).into_owned()))
    }

    /// The prompt after which an answer is generated or scored, with the solved examples before it.
    /// Errors as in [`Self::train_text`].
    pub fn test_prompt(self, item: &Instruction) -> Result<String> {
        let mut out = item.description.clone();
        if let Some(shots) = &item.shots {
            for shot in &shots.solved {
                out += &self.asked(shot)?;
                out += &self.answer(shot);
                out += &shots.separator;
            }
        }
        out += &self.asked(item)?;
        Ok(out)
    }

    /// The question by itself.
    fn asked(self, item: &Instruction) -> Result<String> {
        self.has_place(item)?;
        match self {
            Template::Alpaca => Ok(alpaca(item)),
            Template::Cloze => Ok(question(item)),
            Template::None => Ok(plain(item)),
            Template::Chat => Err(chat_alone(item)),
            Template::LlmAdapters => {
                let instruction = without_input(item)?;
                let i = " ".repeat(16);
                Ok(format!(
                    "{TASK} \n\n{i}### Instruction:\n{i}{instruction}\n\n{i}### Response:\n{i}"
                ))
            }
        }
    }
}

impl Template {
    /// Refuses what stands before the question, which only a conversation has a place for.
    fn has_place(self, item: &Instruction) -> Result<()> {
        if item.pair.is_some() {
            bail!(
                Usage,
                "the template has a `pair`, a second text that only a model with a head reads";
                hint: "`model.head(…)` gives the model one, or `prompt` holds both texts"
            );
        }
        let keys: Vec<String> =
            item.before.keys().into_iter().map(|key| format!("`{key}`")).collect();
        if self == Template::Chat || keys.is_empty() {
            return Ok(());
        }
        let what = format!(
            "{}, which the template `{}` has no place for",
            keys.join(" and "),
            self.name()
        );
        Err(error!(
            Data,
            "{} has {what}",
            item.place;
            hint: "`template: \"chat\"` words it, as a conversation"
        )
        .into())
    }

    /// What is trained behind the prompt.
    pub fn answer(self, item: &Instruction) -> Cow<'_, str> {
        let text = item
            .label
            .filter(|_| self == Template::Cloze)
            .and_then(|label| Some(cloze(item)?.1.swap_remove(label)));
        text.map_or(Cow::Borrowed(&item.answer_text), Cow::Owned)
    }

    /// The texts to be scored behind the prompt.
    pub fn choices(self, item: &Instruction) -> Cow<'_, [String]> {
        let texts =
            if self == Template::Cloze { cloze(item).map(|(_, texts)| texts) } else { None };
        texts.map_or(Cow::Borrowed(&item.choices), Cow::Owned)
    }
}

/// The prompt of `cloze`.
fn question(item: &Instruction) -> String {
    cloze(item)
        .map_or_else(|| alpaca(item), |(question, _)| format!("Question: {question}\nAnswer:"))
}

/// The question by itself, and the options' texts as they follow it, of an instruction as
/// LLM-Adapters words them: `Please …:`, what is asked, options as `Answer1: … Answer2: …`,
/// `Answer format:`; the first may be missing. `None` of any other.
fn cloze(item: &Instruction) -> Option<(String, Vec<String>)> {
    item.label?;
    let listed = &item.instruction
        [..item.instruction.rfind("Answer format:").filter(|_| item.input.is_empty())?];
    let places = marks(listed, &item.names);
    let (end, texts) = match places.first() {
        None => (listed.len(), item.names.iter().map(|name| format!(" {name}")).collect()),
        Some(_) if places.len() < item.names.len() => return None,
        Some(&(first, _)) => {
            let ends = places.iter().skip(1).map(|p| p.0).chain([listed.len()]);
            let text = |(&(_, start), end): (&(usize, usize), usize)| {
                let text = listed[start..end].trim();
                (!text.is_empty()).then(|| format!(" {text}"))
            };
            (first, places.iter().zip(ends).map(text).collect::<Option<Vec<_>>>()?)
        }
    };
    let asked = &listed[..end];
    let question = if asked.starts_with("Please ") {
        asked.split_once(": ").map_or(asked, |(_, question)| question)
    } else {
        asked
    }
    .trim();
    (!question.is_empty()).then(|| (question.to_owned(), texts))
}

/// From where to where the names stand in `listed` as marks of options (`Answer1: `), as far as
/// they are there in order.
fn marks(listed: &str, names: &[String]) -> Vec<(usize, usize)> {
    let mark = |name: &String| {
        let mut letters = name.chars();
        letters.next().map(|first| format!("{}{}: ", first.to_uppercase(), letters.as_str()))
    };
    let mut places = vec![];
    for mark in names.iter().filter_map(mark) {
        let from = places.last().map_or(0, |&(_, end)| end);
        if let Some(at) = listed[from..].find(&mark) {
            places.push((from + at, from + at + mark.len()));
        }
    }
    places
}

fn alpaca(item: &Instruction) -> String {
    let Instruction { instruction, input, .. } = item;
    if input.is_empty() {
        format!("{TASK}\n\n### Instruction:\n{instruction}\n\n### Response:\n")
    } else {
        format!(
            "{TASK_WITH_INPUT}\n\n### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### \
             Response:\n"
        )
    }
}

fn plain(item: &Instruction) -> String {
    let Instruction { instruction, input, .. } = item;
    if input.is_empty() { instruction.clone() } else { format!("{instruction}\n{input}") }
}

fn chat_alone(item: &Instruction) -> anyhow::Error {
    error!(Run, "{}: the template `chat` was asked for a text without a model", item.place).into()
}

fn without_input(item: &Instruction) -> Result<&str> {
    if !item.input.is_empty() {
        bail!(
            Data,
            "{}: `input` is not empty, which the template `llm-adapters` has no place for; \
             `alpaca` has",
            item.place
        );
    }
    Ok(&item.instruction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of};

    /// An instruction whose answer is the second of `names`.
    fn choice(instruction: &str, names: [&str; 2]) -> Instruction {
        let place = ItemPlace { file: Arc::from(Path::new("t")), unit: "item", number: 1 };
        let choices = names.map(|name| format!("the correct answer is {name}")).to_vec();
        let answer = choices[1].clone();
        let (names, label) = (names.map(str::to_owned).to_vec(), Some(1));
        Instruction { choices, names, label, ..Instruction::new(place, instruction.into(), answer) }
    }

    /// Instructions of the commonsense sets with their names, the question, and the options' texts.
    const ASKED: [(&str, [&str; 2], &str, [&str; 2]); 4] = [
        (
            "Please do: Which? \n\nAnswer1: a b Answer2: c: d\n\nAnswer format: answer1/answer2",
            ["answer1", "answer2"],
            "Which?",
            ["a b", "c: d"],
        ),
        (
            "Please do: How?\n\nSolution1: x.\n\nSolution2: y.\n\nAnswer format: \
             solution1/solution2",
            ["solution1", "solution2"],
            "How?",
            ["x.", "y."],
        ),
        (
            "A: _.\n\nOption1: a Option2: b Answer format: option1/option2",
            ["option1", "option2"],
            "A: _.",
            ["a", "b"],
        ),
        (
            "Please do, question: is it so?\n\nAnswer format: true/false",
            ["true", "false"],
            "is it so?",
            ["true", "false"],
        ),
    ];

    #[test]
    fn a_question_stands_without_its_options() {
        for (instruction, names, question, want) in ASKED {
            let item = choice(instruction, names);
            let want = want.map(|text| format!(" {text}"));
            let prompt = format!("Question: {question}\nAnswer:");
            assert_eq!(Template::Cloze.choices(&item).into_owned(), want, "{instruction}");
            assert_eq!(Template::Cloze.test_prompt(&item).unwrap(), prompt);
            assert_eq!(Template::Cloze.train_text(&item).unwrap(), (prompt, want[1].clone()));
            assert_eq!(
                (Template::Alpaca.choices(&item).into_owned(), Template::Alpaca.answer(&item)),
                (item.choices.clone(), item.answer_text.as_str().into())
            );
        }
    }

    #[test]
    fn what_is_no_question_with_all_its_options_is_worded_as_in_alpaca() {
        // Options that are not all there, in order and with a text; no question, or no end.
        for instruction in [
            "Please do: q Answer1: a Answer2:  Answer format: answer1/answer2",
            "Please do: q Answer2: a Answer1: b Answer format: answer1/answer2",
            "Please do: Answer1: a Answer2: b Answer format: answer1/answer2",
            "Please do: one? Answer1: a Answer2: b",
        ] {
            let item = choice(instruction, ["answer1", "answer2"]);
            assert_eq!(Template::Cloze.choices(&item).into_owned(), item.choices, "{instruction}");
            assert_eq!(
                Template::Cloze.train_text(&item).unwrap(),
                (alpaca(&item), item.answer_text.clone())
            );
        }
    }

    #[test]
    fn names_are_known_and_suggested() {
        for name in NAMES {
            assert_eq!(Template::parse(name).unwrap().name(), name);
        }
        let error = Template::parse("llm-adapter").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown template `llm-adapter`; did you mean `llm-adapters`?"
        );
        assert_eq!(class_of(&error), Class::Usage);
        assert_eq!(
            Template::parse("mistral").unwrap_err().to_string(),
            "unknown template `mistral`"
        );
    }
}
