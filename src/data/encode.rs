//! Items to token sequences for training, with the tokens that count in the loss marked.

use std::borrow::Cow;
use std::fmt;

use anyhow::{Context, Result};

use crate::data::chat::{ChatTemplate, OWN, conversation, question};
use crate::data::continuation::{self, Border, Continued, Joined, White, continued};
use crate::data::example::Example;
use crate::data::item::{Chat, Document, Instruction, Item, ItemPlace, Row, TextPiece, TokenRow};
use crate::data::loss::LossOn;
use crate::data::talks::Talks;
use crate::data::template::Template;
use crate::data::tokenizer::{Encode, ending, opened, tokens};
use crate::error::{bail, error};
use crate::source::WholeText;

/// How items become examples.
#[derive(Clone, Copy, Debug)]
pub struct EncodeOptions {
    /// The most tokens of an example, at least 2; what is longer is cut at the right and counted.
    pub max_length: usize,
    /// For instruction items; token rows say it themselves and texts are learnt whole.
    pub loss: LossOn,
}

/// Examples, and what became of the items.
#[derive(Clone, Debug)]
pub struct Encoded {
    pub examples: Vec<Example>,
    pub report: EncodeReport,
}

/// What became of the items in encoding. [`fmt::Display`] says it in a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeReport {
    pub items: usize,
    /// Examples kept.
    pub examples: usize,
    /// Tokens in them.
    pub tokens: usize,
    /// Tokens in them that count in the loss.
    pub supervised_tokens: usize,
    /// Those of them that end a sequence.
    pub ends: usize,
    /// Labels that a head learns.
    pub labels: usize,
    /// Tokens in them that a pass may mask.
    pub maskable: usize,
    /// Examples kept that lost their end to the limit. Texts are divided, not cut.
    pub cut: usize,
    /// Examples left out because no token of theirs counts in the loss, most often since the limit
    /// took the answer away.
    pub dropped: usize,
    /// Items that name choices, none of which is their answer; they are trained on all the same.
    pub unscorable: usize,
    /// Items whose prompt and answer were tokenised as one text.
    pub joined: Joined,
    /// What became of conversations under the model's chat template.
    pub talks: Talks,
}

impl fmt::Display for EncodeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (items, examples) = (count(self.items, "item"), count(self.examples, "example"));
        let tokens = count(self.tokens, "token");
        write!(f, "{items} gave {examples} of {tokens}, ")?;
        match (self.labels, self.maskable) {
            (0, 0) => {
                write!(f, "{} of them in the loss", self.supervised_tokens)?;
                if self.ends > 0 {
                    write!(f, " ({} end a sequence)", share(self.ends, self.supervised_tokens))?;
                }
            }
            (0, maskable) => write!(f, "{maskable} of them masked now and then")?,
            _ => write!(f, "each with a label")?,
        }
        let notes = [
            ("cut short at the length limit", self.cut),
            ("left out with nothing to learn", self.dropped),
            ("answer is none of the choices", self.unscorable),
        ];
        for (what, count) in notes
            .into_iter()
            .chain(self.joined.notes())
            .chain(self.talks.counts())
            .filter(|(_, count)| *count > 0)
        {
            write!(f, "; {what}: {count}")?;
        }
        Ok(())
    }
}

