//! Data: files to items, items to token sequences, sequences to batches.
//!
//! In reading order: [`formats`] reads a file into [`item`]s, [`task`] puts files into splits,
//! [`template`] words an item, [`chat`] and [`turns`] a conversation, [`encode`], [`choices`] and
//! [`questions`] turn it into tokens for training, for scoring and for generating ([`continuation`]
//! says where a prompt ends and its answer begins), [`cursor`] says which example comes next and
//! [`feed`] gives it, [`batch`] lays examples end to end. Nothing here pads, and whatever is cut or
//! left out is counted in a report.

pub mod asked;
pub mod batch;
pub mod chat;
pub mod choices;
pub mod continuation;
pub mod cursor;
pub mod encode;
pub mod feed;
pub mod formats;
pub mod inspect;
pub mod item;
mod jinja;
pub mod mapping;
pub mod questions;
pub mod talks;
pub mod task;
pub mod template;
pub mod turns;

pub use batch::Batch;
pub use choices::{ChoiceItem, ChoiceReport, encode_choices};
pub use continuation::Joined;
pub use cursor::{Cursor, CursorState};
pub use encode::{Encode, EncodeOptions, Example, LossOn, encode_one, encode_train, opened};
pub use feed::{DataLoader, DataLoaderState, Examples};
pub use formats::Layout;
pub use item::Item;
pub use mapping::Mapping;
pub use questions::{GenerationItem, encode_questions};
pub use task::{Split, Task};
pub use template::Template;

impl Encode for crate::source::Tokenizer {
    fn encode(&self, text: &str) -> anyhow::Result<Vec<u32>> {
        self.encode(text)
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
    fn date(&self) -> Option<crate::source::Date> {
        self.date()
    }
    fn token(&self, id: u32) -> Option<String> {
        self.token(id)
    }
    fn decode(&self, ids: &[u32]) -> anyhow::Result<String> {
        self.decode(ids, false)
    }
}
