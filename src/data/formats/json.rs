//! JSON: a list of records, or a record on each line. Which of them, the content says, not the
//! name.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::record::Records;
use super::{json_fault, kind, loose};
use crate::data::item::{Item, ItemPlace};
use crate::error::{bail, error};

const RECORDS: &str = "expected a list of objects, or an object on each line";

/// How records stand in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonForm {
    /// One list of all records.
    List,
    /// A record on each line.
    Lines,
    /// Records one after the other, each over as many lines as it likes.
    Values,
}

impl JsonForm {
    /// The form of a text, by its first line.
    pub fn of(text: &str) -> Self {
        let text = text.trim_start();
        let first = text.lines().next().unwrap_or_default();
        if first.starts_with('[') {
            // Lines of lists are no records, and are named as such.
            let next = text[first.len()..].trim_start().starts_with('[');
            return if first.trim_end().ends_with(']') && next {
                JsonForm::Lines
            } else {
                JsonForm::List
            };
        }
        match loose::parse(first) {
            // One that ends too early goes on below; behind one that is whole, there is another.
            Err(error) if error.is_eof() && text.len() > first.len() => JsonForm::Values,
            Err(_) if first.starts_with('{') && begins_with_a_value(first) => JsonForm::Values,
            _ => JsonForm::Lines,
        }
    }
}

fn begins_with_a_value(text: &str) -> bool {
    serde_json::Deserializer::from_str(text)
        .into_iter::<IgnoredAny>()
        .next()
        .is_some_and(|first| first.is_ok())
}

pub(super) fn parse(file: &Arc<Path>, text: &str, records: Records) -> Result<Vec<Item>> {
    match JsonForm::of(text) {
        JsonForm::List => list(file, text, records),
        JsonForm::Lines => lines(file, text, records),
        JsonForm::Values => values(file, text, records),
    }
}

fn list(file: &Arc<Path>, text: &str, mut records: Records) -> Result<Vec<Item>> {
    let name = file.display();
    let fault = |e: serde_json::Error| {
        error!(Data, "`{name}` line {} column {}: {}", e.line(), e.column(), json_fault(&e))
    };
    let Value::Array(list) = loose::parse(text).map_err(fault)? else {
        bail!(Data, "`{name}` holds no list; {RECORDS}")
    };
    if list.is_empty() {
        bail!(Data, "`{name}` holds an empty list");
    }
    // As datasets reads it: a list of texts is the column `text`.
    let texts = list.iter().all(Value::is_string);
    let record = |value: Value| {
        if texts { Value::Object(Map::from_iter([("text".to_owned(), value)])) } else { value }
    };
    list.into_iter()
        .enumerate()
        .map(|(i, value)| records.next(ItemPlace::new(file, "item", i + 1), record(value)))
        .collect()
}

fn lines(file: &Arc<Path>, text: &str, mut records: Records) -> Result<Vec<Item>> {
    let mut lines =
        text.lines().enumerate().filter(|(_, line)| !line.trim_ascii().is_empty()).peekable();
    let mut items = vec![];
    while let Some((i, line)) = lines.next() {
        let place = ItemPlace::new(file, "line", i + 1);
        let value = value(&place, line)?;
        if items.is_empty() && lines.peek().is_none() {
            only(file, &value, &records)?;
        }
        items.push(records.next(place, value)?);
    }
    Ok(items)
}

/// The record of a line.
pub(super) fn value(place: &ItemPlace, line: &str) -> Result<Value> {
    Ok(loose::parse(line)
        .map_err(|e| error!(Data, "{place} column {}: {}", e.column(), json_fault(&e)))?)
}

fn values(file: &Arc<Path>, text: &str, mut records: Records) -> Result<Vec<Item>> {
    let (mut items, mut at, mut line) = (vec![], 0, 1);
    while !text[at..].trim_ascii_start().is_empty() {
        let blank = text.len() - at - text[at..].trim_ascii_start().len();
        line += text[at..at + blank].matches('\n').count();
        at += blank;
        let part = &text[at..at + end_of_value(&text[at..])];
        let value = loose::parse(part).map_err(|e| {
            let column = if e.line() == 1 {
                text[..at].rsplit('\n').next().map_or(0, str::len) + e.column()
            } else {
                e.column()
            };
            error!(
                Data,
                "`{}` line {} column {column}: {}",
                file.display(),
                line - 1 + e.line(),
                json_fault(&e)
            )
        })?;
        if items.is_empty() && text[at + part.len()..].trim_ascii().is_empty() {
            only(file, &value, &records)?;
        }
        items.push(records.next(ItemPlace::new(file, "line", line), value)?);
        line += part.matches('\n').count();
        at += part.len();
    }
    Ok(items)
}

