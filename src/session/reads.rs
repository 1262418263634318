//! What a model reads: which examples a set gives it.

use std::sync::Arc;

use crate::data::{HeadTask, Says};
use crate::error::error;
use crate::model::{self, HeadConfig, Pooled, SequenceConfig};
use crate::source::Tokenizer;

/// What a model reads: its tokens, and what its head asks of items.
pub struct Reads {
    pub tokenizer: Arc<Tokenizer>,
    pub head: HeadReads,
}

/// What a head asks of items.
pub enum HeadReads {
    /// The next token.
    Next,
    /// A label, a number or a choice of whole sequences.
    Task(HeadTask),
    /// Nothing, so that nothing can be learnt or measured; why.
    Nothing(&'static str),
}

impl Reads {
    pub fn of(network: &model::Model, tokenizer: &Arc<Tokenizer>) -> Self {
        let head = match (head_task(network), &network.config().head) {
            (Some(task), _) => HeadReads::Task(task),
            (None, HeadConfig::CausalLm) => HeadReads::Next,
            (None, HeadConfig::MaskedLm) => {
                HeadReads::Nothing("the model predicts masked tokens, of which no set is made here")
            }
            (None, _) => HeadReads::Nothing("the model has no head"),
        };
        Self { tokenizer: tokenizer.clone(), head }
    }

    /// What its head says of whole sequences, if it does. Errors (class usage): it says nothing
    /// that a set could ask for.
    pub fn task(&self) -> anyhow::Result<Option<&HeadTask>> {
        match &self.head {
            HeadReads::Next => Ok(None),
            HeadReads::Task(task) => Ok(Some(task)),
            HeadReads::Nothing(why) => Err(error!(
                Usage,
                "{why}";
                hint: "`model.head(#{{ labels: [\"no\", \"yes\"] }})` gives it one"
            )
            .into()),
        }
    }

    /// Errors (class usage) unless the model says what token comes next; `what` needs it.
    pub fn next(&self, what: &str) -> anyhow::Result<()> {
        match self.head {
            HeadReads::Next => Ok(()),
            _ => Err(error!(
                Usage,
                "{what} needs a language model, and this model does not predict next tokens"
            )
            .into()),
        }
    }
}

/// What a model's head says, where it says something of whole sequences.
pub(super) fn head_task(network: &model::Model) -> Option<HeadTask> {
    let says = match &network.config().head {
        HeadConfig::Sequence(SequenceConfig::Classes(labels)) => Says::Class(labels.clone()),
        HeadConfig::Sequence(SequenceConfig::Regression) => Says::Number,
        HeadConfig::MultipleChoice => Says::Choice,
        HeadConfig::CausalLm | HeadConfig::MaskedLm | HeadConfig::Base => return None,
    };
    Some(HeadTask { says, last: network.pooled() == Some(Pooled::Last) })
}
