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
    Chat(Chat),
    Row(Row),
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
    /// A short name for each of `choices`, as the data spells them (`answer2`, `entailment`): what metrics count by and
    /// what is looked for in a generated text. As many as `choices`.
    pub names: Vec<String>,
    /// The right one of `choices`. None: the item can be trained on but not scored.
    pub label: Option<usize>,
    /// The number that the item's choices estimate, for correlations; their names are numbers then.
    pub target: Option<f64>,
}

/// A conversation, worded by the model's own chat template.
#[derive(Clone, Debug, PartialEq)]
pub struct Chat {
    pub place: Place,
    pub messages: Vec<Message>,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    pub content: String,
}

/// A record with named fields, which a recipe's own template words.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub place: Place,
    /// By column, in the file's order; columns of a file without header are called `1`, `2`, ….
    pub fields: serde_json::Map<String, serde_json::Value>,
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
            Item::Chat(chat) => &chat.place,
            Item::Row(row) => &row.place,
            Item::Tokens(row) => &row.place,
            Item::Text(document) => &document.place,
        }
    }

    /// Whether it can be scored by its choices.
    pub fn is_scorable(&self) -> bool {
        matches!(self, Item::Instruction(item) if item.label.is_some())
    }
}
