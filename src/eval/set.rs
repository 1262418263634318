//! Measuring a set by what its items were encoded for.

use anyhow::Result;
use serde_json::{Map, Value};

use super::generate::Decode;
use super::protocol::{self, Protocol};
use super::{choices, labelled, nll};
use crate::data::{ChoiceItem, Example, GenerationItem, HeadTask};
use crate::model::cost::Work;
use crate::model::meta::Assume;
use crate::model::{Adapter, Model};

/// Items that are encoded and ready to be measured.
#[derive(Clone, Copy)]
pub enum EncodedSet<'a> {
    /// By [`Protocol::Choices`].
    Choices(&'a [ChoiceItem]),
    /// By [`Protocol::LlmAdapters`].
    Questions(&'a [GenerationItem], &'a dyn Decode),
    /// By [`Protocol::Likelihood`].
    Sequences(&'a [Example]),
    /// By [`Protocol::Head`].
    Labelled(&'a [Example], &'a HeadTask),
}

/// What a model said to an item, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// The right choice.
    pub label: usize,
    /// None: the text names none of the item's choices.
    pub predicted: Option<usize>,
    /// What was generated, where a text was.
    pub text: Option<String>,
}

/// What a set gave.
#[derive(Clone, Debug)]
pub struct Measured {
    /// As they are recorded, `protocol` first.
    pub metrics: Map<String, Value>,
    /// Tokens that went through the network; of generated texts those of the texts alone, not of
    /// other beams.
    pub tokens: usize,
    /// Of every item with choices, in order.
    pub predictions: Vec<Prediction>,
    /// Of every item, in order: the log-likelihood of each choice; what a head says; of a sequence
    /// its mean negative log-likelihood and how many tokens that is of; nothing of generated texts.
    pub scores: Vec<Vec<f64>>,
}

impl EncodedSet<'_> {
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Choices(_) => Protocol::Choices,
            Self::Questions(..) => Protocol::LlmAdapters,
            Self::Sequences(_) => Protocol::Likelihood,
            Self::Labelled(..) => Protocol::Head,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Choices(items) => items.len(),
            Self::Questions(items, _) => items.len(),
            Self::Sequences(examples) | Self::Labelled(examples, _) => examples.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What measuring takes: the work of each pass. Of generated texts, as if each had
    /// [`Protocol::NEW_TOKENS`] tokens.
    pub fn work(&self, model: &Model) -> Result<Vec<Work>> {
        Ok(match *self {
            Self::Choices(items) => choices::work(model, items),
            Self::Sequences(examples) | Self::Labelled(examples, _) => nll::work(examples)?,
            Self::Questions(items, _) => {
                let beams = Protocol::BEAMS;
                let prompt = |item: &GenerationItem| Work {
                    tokens: item.prompt.len(),
                    rows: 1,
                    pairs: item.prompt.len().pow(2) / 2,
                    longest: item.prompt.len().pow(2),
                };
                let step = |item: &GenerationItem| Work {
                    tokens: beams,
                    rows: beams,
                    pairs: beams * (item.prompt.len() + Protocol::NEW_TOKENS / 2),
                    longest: item.prompt.len() + Protocol::NEW_TOKENS,
                };
                // Prompts and steps of several questions share a pass.
                let several = |some: &[GenerationItem]| {
                    let steps = some.iter().map(step).fold(Work::default(), Work::and);
                    std::iter::once(some.iter().map(prompt).fold(Work::default(), Work::and))
                        .chain(std::iter::repeat_n(steps, Protocol::NEW_TOKENS))
                };
                items.chunks(8).flat_map(several).collect()
            }
        })
    }

    /// The metrics of a set that nobody has measured, with the names that measuring it gives: as
    /// good as they can be, or as bad.
    fn assumed(&self, assume: Assume) -> Map<String, Value> {
        let one = if assume == Assume::Best { 1.0 } else { 0.0 };
        let (metrics, count) = match self {
            Self::Sequences(_) => {
                let nll = 10.0 * (1.0 - one);
                (vec![("nll", nll), ("perplexity", f64::exp(nll))], "tokens")
            }
            _ => {
                let metrics = vec![
                    ("accuracy", one),
                    ("accuracy_norm", one),
                    ("majority", 0.5),
                    ("standard_error", 0.0),
                    ("unparsed", 1.0 - one),
                    ("f1", one),
                    ("matthews", one),
                    ("pearson", one),
                    ("spearman", one),
                    ("mse", 1.0 - one),
                ];
                (metrics, "items")
            }
        };
        let mut out = Map::from_iter([("protocol".to_owned(), self.protocol().name().into())]);
        out.extend(metrics.into_iter().map(|(name, value)| (name.to_owned(), value.into())));
        out.insert(count.into(), self.len().into());
        out
    }

    /// Measures all of it; `progress` hears how many are done and may end it with an error. A model
    /// without numbers gives metrics that are assumed.
    pub fn measure(
        &self,
        model: &Model,
        adapter: &Adapter,
        progress: impl FnMut(usize) -> Result<()>,
    ) -> Result<Measured> {
        if let Some(assume) = model.assume() {
            let metrics = self.assumed(assume);
            return Ok(Measured { metrics, tokens: 0, predictions: vec![], scores: vec![] });
        }
        match *self {
            Self::Choices(items) => protocol::by_choices(model, adapter, items, progress),
            Self::Questions(items, tokenizer) => {
                protocol::by_answers(model, adapter, items, tokenizer, progress)
            }
            Self::Sequences(examples) => {
                protocol::by_likelihood(model, adapter, examples, progress)
            }
            Self::Labelled(examples, task) => {
                labelled::measured(model, adapter, examples, task, progress)
            }
        }
    }
}
