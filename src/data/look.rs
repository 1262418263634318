//! What a model is fed, for people: one item as text and tokens, and figures of whole splits.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::data::choices::test_prompt;
use crate::data::encode::{Encode, EncodeOptions, Example, encode_one};
use crate::data::item::Item;
use crate::data::template::Template;

/// One item as it is trained on: where it is from, its text with what counts in the loss between ⟦ and ⟧, its tokens by id and text
/// with a `*` at those that count, and what is scored. Of a text, the first block.
pub fn show(item: &Item, template: Template, tokenizer: &dyn Encode, options: &EncodeOptions) -> Result<String> {
    let mut out = format!("{}\n", item.place());
    match encode_one(item, template, tokenizer, options)? {
        Some(example) => {
            out +=
                &format!("training text, {} tokens, in the loss ⟦what stands so⟧:\n{}\n", example.ids.len(), marked(&example, tokenizer)?);
            out += "tokens:";
            for (id, counts) in example.ids.iter().zip(&example.supervised) {
                let token = tokenizer.token(*id).unwrap_or_default();
                out += &format!(" {}{id}:{token:?}", if *counts { "*" } else { "" });
            }
            out.push('\n');
        }
        None => out += &format!("nothing of it counts in the loss within {} tokens\n", options.max_length),
    }
    if let Item::Instruction(instruction) = item {
        out += &format!("test prompt:\n{}⏎\n", test_prompt(instruction, template, tokenizer)?);
        for (i, choice) in instruction.choices.iter().enumerate() {
            out += &format!("{} {choice:?}\n", if instruction.label == Some(i) { "✓" } else { "·" });
        }
    }
    Ok(out)
}

/// The text of an example with runs of supervised tokens between ⟦ and ⟧.
fn marked(example: &Example, tokenizer: &dyn Encode) -> Result<String> {
    let mut out = String::new();
    let mut start = 0;
    while start < example.ids.len() {
        let counts = example.supervised[start];
        let end = (start..example.ids.len()).find(|&i| example.supervised[i] != counts).unwrap_or(example.ids.len());
        let text = tokenizer.decode(&example.ids[start..end])?;
        out += &if counts { format!("⟦{text}⟧") } else { text };
        start = end;
    }
    Ok(out)
}

/// Figures by split: items, examples and their lengths in tokens, shares cut and supervised, counts of labels, and how many
/// items occur again in the same split or in an earlier one.
pub fn stats(
    splits: &[(&str, &[Item])],
    template: Template,
    tokenizer: &dyn Encode,
    options: &EncodeOptions,
) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for (split, items) in splits {
        let (mut lengths, mut supervised, mut cut, mut left_out) = (vec![], 0, 0, 0);
        let mut labels: BTreeMap<String, usize> = BTreeMap::new();
        let (mut twice, mut elsewhere) = (0, BTreeMap::<&str, usize>::new());
        // A limit that nothing reaches tells what the real one cuts.
        let whole = EncodeOptions { max_length: usize::MAX, ..*options };
        for item in *items {
            if let Some(question) = question(item) {
                match seen.get(&question) {
                    Some(other) if other == split => twice += 1,
                    Some(other) => *elsewhere.entry(other).or_default() += 1,
                    None => drop(seen.insert(question, split)),
                }
            }
            if let Item::Instruction(instruction) = item
                && let Some(label) = instruction.label
            {
                *labels.entry(instruction.names[label].clone()).or_default() += 1;
            }
            match encode_one(item, template, tokenizer, &whole)? {
                Some(example) => {
                    // A text is divided, not cut.
                    cut += usize::from(example.ids.len() > options.max_length && !matches!(item, Item::Text(_)));
                    left_out += usize::from(!example.supervised.iter().take(options.max_length).any(|s| *s));
                    supervised += example.supervised.iter().filter(|s| **s).count();
                    lengths.push(example.ids.len());
                }
                None => left_out += 1,
            }
        }
        lengths.sort_unstable();
        let tokens: usize = lengths.iter().sum();
        let at = |share: f64| lengths.get(((lengths.len().saturating_sub(1)) as f64 * share).round() as usize).copied();
        let share = |part: usize, of: usize| if of == 0 { 0.0 } else { part as f64 / of as f64 };
        let figures = json!({
            "items": items.len(),
            "tokens": tokens,
            "length": { "min": at(0.0), "mean": share(tokens, lengths.len()), "median": at(0.5), "p95": at(0.95), "max": at(1.0) },
            "max_length": options.max_length,
            "cut": share(cut, items.len()),
            "left_out": left_out,
            "supervised": share(supervised, tokens),
            "labels": labels,
            "duplicates": { "within": twice, "in": elsewhere },
        });
        out.insert((*split).to_owned(), figures);
    }
    Ok(out)
}

/// What makes an item the same as another: what it asks or says.
fn question(item: &Item) -> Option<String> {
    match item {
        Item::Instruction(item) => Some(format!("{}\n{}", item.instruction, item.input)),
        Item::Text(document) => Some(document.text.clone()),
        Item::Chat(chat) => Some(chat.messages.iter().map(|m| format!("{}: {}\n", m.role, m.content)).collect()),
        Item::Tokens(row) => Some(format!("{:?}", row.ids)),
        Item::Row(_) => None,
    }
}
