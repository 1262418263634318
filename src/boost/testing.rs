//! What tests of boosters share.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;

use super::dense::DenseParts;
use crate::data::{Batch, DataLoader, Example};
use crate::error::hint_of;
use crate::model::{Adapter, GradRequest, Gradients, Model, ParamId};
use crate::train;

/// Embedding, norms and head.
pub const ALL_PARTS: DenseParts = DenseParts { embedding: true, norms: true, head: true };

/// Examples of which all tokens but the first are supervised.
pub fn examples(sequences: &[&[u32]]) -> Vec<Example> {
    let one = |ids: &&[u32]| Example::new(ids.to_vec(), (0..ids.len()).map(|i| i > 0).collect());
    sequences.iter().map(one).collect()
}

/// Gives these examples, in drawn order.
pub fn feed(examples: Vec<Example>) -> Result<DataLoader> {
    DataLoader::pooled(0, "data", vec![Arc::new(examples)])
}

/// Nats of each supervised token of a batch, and the gradients of their mean.
pub fn gradients(
    model: &Model,
    batch: &Batch,
    adapter: &Adapter,
    full: &BTreeSet<ParamId>,
) -> Result<(Vec<f64>, Gradients)> {
    let tokens = train::tokens(batch);
    let request = GradRequest { adapter, full, gradient_checkpointing: false };
    let weight = 1.0 / batch.supervised() as f64;
    model.gradients(&tokens, &batch.rows, batch.wanted(), weight, &request)
}

/// Message and hint of an error; empty texts where there is none.
pub fn said<T>(result: Result<T>) -> (String, String) {
    let texts = |e: anyhow::Error| (e.to_string(), hint_of(&e).unwrap_or_default().to_owned());
    result.err().map(texts).unwrap_or_default()
}