/// A share in percent: whole ones, and tenths below one.
fn share(part: usize, of: usize) -> String {
    let percent = 100.0 * part as f64 / of.max(1) as f64;
    if percent < 1.0 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// A number of things in words.
pub(super) fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Encodes items for training, in their order.
///
/// * `alpaca`: beginning-of-sequence token if the model wants one, prompt, answer, end of sequence.
///   Where the two give other tokens as one text than apart, they are encoded as one, as in scoring
///   ([`EncodeReport::joined`] counts them).
/// * `llm-adapters`: the whole text is tokenised at once and the end-of-sequence token added if
///   there is room, as published. For [`LossOn::Answer`] as many tokens as the prompt has alone are
///   left out of the loss, the published rule (`train_on_inputs` false); where the last spaces of
///   the prompt join the answer's first word in one token, that token counts as answer.
/// * `none`: as `alpaca`, with nothing around prompt and answer.
/// * `chat`: the model's own template over the conversation; the assistant's turns are supervised,
///   with the token that ends them. The text is tokenised at once, as transformers does, and begins
///   as the template says: with no beginning-of-sequence token where it writes none. A token with
///   any part of an answer counts as answer. Where the template rewrites what stands before a turn,
///   [`crate::data::turns::How`] says what is done, and the report how often.
/// * Token rows are taken as they are; an id beyond the vocabulary is an error.
/// * A text is divided into consecutive blocks of `max_length` tokens. It opens with the
///   beginning-of-sequence token if the model wants one and closes with the end-of-sequence token
///   where the file marks its end. The first token of a block is predicted from nothing and does
///   not count.
///
/// # Errors
/// What the tokenizer or the template refuses, naming the item, and no example at all.
pub fn encode_train(
    items: &[Item],
    template: Template,
    tokenizer: &dyn Encode,
    options: &EncodeOptions,
) -> Result<Encoded> {
    if options.max_length < 2 {
        bail!(
            Usage,
            "a length limit of {} tokens leaves nothing to predict; it is 2 at least",
            options.max_length
        );
    }
    let mut out = Encoded {
        examples: Vec::with_capacity(items.len()),
        report: EncodeReport { items: items.len(), ..EncodeReport::default() },
    };
    let words = Words::new(template, tokenizer)?;
    for item in items {
        out.add(item, &words, options)?;
    }
    if out.examples.is_empty() {
        bail!(
            Data,
            "no example is left to train on within {} tokens: {}",
            options.max_length,
            out.report
        );
    }
    Ok(out)
}

/// Encodes one item as [`encode_train`] does; `None` where no token of it counts in the loss within
/// the limit. Of a text, the first block; of a conversation that gives an example a turn, the last.
pub fn encode_one(
    item: &Item,
    template: Template,
    tokenizer: &dyn Encode,
    options: &EncodeOptions,
) -> Result<Option<Example>> {
    encode_with(item, &Words::new(template, tokenizer)?, options)
}

pub(super) fn encode_with(
    item: &Item,
    words: &Words,
    options: &EncodeOptions,
) -> Result<Option<Example>> {
    let mut examples = encode_all(item, words, options)?.examples;
    Ok(if matches!(item, Item::Text(_)) { examples.into_iter().next() } else { examples.pop() })
}

/// All that one item gives.
pub(super) fn encode_all(item: &Item, words: &Words, options: &EncodeOptions) -> Result<Encoded> {
    let mut out =
        Encoded { examples: vec![], report: EncodeReport { items: 1, ..EncodeReport::default() } };
    out.add(item, words, options)?;
    Ok(out)
}

/// A template with what it needs of a model, prepared once for many items.
pub(super) struct Words<'a> {
    template: Template,
    tokenizer: &'a dyn Encode,
    /// For the template `chat`.
    chat: Option<ChatTemplate>,
}

impl<'a> Words<'a> {
    /// Errors (class data): the template is `chat`, and the model has none, or none that can be
    /// read.
    pub fn new(template: Template, tokenizer: &'a dyn Encode) -> Result<Self> {
        let chat =
            if template == Template::Chat { Some(ChatTemplate::of(tokenizer)?) } else { None };
        Ok(Self { template, tokenizer, chat })
    }

