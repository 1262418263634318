//! What a model reads: which examples a set gives it.

use std::sync::Arc;

use crate::data::{
    Encode, EncodeOptions, Encoded, Example, HeadTask, Item, Masking, Says, Template,
    encode_labelled, encode_labelled_one, encode_masked, encode_one, encode_train,
};
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
    /// Tokens that are masked.
    Masked,
    /// Nothing, so that nothing can be learnt or measured.
    Nothing,
}

impl Reads {
    pub fn of(network: &model::Model, tokenizer: &Arc<Tokenizer>) -> Self {
        let head = match (head_task(network), &network.config().head) {
            (Some(task), _) => HeadReads::Task(task),
            (None, HeadConfig::CausalLm) => HeadReads::Next,
            (None, HeadConfig::MaskedLm) => HeadReads::Masked,
            (None, _) => HeadReads::Nothing,
        };
        Self { tokenizer: tokenizer.clone(), head }
    }

    /// What its head says of whole sequences, if it does. Errors (class usage): it says nothing
    /// that a set could ask for.
    pub fn task(&self) -> anyhow::Result<Option<&HeadTask>> {
        match &self.head {
            HeadReads::Next | HeadReads::Masked => Ok(None),
            HeadReads::Task(task) => Ok(Some(task)),
            HeadReads::Nothing => Err(error!(
                Usage,
                "the model has no head";
                hint: "`model.head(#{{ labels: [\"no\", \"yes\"] }})` gives it one"
            )
            .into()),
        }
    }

    /// How tokens are masked, where its head says those. Errors (class data): a tokenizer without a
    /// mask.
    pub fn masking(&self) -> anyhow::Result<Option<Masking>> {
        match self.head {
            HeadReads::Masked => Masking::of(self.tokenizer.as_ref()).map(Some),
            _ => Ok(None),
        }
    }

    /// Items as the head reads them.
    pub fn encode(
        &self,
        items: &[Item],
        tokenizer: &dyn Encode,
        (template, options): (Template, &EncodeOptions),
    ) -> anyhow::Result<Encoded> {
        match (&self.head, self.task()?) {
            (HeadReads::Masked, _) => encode_masked(items, tokenizer, options),
            (_, Some(head)) => encode_labelled(items, template, tokenizer, head, options),
            (_, None) => encode_train(items, template, tokenizer, options),
        }
    }

    /// One item; `None` where nothing in it is to be learnt.
    pub fn encode_one(
        &self,
        item: &Item,
        (template, options): (Template, &EncodeOptions),
    ) -> anyhow::Result<Option<Example>> {
        let tokenizer = self.tokenizer.as_ref();
        match (&self.head, self.task()?) {
            (HeadReads::Masked, _) => {
                let one = encode_masked(std::slice::from_ref(item), tokenizer, options)?;
                Ok(one.examples.into_iter().next())
            }
            (_, Some(head)) => encode_labelled_one(item, template, tokenizer, head, options),
            (_, None) => encode_one(item, template, tokenizer, options),
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
