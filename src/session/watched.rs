//! Encoding that stops when the run does.

use anyhow::Result;

use super::guard::Guard;
use crate::data::Encode;
use crate::source::WholeText;

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

    fn encode_whole(&self, text: &str, pair: Option<&str>, most: usize) -> Result<WholeText> {
        self.guard.check()?;
        self.tokenizer.encode_whole(text, pair, most)
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

    fn begin(&self) -> Vec<u32> {
        self.tokenizer.begin()
    }

    fn rows(&self) -> usize {
        self.tokenizer.rows()
    }

    fn other_templates(&self) -> &[String] {
        self.tokenizer.other_templates()
    }

    fn roles(&self) -> Vec<(String, String)> {
        self.tokenizer.roles()
    }

    fn date(&self) -> Option<crate::source::Date> {
        self.tokenizer.date()
    }

    fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.token(id)
    }

    fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::error::{Class, class_of};

    /// A token a letter.
    struct Letters;

    impl Encode for Letters {
        fn encode(&self, text: &str) -> Result<Vec<u32>> {
            Ok(text.chars().map(u32::from).collect())
        }
        fn bos(&self) -> Option<u32> {
            None
        }
        fn eos(&self) -> Option<u32> {
            Some(0)
        }
        fn add_bos(&self) -> bool {
            false
        }
        fn vocab_size(&self) -> usize {
            128
        }
        fn chat_template(&self) -> Option<&str> {
            None
        }
        fn token(&self, id: u32) -> Option<String> {
            char::from_u32(id).map(String::from)
        }
        fn decode(&self, ids: &[u32]) -> Result<String> {
            Ok(ids.iter().filter_map(|id| self.token(*id)).collect())
        }
    }

    #[test]
    fn encoding_ends_with_the_run() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let guard =
            Guard::new(&crate::session::Limits { seconds: u64::MAX, ..Default::default() }, &STOP);
        let watched = Watched { guard: &guard, tokenizer: &Letters };
        assert_eq!(watched.encode("ab").unwrap(), [97, 98]);
        STOP.store(true, Ordering::Relaxed);
        assert_eq!(class_of(&watched.encode("ab").unwrap_err()), Class::Interrupted);
    }
}
