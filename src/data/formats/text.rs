//! Plain text: the whole file is one document, unless lines that hold nothing but `<|endoftext|>`
//! divide it into several. Line ends are made `\n`.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use crate::bail_data;
use crate::data::item::{Document, Item, Place};

const MARK: &str = "<|endoftext|>";

pub(super) fn parse(file: &Arc<Path>, text: &str) -> Result<Vec<Item>> {
    let text = text.replace("\r\n", "\n");
    let mut items = Vec::new();
    let mut push = |text: &str, ended: bool| {
        let place = Place { file: file.clone(), unit: "document", number: items.len() + 1 };
        items.push(Item::Text(Document { place, text: text.to_owned(), ended }));
    };
    if !text.lines().any(|line| line == MARK) {
        push(&text, false);
        return Ok(items);
    }
    // Empty lines around a mark belong to the layout of the file and not to its documents.
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim_end_matches('\n') == MARK {
            let document = text[start..at].trim_matches('\n');
            if !document.is_empty() {
                push(document, true);
            }
            start = at + line.len();
        }
        at += line.len();
    }
    let rest = text[start..].trim_matches('\n');
    if !rest.is_empty() {
        push(rest, false);
    }
    if items.is_empty() {
        bail_data!("`{}` holds `{MARK}` only, and no text", file.display());
    }
    Ok(items)
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
    fn marks_divide_and_nothing_else_does() {
        assert_eq!(documents("\na\n\nb\n"), [("\na\n\nb\n".into(), false)]);
        assert_eq!(documents("\r\na\r\n<|endoftext|>\r\n\r\nb"), [("a".into(), true), ("b".into(), false)]);
        assert_eq!(documents("a <|endoftext|> b"), [("a <|endoftext|> b".into(), false)]);
        assert_eq!(documents("<|endoftext|>\na\n<|endoftext|>"), [("a".into(), true)]);
        assert!(parse(&Arc::from(Path::new("a.txt")), "<|endoftext|>\n").is_err());
    }
}
