//! What a model is fed, for people: one item as text and tokens, and figures of whole splits.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::data::encode::{Encode, EncodeOptions, Example, Words, encode_all, encode_with};
use crate::data::item::{Chat, Item};
use crate::data::talks::Talks;
use crate::data::template::Template;

/// One item as it is trained on: where it is from, its text with what counts in the loss between ⟦
/// and ⟧, its tokens by id and text with a `*` at those that count, and what is scored. Of a text,
/// the first block; of a conversation, each example that it gives.
pub fn show(
    item: &Item,
    template: Template,
    tokenizer: &dyn Encode,
    options: &EncodeOptions,
) -> Result<String> {
    let mut out = format!("{}\n", item.place());
    let words = Words::new(template, tokenizer)?;
    let examples = match item {
        Item::Text(_) => encode_with(item, &words, options)?.into_iter().collect(),
        _ => encode_all(item, &words, options)?.examples,
    };
    if examples.is_empty() {
        out += &format!("nothing of it counts in the loss within {} tokens\n", options.max_length);
    }
    for example in &examples {
        out += &format!(
            "training text, {} tokens, in the loss ⟦what stands so⟧:\n{}\n",
            example.ids.len(),
            marked(example, tokenizer)?
        );
        out += "tokens:";
        for (id, counts) in example.ids.iter().zip(&example.supervised) {
            let token = tokenizer.token(*id).unwrap_or_default();
            out += &format!(" {}{id}:{token:?}", if *counts { "*" } else { "" });
        }
        out.push('\n');
    }
    if let Item::Instruction(instruction) = item {
        out += &format!("test prompt:\n{}⏎\n", words.test_prompt(instruction)?);
        for (i, choice) in words.choices(instruction).iter().enumerate() {
            out +=
                &format!("{} {choice:?}\n", if instruction.label == Some(i) { "✓" } else { "·" });
        }
    }
    Ok(out)
}

/// The text of an example with runs of supervised tokens between ⟦ and ⟧.
fn marked(example: &Example, tokenizer: &dyn Encode) -> Result<String> {
    let mut out = String::new();
    let (mut start, mut before) = (0, String::new());
    while start < example.ids.len() {
        let counts = example.supervised[start];
        let end = (start..example.ids.len())
            .find(|&i| example.supervised[i] != counts)
            .unwrap_or(example.ids.len());
        // Some tokenizers drop a space at the beginning of what they decode, so it is decoded from
        // the beginning.
        let whole = tokenizer.decode(&example.ids[..end])?;
        let text = match whole.strip_prefix(&before) {
            Some(text) => text.to_owned(),
            None => tokenizer.decode(&example.ids[start..end])?,
        };
        out += &if counts { format!("⟦{text}⟧") } else { text };
        before = whole;
        start = end;
    }
    Ok(out)
}

/// Figures by split: items, what they give within the limit (`examples`; `left_out` teach nothing),
/// their lengths in tokens before it, the shares cut and supervised, counts of right choices by
/// name, items whose answer is none of their choices, and how many items occur again in the same
/// split or in each earlier one (the same instruction and input, conversation, text or tokens).
/// `notes`, where there are some, count conversations that the chat template does not plainly word.
pub fn stats(
    splits: &[(&str, &[Item])],
    template: Template,
    tokenizer: &dyn Encode,
    options: &EncodeOptions,
) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    let words = Words::new(template, tokenizer)?;
    let mut seen: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (split, items) in splits {
        let (mut lengths, mut supervised, mut examples, mut cut, mut left_out, mut unscorable) =
            (vec![], 0, 0, 0, 0, 0);
        let (mut labels, mut talks) = (BTreeMap::<String, usize>::new(), Talks::default());
        let (mut twice, mut elsewhere) = (0, BTreeMap::<&str, usize>::new());
        // A limit that nothing reaches tells what the real one cuts.
        let whole = EncodeOptions { max_length: usize::MAX, ..*options };
        for item in *items {
            if let Some(question) = question(item) {
                let places = seen.entry(question).or_default();
                if places.contains(split) {
                    twice += 1;
                } else {
                    places.iter().for_each(|other| *elsewhere.entry(other).or_default() += 1);
                    places.push(split);
                }
            }
            if let Item::Instruction(instruction) = item {
                match instruction.label.and_then(|label| instruction.names.get(label)) {
                    Some(name) => *labels.entry(name.clone()).or_default() += 1,
                    None => unscorable += usize::from(!instruction.choices.is_empty()),
                }
            }
            let encoded = encode_all(item, &words, &whole)?;
            talks.add(&encoded.report.talks);
            left_out += encoded.report.dropped;
            for example in encoded.examples {
                // A text is divided, not cut; a last block of one token teaches nothing.
                let (tokens, most) = (example.ids.len(), options.max_length);
                let given = match item {
                    Item::Text(_) => tokens / most + usize::from(tokens % most > 1),
                    _ => usize::from(example.supervised.iter().take(most).any(|s| *s)),
                };
                examples += given;
                left_out += usize::from(given == 0);
                cut += usize::from(tokens > most && !matches!(item, Item::Text(_)));
                supervised += example.supervised.iter().filter(|s| **s).count();
                lengths.push(example.ids.len());
            }
        }
        lengths.sort_unstable();
        let tokens: usize = lengths.iter().sum();
        let at = |share: f64| {
            lengths
                .get(((lengths.len().saturating_sub(1)) as f64 * share).round() as usize)
                .copied()
        };
        let share = |part: usize, of: usize| if of == 0 { 0.0 } else { part as f64 / of as f64 };
        let mut figures = json!({
            "items": items.len(),
            "examples": examples,
            "tokens": tokens,
            "length": {
                "min": at(0.0), "mean": share(tokens, lengths.len()), "median": at(0.5),
                "p95": at(0.95), "max": at(1.0),
            },
            "max_length": options.max_length,
            "cut": share(cut, items.len()),
            "left_out": left_out,
            "supervised": share(supervised, tokens),
            "labels": labels,
            "unscorable": unscorable,
            "duplicates": { "within": twice, "in": elsewhere },
        });
        let told = talks
            .told()
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| (what.to_owned(), count.into()));
        let told: Map<String, Value> = told.collect();
        if !told.is_empty() {
            figures["notes"] = told.into();
        }
        out.insert((*split).to_owned(), figures);
    }
    Ok(out)
}

/// What makes an item the same as another: what it asks or says.
fn question(item: &Item) -> Option<String> {
    match item {
        Item::Instruction(item) => Some(format!("{}\0{}", item.instruction, item.input)),
        Item::Text(document) => Some(document.text.clone()),
        Item::Chat(Chat { worded: Some(pieces), .. }) => {
            Some(pieces.iter().map(|piece| piece.text.as_str()).collect())
        }
        Item::Chat(chat) => {
            Some(chat.messages.iter().map(|m| format!("{}: {}\n", m.role(), m.content())).collect())
        }
        Item::Tokens(row) => Some(format!("{:?}", row.ids)),
        Item::Row(_) => None,
    }
}
