//! Generation with a key-value cache, many prompts at a time: greedy, by beam search or by
//! sampling.
//!
//! What is generated after a prompt does not depend on the prompts beside it.

mod batch;
mod beams;
mod following;
mod likeliest;
mod sample;
mod stops;

use anyhow::Result;
pub use following::Behind;
pub use stops::{Rules, Stops};

use crate::error::bail;
use crate::model::{Adapter, Model};
use crate::source::Tokenizer;

/// How texts are generated.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The most tokens after the prompt.
    pub max_tokens: usize,
    /// Width of the beam search; 1 is greedy.
    pub beams: usize,
    /// Divides the logits before a token is drawn; None: the likeliest token is taken.
    pub temperature: Option<f64>,
    /// Only the so many likeliest tokens are drawn from.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that make up this probability are drawn from.
    pub top_p: Option<f64>,
    /// A text ends before any of these. One that is a special token ends it by its id.
    pub stop: Vec<String>,
    /// Of the sampling; every prompt has a stream of its own.
    pub seed: u64,
}

impl Default for Generation {
    /// 32 tokens, greedy.
    fn default() -> Self {
        Self {
            max_tokens: 32,
            beams: 1,
            temperature: None,
            top_k: None,
            top_p: None,
            stop: vec![],
            seed: 0,
        }
    }
}

impl Generation {
    /// Each beam has keys and values of its own.
    pub const MOST_BEAMS: usize = 1024;

    /// Errors (class usage): values out of range, and options that would be without effect.
    pub fn check(&self) -> Result<()> {
        if !(1..=Self::MOST_BEAMS).contains(&self.beams) {
            bail!(Usage, "`beams` must be from 1 to {}, found {}", Self::MOST_BEAMS, self.beams);
        }
        if self.stop.iter().any(String::is_empty) {
            bail!(Usage, "a text in `stop` is empty: nothing would be generated");
        }
        let Some(temperature) = self.temperature else {
            if let Some(name) = self.top_k.map(|_| "top_k").or(self.top_p.map(|_| "top_p")) {
                bail!(Usage, "`{name}` is for sampling, which wants a `temperature`");
            }
            return Ok(());
        };
        self.check_sampling(temperature)
    }

    fn check_sampling(&self, temperature: f64) -> Result<()> {
        if !(1e-3..=1e3).contains(&temperature) {
            bail!(
                Usage,
                "`temperature` must be from 0.001 to 1000, found {temperature}";
                hint: "leave it out to take the likeliest token"
            );
        }
        if self.beams > 1 {
            bail!(
                Usage,
                "`beams` above 1 search for the likeliest text; they cannot be sampled with a \
                 `temperature`"
            );
        }
        if self.top_k == Some(0) {
            bail!(Usage, "`top_k` must be 1 at least");
        }
        if let Some(p) = self.top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
            bail!(Usage, "`top_p` must be above 0 and at most 1, found {p}");
        }
        Ok(())
    }
}

/// What generation asks of a tokenizer.
pub trait Decode {
    /// The text of tokens, special ones left out.
    fn decode(&self, ids: &[u32]) -> Result<String>;
    /// The special tokens, as they are written, with their ids.
    fn special(&self) -> Vec<(String, u32)>;
}

impl Decode for Tokenizer {
    fn decode(&self, ids: &[u32]) -> Result<String> {
        self.decode(ids, true)
    }
    fn special(&self) -> Vec<(String, u32)> {
        self.special_tokens()
    }
}

/// What followed a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generated {
    /// The tokens, without the one that ended them.
    pub ids: Vec<u32>,
    /// Their text as it follows that of the prompt, cut before a stop text.
    pub text: String,
}

/// What follows each of `prompts`. A text ends with an end token of the model's config (what its
/// generation config names, see [`crate::model::ends`]) or a stop that is a special token, before a
/// stop text, or after `max_tokens`. `progress` hears after every pass how many prompts are done
/// and may end it with an error.
///
/// After a model without numbers nothing follows.
///
/// Beam search is that of Hugging Face transformers with `early_stopping` false and
/// `length_penalty` 1.
///
/// Errors: options out of range, a stop that cannot be met, an empty prompt, more tokens than the
/// model sees (class usage); a token beyond the vocabulary (class data); likelihoods that are no
/// numbers (class run).
pub fn generate(
    model: &Model,
    adapter: &Adapter,
    prompts: &[Vec<u32>],
    tokenizer: &dyn Decode,
    how: &Generation,
    progress: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<Generated>> {
    how.check()?;
    let stops = Stops::of(&how.stop, tokenizer)?;
    let mut ends = model.config().eos_token_ids.clone();
    ends.extend(&stops.ids);
    ends.sort_unstable();
    ends.dedup();
    if model.is_meta() {
        return Ok(vec![Generated::default(); prompts.len()]);
    }
    let rules = Rules { how, ends: &ends, stops: &stops, tokenizer };
    let out = batch::run(model, adapter, prompts, &rules, progress)?;
    let told = |(prompt, ids): (&Vec<u32>, Vec<u32>)| {
        let mut text = Behind::of(prompt, tokenizer)?.following(&ids, tokenizer)?;
        if let Some(end) = stops.find(&text) {
            text.truncate(end);
        }
        Ok(Generated { ids, text })
    };
    prompts.iter().zip(out).map(told).collect()
}

#[cfg(test)]
mod tests;
