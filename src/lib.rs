//! Fine-tuning of language models by gradient boosting, driven by scripts.
//!
//! The crate's table of contents, lowest first; a module knows only those above it, as
//! docs/architecture.md lists and a test checks.
//!
//! Letters used for shapes everywhere: N tokens, S supervised rows, D width, F feed-forward width,
//! H query heads, G key-value heads, E head width, R rank, V vocabulary, L layers.

pub mod device;
pub mod error;
pub mod memory;
pub mod seed;

pub mod builtin;

pub mod run;
pub mod source;

pub mod data;
pub mod ops;

pub mod model;

pub mod eval;
pub mod train;

pub mod boost;

pub mod host;

pub mod cli;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;
