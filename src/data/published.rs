//! Wordings by name: questions as EleutherAI/lm-evaluation-harness words them, out of the columns
//! that their data sets have on the hub.
//!
//! The texts are those of its task files (version 0.4.13, MIT licence): `doc_to_text`,
//! `doc_to_choice` and `doc_to_target`, with the space that it puts before an answer.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::item::Row;
use super::mmlu;
use super::rows::{no_column, other_than, plain, text, texts};
use crate::error::{Error, bail, error};

/// A wording that has a name.
#[derive(Debug, PartialEq, Eq)]
pub struct Published {
    pub name: &'static str,
    /// Other names of it.
    aliases: &'static [&'static str],
    /// What each prompt begins with: a Jinja text.
    pub(super) description: &'static str,
    /// A Jinja text.
    pub(super) prompt: &'static str,
    choices: Choices,
    right: Right,
    /// Names of the columns of a table that has no header.
    pub columns: &'static [&'static str],
}

/// Where the choices are.
#[derive(Debug, PartialEq, Eq)]
enum Choices {
    /// These, for each record.
    Fixed(&'static [&'static str]),
    /// Names, and the columns with the texts.
    Columns(&'static [(&'static str, &'static str)]),
    /// The column `choices` has their texts and labels.
    Labelled,
    /// A list of texts in this column, each cleaned as the prompt is, named by a word and a number.
    Cleaned(&'static str, &'static str),
    /// What is scored stands behind the blank of this column, which one of the options fills.
    Blank(&'static str, &'static [&'static str]),
}

/// Where the right choice is.
#[derive(Debug, PartialEq, Eq)]
enum Right {
    /// The first of these columns that there is holds one of these values, in the order of the
    /// choices, whatever their case.
    Value(&'static [&'static str], &'static [&'static [&'static str]]),
    /// This column holds the name of a choice.
    Name(&'static str),
}

/// Values that say that nobody tells the right answer, as in the tests of some sets.
const UNTOLD: [&str; 3] = ["", "-1", "null"];

const NUMBERS: &[&[&str]] = &[&["0"], &["1"], &["2"], &["3"]];

const LABEL: &[&str] = &["label"];

const QUESTION: &str = "Question: {{ question }}\nAnswer:";

static ALL: [Published; 8] = [
    Published {
        name: "lm-eval/boolq",
        aliases: &[],
        description: "",
        prompt: "{{ passage }}\nQuestion: {{ question }}?\nAnswer:",
        choices: Choices::Fixed(&["no", "yes"]),
        right: Right::Value(&["label", "answer"], &[&["0", "false", "no"], &["1", "true", "yes"]]),
        columns: &[],
    },
    Published {
        name: "lm-eval/piqa",
        aliases: &[],
        description: "",
        prompt: "Question: {{ goal }}\nAnswer:",
        choices: Choices::Columns(&[("solution1", "sol1"), ("solution2", "sol2")]),
        right: Right::Value(LABEL, NUMBERS),
        columns: &[],
    },
    Published {
        name: "lm-eval/social_i_qa",
        aliases: &["lm-eval/social_iqa", "lm-eval/siqa"],
        description: "",
        prompt: "Q: {{ context }} {{ question }}\nA:",
        choices: Choices::Columns(&[
            ("answerA", "answerA"),
            ("answerB", "answerB"),
            ("answerC", "answerC"),
        ]),
        right: Right::Value(LABEL, &[&["1"], &["2"], &["3"]]),
        columns: &[],
    },
    Published {
        name: "lm-eval/hellaswag",
        aliases: &[],
        description: "",
        // Where `ctx_a` and `ctx_b` are not there, `ctx` is taken, which joins them.
        prompt: "{% if ctx_a is defined %}\
                 {{ (activity_label ~ ': ' ~ ctx_a ~ ' ' ~ ctx_b | capitalize) | cleaned }}\
                 {% else %}{{ (activity_label ~ ': ' ~ ctx) | cleaned }}{% endif %}",
        choices: Choices::Cleaned("endings", "ending"),
        right: Right::Value(LABEL, NUMBERS),
        columns: &[],
    },
    Published {
        name: "lm-eval/winogrande",
        aliases: &[],
        description: "",
        prompt: "{{ sentence | split('_') | first }}",
        choices: Choices::Blank("sentence", &["option1", "option2"]),
        right: Right::Value(&["answer"], &[&["1"], &["2"]]),
        columns: &[],
    },
    Published {
        name: "lm-eval/arc",
        aliases: &["lm-eval/arc_easy", "lm-eval/arc_challenge"],
        description: "",
        prompt: QUESTION,
        choices: Choices::Labelled,
        right: Right::Name("answerKey"),
        columns: &[],
    },
    Published {
        name: "lm-eval/openbookqa",
        aliases: &[],
        description: "",
        prompt: "{{ question_stem }}",
        choices: Choices::Labelled,
        right: Right::Name("answerKey"),
        columns: &[],
    },
    Published {
        name: "lm-eval/mmlu",
        aliases: &["mmlu"],
        description: mmlu::DESCRIPTION,
        prompt: mmlu::PROMPT,
        choices: Choices::Fixed(&mmlu::LETTERS),
        right: Right::Value(&["answer"], &[&["0", "a"], &["1", "b"], &["2", "c"], &["3", "d"]]),
        columns: &["question", "A", "B", "C", "D", "answer"],
    },
];

/// The choices of a record.
pub(super) struct Found {
    /// Texts between the prompt and each choice that are not scored; empty without.
    pub given: Vec<String>,
    pub choices: Vec<String>,
    pub names: Vec<String>,
    pub label: Option<usize>,
}

impl Published {
    /// The wording of that name, or of another name of it.
    pub fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|known| known.name == name || known.aliases.contains(&name))
    }

    /// All names, each wording's first.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ALL.iter().map(|known| known.name)
    }

    /// Whether tasks of it are subjects of MMLU.
    pub fn is_mmlu(&self) -> bool {
        self.description == mmlu::DESCRIPTION
    }

    /// A record with the columns that the texts name, where it has them by other names.
    pub(super) fn prepared(&self, row: &Row) -> Result<Row> {
        let mut row = row.clone();
        let fields = &mut row.fields;
        if self.is_mmlu() {
            mmlu::prepare(&mut row)?;
        } else if let Choices::Blank(column, _) = self.choices {
            text(&row, column)?;
        } else if self.choices == Choices::Labelled
            && let Some(Value::Object(question)) = fields.get("question").cloned()
        {
            // The files that AI2 publishes have the choices beside the question.
            fields.shift_remove("question");
            for (key, value) in question {
                let name = if key == "stem" { self.asked() } else { &key };
                fields.insert(name.to_owned(), value);
            }
        }
        Ok(row)
    }

    fn asked(&self) -> &'static str {
        if self.prompt == QUESTION { "question" } else { "question_stem" }
    }

    /// What may follow the prompt of a record. Errors (class data): a column that is not there, or
    /// that holds something else; a label among no choices.
    pub(super) fn found(&self, row: &Row) -> Result<Found> {
        let (mut given, spaced) = (vec![], |text: &str| format!(" {text}"));
        let (names, choices): (Vec<String>, Vec<String>) = match self.choices {
            Choices::Fixed(texts) => {
                texts.iter().map(|text| ((*text).to_owned(), spaced(text))).unzip()
            }
            Choices::Columns(columns) => {
                let one = |(name, column): &(&str, &str)| {
                    Ok(((*name).to_owned(), spaced(&text(row, column)?)))
                };
                columns.iter().map(one).collect::<Result<Vec<_>>>()?.into_iter().unzip()
            }
            Choices::Labelled => {
                labelled(row)?.into_iter().map(|(name, text)| (name, spaced(&text))).unzip()
            }
            Choices::Cleaned(column, word) => {
                let texts = texts(row, column)?;
                let one = |(i, text): (usize, &String)| {
                    (format!("{word}{}", i + 1), spaced(&cleaned(text)))
                };
                texts.iter().enumerate().map(one).unzip()
            }
            Choices::Blank(column, options) => {
                let sentence = text(row, column)?;
                let Some((_, behind)) = sentence.split_once('_') else {
                    bail!(
                        Data,
                        "{}: column `{column}` has no `_`, the blank that one of the options fills",
                        row.place
                    );
                };
                for option in options {
                    given.push(text(row, option)?);
                }
                let behind = spaced(behind.trim());
                options.iter().map(|name| ((*name).to_owned(), behind.clone())).unzip()
            }
        };
        Ok(Found { label: self.label(row, &names)?, given, choices, names })
    }

    fn label(&self, row: &Row, names: &[String]) -> Result<Option<usize>> {
        let columns: &[&str] = match &self.right {
            Right::Value(columns, _) => columns,
            Right::Name(column) => std::slice::from_ref(column),
        };
        let Some((column, value)) =
            columns.iter().find_map(|column| Some((column, row.fields.get(*column)?)))
        else {
            return Err(no_column(row, columns[0]));
        };
        let value = plain(value);
        let value = value.trim();
        if UNTOLD.contains(&value) {
            return Ok(None);
        }
        let known: Vec<String> = match &self.right {
            Right::Value(_, values) => {
                values.iter().take(names.len()).map(|value| value.join("/")).collect()
            }
            Right::Name(_) => names.to_vec(),
        };
        let is_it = |known: &String| match &self.right {
            Right::Value(..) => known.split('/').any(|known| known.eq_ignore_ascii_case(value)),
            Right::Name(_) => known == value,
        };
        match known.iter().position(is_it) {
            Some(label) => Ok(Some(label)),
            None => Err(none_of(row, column, value, &known).into()),
        }
    }

    /// The texts, for keeping with a model.
    pub(super) fn text(&self) -> Value {
        let mut out = Map::from_iter([("prompt".to_owned(), json!(self.prompt))]);
        if !self.description.is_empty() {
            out.insert("description".into(), self.description.into());
        }
        out.into()
    }
}

