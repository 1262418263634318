//! Fine-tuning of language models by gradient boosting, driven by scripts.
//!
//! The crate's table of contents, lowest first; a module knows only those above it, as
//! docs/architecture.md lists and a test checks.
//!
//! Recipes run as `xgbrun RECIPE`; [`session`] is the same for Rust. A recipe's loop:
//!
//! ```
//! use xgbrun::data::Split;
//! use xgbrun::session::{BoosterOptions, DataOptions, LoadOptions, Session, Settings};
//! use xgbrun::train::{FitOptions, optim::AdamW};
//!
//! # fn main() -> anyhow::Result<()> {
//! # let home = tempfile::tempdir()?;
//! # let settings = Settings { out: Some(home.path().join("run")), ..Settings::default() };
//! let session = Session::new(settings);
//! let model = session.load("builtin:micro", &LoadOptions::default())?;
//! let task = session.data("builtin:microworld/piqa", &DataOptions::default())?;
//! let (train, layers) = (task.split(Split::Train)?, session.sampler("layers")?);
//! for _round in 0..2 {
//!     let chosen = layers.choose(model.layers().len(), 2)?;
//!     let booster = model.booster(&BoosterOptions::low_rank(chosen, 1))?;
//!     booster.fit(&train, &FitOptions::new(4, AdamW::default(), 1e-3))?;
//!     model.merge(&booster, 1.0)?;
//! }
//! # assert_eq!(model.round(), 2);
//! println!("{}", session.finish()?.weights_digest.unwrap_or_default());
//! # Ok(())
//! # }
//! ```
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

pub mod ops;

pub mod data;

pub mod model;

pub mod eval;
pub mod train;

pub mod boost;

pub mod session;

pub mod host;

pub mod cli;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;
