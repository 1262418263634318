//! Fine-tuning of language models by gradient boosting, driven by scripts.
//!
//! The crate's table of contents, lowest first; a module knows only those above it, as
//! docs/architecture.md lists and a test checks.
//!
//! Letters used for shapes everywhere: N tokens, S supervised rows, D width, F feed-forward width,
//! H query heads, G key-value heads, E head width, R rank, V vocabulary, L layers.

#![cfg_attr(not(test), deny(clippy::expect_used, clippy::unwrap_used))]

pub mod error;
pub mod seed;
pub mod sys;

pub mod device;
pub mod io;
pub mod memory;

pub mod builtin;

pub mod run;
pub mod source;

pub mod data;
pub mod ops;

pub mod model;

pub mod eval;
pub mod train;

pub mod boost;

pub mod session;

pub mod host;

pub mod cli;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;
