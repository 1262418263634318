//! One thing to learn from or to be asked, as a file holds it, before any tokenizer.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

/// Where an item stands in its file, for messages: `` `train.json` item 3 ``.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemPlace {
    pub file: Arc<Path>,
    /// What the file counts: item, line or document.
    pub unit: &'static str,
    /// From 1.
    pub number: usize,
}

impl ItemPlace {
    /// The `unit` of Parquet files.
    pub const PARQUET_ROW: &str = "row";

    pub fn new(file: &Arc<Path>, unit: &'static str, number: usize) -> Self {
        Self { file: file.clone(), unit, number }
    }
}

impl fmt::Display for ItemPlace {
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
    pub place: ItemPlace,
    pub instruction: String,
    /// Further context; empty in the commonsense sets.
    pub input: String,
    /// The second text of a pair, which a model with a head reads.
    pub pair: Option<String>,
    /// What is trained: the file's `output`.
    pub answer_text: String,
    /// The texts to be scored, each what would follow the prompt; empty where the instruction names
    /// no choices.
    pub choices: Vec<String>,
    /// A short name for each of `choices`, as the data spells them (`answer2`, `entailment`): what
    /// metrics count by and what is looked for in a generated text. As many as `choices`.
    pub names: Vec<String>,
    /// The right one of `choices`. None: the item can be trained on but not scored.
    pub label: Option<usize>,
    /// Texts between the prompt and each of `choices` that are given and not scored, as the words
    /// that fill a blank; empty where there are none.
    pub given: Vec<String>,
    /// The number that the item's choices estimate, for correlations; their names are numbers then.
    pub target: Option<f64>,
    /// What only a conversation has a place for.
    pub before: Before,
    /// What each prompt of its task begins with; empty where that is nothing.
    pub description: String,
    /// The task it belongs to, where its record names that, as a subject of MMLU.
    pub subject: Option<String>,
    /// Solved examples that stand before it in a test.
    pub shots: Option<Arc<Shots>>,
    /// Whether the token that ends a sequence is learnt behind the answer.
    pub ended: bool,
}

/// Solved examples, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Shots {
    pub solved: Vec<Instruction>,
    /// What stands behind each of them.
    pub separator: String,
}

impl Instruction {
    /// A question with its answer, and nothing else.
    pub fn new(place: ItemPlace, instruction: String, answer_text: String) -> Self {
        let (input, pair, choices, names, before) = Default::default();
        let (given, description) = Default::default();
        let (label, target, subject, shots, ended) = (None, None, None, None, true);
        Self {
            place,
            instruction,
            input,
            pair,
            answer_text,
            choices,
            names,
            label,
            given,
            target,
            before,
            description,
            subject,
            shots,
            ended,
        }
    }

    /// The solved examples before it.
    pub fn solved(&self) -> &[Instruction] {
        self.shots.as_ref().map_or(&[], |shots| &shots.solved)
    }

    /// With the last `count` of its solved examples only.
    pub fn with_shots(&self, count: usize) -> Self {
        let less = |shots: &Arc<Shots>| {
            let solved = shots.solved[shots.solved.len().saturating_sub(count)..].to_vec();
            Arc::new(Shots { solved, separator: shots.separator.clone() })
        };
        Self { shots: self.shots.as_ref().map(less), ..self.clone() }
    }
}

/// What stands before the question of an instruction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Before {
    /// Empty where there is none.
    pub system: String,
    /// Earlier questions with their answers.
    pub history: Vec<(String, String)>,
    /// JSON schemas of functions that the model may call.
    pub tools: Vec<Value>,
}

impl Before {
    /// The keys of the record that hold something of it.
    pub fn keys(&self) -> Vec<&'static str> {
        let all = [
            ("system", self.system.is_empty()),
            ("history", self.history.is_empty()),
            ("tools", self.tools.is_empty()),
        ];
        all.into_iter().filter(|(_, empty)| !empty).map(|(key, _)| key).collect()
    }
}

/// A conversation, worded by the model's own chat template.
#[derive(Clone, Debug, PartialEq)]
pub struct Chat {
    pub place: ItemPlace,
    pub messages: Vec<Message>,
    /// JSON schemas of functions that the model may call.
    pub tools: Vec<Value>,
    /// Further variables for the chat template, as `enable_thinking`.
    pub variables: Map<String, Value>,
    /// The text where a recipe's own template has worded the conversation; no chat template is
    /// asked then.
    pub worded: Option<Vec<TextPiece>>,
    /// Whether the token that ends a sequence is learnt behind an answer at the end of `worded`.
    pub ended: bool,
}

impl Chat {
    pub fn new(place: ItemPlace, messages: Vec<Message>) -> Self {
        Self { place, messages, tools: vec![], variables: Map::new(), worded: None, ended: true }
    }
}

/// A piece of a text, and whether it is what the model has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPiece {
    pub text: String,
    pub supervised: bool,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// `role`, `content` and what else a chat template may word, in the order of the file.
    pub fields: Map<String, Value>,
    /// Whether it is learnt where it is the assistant's.
    pub learnt: bool,
}

impl Message {
    pub fn new(role: &str, content: &str) -> Self {
        let fields =
            [("role", role), ("content", content)].map(|(key, text)| (key.to_owned(), text.into()));
        Self { fields: fields.into_iter().collect(), learnt: true }
    }

    /// `system`, `developer`, `user`, `assistant`, `tool`, or another that a template may know.
    pub fn role(&self) -> &str {
        self.fields.get("role").and_then(Value::as_str).unwrap_or_default()
    }

    /// What is said; empty where tools are called without a word.
    pub fn content(&self) -> &str {
        self.fields.get("content").and_then(Value::as_str).unwrap_or_default()
    }

    pub fn is_answer(&self) -> bool {
        self.role() == "assistant"
    }
}

/// A record with named fields, which a recipe's own template words.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub place: ItemPlace,
    /// By column, in the file's order; columns of a file without header are called `1`, `2`, ….
    pub fields: Map<String, Value>,
}

/// A row that comes as token ids.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRow {
    pub place: ItemPlace,
    pub ids: Vec<u32>,
    /// Which of them count in the loss.
    pub supervised: Vec<bool>,
}

/// A plain text.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub place: ItemPlace,
    pub text: String,
    /// An end-of-text marker follows it in the file, so its end can be learnt too.
    pub ended: bool,
}

impl Item {
    pub fn place(&self) -> &ItemPlace {
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
