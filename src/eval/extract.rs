//! The answer in a generated text, as AGI-Edgerunners/LLM-Adapters' `commonsense_evaluate.py` finds
//! it: the first match, upper and lower case apart, of the names that the item's published set
//! knows.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use regex::Regex;

/// What is looked for in the published sets, each by the family of its names.
const FAMILIES: [&str; 5] = [
    "true|false",
    "solution1|solution2",
    "answer1|answer2|answer3|answer4|answer5",
    "ending1|ending2|ending3|ending4",
    "option1|option2",
];

/// Finds answers; patterns are made once for every set of names.
#[derive(Default)]
pub struct Extract {
    patterns: BTreeMap<Vec<String>, Regex>,
}

impl Extract {
    /// The first name in `text`. In the published sets that can be a name that this item does not
    /// have.
    pub fn first<'t>(&mut self, names: &[String], text: &'t str) -> Result<Option<&'t str>> {
        if !self.patterns.contains_key(names) {
            let regex = Regex::new(&pattern(names)).context("a pattern of the names")?;
            self.patterns.insert(names.to_vec(), regex);
        }
        Ok(self.patterns.get(names).and_then(|regex| regex.find(text)).map(|found| found.as_str()))
    }
}

/// The published pattern where all names are of one family, else the names themselves, longest
/// first.
fn pattern(names: &[String]) -> String {
    let family = FAMILIES.into_iter().find(|family| {
        !names.is_empty() && names.iter().all(|name| family.split('|').any(|f| f == name))
    });
    if let Some(family) = family {
        return family.to_string();
    }
    let mut names: Vec<&String> = names.iter().filter(|name| !name.is_empty()).collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    if names.is_empty() {
        // Nothing to look for is never found.
        return "[^\\s\\S]".into();
    }
    names.into_iter().map(|name| regex::escape(name)).collect::<Vec<_>>().join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_match_is_the_answer() -> Result<()> {
        let mut extract = Extract::default();
        for (names, text, want) in [
            (&["true", "false"][..], "the correct answer is false, not true", Some("false")),
            (&["true", "false"], "True", None),
            (&["true", "false"], "untrue", Some("true")),
            (&["solution1", "solution2"], "the correct answer is solution2", Some("solution2")),
            (&["answer1", "answer2", "answer3"], "answer5 or answer1", Some("answer5")),
            (&["answer1", "answer2"], "answer12", Some("answer1")),
            (&["answer1"], "Answer1", None),
            (&["ending1", "ending2", "ending3", "ending4"], "ending4", Some("ending4")),
            (&["option1", "option2"], "option3 option2", Some("option2")),
            (&["entailment", "not_entailment"], "not_entailment", Some("not_entailment")),
            (&["1.5", "2"], "1x5 2", Some("2")),
            (&["ab", "abc"], "abcd", Some("abc")),
            (&[""], "any", None),
            (&[], "any", None),
        ] {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            assert_eq!(extract.first(&names, text)?, want, "{names:?} in {text:?}");
        }
        Ok(())
    }
}
