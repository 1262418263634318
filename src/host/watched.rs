//! Encoding that stops when the run does.

use anyhow::Result;

use super::guard::Guard;
use crate::data::Encode;

/// A tokenizer that looks at the guard before each text: large data sets take a while to encode.
pub struct Watched<'a> {
    pub guard: &'a Guard,
    pub tokenizer: &'a dyn Encode,
}

impl Encode for Watched<'_> {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.guard.check()?;
        self.tokenizer.encode(text)
    }

    fn bos(&self) -> Option<u32> {
        self.tokenizer.bos()
    }

    fn eos(&self) -> Option<u32> {
        self.tokenizer.eos()
    }

    fn add_bos(&self) -> bool {
        self.tokenizer.add_bos()
    }

    fn vocab_size(&self) -> usize {
        self.tokenizer.vocab_size()
    }

    fn chat_template(&self) -> Option<&str> {
        self.tokenizer.chat_template()
    }

    fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.token(id)
    }

    fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids)
    }
}
