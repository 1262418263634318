//! What encoding asks of a tokenizer, and the tokens of a text with those that begin and end it.

use anyhow::{Context, Result};

use crate::data::item::ItemPlace;
use crate::error::bail;
use crate::source::{Date, Tokenizer, WholeText};

/// What encoding asks of a tokenizer.
pub trait Encode {
    /// The tokens of a text, with no special token added.
    fn encode(&self, text: &str) -> Result<Vec<u32>>;
    /// A text, or a pair of them, of at most `most` tokens with the special tokens that stand
    /// around it.
    fn encode_whole(&self, text: &str, pair: Option<&str>, most: usize) -> Result<WholeText> {
        if pair.is_some() {
            bail!(Data, "the tokenizer has no pairs of texts");
        }
        let mut ids = self.begin();
        ids.extend(self.encode(text)?);
        let cut = ids.len() > most;
        ids.truncate(most);
        Ok(WholeText { types: vec![0; ids.len()], ids, cut })
    }
    fn bos(&self) -> Option<u32>;
    fn eos(&self) -> Option<u32>;
    /// Whether the model wants its beginning-of-sequence token before a text.
    fn add_bos(&self) -> bool;
    fn vocab_size(&self) -> usize;
    /// The Jinja template that words conversations for the model.
    fn chat_template(&self) -> Option<&str>;
    /// The token of an id, as the vocabulary writes it.
    fn token(&self, id: u32) -> Option<String>;
    /// The text of ids, special tokens included.
    fn decode(&self, ids: &[u32]) -> Result<String>;
    /// The tokens that stand before each text.
    fn begin(&self) -> Vec<u32> {
        self.bos().filter(|_| self.add_bos()).into_iter().collect()
    }
    /// The rows of the model's embedding; a token from there on is none of the model's.
    fn rows(&self) -> usize {
        usize::MAX
    }
    /// The names of chat templates beside [`Self::chat_template`].
    fn other_templates(&self) -> &[String] {
        &[]
    }
    /// Special tokens by role (`bos_token`, …), as chat templates see them.
    fn roles(&self) -> Vec<(String, String)> {
        let roles = [("bos_token", self.bos()), ("eos_token", self.eos())];
        roles
            .into_iter()
            .map(|(role, id)| {
                (role.to_owned(), id.and_then(|id| self.token(id)).unwrap_or_default())
            })
            .collect()
    }
    /// The day that a chat template writes.
    fn date(&self) -> Option<Date> {
        None
    }
}

impl Encode for Tokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode(text)
    }
    fn encode_whole(&self, text: &str, pair: Option<&str>, most: usize) -> Result<WholeText> {
        self.encode_whole(text, pair, most)
    }
    fn bos(&self) -> Option<u32> {
        self.bos()
    }
    fn eos(&self) -> Option<u32> {
        self.eos()
    }
    fn add_bos(&self) -> bool {
        self.add_bos()
    }
    fn vocab_size(&self) -> usize {
        self.vocab_size()
    }
    fn chat_template(&self) -> Option<&str> {
        self.chat_template()
    }
    fn begin(&self) -> Vec<u32> {
        self.begin().to_vec()
    }
    fn rows(&self) -> usize {
        self.rows()
    }
    fn other_templates(&self) -> &[String] {
        self.other_templates()
    }
    fn roles(&self) -> Vec<(String, String)> {
        self.roles()
    }
    fn date(&self) -> Option<Date> {
        self.date()
    }
    fn token(&self, id: u32) -> Option<String> {
        self.token(id)
    }
    fn decode(&self, ids: &[u32]) -> Result<String> {
        self.decode(ids, false)
    }
}

/// The tokens of a text; an error names the item.
pub(super) fn tokens(tokenizer: &dyn Encode, text: &str, place: &ItemPlace) -> Result<Vec<u32>> {
    tokenizer.encode(text).with_context(|| format!("{place} cannot be tokenised"))
}

/// Tokens that begin a sequence: the beginning-of-sequence token before them if the model wants
/// one, unless the text itself begins with it.
pub fn opened(tokenizer: &dyn Encode, tokens: Vec<u32>) -> Vec<u32> {
    let mut ids = tokenizer.begin();
    if tokens.starts_with(&ids) {
        return tokens;
    }
    ids.extend(tokens);
    ids
}

/// The end-of-sequence token, unless `ids` end with it. Errors (class data): the model's embedding
/// has no row for it.
pub(super) fn ending(tokenizer: &dyn Encode, ids: &[u32]) -> Result<Option<u32>> {
    let eos = tokenizer.eos().filter(|eos| ids.last() != Some(eos));
    if let Some(id) = eos.filter(|id| *id as usize >= tokenizer.rows()) {
        let name = tokenizer.token(id).map_or(String::new(), |token| format!("`{token}`, "));
        bail!(
            Data,
            "a text ends with {name}token {id}, and the model's embedding has {} rows",
            tokenizer.rows()
        );
    }
    Ok(eos)
}
