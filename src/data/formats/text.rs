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

/// What a text that was read as one looks like, if that is a table or lines of JSON.
pub(super) fn looks_like(path: &Path, text: &str) -> Option<String> {
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.trim().is_empty()).take(LOOKED_AT).collect();
    if lines.len() < 2 {
        return None;
    }
    let tabs = |line: &&str| line.matches('\t').count();
    let columns = tabs(&lines[0]);
    let what = match () {
        () if lines.iter().all(|line| serde_json::from_str::<Map<String, Value>>(line).is_ok()) => {
            ("JSON lines", "jsonl")
        }
        () if columns > 0 && lines.iter().all(|line| tabs(line) == columns) => {
            ("a table divided by tabs", "tsv")
        }
        () => return None,
    };
    Some(format!(
        "`{}` was read as plain text, and looks like {}: `format: \"{}\"` reads its records",
        path.display(),
        what.0,
        what.1
    ))
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
        let told = |text: &str| looks_like(Path::new("a.txt"), text).unwrap_or_default();
        assert!(told("a\tb\nc\td\n").contains(
            "was read as plain text, and looks like a table divided by tabs: `format: \"tsv\"`"
        ));
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
