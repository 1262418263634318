//! Texts that a model generated on the way, for people to read.

use serde::{Deserialize, Serialize};

/// What followed a prompt in some round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Boosters merged when it was made.
    pub round: usize,
    /// The model, in the order in which the recipe made models; left out of the first.
    #[serde(default, skip_serializing_if = "is_first")]
    pub model: usize,
    pub prompt: String,
    pub text: String,
}

fn is_first(model: &usize) -> bool {
    *model == 0
}
