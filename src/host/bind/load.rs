//! `model::…`: where models come from.

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map, NativeCallContext};

use super::values::{arguments, placed, to_journal};
use super::{Answer, refuse};
use crate::error::{Error, error};
use crate::host::context::host;
use crate::host::journaled::journaled;
use crate::host::options::Options;
use crate::model::MergeMode;
use crate::model::arch::llama::Sizes;
use crate::session::{LoadOptions, MOST_LAYERS, Model, Set};
use crate::source::Date;

/// Options of `model::load`, and of `model::from_run`.
pub(super) const LOAD: [&str; 3] = ["merge_mode", "pre_tokenizer", "date"];
pub(super) const FROM_RUN: [&str; 2] = ["base", "date"];

#[export_module]
pub(super) mod module {
    /// Loads the model called `name`: `builtin:micro`, a Hugging Face folder, a GGUF file or a hub
    /// id (`owner/name@revision`), as `-p` gave it on the command line.
    ///
    /// # Example
    /// ```rhai,no_run
    /// let model = model::load(p.model);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn load(context: NativeCallContext, name: &str) -> Answer<Model> {
        load_with(context, name, Map::new())
    }

    /// Loads a model. Options: `merge_mode` ("exact": 16-bit weights are the sum of base and
    /// boosters, rounded once; "naive": each merge is rounded into them, as is common practice,
    /// which loses most of small updates; "none": weights stay as they are, and factors of low rank
    /// are stacked beside them, or their sum where that is smaller; exact), `pre_tokenizer` (how a
    /// GGUF file's tokenizer splits texts, by llama.cpp's name: "llama-bpe", "qwen2", "gpt-2", …,
    /// in place of what the file states; as the file says), `date` (the day that a chat template
    /// writes where it asks for today's, as "2026-01-31"; none).
    ///
    /// # Example
    /// ```rhai,no_run
    /// let model = model::load(p.model, #{ merge_mode: "naive" });
    /// ```
    #[rhai_fn(name = "load", return_raw)]
    pub fn load_with(context: NativeCallContext, name: &str, options: Map) -> Answer<Model> {
        placed(&context, loaded(&context, name, options))
    }

    /// The model of an earlier run, which `-p` gave as its folder: its base with all its boosters,
    /// to be evaluated, taken back or boosted further. The base is loaded by the name in the run's
    /// `run.json`, which must be `builtin:` or given by `-p` as well.
    ///
    /// # Example
    /// ```rhai,no_run
    /// let model = model::from_run(p.run);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn from_run(context: NativeCallContext, path: &str) -> Answer<Model> {
        from_run_with(context, path, Map::new())
    }

    /// The model of an earlier run. Options: `base` (where the model lies that the run began with,
    /// as `-p` gave it; by the name in `run.json`, or where it lay then), `date` (as in
    /// `model::load`; none). The base's weights have to be those that the run began with.
    ///
    /// # Example
    /// ```rhai,no_run
    /// let model = model::from_run(p.run, #{ base: p.base });
    /// ```
    #[rhai_fn(name = "from_run", return_raw)]
    pub fn from_run_with(context: NativeCallContext, path: &str, options: Map) -> Answer<Model> {
        placed(&context, gone_on(&context, path, options))
    }

    /// Makes a new model with random weights, to be trained from nothing by dense boosters: a Llama
    /// whose embedding is its head. Its tokenizer, byte-level BPE, is trained on the texts of
    /// `sets`.
    ///
    /// Options: `hidden_size` (D), `num_hidden_layers` (L), `num_attention_heads` (H), `vocab_size`
    /// (V, at most), `intermediate_size` (F; 4 D), `num_key_value_heads` (G; H), `head_dim` (E;
    /// D/H), `max_position_embeddings` (the longest sequence; 512).
    ///
    /// # Example
    /// ```rhai,no_run
    /// let sizes = #{
    ///     hidden_size: 128, num_hidden_layers: 8, num_attention_heads: 4, vocab_size: 2048,
    /// };
    /// let model = model::create(sizes, [text.train]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn create(context: NativeCallContext, options: Map, sets: Array) -> Answer<Model> {
        placed(&context, created(&context, options, &sets))
    }
}

fn loaded(context: &NativeCallContext, name: &str, options: Map) -> Answer<Model> {
    let arguments = arguments(&options, [("name", name.into())]);
    let options = load_options(options).map_err(refuse)?;
    let session = &host(context)?.session;
    journaled(context, "model::load", arguments)?.make(|| session.load(name, &options))
}

fn load_options(map: Map) -> anyhow::Result<LoadOptions> {
    let mut o = Options::new("model::load", map, &LOAD)?;
    let name: String = o.take_or("merge_mode", "exact".into())?;
    let mode = MergeMode::from_name(&name);
    o.check("merge_mode", mode.is_some(), "\"exact\", \"naive\" or \"none\"", format!("{name:?}"))?;
    let (merge_mode, pre_tokenizer) = (mode.unwrap_or_default(), o.take_opt("pre_tokenizer")?);
    Ok(LoadOptions { merge_mode, pre_tokenizer, date: date(&mut o)? })
}

/// The day that a chat template writes.
fn date(o: &mut Options) -> anyhow::Result<Option<Date>> {
    o.take_opt::<String>("date")?.as_deref().map(Date::parse).transpose()
}

/// The model of the run in the folder called `path`.
fn gone_on(context: &NativeCallContext, path: &str, options: Map) -> Answer<Model> {
    let arguments = arguments(&options, [("path", path.into())]);
    let read = |options| {
        let mut o = Options::new("model::from_run", options, &FROM_RUN)?;
        anyhow::Ok((o.take_opt::<String>("base")?, date(&mut o)?))
    };
    let (base, date) = read(options).map_err(refuse)?;
    let session = &host(context)?.session;
    journaled(context, "model::from_run", arguments)?
        .make(|| session.from_run(path, base.as_deref(), date))
}

fn created(context: &NativeCallContext, options: Map, sets: &[Dynamic]) -> Answer<Model> {
    let arguments = arguments(&options, [("sets", sets.iter().map(to_journal).collect())]);
    let session = &host(context)?.session;
    journaled(context, "model::create", arguments)?
        .make(|| session.create(sizes(options)?, &sets_of(sets)?))
}

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
        let most = if key == "num_hidden_layers" { MOST_LAYERS } else { 1 << 20 };
        o.check(key, (1..=most).contains(&value), &format!("from 1 to {most}"), value)?;
        Ok::<_, Error>(value)
    };
    let hidden_size = take("hidden_size", None)?;
    let num_hidden_layers = take("num_hidden_layers", None)?;
    let num_attention_heads = take("num_attention_heads", None)?;
    Ok(Sizes {
        hidden_size,
        num_hidden_layers,
        num_attention_heads,
        intermediate_size: take("intermediate_size", Some(4 * hidden_size))?,
        num_key_value_heads: take("num_key_value_heads", Some(num_attention_heads))?,
        head_dim: take("head_dim", Some(hidden_size / num_attention_heads))?,
        vocab_size: take("vocab_size", None)?,
        max_position_embeddings: take("max_position_embeddings", Some(512))?,
    })
}

fn sets_of(list: &[Dynamic]) -> Result<Vec<Set>, Error> {
    let set = |(i, value): (usize, &Dynamic)| {
        value.clone().try_cast::<Set>().ok_or_else(|| {
            error!(
                Usage,
                "`model::create` takes its words from sets, such as `task.train`; element {i} of \
                 its list is none"
            )
        })
    };
    list.iter().enumerate().map(set).collect()
}