    pub fn tokenizer(&self) -> &'a dyn Encode {
        self.tokenizer
    }

    /// The prompt after which an answer is scored or generated. To a chat template solved examples
    /// are earlier turns.
    pub fn test_prompt(&self, item: &Instruction) -> Result<String> {
        match &self.chat {
            Some(chat) => chat.ask(&conversation(&with_turns(item), false)),
            None => self.template.test_prompt(item),
        }
    }

    /// The prompt that a head reads. Errors (class usage): solved examples before it, or a blank to
    /// be filled, which are for language models.
    pub fn test_text(&self, item: &Instruction) -> Result<String> {
        if item.shots.is_some() {
            bail!(
                Usage,
                "option `shots` of `data::load` is for language models; a model with a head reads \
                 no solved examples"
            );
        }
        if !item.given.is_empty() {
            bail!(
                Usage,
                "the template scores what follows a blank, which only a language model does; this \
                 model has a head"
            );
        }
        self.test_prompt(&Instruction { pair: None, ..item.clone() })
    }

    /// A text, or a pair of them, with the special tokens that stand around it.
    pub fn whole(
        &self,
        text: &str,
        pair: Option<&str>,
        most: usize,
        place: &ItemPlace,
    ) -> Result<WholeText> {
        let encoded = self.tokenizer.encode_whole(text, pair, most);
        encoded.with_context(|| format!("{place} cannot be tokenised"))
    }

    /// The same in tokens. Errors where there are none.
    pub fn test_tokens(&self, item: &Instruction) -> Result<Vec<u32>> {
        let ids =
            opened(self.tokenizer, tokens(self.tokenizer, &self.test_prompt(item)?, &item.place)?);
        if ids.is_empty() {
            bail!(Data, "{}: the tokenizer makes nothing of the prompt", item.place);
        }
        Ok(ids)
    }

    /// The texts that are scored after it.
    pub fn choices<'b>(&self, item: &'b Instruction) -> Cow<'b, [String]> {
        self.template.choices(item)
    }

    /// The prompt with them behind it, in tokens; of each, how many at its beginning are given.
    /// Errors where one of them gives no token, or the prompt.
    pub fn scored(
        &self,
        item: &Instruction,
        choices: &[String],
    ) -> Result<(Continued, Vec<usize>)> {
        let prompt = self.test_prompt(item)?;
        if item.given.is_empty() {
            let parts = continued(self.tokenizer, &prompt, choices, White::Text, &item.place)?;
            continuation::scorable(&parts, &item.place)?;
            return Ok((parts, vec![]));
        }
        let one = |(given, choice): (&String, &String)| {
            let prompt = format!("{prompt}{given}");
            let parts = continued(self.tokenizer, &prompt, &[choice], White::Text, &item.place)?;
            continuation::scorable(&parts, &item.place)?;
            Ok(parts)
        };
        let apart = item.given.iter().zip(choices).map(one).collect::<Result<Vec<_>>>()?;
        Ok(continuation::together(apart))
    }
}

/// The item with its solved examples as turns before it.
fn with_turns(item: &Instruction) -> Cow<'_, Instruction> {
    if item.solved().is_empty() {
        return Cow::Borrowed(item);
    }
    let mut out = item.clone();
    let turn = |shot: &Instruction| (question(shot), shot.answer_text.clone());
    out.before.history.splice(0..0, item.solved().iter().map(turn));
    Cow::Owned(out)
}

impl Encoded {
    /// Adds what one item gives.
    fn add(&mut self, item: &Item, words: &Words, options: &EncodeOptions) -> Result<()> {
        let (tokenizer, before) = (words.tokenizer, self.examples.len());
        match item {
            Item::Instruction(instruction) => self.add_instruction(instruction, words, options)?,
            Item::Chat(chat @ Chat { worded: Some(pieces), .. }) => {
                self.add_worded(pieces, chat, tokenizer, options)?;
            }
            Item::Chat(talk) => match &words.chat {
                Some(template) => self.add_chat(talk, template, tokenizer, options)?,
                None => return Err(unworded_talk(talk, words.template)),
            },
            Item::Row(row) => return Err(unworded(row)),
            Item::Tokens(row) => {
                check_ids(row, tokenizer.vocab_size().min(tokenizer.rows()))?;
                self.push(row.ids.clone(), row.supervised.clone(), options.max_length);
            }
            Item::Text(document) => {
                for block in encode_text(document, tokenizer)?.chunks(options.max_length) {
                    self.push_from(block.to_vec(), 0, options.max_length);
                }
            }
        }
        let new = &self.examples[before..];
        self.report.ends += new.iter().map(|example| ends(example, tokenizer)).sum::<usize>();
        Ok(())
    }

