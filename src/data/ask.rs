//! A question typed by a person, as the instruction that a data set would make of it.

use std::path::Path;
use std::sync::Arc;

use super::formats::instruction::choice_names;
use super::item::{Instruction, ItemPlace};

/// How the commonsense sets number their choices, and what stands before `Answer format:` there.
const NUMBERED: [(&str, &str); 4] =
    [("Answer", "\n\n"), ("Solution", "\n\n"), ("Ending", "\n\n"), ("Option", " ")];

/// The choices are those that the end names (`Answer format: a/b`), else those that are numbered in
/// it (`Answer1: … Answer2: …`, as well `Solution`, `Ending`, `Option`), or true and false where it
/// says "true or false"; the last two get the end that the data sets have. Without choices the
/// answer is open.
///
/// The label says nothing: nobody knows the right answer.
pub fn question(text: &str) -> Instruction {
    let mut instruction = text.trim().to_owned();
    let mut names: Vec<String> =
        choice_names(&instruction).into_iter().map(str::to_owned).collect();
    if names.is_empty()
        && let Some((found, gap)) = unnamed(&instruction)
    {
        instruction = format!("{instruction}{gap}Answer format: {}", found.join("/"));
        names = found;
    }
    let choices = names.iter().map(|name| format!("the correct answer is {name}")).collect();
    let place = ItemPlace { file: Arc::from(Path::new("question")), unit: "item", number: 1 };
    let label = Some(0);
    Instruction { choices, names, label, ..Instruction::new(place, instruction, String::new()) }
}

/// A text, alone or in a pair, that a head says something of; `labels` are what it may say.
pub fn judged(text: &str, pair: Option<&str>, labels: Vec<String>) -> Instruction {
    let place = ItemPlace { file: Arc::from(Path::new("question")), unit: "item", number: 1 };
    let item = Instruction::new(place, text.to_owned(), String::new());
    let pair = pair.map(str::to_owned);
    Instruction { pair, choices: labels.clone(), names: labels, ..item }
}

/// Choices of a question that does not end in their names, and what is put before these.
fn unnamed(question: &str) -> Option<(Vec<String>, &'static str)> {
    let lower = question.to_lowercase();
    for (word, gap) in NUMBERED {
        let word = word.to_lowercase();
        let count = (1..).take_while(|n| lower.contains(&format!("{word}{n}:"))).count();
        if count > 1 {
            return Some(((1..=count).map(|n| format!("{word}{n}")).collect(), gap));
        }
    }
    lower.contains("true or false").then(|| (vec!["true".into(), "false".into()], "\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Questions, the names of their choices, and how their instructions end.
    const ASKED: [(&str, &[&str], &str); 7] = [
        ("Is it?\n\nAnswer format: yes/no", &["yes", "no"], "Is it?\n\nAnswer format: yes/no"),
        (
            "Which? Answer1: a Answer2: b Answer3: c",
            &["answer1", "answer2", "answer3"],
            "c\n\nAnswer format: answer1/answer2/answer3",
        ),
        (
            "How? solution1: a Solution2: b ",
            &["solution1", "solution2"],
            "b\n\nAnswer format: solution1/solution2",
        ),
        (
            "He _. Option1: a Option2: b",
            &["option1", "option2"],
            "b Answer format: option1/option2",
        ),
        (
            "Answer with true or false: is snow cold?",
            &["true", "false"],
            "cold?\n\nAnswer format: true/false",
        ),
        ("Why is snow cold?", &[], "Why is snow cold?"),
        ("Answer1: alone", &[], "Answer1: alone"),
    ];

    #[test]
    fn choices_are_found_as_the_sets_name_them() {
        for (asked, names, ends) in ASKED {
            let item = question(asked);
            assert_eq!(item.names, names, "{asked}");
            assert!(item.instruction.ends_with(ends), "{asked}: {}", item.instruction);
            assert!(
                item.choices
                    .iter()
                    .zip(names)
                    .all(|(choice, name)| *choice == format!("the correct answer is {name}"))
            );
        }
    }
}
