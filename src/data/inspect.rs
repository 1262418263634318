//! What a model is fed, for people: one item as text and tokens, and figures of whole splits.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::data::encode::{EncodeOptions, Words, encode_all, encode_with, ends};
use crate::data::example::Example;
use crate::data::item::{Chat, Instruction, Item};
use crate::data::talks::Talks;
use crate::data::template::Template;
use crate::data::tokenizer::Encode;

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
            "training text, {} tokens, in the loss ⟦what stands so⟧:\n{}\ntokens:{}\n",
            example.ids.len(),
            marked(example, tokenizer)?,
            listed(example, tokenizer)
        );
    }
    if let Item::Instruction(instruction) = item {
        out += &scored(instruction, &words)?;
    }
    Ok(out)
}

/// The prompt of a question with the choices that are scored behind it, the right one marked.
fn scored(item: &Instruction, words: &Words) -> Result<String> {
    let mut out = format!("test prompt:\n{}⏎\n", words.test_prompt(item)?);
    for (i, choice) in words.choices(item).iter().enumerate() {
        let mark = if item.label == Some(i) { "✓" } else { "·" };
        let given = item.given.get(i).map_or(String::new(), |given| format!("{given:?} + "));
        out += &format!("{mark} {given}{choice:?}\n");
    }
    Ok(out)
}

/// The tokens of an example by id and text, with a `*` at those that count in the loss.
fn listed(example: &Example, tokenizer: &dyn Encode) -> String {
    let token = |(id, counts): (&u32, &bool)| {
        let text = tokenizer.token(*id).unwrap_or_default();
        format!(" {}{id}:{text:?}", if *counts { "*" } else { "" })
    };
    example.ids.iter().zip(&example.supervised).map(token).collect()
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
/// their lengths in tokens before it, the shares cut and supervised and, of the latter, that of
/// tokens that end a sequence (`ends`), counts of right choices by
/// name, items whose answer is none of their choices, and how many items occur again in the same
/// split or in each earlier one (the same instruction and input, conversation, text or tokens).
/// `notes`, where there are some, count conversations that the chat template does not plainly word.
pub fn stats(
    splits: &[(&str, &[Item])],
    template: Template,
    tokenizer: &dyn Encode,
    options: &EncodeOptions,
) -> Result<Map<String, Value>> {
    let words = Words::new(template, tokenizer)?;
    let mut seen: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut out = Map::new();
    for (split, items) in splits {
        let mut figures = Figures { items: items.len(), ..Figures::default() };
        for item in *items {
            if let Some(question) = question(item) {
                figures.repeat(split, seen.entry(question).or_default());
            }
            figures.label(item);
            figures.encode(item, &words, options)?;
        }
        out.insert((*split).to_owned(), figures.json(options.max_length));
    }
    Ok(out)
}

/// What [`stats`] counts of a split.
#[derive(Default)]
struct Figures<'a> {
    items: usize,
    examples: usize,
    /// Of each example, before the limit.
    lengths: Vec<usize>,
    supervised: usize,
    /// Supervised tokens that end a sequence.
    ends: usize,
    cut: usize,
    left_out: usize,
    labels: BTreeMap<String, usize>,
    unscorable: usize,
    /// Items that an earlier one of the same split is like.
    twice: usize,
    /// The same by each earlier split.
    elsewhere: BTreeMap<&'a str, usize>,
    talks: Talks,
}

impl<'a> Figures<'a> {
    /// Counts an item of `split` among those that are the same, which `places` has by their splits.
    fn repeat(&mut self, split: &'a str, places: &mut Vec<&'a str>) {
        if places.contains(&split) {
            self.twice += 1;
        } else {
            places.iter().for_each(|other| *self.elsewhere.entry(other).or_default() += 1);
            places.push(split);
        }
    }

    fn label(&mut self, item: &Item) {
        let Item::Instruction(item) = item else { return };
        match item.label.and_then(|label| item.names.get(label)) {
            Some(name) => *self.labels.entry(name.clone()).or_default() += 1,
            None => self.unscorable += usize::from(!item.choices.is_empty()),
        }
    }

    fn encode(&mut self, item: &Item, words: &Words, options: &EncodeOptions) -> Result<()> {
        // A limit that nothing reaches tells what the real one cuts.
        let whole = EncodeOptions { max_length: usize::MAX, ..*options };
        let encoded = encode_all(item, words, &whole)?;
        self.talks.add(&encoded.report.talks);
        self.left_out += encoded.report.dropped;
        for example in encoded.examples {
            // A text is divided, not cut; a last block of one token teaches nothing.
            let (tokens, most) = (example.ids.len(), options.max_length);
            let given = match item {
                Item::Text(_) => tokens / most + usize::from(tokens % most > 1),
                _ => usize::from(example.supervised.iter().take(most).any(|s| *s)),
            };
            self.examples += given;
            self.left_out += usize::from(given == 0);
            self.cut += usize::from(tokens > most && !matches!(item, Item::Text(_)));
            self.ends += ends(&example, words.tokenizer());
            self.supervised += example.supervised.iter().filter(|s| **s).count();
            self.lengths.push(tokens);
        }
        Ok(())
    }

    fn json(mut self, max_length: usize) -> Value {
        self.lengths.sort_unstable();
        let tokens: usize = self.lengths.iter().sum();
        let share = |part: usize, of: usize| if of == 0 { 0.0 } else { part as f64 / of as f64 };
        let mut figures = json!({
            "items": self.items,
            "examples": self.examples,
            "tokens": tokens,
            "length": {
                "min": quantile(&self.lengths, 0.0), "mean": share(tokens, self.lengths.len()),
                "median": quantile(&self.lengths, 0.5), "p95": quantile(&self.lengths, 0.95),
                "max": quantile(&self.lengths, 1.0),
            },
            "max_length": max_length,
            "cut": share(self.cut, self.items),
            "left_out": self.left_out,
            "supervised": share(self.supervised, tokens),
            "ends": share(self.ends, self.supervised),
            "labels": self.labels,
            "unscorable": self.unscorable,
            "duplicates": { "within": self.twice, "in": self.elsewhere },
        });
        let counts = self.talks.counts().into_iter().filter(|(_, count)| *count > 0);
        let notes: Map<String, Value> =
            counts.map(|(what, count)| (what.to_owned(), count.into())).collect();
        if !notes.is_empty() {
            figures["notes"] = notes.into();
        }
        figures
    }
}

/// Of sorted numbers, the nearest to where `share` of them are smaller.
fn quantile(sorted: &[usize], share: f64) -> Option<usize> {
    sorted.get((sorted.len().saturating_sub(1) as f64 * share).round() as usize).copied()
}

/// What makes an item the same as another: what it asks or says.
fn question(item: &Item) -> Option<String> {
    match item {
        Item::Instruction(item) => {
            Some(format!("{}\0{}\0{}", item.instruction, item.input, item.given.join("\0")))
        }
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
