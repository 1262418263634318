//! A model from nothing, with a tokenizer of its own.

use anyhow::Result;

use super::Session;
use super::model::Model;
use super::set::Set;
use crate::data::Item;
use crate::error::{bail, error};
use crate::model::arch::llama::{Config, Sizes};
use crate::model::arch::{self, Architecture};
use crate::model::create::create;
use crate::model::load::{Extras, Loaded};
use crate::model::meta;
use crate::run::CREATED;
use crate::seed::Stream;
use crate::source::Tokenizer;

/// The most layers, and the most of any other size.
pub const MOST_LAYERS: usize = 1024;

impl Session {
    /// Makes a new model with random weights: a Llama whose embedding is its head. Its tokenizer,
    /// byte-level BPE, is trained on the texts of `sets`; few texts may give fewer tokens than
    /// `sizes.vocab_size`.
    pub fn create(&self, mut sizes: Sizes, sets: &[Set]) -> Result<Model> {
        self.count_model()?;
        self.check_created(&sizes)?;
        let texts = texts(sets)?;
        if texts.is_empty() {
            bail!(Usage, "`model::create` found no text in its sets to train a tokenizer on");
        }
        let tokenizer = Tokenizer::train(texts, sizes.vocab_size)?;
        sizes.vocab_size = tokenizer.vocab_size();
        let config = Box::new(Config::new(sizes, tokenizer.eos().unwrap_or_default()));
        let extras = Extras { config: config.to_json(), others: vec![] };
        let (seed, device, dtype) =
            (self.settings.seed, &self.settings.device, self.settings.dtype);
        let network = match self.assume() {
            Some(assume) => meta::of(config, dtype, assume)?,
            None => create(config, &mut Stream::new(seed, "create"), device, dtype)?,
        };
        let digest = network.digest()?;
        self.call.tell("the digest of what was made", digest.clone());
        let index = self.run.begun(|run| run.note_model(CREATED, digest))?;
        let loaded = Loaded { model: network, tokenizer, extras, notes: vec![] };
        let model = self.add_model(CREATED, index, loaded, None);
        self.opened(&model)?;
        Ok(model)
    }

    /// Errors (class usage): more parameters than a recipe may make.
    fn check_created(&self, sizes: &Sizes) -> Result<()> {
        let most = self.settings.limits.created;
        let parameters = arch::params(&Config::new(*sizes, 0))?
            .ids()
            .map(|id| id.shape.iter().product::<usize>())
            .sum::<usize>();
        if parameters / 1_000_000 < most {
            return Ok(());
        }
        Err(error!(
            Usage,
            "a model of {parameters} parameters is more than a recipe may make: {most} million";
            hint: "raise it with `--limit-created N`, in millions"
        )
        .into())
    }
}

/// All texts of the sets.
fn texts(sets: &[Set]) -> Result<Vec<String>> {
    let mut texts = vec![];
    for part in sets.iter().flat_map(Set::parts) {
        for item in part.items(None)?.iter() {
            match item {
                Item::Text(document) => texts.push(document.text.clone()),
                Item::Instruction(i) => {
                    texts.push(format!("{} {} {}", i.instruction, i.input, i.answer_text))
                }
                Item::Chat(chat) => {
                    texts.extend(chat.messages.iter().map(|message| message.content().to_owned()));
                    texts.extend(chat.worded.iter().flatten().map(|piece| piece.text.clone()));
                }
                Item::Row(_) | Item::Tokens(_) => {}
            }
        }
    }
    Ok(texts)
}
