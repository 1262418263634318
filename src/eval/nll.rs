//! Mean negative log-likelihood of the supervised tokens of a set.

use anyhow::Result;

use super::BATCH_TOKENS;
use crate::data::{Batch, Example};
use crate::model::{Model, Overlay, Tokens};

/// The mean over all supervised tokens, in nats a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nll {
    pub mean: f64,
    /// Supervised tokens.
    pub supervised: usize,
    /// Tokens that went through the network.
    pub tokens: usize,
}

/// Measures all examples; `progress` hears how many are done and may end it with an error.
/// Errors where the likelihood is no number.
pub fn mean(model: &Model, overlay: &Overlay, examples: &[Example], mut progress: impl FnMut(usize) -> Result<()>) -> Result<Nll> {
    let (mut sum, mut supervised, mut tokens) = (0.0, 0, 0);
    let mut start = 0;
    while start < examples.len() {
        let (mut end, mut size) = (start, 0);
        while end < examples.len() && (end == start || size < BATCH_TOKENS) {
            size += examples[end].ids.len();
            end += 1;
        }
        let batch = Batch::pack(&examples[start..end].iter().collect::<Vec<_>>())?;
        tokens += batch.ids.len();
        supervised += batch.rows.len();
        let flat = Tokens::sequences(batch.ids, &batch.starts);
        sum += model.nll(&flat, &batch.rows, &batch.targets, overlay)?.iter().sum::<f64>();
        start = end;
        progress(end)?;
    }
    super::finite(sum)?;
    Ok(Nll { mean: sum / supervised as f64, supervised, tokens })
}
