//! Records (named fields) to items. What kind of item a file holds, the keys of its first record say.

use std::sync::Arc;

use anyhow::Result;
use serde_json::{Map, Value};

use super::{instruction, kind};
use crate::bail_data;
use crate::data::item::{Chat, Document, Item, Message, Place, Row, TokenRow};
use crate::error::{Error, nearest};

/// Records that are items by themselves.
const SHAPES: &str = "possible are {instruction, input, output, answer}, {prompt, completion}, {messages}, {ids, mask_first} and {text}";

/// Keys named in a message.
const SHOWN: usize = 12;

/// The kinds of records, each known by a key that no other has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Instruction,
    Completion,
    Chat,
    Tokens,
    Text,
}

impl Shape {
    /// None: the keys are those of no kind.
    fn of(fields: &Map<String, Value>) -> Option<Self> {
        let has = |key: &str| fields.contains_key(key);
        match () {
            _ if has("instruction") => Some(Shape::Instruction),
            _ if has("messages") => Some(Shape::Chat),
            _ if has("ids") || has("mask_first") => Some(Shape::Tokens),
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
            Shape::Tokens => "token ids (`ids`)",
            Shape::Text => "a text (`text`)",
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Shape::Instruction => instruction::EXPECTED,
            Shape::Completion => "expected are the strings `prompt` and `completion`",
            Shape::Chat => "expected is `{\"messages\": [{\"role\": \"user\", \"content\": text}, …]}`",
            Shape::Tokens => "expected is `{\"ids\": [token ids], \"mask_first\": number}`",
            Shape::Text => "expected is the string `text`",
        }
    }
}

/// Makes items of a file's records.
#[derive(Clone, Debug)]
pub(super) struct Records {
    /// All records become rows as they are.
    rows: bool,
    /// Of the first record.
    shape: Option<Shape>,
    /// What the format calls a field: `key` or `column`.
    field: &'static str,
}

impl Records {
    pub fn new(rows: bool, field: &'static str) -> Self {
        Self { rows, shape: None, field }
    }

    /// Whether fields are a record by themselves, or for a recipe's template.
    pub fn takes(&self, fields: &Map<String, Value>) -> bool {
        self.rows
            || match Shape::of(fields) {
                Some(Shape::Chat | Shape::Tokens) => true,
                // Their fields are texts.
                Some(_) => fields.values().any(Value::is_string),
                None => false,
            }
    }

    /// The next item. The first one decides what those after it have to be.
    pub fn next(&mut self, place: Place, value: Value) -> Result<Item> {
        if !self.rows && self.shape.is_none() {
            let Value::Object(fields) = &value else {
                bail_data!("{place} is {}, expected an object; {SHAPES}", kind(&value));
            };
            self.shape = Some(Shape::of(fields).ok_or_else(|| self.unknown(&place, fields))?);
        }
        self.item(place, value)
    }

    /// An item of the kind that is decided.
    pub fn item(&self, place: Place, value: Value) -> Result<Item> {
        let (fields, shape) = match (value, self.shape) {
            (Value::Object(fields), Some(shape)) => (fields, shape),
            (Value::Object(fields), None) => return Ok(Item::Row(Row { place, fields })),
            (other, shape) => {
                let expected = shape.map_or(String::new(), |shape| format!("; {}", shape.expected()));
                bail_data!("{place} is {}, expected an object{expected}", kind(&other));
            }
        };
        if let Some(found) = Shape::of(&fields).filter(|&found| found != shape) {
            bail_data!("{place} is {}, but the file began with {}; a file holds one kind only", found.name(), shape.name());
        }
        let expected = shape.expected();
        let mut fields = Fields { place: &place, fields, expected };
        Ok(match shape {
            Shape::Instruction => {
                let item = instruction::item(&mut fields)?;
                Item::Instruction(item)
            }
            Shape::Completion => Item::Instruction(instruction::completion(&mut fields)?),
            Shape::Chat => Item::Chat(chat(&mut fields)?),
            Shape::Tokens => Item::Tokens(tokens(&mut fields)?),
            Shape::Text => {
                let text = fields.text("text")?;
                Item::Text(Document { place, text, ended: true })
            }
        })
    }

    fn unknown(&self, place: &Place, fields: &Map<String, Value>) -> Error {
        let shown: Vec<String> = fields.keys().take(SHOWN).map(|key| format!("`{}`", clip(key))).collect();
        let more = if fields.len() > SHOWN { ", …" } else { "" };
        let found = match shown.len() {
            0 => format!("no {}s", self.field),
            1 => format!("the {} {}", self.field, shown[0]),
            _ => format!("the {}s {}{more}", self.field, shown.join(", ")),
        };
        Error::data(format!("{place} has {found}, which is no record that is known; {SHAPES}"))
            .hint(format!("a template in the recipe can word any {}s", self.field))
    }
}

/// The beginning of a name that may be anything.
fn clip(name: &str) -> String {
    if name.chars().count() <= 40 { name.to_owned() } else { name.chars().take(40).chain(['…']).collect() }
}

