//! One thing to learn from or to be asked, as a file holds it, before any tokenizer.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where an item stands in its file, for messages: `` `train.json` item 3 ``.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<Path>,
    /// What the file counts: item, line or document.
    pub unit: &'static str,
    /// From 1.
    pub number: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {} {}", self.file.display(), self.unit, self.number)
    }
}

/// An item of any kind; a file holds one kind only.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    Instruction(Instruction),
    Tokens(TokenRow),
    Text(Document),
}

/// An instruction with the answer to be trained and, where it is a choice, what to score.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    pub place: Place,
    pub instruction: String,
    /// Further context; empty in the commonsense sets.
    pub input: String,
    /// What is trained: the file's `output`.
    pub answer_text: String,
    /// The texts to be scored, each what would follow the prompt; empty where the instruction names
    /// no choices.
    pub choices: Vec<String>,
    /// The right one of `choices`. None: the item can be trained on but not scored.
    pub label: Option<usize>,
}

/// A row that comes as token ids.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRow {
    pub place: Place,
    pub ids: Vec<u32>,
    /// The first so many tokens count in no loss.
    pub mask_first: usize,
}

/// A plain text.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub place: Place,
    pub text: String,
    /// An end-of-text marker follows it in the file, so its end can be learnt too.
    pub ended: bool,
}

impl Item {
    pub fn place(&self) -> &Place {
        match self {
            Item::Instruction(item) => &item.place,
            Item::Tokens(row) => &row.place,
            Item::Text(document) => &document.place,
        }
    }

    /// Whether it can be scored by its choices.
    pub fn is_scorable(&self) -> bool {
        matches!(self, Item::Instruction(item) if item.label.is_some())
    }
}
