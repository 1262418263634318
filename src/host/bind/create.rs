//! `model::create`: a model from nothing, with a tokenizer of its own.

use anyhow::Result;
use rhai::{Array, Map};

use super::model::Model;
use super::set::Set;
use crate::data::Item;
use crate::error::Error;
use crate::host::context::Host;
use crate::host::door::Making;
use crate::host::options::Options;
use crate::model::arch::llama::{Config, Sizes};
use crate::model::arch::{self, Architecture};
use crate::model::create::create;
use crate::model::load::Extras;
use crate::model::meta;
use crate::run::CREATED;
use crate::seed::Stream;
use crate::source::Tokenizer;

/// Reads the sizes. Errors (class usage): one that is missing or not a whole number above 0.
fn sizes(map: Map) -> Result<Sizes, Error> {
    const KEYS: [&str; 8] = [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "max_position_embeddings",
    ];
    let mut o = Options::new("model::create", map, &KEYS)?;
    let mut take = |key: &str, default: Option<usize>| {
        let value: usize = match default {
            Some(default) => o.take_or(key, default)?,
            None => o.take(key)?,
        };
        let (most, what) = if key == "num_hidden_layers" {
            (1024, "from 1 to 1024")
        } else {
            (1 << 20, "from 1 to 1048576")
        };
        o.check(key, (1..=most).contains(&value), what, value)?;
        Ok::<_, Error>(value)
    };
    let (width, layers, heads) = (
        take("hidden_size", None)?,
        take("num_hidden_layers", None)?,
        take("num_attention_heads", None)?,
    );
    Ok(Sizes {
        hidden_size: width,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        intermediate_size: take("intermediate_size", Some(4 * width))?,
        num_key_value_heads: take("num_key_value_heads", Some(heads))?,
        head_dim: take("head_dim", Some(width / heads))?,
        vocab_size: take("vocab_size", None)?,
        max_position_embeddings: take("max_position_embeddings", Some(512))?,
    })
}

/// Makes the model; its tokenizer is trained on the texts of the sets.
pub(super) fn made(host: &Host, options: Map, sets: &Array, making: &mut Making) -> Result<Model> {
    let mut sizes = sizes(options)?;
    let most = host.settings.limits.created;
    host.count_model()?;
    let parameters = arch::params(&Config::new(sizes, 0))?
        .ids()
        .map(|id| id.shape.iter().product::<usize>())
        .sum::<usize>();
    if parameters / 1_000_000 >= most {
        return Err(Error::usage(format!(
            "a model of {parameters} parameters is more than a recipe may make: {most} million"
        ))
        .hint("raise it with `--limit-created N`, in millions")
        .into());
    }
    let wrong = |i: usize| {
        Error::usage(format!(
            "`model::create` takes its words from sets, such as `task.train`; element {i} of its \
             list is none"
        ))
    };
    let sets = sets
        .iter()
        .enumerate()
        .map(|(i, s)| s.clone().try_cast::<Set>().ok_or_else(|| wrong(i)))
        .collect::<Result<Vec<_>, _>>()?;
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
    if texts.is_empty() {
        return Err(Error::usage(
            "`model::create` found no text in its sets to train a tokenizer on",
        )
        .into());
    }
    let tokenizer = Tokenizer::train(texts, sizes.vocab_size)?;
    // Few texts may give fewer tokens than asked for.
    sizes.vocab_size = tokenizer.vocab_size();
    let config = Box::new(Config::new(sizes, tokenizer.eos().unwrap_or_default()));
    let extras = Extras { config: config.to_json(), others: vec![] };
    let (seed, device, dtype) = (host.settings.seed, &host.settings.device, host.settings.dtype);
    let network = match host.outlook() {
        Some(_) => meta::of(config, dtype)?,
        None => create(config, &mut Stream::new(seed, "create"), device, dtype)?,
    };
    let index = match host.outlook() {
        Some(_) => host.with_run(|run| run.note_model(CREATED, ""))?,
        None => {
            let digest = network.digest()?;
            making.effects.insert("the digest of what was made".into(), digest.clone().into());
            host.with_run(|run| run.note_model(CREATED, digest))?
        }
    };
    Ok(Model::new(CREATED, index, network, tokenizer, extras, None))
}
