//! Records (named fields) to items. What kind of item a file holds, the keys of its first record
//! say. Every key of a record is used, or [`keys`] says what becomes of it.

use anyhow::Result;
use serde_json::{Map, Value};

use super::fields::RecordFields;
use super::keys::{self, Unused};
use super::{conversation, instruction, kind, messages, tokens};
use crate::data::item::{Document, Item, ItemPlace, Row};
use crate::error::{Error, bail, clip, error};

/// Records that are items by themselves.
const SHAPES: &str = "possible are {instruction, input, output, answer}, {prompt, completion}, \
                      {messages}, {conversations}, {ids, mask_first}, {input_ids, labels} and \
                      {text}";

/// Keys named in a message.
const SHOWN: usize = 12;

/// The kinds of records, each known by a key that no other has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Instruction,
    Completion,
    Chat,
    /// A conversation in two lists, of which the second is learnt.
    Turns,
    Tokens,
    Text,
}

impl Shape {
    /// None: the keys are those of no kind.
    fn of(fields: &Map<String, Value>) -> Option<Self> {
        let has = |key: &str| fields.contains_key(key);
        let talk = conversation::KEYS.iter().any(|key| has(key));
        let lists = || ["prompt", "completion"].iter().any(|key| fields[*key].is_array());
        match () {
            // What is tokenised is taken as it is, whatever texts it was made of.
            _ if has("input_ids") => Some(Shape::Tokens),
            _ if has("instruction") && (has("output") || !talk) => Some(Shape::Instruction),
            _ if talk => Some(Shape::Chat),
            _ if has("ids") || has("mask_first") => Some(Shape::Tokens),
            _ if has("prompt") && has("completion") && lists() => Some(Shape::Turns),
            _ if has("prompt") && has("completion") => Some(Shape::Completion),
            // A text with a label is a question of classification, which only a template can word.
            _ if has("text") && !has("label") && !has("labels") => Some(Shape::Text),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Shape::Instruction => "an instruction (`instruction`)",
            Shape::Completion => "a completion (`prompt`, `completion`)",
            Shape::Chat => "a conversation (`messages`)",
            Shape::Turns => "a conversation (`prompt`, `completion`)",
            Shape::Tokens => "token ids (`ids`)",
            Shape::Text => "a text (`text`)",
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Shape::Instruction => instruction::EXPECTED,
            Shape::Completion => "expected are the strings `prompt` and `completion`",
            Shape::Chat => messages::EXPECTED,
            Shape::Turns => "expected are lists of messages as `prompt` and `completion`",
            Shape::Tokens => tokens::EXPECTED,
            Shape::Text => "expected is the string `text`",
        }
    }

    /// The item of a record of this kind; what nothing is made of is left in `fields`.
    fn item(self, fields: &mut RecordFields, unused: &mut Unused) -> Result<Item> {
        Ok(match self {
            Shape::Instruction => Item::Instruction(instruction::item(fields)?),
            Shape::Completion => Item::Instruction(instruction::completion(fields)?),
            Shape::Chat => Item::Chat(conversation::chat(fields, unused)?),
            Shape::Turns => Item::Chat(conversation::turns(fields, unused)?),
            Shape::Tokens => Item::Tokens(tokens::tokens(fields)?),
            Shape::Text => {
                let text = fields.text("text")?;
                Item::Text(Document { place: fields.place.clone(), text, ended: true })
            }
        })
    }

    /// Says what becomes of a key that the item was not made of.
    fn pass(self, key: &str, value: &Value, unused: &mut Unused) -> Result<(), Error> {
        match self {
            Shape::Text => keys::pass_beside_text(key, value, unused),
            _ => keys::pass(key, value, self.slips(), unused),
        }
    }

    /// Keys that one of no kind may be a slip of the pen for.
    fn slips(self) -> &'static [&'static str] {
        match self {
            Shape::Instruction => &["input", "answer"],
            Shape::Tokens => &tokens::SLIPS,
            Shape::Completion | Shape::Chat | Shape::Turns | Shape::Text => &[],
        }
    }
}

