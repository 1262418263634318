//! Data: files to items, items to token sequences, sequences to batches.
//!
//! In reading order: [`formats`] reads a file into [`item`]s, [`task`] puts files into splits,
//! [`template`] words an item, [`encode`] and [`choices`] turn it into tokens for training and for
//! scoring, [`cursor`] says which example comes next, [`batch`] lays examples end to end.
//! Nothing here pads, and whatever is cut or left out is counted in a report.

pub mod batch;
pub mod choices;
pub mod cursor;
pub mod encode;
pub mod formats;
pub mod item;
pub mod task;
pub mod template;
