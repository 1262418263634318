//! The text that follows a prompt: what prompt and new tokens give together, less what the prompt
//! gives alone. A decoder may treat the first token of a text apart (SentencePiece takes the space
//! before it away), so new tokens are not decoded alone.

use anyhow::Result;

use super::Decode;

/// Tokens of a prompt's end that are decoded at least, for [`Behind::end_of`].
const TAIL: usize = 16;

/// Tokens before new ones, with their text.
#[derive(Debug)]
pub struct Behind {
    ids: Vec<u32>,
    text: String,
}

impl Behind {
    /// The whole prompt.
    pub fn of(prompt: &[u32], tokenizer: &dyn Decode) -> Result<Self> {
        Ok(Self { ids: prompt.to_vec(), text: tokenizer.decode(prompt)? })
    }

    /// The end of a prompt, long enough that new tokens are not the first of a text and no letter
    /// is cut.
    pub fn end_of(prompt: &[u32], tokenizer: &dyn Decode) -> Result<Self> {
        let mut length = TAIL;
        loop {
            let end = Self::of(&prompt[prompt.len().saturating_sub(length)..], tokenizer)?;
            let whole = !end.text.is_empty() && !end.text.starts_with(char::REPLACEMENT_CHARACTER);
            if whole || length >= prompt.len() {
                return Ok(end);
            }
            length *= 2;
        }
    }

    /// The text of the tokens that follow.
    pub fn following(&self, ids: &[u32], tokenizer: &dyn Decode) -> Result<String> {
        if ids.is_empty() {
            return Ok(String::new());
        }
        let whole = tokenizer.decode(&[&self.ids[..], ids].concat())?;
        match whole.strip_prefix(&self.text) {
            Some(text) => Ok(text.to_owned()),
            // Bytes of a letter that is not whole spoil the bytes that end the prompt; with such a
            // token a space is not at issue.
            None => tokenizer.decode(ids),
        }
    }
}
