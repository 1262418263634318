//! Which tokens the loss is taken on.

use anyhow::Result;

use crate::error::{did_you_mean, error};

/// Which tokens of an instruction item the loss is taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossOn {
    /// Prompt and answer.
    All,
    /// The answer, with the end-of-sequence token after it.
    Answer,
}

impl LossOn {
    /// By name, `all` or `answer`; another is a usage error with the nearest.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "all" => Ok(LossOn::All),
            "answer" => Ok(LossOn::Answer),
            _ => {
                let near = did_you_mean(name, ["all", "answer"]);
                Err(error!(
                    Usage,
                    "the loss cannot be on `{name}`{near}";
                    hint: "it is on `all` or on `answer`"
                )
                .into())
            }
        }
    }
}