/// The end of the value that a text begins with: behind the bracket that closes its first, or at
/// the text's end.
fn end_of_value(text: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match (quoted, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => quoted = !quoted,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// Errors (class data) where the only value of a file is no record, but holds the records of a
/// table by name: loaders take it for a single row.
fn only(file: &Path, value: &Value, records: &Records) -> Result<()> {
    let Value::Object(fields) = value else {
        bail!(Data, "`{}` holds {}; {RECORDS}", file.display(), kind(value));
    };
    // Messages are no rows, whatever their key is: the record has a fault of its own.
    if records.takes(fields) || fields.values().any(has_messages) {
        return Ok(());
    }
    no_table(file, fields)
}

fn has_messages(value: &Value) -> bool {
    let message = |value: &Value| ["role", "from"].iter().any(|key| value.get(key).is_some());
    value.as_array().is_some_and(|list| list.iter().any(message))
}

/// Errors (class data) where an object holds the rows or the columns of a table.
fn no_table(file: &Path, fields: &Map<String, Value>) -> Result<()> {
    let rows = |value: &Value| {
        value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(Value::is_object))
    };
    let column =
        |value: &Value| (value.is_array() || value.is_object()) && loose::what(value).is_none();
    let shown = file.display();
    if let Some((key, _)) = fields.iter().find(|(_, value)| rows(value)) {
        bail!(
            Data,
            "`{shown}` holds one object, whose `{key}` is the list of records; {RECORDS}";
            hint: "`jq -c '.{key}[]' {shown} > train.jsonl` writes them as lines"
        );
    }
    if fields.len() > usize::from(fields.contains_key("index")) && fields.values().all(column) {
        bail!(
            Data,
            "`{shown}` holds one object with a table's columns, as pandas' `to_json` writes them; \
             {RECORDS}";
            hint: "`to_json(\"train.jsonl\", orient=\"records\", lines=True)` writes rows"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Unused;
    use super::*;
    use crate::error::{Class, class_of};

    fn texts(text: &str) -> Result<Vec<String>> {
        let mut unused = Unused::default();
        let items =
            parse(&Arc::from(Path::new("a.json")), text, Records::new(false, "key", &mut unused))?;
        let text = |item: Item| match item {
            Item::Text(document) => format!("{} {}", document.place, document.text),
            other => panic!("{other:?}"),
        };
        Ok(items.into_iter().map(text).collect())
    }

    #[test]
    fn the_content_says_how_records_stand() {
        let lines = ["`a.json` line 1 x", "`a.json` line 3 y"];
        assert_eq!(texts("{\"text\": \"x\"}\n\n{\"text\": \"y\"}\n").unwrap(), lines);
        assert_eq!(
            texts("{\"text\":\n\"x\"}{\n\"text\": \"y\"}").unwrap(),
            ["`a.json` line 1 x", "`a.json` line 2 y"]
        );
        assert_eq!(
            texts("{\"text\": \"x\"} {\"text\": \"y\"}").unwrap(),
            ["`a.json` line 1 x", "`a.json` line 1 y"]
        );
        let items = ["`a.json` item 1 x", "`a.json` item 2 y"];
        for list in [
            "[{\"text\": \"x\"},\n{\"text\": \"y\"}]",
            "[\n{\"text\": \"x\"}, {\"text\": \"y\"}\n]\n",
            "[\"x\", \"y\"]",
        ] {
            assert_eq!(texts(list).unwrap(), items);
        }
        assert_eq!(
            texts("{\"text\": \"}{\\\"\", \"score\": NaN}").unwrap(),
            ["`a.json` line 1 }{\""]
        );
    }

    /// Broken texts, with how their errors begin.
    const BROKEN: [(&str, &str); 13] = [
        ("7", "`a.json` holds a number; expected a list of objects, or an object on each line"),
        ("[1]\n[2]", "`a.json` line 1 is a list, expected an object"),
        (
            "{\"text\": \"x\"}\n{\"text\": }",
            "`a.json` line 2 column 10: not valid JSON: expected value",
        ),
        ("{\n\"text\": \"x\"\n}\n{\"text\": 1 2}", "`a.json` line 4 column 12: not valid JSON"),
        ("{\n\"text\": \"x\"", "`a.json` line 2 column 11: the JSON is cut short"),
        ("{\"text\": \"x\"", "`a.json` line 1 column 12: the JSON is cut short"),
        ("[{\"text\": \"x\"},\n{]", "`a.json` line 2 column 2: not valid JSON"),
        (
            "{\"text\": NaN}",
            "`a.json` line 1: `text` is NaN, which JSON does not have, expected a string",
        ),
        (
            "{\"text\": \"a\\ud83d\"}",
            "`a.json` line 1: `text` is a text with half of a surrogate pair (`\\ud83d`)",
        ),
        (
            "{\"data\": [{\"text\": \"x\"}]}",
            "`a.json` holds one object, whose `data` is the list of records",
        ),
        (
            "{\"version\": 1,\n\"data\": [{\"text\": \"x\"}]}",
            "`a.json` holds one object, whose `data` is the list of records",
        ),
        (
            "{\"text\": {\"0\": \"x\"}}",
            "`a.json` holds one object with a table's columns, as pandas' `to_json` writes \
                 them",
        ),
        ("{\"text\": [\"x\", \"y\"]}", "`a.json` holds one object with a table's columns"),
    ];

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, message) in BROKEN {
            let error = texts(text).unwrap_err();
            assert!(error.to_string().starts_with(message), "{error}, expected {message}");
            assert_eq!(class_of(&error), Class::Data);
        }
    }
}