    fn add_instruction(
        &mut self,
        item: &Instruction,
        words: &Words,
        options: &EncodeOptions,
    ) -> Result<()> {
        self.report.unscorable += usize::from(item.label.is_none() && !item.choices.is_empty());
        if let Some(template) = &words.chat {
            return self.add_chat(&conversation(item, true), template, words.tokenizer, options);
        }
        let (ids, first, border) =
            encode_instruction(item, words.template, words.tokenizer, options)?;
        self.report.joined.add(border);
        self.push_from(ids, first, options.max_length);
        Ok(())
    }

    /// Adds a text that a recipe's own template has worded.
    fn add_worded(
        &mut self,
        pieces: &[TextPiece],
        chat: &Chat,
        tokenizer: &dyn Encode,
        options: &EncodeOptions,
    ) -> Result<()> {
        let (ids, mut supervised) = encode_pieces(pieces, &chat.place, tokenizer, options)?;
        let mut ids = opened(tokenizer, ids);
        supervised.splice(0..0, vec![false; ids.len() - supervised.len()]);
        // An answer at its end is ended, as elsewhere.
        let last = pieces.iter().rfind(|piece| !piece.text.is_empty());
        if chat.ended
            && last.is_some_and(|last| last.supervised)
            && let Some(eos) = ending(tokenizer, &ids)?
        {
            ids.push(eos);
            supervised.push(true);
        }
        self.push(ids, supervised, options.max_length);
        Ok(())
    }

    /// Adds what the model's chat template makes of a conversation.
    fn add_chat(
        &mut self,
        chat: &Chat,
        template: &ChatTemplate,
        tokenizer: &dyn Encode,
        options: &EncodeOptions,
    ) -> Result<()> {
        let worded = template.word(chat)?;
        self.report.talks.count(&worded);
        let (begin, mut unbegun) = (tokenizer.begin(), false);
        for pieces in &worded.examples {
            let (ids, supervised) = encode_pieces(pieces, &chat.place, tokenizer, options)?;
            unbegun |= !ids.starts_with(&begin);
            self.push(ids, supervised, options.max_length);
        }
        self.report.talks.unbegun += usize::from(unbegun);
        Ok(())
    }

    /// Adds the sequence with loss from token `first` on.
    fn push_from(&mut self, ids: Vec<u32>, first: usize, max_length: usize) {
        let supervised = (0..ids.len()).map(|i| i >= first).collect();
        self.push(ids, supervised, max_length);
    }

    /// Adds the sequence with loss on the tokens marked, cut to `max_length`, or counts why not.
    fn push(&mut self, mut ids: Vec<u32>, mut supervised: Vec<bool>, max_length: usize) {
        let cut = ids.len() > max_length;
        ids.truncate(max_length);
        supervised.truncate(max_length);
        supervised.iter_mut().take(1).for_each(|first| *first = false);
        let counted = supervised.iter().filter(|s| **s).count();
        if counted == 0 {
            self.report.dropped += 1;
            return;
        }
        let report = &mut self.report;
        report.cut += usize::from(cut);
        report.examples += 1;
        report.tokens += ids.len();
        report.supervised_tokens += counted;
        self.examples.push(Example::new(ids, supervised));
    }
}

/// How many tokens in the loss end a sequence.
pub(super) fn ends(example: &Example, tokenizer: &dyn Encode) -> usize {
    let Some(eos) = tokenizer.eos() else { return 0 };
    let counts = example.ids.iter().zip(&example.supervised);
    counts.filter(|(id, supervised)| **supervised && **id == eos).count()
}