/// Makes items of a file's records.
#[derive(Debug)]
pub(super) struct Records<'a> {
    rule: RecordRule,
    /// Keys that no item is made of.
    unused: &'a mut Unused,
}

impl<'a> Records<'a> {
    pub fn new(rows: bool, field: &'static str, unused: &'a mut Unused) -> Self {
        Self { rule: RecordRule::new(rows, field), unused }
    }

    /// Whether fields are a record by themselves, or for a recipe's template.
    pub fn takes(&self, fields: &Map<String, Value>) -> bool {
        self.rule.rows
            || match Shape::of(fields) {
                Some(Shape::Chat | Shape::Turns | Shape::Tokens) => true,
                // Their fields are texts.
                Some(_) => fields.values().any(Value::is_string),
                None => false,
            }
    }

    /// The next item. The first one decides what those after it have to be.
    pub fn next(&mut self, place: ItemPlace, value: Value) -> Result<Item> {
        self.rule.next(place, value, self.unused)
    }
}

/// What the records of a file have to be.
#[derive(Clone, Debug)]
pub(super) struct RecordRule {
    /// All records become rows as they are.
    rows: bool,
    /// Of the first record.
    shape: Option<Shape>,
    /// What the format calls a field: `key` or `column`.
    field: &'static str,
}

impl RecordRule {
    pub fn new(rows: bool, field: &'static str) -> Self {
        Self { rows, shape: None, field }
    }

    /// The next item. The first one decides what those after it have to be.
    pub fn next(&mut self, place: ItemPlace, value: Value, unused: &mut Unused) -> Result<Item> {
        if !self.rows && self.shape.is_none() {
            let Value::Object(fields) = &value else {
                bail!(Data, "{place} is {}, expected an object; {SHAPES}", kind(&value));
            };
            self.shape = Some(Shape::of(fields).ok_or_else(|| self.unknown(&place, fields))?);
        }
        self.item(place, value, unused)
    }

    /// An item of the kind that is decided.
    pub fn item(&self, place: ItemPlace, value: Value, unused: &mut Unused) -> Result<Item> {
        let (fields, shape) = match (value, self.shape) {
            (Value::Object(fields), Some(shape)) => (fields, shape),
            (Value::Object(fields), None) => return Ok(Item::Row(Row { place, fields })),
            (other, shape) => {
                let expected =
                    shape.map_or(String::new(), |shape| format!("; {}", shape.expected()));
                bail!(Data, "{place} is {}, expected an object{expected}", kind(&other));
            }
        };
        if let Some(found) = Shape::of(&fields).filter(|&found| found != shape) {
            bail!(
                Data,
                "{place} is {}, but the file began with {}; a file holds one kind only",
                found.name(),
                shape.name()
            );
        }
        let mut fields = RecordFields::new(&place, fields, shape.expected());
        let item = shape.item(&mut fields, unused)?;
        fields.rest(|key, value| shape.pass(key, value, unused))?;
        Ok(item)
    }

    fn unknown(&self, place: &ItemPlace, fields: &Map<String, Value>) -> Error {
        let shown: Vec<String> =
            fields.keys().take(SHOWN).map(|key| format!("`{}`", clip(key))).collect();
        if let Some(key) = ["chosen", "rejected"].into_iter().find(|key| fields.contains_key(*key))
        {
            let error = error!(
                Data,
                "{place} is a preference (`{key}`): answers compared, of which none is to be \
                 learnt as it is"
            );
            return error.hint(
                "to learn the preferred answer, word it: `template: #{ prompt: \"{{ prompt }}\", \
                 answer: \"{{ chosen }}\" }`",
            );
        }
        let more = if fields.len() > SHOWN { ", …" } else { "" };
        let found = match shown.len() {
            0 => format!("no {}s", self.field),
            1 => format!("the {} {}", self.field, shown[0]),
            _ => format!("the {}s {}{more}", self.field, shown.join(", ")),
        };
        error!(
            Data,
            "{place} has {found}, which is no record that is known; {SHAPES}";
            hint: "a template in the recipe can word any {}s, those of conversations too",
            self.field
        )
    }
}
