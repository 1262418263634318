//! Measuring a set by what its items were encoded for.

use anyhow::Result;
use serde_json::{Map, Value};

use super::generate::Decode;
use super::protocol::{self, Protocol};
use crate::data::{ChoiceItem, Example, GenerationItem};
use crate::model::{Model, Overlay};

/// Items that are encoded and ready to be measured.
#[derive(Clone, Copy)]
pub enum Encoded<'a> {
    /// By [`Protocol::Choices`].
    Choices(&'a [ChoiceItem]),
    /// By [`Protocol::LlmAdapters`].
    Questions(&'a [GenerationItem], &'a dyn Decode),
    /// By [`Protocol::Likelihood`].
    Sequences(&'a [Example]),
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
    /// Tokens that went through the network; of generated texts those of the texts alone, not of other beams.
    pub tokens: usize,
    /// Of every item with choices, in order.
    pub predictions: Vec<Prediction>,
}

impl Encoded<'_> {
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Choices(_) => Protocol::Choices,
            Self::Questions(..) => Protocol::LlmAdapters,
            Self::Sequences(_) => Protocol::Likelihood,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Choices(items) => items.len(),
            Self::Questions(items, _) => items.len(),
            Self::Sequences(examples) => examples.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Measures all of it; `progress` hears how many are done and may end it with an error.
    pub fn measure(&self, model: &Model, overlay: &Overlay, progress: impl FnMut(usize) -> Result<()>) -> Result<Measured> {
        match *self {
            Self::Choices(items) => protocol::by_choices(model, overlay, items, progress),
            Self::Questions(items, tokenizer) => protocol::by_answers(model, overlay, items, tokenizer, progress),
            Self::Sequences(examples) => protocol::by_likelihood(model, overlay, examples, progress),
        }
    }
}
