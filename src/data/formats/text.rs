//! Plain text: the whole file is one document, unless lines that hold nothing but `<|endoftext|>`
//! divide it into several. Line ends are made `\n`.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde_json::{Map, Value};

use crate::data::item::{Document, Item, ItemPlace};
use crate::error::bail;

const MARK: &str = "<|endoftext|>";

/// Lines by which a text is told from a table.
const LOOKED_AT: usize = 20;

pub(super) fn parse(file: &Arc<Path>, text: &str) -> Result<Vec<Item>> {
    let text = text.replace("\r\n", "\n");
    let documents = documents(&text);
    if documents.is_empty() {
        bail!(Data, "`{}` holds `{MARK}` only, and no text", file.display());
    }
    let item = |(i, (text, ended)): (usize, (&str, bool))| {
        let place = ItemPlace::new(file, "document", i + 1);
        Item::Text(Document { place, text: text.to_owned(), ended })
    };
    Ok(documents.into_iter().enumerate().map(item).collect())
}

/// The documents of a text, each with whether a mark ends it.
fn documents(text: &str) -> Vec<(&str, bool)> {
    if !text.lines().any(|line| line == MARK) {
        return vec![(text, false)];
    }
    let mut found = vec![];
    // Empty lines around a mark belong to the layout of the file and not to its documents.
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim_end_matches('\n') == MARK {
            let document = text[start..at].trim_matches('\n');
            if !document.is_empty() {
                found.push((document, true));
            }
            start = at + line.len();
        }
        at += line.len();
    }
    let rest = text[start..].trim_matches('\n');
    if !rest.is_empty() {
        found.push((rest, false));
    }
    found
}

/// A note on a text that was read as one and looks like something else.
pub(super) fn note(path: &Path, text: &str) -> Option<String> {
    let (what, format) = looks_like(text)?;
    Some(format!(
        "`{}` was read as plain text, and looks like {what}: `format: \"{format}\"` (`--format \
         {format}` of `xgbrun eval`) reads its records",
        path.display(),
    ))
}

/// What a text looks like, if that is a table or lines of JSON, and the format's name.
pub fn looks_like(text: &str) -> Option<(&'static str, &'static str)> {
    let lines = first_lines(text);
    let json = |line: &&str| serde_json::from_str::<Map<String, Value>>(line).is_ok();
    match () {
        () if lines.len() < 2 => None,
        () if lines.iter().all(json) => Some(("JSON lines", "jsonl")),
        () if divides(&lines, '\t') => Some(("a table divided by tabs", "tsv")),
        () => None,
    }
}

/// A letter that divides the lines of a table into columns, where a comma does not.
pub(super) fn divider(text: &str) -> Option<char> {
    let lines = first_lines(text);
    [';', '\t', '|'].into_iter().find(|letter| divides(&lines, *letter))
}

fn first_lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.trim().is_empty()).take(LOOKED_AT).collect()
}

/// Whether each line has the letter, and as often as the others.
fn divides(lines: &[&str], letter: char) -> bool {
    let count = |line: &&str| line.matches(letter).count();
    let columns = lines.first().map_or(0, count);
    columns > 0 && lines.iter().all(|line| count(line) == columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> Vec<(String, bool)> {
        let items = parse(&Arc::from(Path::new("a.txt")), text).unwrap();
        items
            .into_iter()
            .map(|item| match item {
                Item::Text(document) => (document.text, document.ended),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn tables_are_noticed() {
        let told = |text: &str| note(Path::new("a.txt"), text).unwrap_or_default();
        assert!(told("a\tb\nc\td\n").contains(
            "was read as plain text, and looks like a table divided by tabs: `format: \"tsv\"`"
        ));
        assert_eq!(divider("a;b\n1;2\n"), Some(';'));
        assert_eq!(divider("a;b\n1,2\n"), None);
        assert!(told("{\"a\": 1}\n\n{\"a\": 2}\n").contains("looks like JSON lines"));
        for text in ["a\tb", "a\tb\nc\n", "a\nb", "{}\nx"] {
            assert_eq!(told(text), "", "{text}");
        }
    }

    #[test]
    fn marks_divide_and_nothing_else_does() {
        assert_eq!(documents("\na\n\nb\n"), [("\na\n\nb\n".into(), false)]);
        assert_eq!(
            documents("\r\na\r\n<|endoftext|>\r\n\r\nb"),
            [("a".into(), true), ("b".into(), false)]
        );
        assert_eq!(documents("a <|endoftext|> b"), [("a <|endoftext|> b".into(), false)]);
        assert_eq!(documents("<|endoftext|>\na\n<|endoftext|>"), [("a".into(), true)]);
        assert!(parse(&Arc::from(Path::new("a.txt")), "<|endoftext|>\n").is_err());
    }
}
