//! Data: files to items, items to token sequences, sequences to batches.
//!
//! In reading order: [`formats`] reads a file into [`item`]s, [`task`] puts files into splits,
//! [`template`] words an item, [`chat`] and [`turns`] a conversation, [`encode`], [`choices`] and
//! [`questions`] turn it into tokens for training, for scoring and for generating ([`continuation`]
//! says where a prompt ends and its answer begins), [`cursor`] says which example comes next and
//! [`feed`] gives it, [`batch`] lays examples end to end. Nothing here pads, and whatever is cut or
//! left out is counted in a report.

pub mod advice;
pub mod ask;
pub mod batch;
pub mod chat;
pub mod choices;
pub mod continuation;
pub mod cursor;
pub mod encode;
pub mod example;
pub mod feed;
pub mod formats;
pub mod inspect;
pub mod item;
mod jinja;
pub mod labelled;
pub mod loss;
pub mod mapping;
pub mod masked;
pub mod mmlu;
pub mod published;
pub mod questions;
mod rows;
pub mod shots;
pub mod talks;
pub mod task;
pub mod template;
pub mod tokenizer;
pub mod turns;

pub use batch::Batch;
pub use choices::{ChoiceItem, ChoiceReport, encode_choices};
pub use continuation::Joined;
pub use cursor::{Cursor, CursorState};
pub use encode::{EncodeOptions, Encoded, encode_one, encode_train};
pub use example::{Example, Labelled, Wanted};
pub use feed::{DataLoader, DataLoaderState, Examples};
pub use formats::Layout;
pub use item::Item;
pub use labelled::{HeadTask, Says, encode_labelled, encode_labelled_one};
pub use loss::LossOn;
pub use mapping::Mapping;
pub use masked::{Masked, Masking, encode_masked};
pub use published::Published;
pub use questions::{GenerationItem, encode_questions};
pub use shots::ShotOptions;
pub use task::{Dataset, Split};
pub use template::Template;
pub use tokenizer::{Encode, opened};
