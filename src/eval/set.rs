//! Measuring a set by what its items are: by accuracy where they name choices, else by mean NLL.

use anyhow::Result;
use serde_json::{Map, Value};

use super::{choices, nll};
use crate::data::{ChoiceItem, Example};
use crate::model::{Model, Overlay};

/// Items that are encoded and ready to be measured.
#[derive(Clone, Copy, Debug)]
pub enum Encoded<'a> {
    Choices(&'a [ChoiceItem]),
    Sequences(&'a [Example]),
}

/// What a set gave.
#[derive(Clone, Debug)]
pub struct Measured {
    pub metrics: Map<String, Value>,
    /// Tokens that went through the network.
    pub tokens: usize,
}

impl Encoded<'_> {
    pub fn len(&self) -> usize {
        match self {
            Self::Choices(items) => items.len(),
            Self::Sequences(examples) => examples.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Measures all of it; `progress` hears how many are done and may end it with an error.
    pub fn measure(&self, model: &Model, overlay: &Overlay, progress: impl FnMut(usize) -> Result<()>) -> Result<Measured> {
        Ok(match self {
            Self::Choices(items) => {
                let scores = choices::score(model, overlay, items, progress)?;
                Measured { metrics: scores.metrics(), tokens: scores.tokens }
            }
            Self::Sequences(examples) => {
                let nll = nll::mean(model, overlay, examples, progress)?;
                Measured { metrics: nll.metrics(), tokens: nll.tokens }
            }
        })
    }
}
