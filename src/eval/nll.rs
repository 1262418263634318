//! Mean negative log-likelihood of the supervised tokens of a set.

use anyhow::Result;

use super::BATCH_TOKENS;
use crate::data::{Batch, Example};
use crate::model::cost::Work;
use crate::model::{Adapter, Model, Tokens};

/// The mean over all supervised tokens, in nats a token.
#[derive(Clone, Debug, PartialEq)]
pub struct Nll {
    pub mean: f64,
    /// Supervised tokens.
    pub supervised: usize,
    /// Tokens that went through the network.
    pub tokens: usize,
    /// Of each example the mean, and how many tokens that is of.
    pub by_example: Vec<Vec<f64>>,
}

/// Measures all examples; `progress` hears how many are done and may end it with an error.
/// Errors where the likelihood is no number.
pub fn mean(
    model: &Model,
    adapter: &Adapter,
    examples: &[Example],
    mut progress: impl FnMut(usize) -> Result<()>,
) -> Result<Nll> {
    let (mut sum, mut supervised, mut tokens) = (0.0, 0, 0);
    let (mut end, mut by_example) = (0, vec![]);
    for some in batches(examples) {
        end += some.len();
        let batch = Batch::pack(&some.iter().collect::<Vec<_>>())?;
        tokens += batch.ids.len();
        supervised += batch.supervised();
        let nll = model.nll(&flat(&batch), &batch.rows, batch.wanted(), adapter)?;
        sum += nll.iter().sum::<f64>();
        by_example.extend(by_examples(some, &nll));
        progress(end)?;
    }
    super::finite(sum)?;
    Ok(Nll { mean: sum / supervised as f64, supervised, tokens, by_example })
}

/// The mean of each example's own, and of how many.
fn by_examples<'a>(
    examples: &'a [Example],
    mut nll: &'a [f64],
) -> impl Iterator<Item = Vec<f64>> + 'a {
    examples.iter().map(move |example| {
        let count = match &example.labelled {
            Some(labelled) => labelled.rows.len(),
            None => example.supervised.iter().skip(1).filter(|counts| **counts).count(),
        };
        let (own, rest) = nll.split_at(count.min(nll.len()));
        nll = rest;
        vec![own.iter().sum::<f64>() / own.len().max(1) as f64, own.len() as f64]
    })
}

/// The examples in batches of about [`BATCH_TOKENS`].
pub(super) fn batches(examples: &[Example]) -> impl Iterator<Item = &[Example]> {
    let mut left = examples;
    std::iter::from_fn(move || {
        let (mut count, mut size) = (0, 0);
        while count < left.len() && (count == 0 || size < BATCH_TOKENS) {
            size += left[count].ids.len();
            count += 1;
        }
        let (some, rest) = left.split_at(count);
        left = rest;
        Some(some).filter(|some| !some.is_empty())
    })
}

/// The tokens of a batch.
pub(super) fn flat(batch: &Batch) -> Tokens {
    Tokens::sequences(batch.ids.clone(), &batch.starts).typed(batch.types.clone())
}

/// What measuring them takes: the work of each batch.
pub fn work(examples: &[Example]) -> Result<Vec<Work>> {
    let one = |some: &[Example]| {
        let batch = Batch::pack(&some.iter().collect::<Vec<_>>())?;
        Ok(Work::of(&flat(&batch), batch.rows.len()))
    };
    batches(examples).map(one).collect()
}