fn none_of(row: &Row, column: &str, value: &str, known: &[String]) -> Error {
    let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    error!(
        Data,
        "{}: the label `{value}` in column `{column}` is none of the choices",
        row.place;
        hint: "the choices are {}",
        known.join(", ")
    )
}

/// Labels and texts of the column `choices`: a map of two lists, or a list of maps.
fn labelled(row: &Row) -> Result<Vec<(String, String)>> {
    let column = "choices";
    let Some(value) = row.fields.get(column) else { return Err(no_column(row, column)) };
    let wrong =
        || other_than(row, column, value, "`text` and `label`, a list of each, or a list of pairs");
    let read = |value: Option<&Value>| value?.as_str().map(str::to_owned);
    let pairs: Option<Vec<(String, String)>> = match value {
        Value::Object(map) => {
            let list = |key: &str| map.get(key).and_then(Value::as_array);
            let (labels, texts) = list("label").zip(list("text")).ok_or_else(wrong)?;
            if labels.len() != texts.len() {
                return Err(wrong().into());
            }
            let pairs = labels.iter().zip(texts);
            pairs.map(|(label, text)| Some((read(Some(label))?, read(Some(text))?))).collect()
        }
        Value::Array(list) => {
            list.iter().map(|one| Some((read(one.get("label"))?, read(one.get("text"))?))).collect()
        }
        _ => None,
    };
    pairs.ok_or_else(|| wrong().into())
}

/// A text of HellaSwag without what is left of WikiHow's marks.
pub(super) fn cleaned(text: &str) -> String {
    let text = text.trim().replace(" [title]", ". ");
    let (mut out, mut rest) = (String::new(), text.as_str());
    while let Some(open) = rest.find('[') {
        let behind = &rest[open..];
        // A mark ends in its line.
        match behind.find(['\n', ']']).filter(|at| behind[*at..].starts_with(']')) {
            Some(close) => {
                out += &rest[..open];
                rest = &behind[close + 1..];
            }
            None => {
                out += &rest[..open + 1];
                rest = &behind[1..];
            }
        }
    }
    (out + rest).replace("  ", " ")
}

#[cfg(test)]
mod tests;