/// A record that no recipe's template has turned into an instruction.
pub(super) fn unworded(Row { place, fields }: &Row) -> anyhow::Error {
    let columns: Vec<String> = fields.keys().map(|k| format!("`{k}`")).collect();
    error!(
        Data,
        "{place} is a record with the columns {}, which no template words",
        columns.join(", ");
        hint: "give `template` as a map with `prompt` and `choices` or `answer`"
    )
    .into()
}

/// A conversation under a template for instructions.
fn unworded_talk(chat: &Chat, template: Template) -> anyhow::Error {
    error!(
        Data,
        "{} is a conversation, which the template `{}` does not word",
        chat.place,
        template.name();
        hint: "`template: \"chat\"` words it as the model expects; {OWN}"
    )
    .into()
}

/// The tokens of an item, not yet cut, the first that counts in the loss, and what lies between
/// prompt and answer.
fn encode_instruction(
    item: &Instruction,
    template: Template,
    tokenizer: &dyn Encode,
    options: &EncodeOptions,
) -> Result<(Vec<u32>, usize, Border)> {
    let (prompt, answer) = template.train_text(item)?;
    let encode = |text: &str| tokens(tokenizer, text, &item.place);
    let (ids, answer_at, border) = match template {
        Template::Alpaca | Template::Cloze | Template::None | Template::Chat => {
            let parts = continued(tokenizer, &prompt, &[answer], White::Prompt, &item.place)?;
            let answer_at = parts.prompt.len();
            let mut ids = parts.prompt;
            ids.extend(parts.texts.into_iter().flatten());
            if item.ended {
                ids.extend(ending(tokenizer, &ids)?);
            }
            (ids, answer_at, parts.border)
        }
        Template::LlmAdapters => {
            let answer_at = match options.loss {
                LossOn::All => 0,
                LossOn::Answer => opened(tokenizer, encode(&prompt)?).len(),
            };
            let mut ids = opened(tokenizer, encode(&format!("{prompt}{answer}"))?);
            if item.ended && ids.len() < options.max_length {
                ids.extend(ending(tokenizer, &ids)?);
            }
            (ids, answer_at, Border::Apart)
        }
    };
    Ok((ids, if options.loss == LossOn::All { 0 } else { answer_at }, border))
}

/// The tokens of a conversation and which count in the loss: each that holds a part of what is
/// supervised.
fn encode_pieces(
    pieces: &[TextPiece],
    place: &ItemPlace,
    tokenizer: &dyn Encode,
    options: &EncodeOptions,
) -> Result<(Vec<u32>, Vec<bool>)> {
    let text: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
    let ids = tokens(tokenizer, &text, place)?;
    let (mut supervised, mut end) = (vec![], 0);
    for piece in pieces {
        end += piece.text.len();
        // As many tokens as the text up to here has alone, unless one reaches over the end of the
        // piece.
        let head = tokens(tokenizer, &text[..end], place)?;
        let shared = head.iter().zip(&ids).take_while(|(a, b)| a == b).count();
        let count = shared + usize::from(piece.supervised && shared < head.len());
        supervised.resize(
            count.clamp(supervised.len(), ids.len()),
            piece.supervised || options.loss == LossOn::All,
        );
        if supervised.len() >= options.max_length {
            break;
        }
    }
    supervised.resize(ids.len(), false);
    Ok((ids, supervised))
}

fn encode_text(document: &Document, tokenizer: &dyn Encode) -> Result<Vec<u32>> {
    let mut ids = opened(tokenizer, tokens(tokenizer, &document.text, &document.place)?);
    if document.ended {
        ids.extend(ending(tokenizer, &ids)?);
    }
    Ok(ids)
}

fn check_ids(row: &TokenRow, vocabulary: usize) -> Result<()> {
    match row.ids.iter().find(|&&id| id as usize >= vocabulary) {
        Some(id) => {
            bail!(Data, "{}: id {id} is beyond the vocabulary of {vocabulary} tokens", row.place)
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
