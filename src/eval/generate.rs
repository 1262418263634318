//! Greedy generation with a key-value cache.

use anyhow::Result;
use candle_transformers::generation::{LogitsProcessor, Sampling};

use crate::bail_usage;
use crate::model::{Model, Overlay};

/// Up to `most` tokens after `prompt`, each the likeliest; it ends before a token of `stop`. `each`
/// is called after every token and may end it with an error.
///
/// Errors: an empty prompt, a token beyond the vocabulary.
pub fn greedy(
    model: &Model,
    overlay: &Overlay,
    prompt: &[u32],
    most: usize,
    stop: &[u32],
    mut each: impl FnMut() -> Result<()>,
) -> Result<Vec<u32>> {
    if prompt.is_empty() {
        bail_usage!("cannot generate from an empty prompt");
    }
    let mut choose = LogitsProcessor::from_sampling(0, Sampling::ArgMax);
    let mut caches = model.caches(prompt.len() + most);
    let mut out = Vec::new();
    let mut next = prompt.to_vec();
    while out.len() < most {
        let token = choose.sample(&model.step(&next, &mut caches, overlay)?.squeeze(0)?)?;
        if stop.contains(&token) {
            break;
        }
        out.push(token);
        each()?;
        next = vec![token];
    }
    Ok(out)
}
