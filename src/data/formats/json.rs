//! Instruction items: a JSON list of `{instruction, input, output, answer}`, the format of
//! AGI-Edgerunners/LLM-Adapters.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde_json::{Map, Value};

use super::{json_fault, kind};
use crate::bail_data;
use crate::data::item::{Instruction, Item, Place};
use crate::error::Error;

const EXPECTED: &str = "expected are the strings `instruction`, `input`, `output` and `answer`";

pub(super) fn parse(file: &Arc<Path>, text: &str) -> Result<Vec<Item>> {
    let name = file.display();
    let value: Value = serde_json::from_str(text)
        .map_err(|e| Error::data(format!("`{name}` line {} column {}: {}", e.line(), e.column(), json_fault(&e))))?;
    let Value::Array(rows) = value else {
        bail_data!("`{name}` holds {}, expected a list of objects; {EXPECTED}", kind(&value));
    };
    if rows.is_empty() {
        bail_data!("`{name}` holds an empty list");
    }
    let place = |i: usize| Place { file: file.clone(), unit: "item", number: i + 1 };
    rows.into_iter().enumerate().map(|(i, row)| item(place(i), row)).collect()
}

fn item(place: Place, row: Value) -> Result<Item> {
    let Value::Object(mut fields) = row else {
        bail_data!("{place} is {}, expected an object; {EXPECTED}", kind(&row));
    };
    let instruction = field(&place, &mut fields, "instruction")?;
    let input = field(&place, &mut fields, "input")?;
    let answer_text = field(&place, &mut fields, "output")?;
    let answer = field(&place, &mut fields, "answer")?;
    let names = choice_names(&instruction);
    let label = names.iter().position(|name| *name == answer);
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let choices = names.iter().map(|name| format!("the correct answer is {name}")).collect();
    Ok(Item::Instruction(Instruction { place, instruction, input, answer_text, choices, names, label, target: None }))
}

fn field(place: &Place, fields: &mut Map<String, Value>, name: &str) -> Result<String> {
    match fields.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => bail_data!("{place}: `{name}` is {}, expected a string; {EXPECTED}", kind(&other)),
        None => bail_data!("{place} has no `{name}`; {EXPECTED}"),
    }
}

/// The choices that the end of an instruction names, `Answer format: a/b/c`; none where there is no
/// such end, fewer than two names, or one twice.
///
/// They are taken from each item and not from the set: a few ARC items have 3 or 5 choices and say
/// so. That is also stricter than the published evaluation, which looks for answer1 … answer5 in all.
fn choice_names(instruction: &str) -> Vec<&str> {
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
        assert_eq!(choice_names("Option1: a Option2: b Answer format: option1/option2"), ["option1", "option2"]);
        assert_eq!(choice_names("x\n\nAnswer format: answer1/answer2/answer3\r\n"), ["answer1", "answer2", "answer3"]);
        for none in ["why?", "Answer format: one", "Answer format: a/a", "Answer format: a//b", "Answer format: a/b\nwhy?"] {
            assert_eq!(choice_names(none), Vec::<&str>::new(), "{none}");
        }
    }
}