/// The fields of a record, to be taken out by name.
pub(super) struct Fields<'a> {
    pub place: &'a Place,
    fields: Map<String, Value>,
    expected: &'static str,
}

impl Fields<'_> {
    /// A string that has to be there.
    pub fn text(&mut self, name: &str) -> Result<String> {
        match self.fields.remove(name) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => bail_data!("{}: `{name}` is {}, expected a string; {}", self.place, kind(&other), self.expected),
            None => bail_data!("{} has no `{name}`; {}", self.place, self.expected),
        }
    }

    /// A string that may be missing, or null. A key that nearly has its name is taken for a slip.
    pub fn optional(&mut self, name: &str) -> Result<Option<String>> {
        if self.fields.get(name).is_some_and(|value| !value.is_null()) {
            return self.text(name).map(Some);
        }
        self.fields.remove(name);
        match nearest(name, self.fields.keys().map(String::as_str)) {
            Some(slip) => bail_data!("{}: unknown key `{slip}`; did you mean `{name}`?; {}", self.place, self.expected),
            None => Ok(None),
        }
    }
}

fn chat(fields: &mut Fields) -> Result<Chat> {
    let (place, expected) = (fields.place, fields.expected);
    let list = match fields.fields.remove("messages") {
        Some(Value::Array(list)) if !list.is_empty() => list,
        Some(Value::Array(_)) => bail_data!("{place}: `messages` is empty; {expected}"),
        Some(other) => bail_data!("{place}: `messages` is {}, expected a list; {expected}", kind(&other)),
        None => bail_data!("{place} has no `messages`; {expected}"),
    };
    let message = |(i, value): (usize, Value)| message(place, expected, i, value);
    Ok(Chat { place: place.clone(), messages: list.into_iter().enumerate().map(message).collect::<Result<_>>()? })
}

fn message(place: &Place, expected: &str, i: usize, value: Value) -> Result<Message> {
    let Value::Object(mut fields) = value else {
        bail_data!("{place}: `messages[{i}]` is {}, expected an object; {expected}", kind(&value));
    };
    let mut text = |name: &str| -> Result<String> {
        match fields.remove(name) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => bail_data!("{place}: `messages[{i}].{name}` is {}, expected a string; {expected}", kind(&other)),
            None => bail_data!("{place}: `messages[{i}]` has no `{name}`; {expected}"),
        }
    };
    let (role, content) = (text("role")?, text("content")?);
    let known = ["system", "user", "assistant"];
    if !known.contains(&role.as_str()) {
        let near = nearest(&role, known).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        bail_data!("{place}: `messages[{i}].role` is `{}`, expected system, user or assistant{near}", clip(&role));
    }
    // A call of a tool or a weight would change what is learnt, so none is passed over; null and a
    // list of none are no call.
    let empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    if let Some((key, _)) = fields.iter().find(|(_, value)| !empty(value)) {
        bail_data!("{place}: unknown key `{}` in `messages[{i}]`; {expected}", clip(key));
    }
    Ok(Message { role, content })
}

/// `mask_first`, 0 where it is missing, says how many tokens at the front count in no loss. Other keys are refused: a
/// mistyped `mask_first` would change the loss.
fn tokens(fields: &mut Fields) -> Result<TokenRow> {
    let (place, expected, fields) = (fields.place, fields.expected, &fields.fields);
    let known = ["ids", "mask_first"];
    if let Some(key) = fields.keys().find(|key| !known.contains(&key.as_str())) {
        let near = nearest(key, known).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        bail_data!("{place}: unknown key `{}`{near}; {expected}", clip(key));
    }
    let ids: Vec<u32> = match fields.get("ids") {
        Some(Value::Array(list)) => list.iter().enumerate().map(|(i, value)| id(place, i, value)).collect::<Result<_>>()?,
        Some(other) => bail_data!("{place}: `ids` is {}, {expected}", kind(other)),
        None => bail_data!("{place} has no `ids`; {expected}"),
    };
    let mask_first = match fields.get("mask_first") {
        None => 0,
        Some(value) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) if n <= ids.len() => n,
            Some(n) => bail_data!("{place}: `mask_first` is {n}, more than the row has ids ({})", ids.len()),
            None if value.is_object() => bail_data!("{place}: `mask_first` is {}, expected a whole number", kind(value)),
            None => bail_data!("{place}: `mask_first` is {value}, expected a whole number"),
        },
    };
    Ok(TokenRow { place: place.clone(), ids, mask_first })
}

fn id(place: &Place, i: usize, value: &Value) -> Result<u32> {
    match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
        Some(id) => Ok(id),
        None if value.is_number() => bail_data!("{place}: `ids[{i}]` is {value}, ids are whole numbers from 0 to {}", u32::MAX),
        None => bail_data!("{place}: `ids[{i}]` is {}, expected a token id", kind(value)),
    }
}

/// The place of record `number` of a file.
pub(super) fn place(file: &Arc<std::path::Path>, unit: &'static str, number: usize) -> Place {
    Place { file: file.clone(), unit, number }
}
