//! Inputs that people have: each gives the numbers of transformers, peft, gguf or
//! lm-evaluation-harness, or is refused in words that name what it is.
//!
//! A module a kind. `../shared/cases` holds inputs with their answers; the scripts beside this file
//! make more of the same kinds in the peer environment, with the answers computed there.

#[path = "../common/mod.rs"]
mod common;

mod adapters;
mod configs;
mod conversations;
mod data_files;
mod generation;
mod gguf;
mod harness;
mod records;
mod runs;
mod tokenizers;
mod tokens;
mod weights;
