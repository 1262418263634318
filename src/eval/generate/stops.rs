//! What ends a text before its most tokens.

use anyhow::Result;

use super::{Behind, Decode, Generation};
use crate::error::bail;

/// Stops, apart: special tokens have no text where special tokens are left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stops<'a> {
    /// Those that are a special token.
    pub ids: Vec<u32>,
    /// Those that are looked for in the text.
    pub texts: Vec<&'a str>,
}

impl<'a> Stops<'a> {
    /// Errors (class usage): a text that holds a special token beside other text.
    pub fn of(stop: &'a [String], tokenizer: &dyn Decode) -> Result<Self> {
        let special = if stop.is_empty() { vec![] } else { tokenizer.special() };
        let mut out = Self::default();
        for text in stop {
            if let Some((_, id)) = special.iter().find(|(token, _)| token == text) {
                out.ids.push(*id);
            } else if let Some((token, _)) =
                special.iter().find(|(token, _)| !token.is_empty() && text.contains(token))
            {
                bail!(
                    Usage,
                    "`stop`: {text:?} holds the special token `{token}` beside other text, and is \
                     never met";
                    hint: "generated texts are without special tokens; give {token:?} as a stop of \
                           its own"
                );
            } else {
                out.texts.push(text);
            }
        }
        Ok(out)
    }

    /// Where the first of them begins in a text.
    pub fn find(&self, text: &str) -> Option<usize> {
        self.texts.iter().filter_map(|stop| text.find(stop)).min()
    }
}

/// When a sequence ends.
pub struct Rules<'a> {
    pub how: &'a Generation,
    /// Tokens that end a sequence.
    pub ends: &'a [u32],
    pub stops: &'a Stops<'a>,
    pub tokenizer: &'a dyn Decode,
}

impl Rules<'_> {
    /// What stop texts are looked for behind; None where there are none.
    pub fn behind(&self, prompt: &[u32]) -> Result<Option<Behind>> {
        if self.stops.texts.is_empty() {
            Ok(None)
        } else {
            Behind::end_of(prompt, self.tokenizer).map(Some)
        }
    }

    /// Whether a sequence that ends with no end token is over all the same.
    pub fn over(&self, ids: &[u32], behind: Option<&Behind>) -> Result<bool> {
        if ids.len() >= self.how.max_tokens {
            return Ok(true);
        }
        let Some(behind) = behind else { return Ok(false) };
        Ok(self.stops.find(&behind.following(ids, self.tokenizer)?).is_some())
    }
}
