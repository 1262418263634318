//! Instructions: records of AGI-Edgerunners/LLM-Adapters, of plain Alpaca data, and of prompt and
//! completion.

use anyhow::Result;
use serde_json::Value;

use super::fields::RecordFields;
use super::keys::is_empty;
use super::messages;
use crate::data::item::{Before, Instruction};
use crate::error::bail;

pub(super) const EXPECTED: &str =
    "expected are the strings `instruction`, `input`, `output` and `answer`";

/// A record with `instruction` and `output`; `input` and `answer` may be missing. Where there is no
/// answer, the output says which choice is right if it is worded as a choice is.
pub(super) fn item(fields: &mut RecordFields) -> Result<Instruction> {
    let instruction = fields.text("instruction")?;
    let answer_text = fields.text("output")?;
    let input = fields.optional("input")?.unwrap_or_default();
    let answer = fields.optional("answer")?;
    let before = before(fields)?;
    let names: Vec<String> = choice_names(&instruction).into_iter().map(str::to_owned).collect();
    let choices: Vec<String> =
        names.iter().map(|name| format!("the correct answer is {name}")).collect();
    let label = match answer {
        Some(answer) => names.iter().position(|name| *name == answer),
        None => choices.iter().position(|choice| *choice == answer_text),
    };
    let item = Instruction::new(fields.place.clone(), instruction, answer_text);
    Ok(Instruction { input, choices, names, label, before, ..item })
}

/// A record with `prompt` and `completion`: nothing to choose from.
pub(super) fn completion(fields: &mut RecordFields) -> Result<Instruction> {
    let (instruction, answer_text) = (fields.text("prompt")?, fields.text("completion")?);
    let before = before(fields)?;
    let item = Instruction::new(fields.place.clone(), instruction, answer_text);
    Ok(Instruction { before, ..item })
}

/// `system`, `history` (a list of questions with their answers) and `tools`, as LLaMA-Factory's
/// files have them.
fn before(fields: &mut RecordFields) -> Result<Before> {
    let system = fields.system()?;
    let tools =
        fields.take("tools").map_or(Ok(vec![]), |value| messages::tools(fields.place, value))?;
    let history = fields.take("history").filter(|value| !is_empty(value));
    let place = fields.place;
    let pair = |(i, value): (usize, &Value)| match value.as_array().map(Vec::as_slice) {
        Some([Value::String(question), Value::String(answer)]) => {
            Ok((question.clone(), answer.clone()))
        }
        _ => bail!(
            Data,
            "{place}: `history[{i}]` is no list of a question and its answer, both texts"
        ),
    };
    let history = match history {
        None => vec![],
        Some(Value::Array(list)) => list.iter().enumerate().map(pair).collect::<Result<_>>()?,
        Some(other) => bail!(
            Data,
            "{place}: `history` is {}, expected a list of [question, answer]",
            super::kind(&other)
        ),
    };
    Ok(Before { system, history, tools })
}

/// The choices that the end of an instruction names, `Answer format: a/b/c`; none where there is no
/// such end, fewer than two names, or one twice.
///
/// They are taken from each item and not from the set: a few ARC items have 3 or 5 choices and say
/// so. That is also stricter than the published evaluation, which looks for answer1 … answer5 in
/// all.
pub(in crate::data) fn choice_names(instruction: &str) -> Vec<&str> {
    let Some((_, end)) = instruction.rsplit_once("Answer format:") else { return Vec::new() };
    let names: Vec<&str> = end.trim().split('/').map(str::trim).collect();
    let distinct = names.iter().enumerate().all(|(i, name)| !names[..i].contains(name));
    let named = names.iter().all(|name| !name.is_empty() && !name.contains('\n'));
    if names.len() > 1 && distinct && named { names } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_come_from_the_last_line() {
        assert_eq!(choice_names("is it?\n\nAnswer format: true/false"), ["true", "false"]);
        assert_eq!(
            choice_names("Option1: a Option2: b Answer format: option1/option2"),
            ["option1", "option2"]
        );
        assert_eq!(
            choice_names("x\n\nAnswer format: answer1/answer2/answer3\r\n"),
            ["answer1", "answer2", "answer3"]
        );
        for none in [
            "why?",
            "Answer format: one",
            "Answer format: a/a",
            "Answer format: a//b",
            "Answer format: a/b\nwhy?",
        ] {
            assert_eq!(choice_names(none), Vec::<&str>::new(), "{none}");
        }
    }
}
