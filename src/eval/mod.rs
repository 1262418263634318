//! Measuring a model: choices by their likelihood, mean NLL, greedy generation.

pub mod choices;
pub mod generate;
pub mod nll;
pub mod set;

pub use set::{Encoded, Measured};

/// Tokens that go through the network at a time.
const BATCH_TOKENS: usize = 1024;
