//! `model`: a network with its tokenizer, boosted round by round.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rhai::plugin::*;
use rhai::{Array, Dynamic, FLOAT, INT, Map, NativeCallContext};
use serde_json::{Value, json};

use super::booster::{Booster, Numbers};
use super::booster_options::{self, Weak};
use super::create::made;
use super::evaluate::measure;
use super::generate::texts;
use super::merge::{file_digest, merge_by};
use super::set::{PromptFormat, Set};
use super::{Answer, ensemble, placed, refuse, suppose, told, told_map};
use crate::boost::adapter::{self, Weights};
use crate::boost::{self, DenseSpec, Spec, Update};
use crate::error::Error;
use crate::host::context::{Host, host, lock};
use crate::host::door::{self, Making};
use crate::host::ledger::Event;
use crate::host::options::{FromOption, Options};
use crate::memory::Apart;
use crate::model::load::Loaded;
use crate::model::save::Digests;
use crate::model::{self, MergeMode};
use crate::run::{CREATED, Ensemble, Kept};
use crate::seed::Stream;
use crate::source::{self, ModelFiles, Name, Tokenizer};

/// A model; copies are the same.
#[derive(Clone)]
pub struct Model(Arc<Apart<Inner>>);

struct Inner {
    /// As the recipe named it.
    name: String,
    open: Mutex<Open>,
}

/// What a model is at the moment.
pub(super) struct Open {
    /// Models that the run loaded before it.
    pub(super) index: usize,
    pub(super) network: model::Model,
    pub(super) tokenizer: Arc<Tokenizer>,
    extras: model::load::Extras,
    /// Where its base lies, unless it was made here, and the numbers of it.
    base: Option<ModelFiles>,
    pub(super) digests: Digests,
    /// The boosters that it is the sum of, besides its base.
    pub(super) ensemble: Ensemble,
    /// How many.
    pub(super) round: usize,
    /// Boosters kept as files so far.
    pub(super) kept: usize,
    /// Boosters made so far: each draws its start from a stream of its own.
    pub(super) boosters: usize,
    /// How what it was last trained on was worded, by task.
    pub(super) wording: Vec<(String, Arc<PromptFormat>)>,
    /// Where its boosters' files lie, if the run was taken up and they are not added to the weights
    /// yet: `network` is then the base.
    pub(super) owed: Option<PathBuf>,
    /// SHA-256 of boosters' files, as the journal tells them.
    pub(super) sums: BTreeMap<String, String>,
}

impl Model {
    /// A model to which nothing was added yet; `base` says where it was read from.
    pub(super) fn new(
        name: &str,
        index: usize,
        network: model::Model,
        tokenizer: Tokenizer,
        extras: model::load::Extras,
        base: Option<(ModelFiles, Digests)>,
    ) -> Self {
        let (base, digests) =
            base.map_or((None, Digests::default()), |(files, digests)| (Some(files), digests));
        let tokenizer = Arc::new(tokenizer);
        let (ensemble, round, kept, boosters, wording, owed, sums) = Default::default();
        let open = Open {
            index,
            network,
            tokenizer,
            extras,
            base,
            digests,
            ensemble,
            round,
            kept,
            boosters,
            wording,
            owed,
            sums,
        };
        Self(Arc::new(Apart::new(Inner { name: name.into(), open: Mutex::new(open) })))
    }

    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn with<T>(&self, body: impl FnOnce(&mut Open) -> T) -> T {
        body(&mut lock(&self.0.open))
    }

    /// As [`Model::with`], with the weights as they are at the moment.
    pub(super) fn live<T>(
        &self,
        body: impl FnOnce(&mut Open) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.with(|m| {
            m.pay()?;
            body(m)
        })
    }

    /// Errors (class usage) where a booster was made for another model.
    pub(super) fn owns(&self, other: &Model) -> Result<(), Error> {
        if Arc::ptr_eq(&self.0, &other.0) {
            Ok(())
        } else {
            Err(Error::usage("the booster belongs to another model"))
        }
    }
}

impl Open {
    /// Leaves to [`Open::pay`] what an earlier process added: the boosters of the ensemble, in
    /// `folder`.
    pub(super) fn owe(&mut self, host: &Host, folder: PathBuf) -> anyhow::Result<()> {
        self.owed = Some(folder.clone());
        host.note_in_run(|run| run.lists(folder, &self.ensemble))
    }

    /// Adds to the weights what an earlier process added. Errors (class data), which a script
    /// cannot catch: a booster that is missing or damaged.
    pub(super) fn pay(&mut self) -> anyhow::Result<()> {
        self.pay_owed().map_err(|e| Error::last(&e).into())
    }

    fn pay_owed(&mut self) -> anyhow::Result<()> {
        let Some(folder) = &self.owed else { return Ok(()) };
        let files = self.ensemble.files(folder);
        // All are looked at before any weight is touched, and not held together.
        for (path, _) in &files {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if let Some(sum) = self.sums.get(&*name)
                && file_digest(path)? != *sum
            {
                return Err(Error::data(format!(
                    "the run's booster `{}` is damaged: it is not what was merged",
                    path.display()
                ))
                .hint("`--from-round N` goes on from the boosters before it")
                .into());
            }
            Update::load(path, &self.network)?;
        }
        Update::add_files(&files, &mut self.network)?;
        self.owed = None;
        Ok(())
    }

    /// Says what merges do from here on, and notes it of the run's own model.
    fn merge_by(&mut self, host: &Host, mode: MergeMode) -> anyhow::Result<()> {
        self.network.set_merge_mode(mode);
        if self.index == 0 { host.with_run(|run| run.note_merge_mode(mode.name())) } else { Ok(()) }
    }

    /// The digest of the weights, and the share of the boosters' sum that they show.
    fn final_digest(&mut self) -> anyhow::Result<(String, Option<f64>)> {
        let captured = self
            .base
            .as_ref()
            .map(|files| model::restore::retained_fraction(&self.network, files))
            .transpose()?;
        Ok((self.network.digest()?, captured.flatten()))
    }

    /// Where the base lies. Errors (class usage): the model was made by the recipe, so there is
    /// none to go back to.
    pub(super) fn based(&self) -> Result<&ModelFiles, Error> {
        self.base.as_ref().ok_or_else(|| {
            Error::usage("a model made by `model::create` has no base to go back to")
                .hint("save it, and load what was saved in another run")
        })
    }
}

/// `model::…`.
/// Which weights an adapter is laid over now.
fn weights_now(host: &Host, model: &Open) -> Weights {
    match (model.ensemble.rounds(), host.outlook()) {
        (0, None) => Weights::Base,
        (0, Some(_)) => Weights::Meta,
        _ => Weights::Changed,
    }
}

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
        let host = host(&context)?;
        placed(&context, loaded(&context, &host, name, Map::new()))
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
        let host = host(&context)?;
        placed(&context, loaded(&context, &host, name, options))
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
        let host = host(&context)?;
        placed(&context, gone_on(&context, &host, path, Map::new()))
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
        let host = host(&context)?;
        placed(&context, gone_on(&context, &host, path, options))
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
        let host = host(&context)?;
        let mut arguments = told_map(&options);
        arguments["sets"] = sets.iter().map(told).collect();
        let make = |making: &mut Making| {
            let model = made(&host, options, &sets, making)?;
            if host.outlook().is_some() {
                model.with(|m| suppose::opened(&context, &host, CREATED, m))?;
                return Ok(model);
            }
            let digested = model.clone();
            host.at_end(move || digested.live(|m| m.final_digest()));
            Ok(model)
        };
        placed(&context, door::call(&context, &host, "model::create", arguments).make(make))
    }
}

#[export_module]
pub(super) mod natives {
    /// Indices of the transformer blocks, 0 at the input.
    #[rhai_fn(get = "layers", pure)]
    pub fn layers(model: &mut Model) -> Array {
        model.with(|m| (0..m.network.layers()).map(|l| Dynamic::from_int(l as INT)).collect())
    }

    /// Names of the linear modules in a layer that a booster can train.
    #[rhai_fn(get = "targets", pure)]
    pub fn targets(model: &mut Model) -> Array {
        model.with(|m| m.network.targets().into_iter().map(Dynamic::from).collect())
    }

    /// Number of weights.
    #[rhai_fn(get = "parameters", pure)]
    pub fn parameters(model: &mut Model) -> INT {
        model.with(|m| m.network.parameters() as INT)
    }

    /// Number of boosters merged.
    #[rhai_fn(get = "round", pure)]
    pub fn round(model: &mut Model) -> INT {
        model.with(|m| m.round as INT)
    }

    /// A fresh booster, which changes nothing until it is fitted.
    ///
    /// Options: `layers` (a list of indices), `targets` (names; all), `kind` ("low_rank"; "dense"
    /// trains whole weights). Of low rank: `pairs` (single modules such as
    /// `[[3, "q_proj"], [5, "up_proj"]]`, in place of layers and targets), `rank` (r, 1), `alpha`
    /// (the product is scaled by α/r; r, for a scale of 1), `init` of the factor that is drawn
    /// ("kaiming" as PEFT, "gaussian", "orthogonal"; kaiming), `zero` (the factor that begins as 0:
    /// "B"; "A"). Dense: `embedding`, `norms` (those of `layers`, and the final one), `head` (each
    /// false); `layers` may then be empty.
    ///
    /// # Example
    /// ```rhai,no_run
    /// let booster = model.booster(#{ layers: [3, 17], targets: ["q_proj", "v_proj"], rank: 1 });
    /// let lisa = model.booster(#{ kind: "dense", layers: [3, 17], embedding: true, norms: true });
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn booster(context: NativeCallContext, model: &mut Model, options: Map) -> Answer<Booster> {
        let host = host(&context)?;
        let mut arguments = told_map(&options);
        arguments["model"] = model.with(|m| m.index.into());
        let asked = booster_options::parse(options).map_err(|e| door::to_script(&e))?;
        door::call(&context, &host, "model.booster", arguments).make(|making| {
            let (booster, state) = model.with(|m| match asked.weak {
                Weak::LowRank { rank, alpha, init, zero } => {
                    let alpha = alpha.unwrap_or(rank as f64);
                    let spec = match &asked.pairs {
                        Some(pairs) => Spec::of_pairs(&m.network, pairs, rank, alpha, init)?,
                        None => {
                            Spec::new(&m.network, &asked.layers, &asked.targets, rank, alpha, init)?
                        }
                    };
                    let spec = Spec { zero, ..spec };
                    let mut stream =
                        Stream::new(host.settings.seed, &format!("init/{}", m.boosters));
                    anyhow::Ok((
                        boost::Booster::new(&m.network, &spec, &mut stream)?,
                        Numbers::Here,
                    ))
                }
                Weak::Dense(parts) => {
                    let spec = DenseSpec::new(&m.network, &asked.layers, &asked.targets, parts)?;
                    // Of a run that is taken up, the weights are those of the base still.
                    if host.outlook().is_some() || making.again {
                        let numbers = if making.again {
                            Numbers::Copies(spec.clone(), m.ensemble.clone())
                        } else {
                            Numbers::Here
                        };
                        return Ok((boost::Booster::meta(&m.network, &spec)?, numbers));
                    }
                    m.pay()?;
                    Ok((boost::Booster::dense(&m.network, &spec)?, Numbers::Here))
                }
            })?;
            let booster = Booster::new(&host, booster, model.clone(), state)?;
            // One that failed is not counted, since it is not made again either.
            model.with(|m| m.boosters += 1);
            Ok(booster)
        })
    }

    /// Adds the booster to the weights: W ← W + s·BA; of a dense booster W ← W'. The run keeps it
    /// as a file below `boosters/`.
    #[rhai_fn(return_raw, pure)]
    pub fn merge(context: NativeCallContext, model: &mut Model, booster: Booster) -> Answer<()> {
        merge_by(&context, &*host(&context)?, model, &booster, 1.0)
    }

    /// Adds the booster to the weights with step weight `eta` (paper Eq. 8): W ← W + η·s·BA; of a
    /// dense booster W ← W + η (W' − W).
    ///
    /// # Example
    /// ```rhai,no_run
    /// model.merge(booster, 0.5);
    /// ```
    #[rhai_fn(name = "merge", return_raw, pure)]
    pub fn merge_with(
        context: NativeCallContext,
        model: &mut Model,
        booster: Booster,
        eta: FLOAT,
    ) -> Answer<()> {
        merge_by(&context, &*host(&context)?, model, &booster, eta)
    }

    /// Measures the model on `set` and records it under the set's split and the model's round, by
    /// the protocol that suits the items: "lm-eval" for choices, otherwise "perplexity". Answers
    /// with the metrics. Of several tasks these are the unweighted average, with those of each task
    /// under `tasks`.
    #[rhai_fn(return_raw, pure)]
    pub fn evaluate(context: NativeCallContext, model: &mut Model, set: Set) -> Answer<Map> {
        measure(&context, &*host(&context)?, model, &set, Map::new())
    }

    /// Measures the model on `set`. Options: `items` (only the first so many of each task; 0, the
    /// default, for all), `booster` (laid over the model, not merged; then nothing is recorded),
    /// `eta` (the booster's step weight, 1), `protocol` ("lm-eval": choices by their likelihood;
    /// "llm-adapters": 4 beams generate up to 32 tokens, the first answer found in them counts;
    /// "perplexity").
    ///
    /// # Example
    /// ```rhai,no_run
    /// let now = model.evaluate(task.validation, #{ items: 200 });
    /// print(now.accuracy);
    /// ```
    #[rhai_fn(name = "evaluate", return_raw, pure)]
    pub fn evaluate_with(
        context: NativeCallContext,
        model: &mut Model,
        set: Set,
        options: Map,
    ) -> Answer<Map> {
        measure(&context, &*host(&context)?, model, &set, options)
    }

    /// The text that follows `prompt`, with the space before its first word where it has one. It
    /// ends with an end token that the model's generation config names, or else its config.
    /// Options: `max_tokens` (32), `beams` (1: each token the likeliest; more: beam search),
    /// `temperature`, `top_k`, `top_p` (tokens are drawn, by the run's seed), `stop` (a list of
    /// texts, before which it ends; a special token such as "<|im_end|>" is one).
    ///
    /// # Example
    /// ```rhai,no_run
    /// let options = #{ max_tokens: 40, temperature: 0.8, top_p: 0.95 };
    /// print(model.generate("Once upon a time", options));
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn generate(
        context: NativeCallContext,
        model: &mut Model,
        prompt: &str,
        options: Map,
    ) -> Answer<String> {
        Ok(texts(&context, model, &[prompt.to_owned()], options)?.pop().unwrap_or_default())
    }

    /// The texts that follow several prompts, which go through the network together. Options as for
    /// a single prompt.
    ///
    /// # Example
    /// ```rhai,no_run
    /// for text in model.generate(["Snow is", "Fire is"], #{ max_tokens: 8, stop: ["."] }) {
    ///     print(text);
    /// }
    /// ```
    #[rhai_fn(name = "generate", return_raw, pure)]
    pub fn generate_all(
        context: NativeCallContext,
        model: &mut Model,
        prompts: Array,
        options: Map,
    ) -> Answer<Array> {
        let prompts = Vec::<String>::from_option(&Dynamic::from_array(prompts), "prompts");
        let prompts = prompts.map_err(|_| {
            refuse(Error::usage("`generate` takes a prompt, or an array of prompts"))
        })?;
        Ok(texts(&context, model, &prompts, options)?.into_iter().map(Dynamic::from).collect())
    }

    /// The PEFT LoRA adapter in the folder at `path`, which `-p` gave, as a booster of this model.
    /// What the adapter changes as a whole (DoRA, modules that were saved, embedding and head) are
    /// whole tensors of the booster, and the model must be the base still; they stand in for the
    /// weights, so merge it before others. PiSSA and OLoRA adapters have twice their rank, since
    /// their start is taken out of the weights.
    ///
    /// # Example
    /// ```rhai,no_run
    /// model.merge(model.load_adapter(p.adapter));
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn load_adapter(
        context: NativeCallContext,
        model: &mut Model,
        path: &str,
    ) -> Answer<Booster> {
        let host = host(&context)?;
        door::call(&context, &host, "model.load_adapter", json!({ "path": path })).make(|making| {
            let folder = host.path(path)?;
            let loaded =
                model.with(|m| adapter::load(&folder, &m.network, weights_now(&host, m)))?;
            host.note_place(path, &Name::Path(folder.clone()))?;
            if !making.again {
                let notes =
                    loaded.notes(model.name()).into_iter().chain(loaded.training.iter().cloned());
                notes.for_each(|note| host.console.note(&format!("`{path}`: {note}")));
            }
            for file in ["adapter_model.safetensors", "adapter_config.json"] {
                making
                    .effects
                    .insert(format!("{path}/{file}"), file_digest(&folder.join(file))?.into());
            }
            Ok(Booster::new(&host, loaded.booster, model.clone(), Numbers::Here)?)
        })
    }

    /// Writes the current weights as a Hugging Face folder called `name`, below the run folder;
    /// `template.json` in it says how the data were worded that it was last trained on.
    #[rhai_fn(return_raw, pure)]
    pub fn save(context: NativeCallContext, model: &mut Model, name: &str) -> Answer<()> {
        let host = host(&context)?;
        let arguments = json!({ "name": name, "model": model.with(|m| m.index) });
        door::call(&context, &host, "model.save", arguments).change(
            |_| host.note_in_run(|run| run.has_saved(name)),
            |_| {
                model.with(|m| m.tokenizer.decided())?;
                let folder = host.with_run(|run| run.saves(name))?;
                if host.outlook().is_some() {
                    return host.note(&context, Event::Save { name: name.to_owned() });
                }
                model.live(|m| {
                    let template =
                        taught(&m.wording, &m.tokenizer).map(|told| format!("{told:#}\n"));
                    let more: Vec<(&str, &[u8])> =
                        template.iter().map(|text| ("template.json", text.as_bytes())).collect();
                    model::save::save(
                        &m.network,
                        &m.tokenizer,
                        &m.extras,
                        &more,
                        model::save::SHARD,
                        &folder,
                    )
                })
            },
        )
    }
}

fn loaded(context: &NativeCallContext, host: &Host, name: &str, options: Map) -> Answer<Model> {
    let mut arguments = told_map(&options);
    arguments["name"] = name.into();
    let LoadOptions { mode, pre_tokenizer, date } = load_options(options).map_err(refuse)?;
    let date = day(date)?;
    door::call(context, host, "model::load", arguments).make(|making| {
        let (mut loaded, found) = loaded_files(host, name, pre_tokenizer.as_deref())?;
        loaded.network.tokenizer = loaded.network.tokenizer.with_date(date);
        let model = placed_model(context, host, name, mode, loaded, making)?;
        host.note_place(name, &found)?;
        Ok(model)
    })
}

/// The model of the run in the folder called `path`.
fn gone_on(context: &NativeCallContext, host: &Host, path: &str, options: Map) -> Answer<Model> {
    let mut arguments = told_map(&options);
    arguments["path"] = path.into();
    let (base, date) = from_run_options(options).map_err(refuse)?;
    let date = day(date)?;
    door::call(context, host, "model::from_run", arguments).make(|making| {
        let folder = host.path(path)?;
        let kept = Kept::open(&folder)?;
        let name = kept.model()?;
        if kept.manifest.dtype != host.settings.dtype.as_str() {
            return Err(Error::usage(format!(
                "the run kept its weights in `{}`",
                kept.manifest.dtype
            ))
            .hint(format!("add `--dtype {}`", kept.manifest.dtype))
            .into());
        }
        let mode = MergeMode::from_name(&kept.manifest.merge_mode).unwrap_or_default();
        let (mut loaded, found) = base_of(host, &kept, base.as_deref())?;
        loaded.network.tokenizer = loaded.network.tokenizer.with_date(date);
        // What is wrong with the run is found before this one tells of a model.
        ensemble::check(host, &loaded.network.model, &loaded.digests, &kept)?;
        let model = placed_model(context, host, name, mode, loaded, making)?;
        model.with(|m| ensemble::take_over(context, host, m, &kept, making))?;
        host.note_place(path, &Name::Path(folder))?;
        host.note_place(base.as_deref().unwrap_or(name), &found)?;
        Ok(model)
    })
}

/// Where the base lies now, and the day that a chat template writes.
fn from_run_options(options: Map) -> Result<(Option<String>, Option<String>), Error> {
    let mut o = Options::new("model::from_run", options, &["base", "date"])?;
    Ok((o.take_opt("base")?, o.take_opt("date")?))
}

/// A day out of an option. Errors (class usage): it is none.
fn day(date: Option<String>) -> Answer<Option<source::Date>> {
    date.as_deref().map(source::Date::parse).transpose().map_err(|e| door::to_script(&e))
}

/// The model that a run began with: `base`, if a recipe names it; else what has its name here, or
/// lies where it lay then, if that was given by any name.
fn base_of(host: &Host, kept: &Kept, base: Option<&str>) -> anyhow::Result<(FromFiles, Name)> {
    host.count_model()?;
    let name = kept.model()?;
    let then = kept.manifest.begun.as_ref().and_then(|begun| begun.places.get(name));
    let found = match (base, then) {
        (Some(base), _) => host.resolve(base)?,
        (None, None) => host.resolve(name)?,
        (None, Some(then)) => {
            let mut found = if host.grants(name).allows(name) {
                host.resolve(name).unwrap_or_default()
            } else {
                vec![]
            };
            found.retain(|found| matches!(found, Name::Path(_)));
            found.extend(host.given_at(Path::new(then)).map(Name::Path));
            found
        }
    };
    if let (true, Some(then)) = (found.is_empty(), then) {
        let error = Error::usage(format!(
            "the base of the run, `{name}`, was `{then}` when it was begun, which no `-p` gives"
        ));
        return Err(error
            .hint("`-p base=PATH` gives it to `model::from_run(p.run, #{ base: p.base })`")
            .into());
    }
    let digest = kept.manifest.digests.get(name);
    source::right_one(
        found,
        |found| loaded_from(host, found, kept.manifest.pre_tokenizer.as_deref()),
        |loaded| digest == Some(&loaded.digests.digest),
    )
}

struct LoadOptions {
    /// What merges do.
    mode: MergeMode,
    /// The rule by which texts are split.
    pre_tokenizer: Option<String>,
    /// The day that a chat template writes.
    date: Option<String>,
}

fn load_options(map: Map) -> Result<LoadOptions, Error> {
    let mut o = Options::new("model::load", map, &["merge_mode", "pre_tokenizer", "date"])?;
    let name: String = o.take_or("merge_mode", "exact".into())?;
    let mode = MergeMode::from_name(&name);
    o.check("merge_mode", mode.is_some(), "\"exact\", \"naive\" or \"none\"", format!("{name:?}"))?;
    Ok(LoadOptions {
        mode: mode.unwrap_or_default(),
        pre_tokenizer: o.take_opt("pre_tokenizer")?,
        date: o.take_opt("date")?,
    })
}

/// A model that was read, and has no place in the run yet.
struct FromFiles {
    files: ModelFiles,
    network: Loaded,
    /// None where nothing is computed.
    digests: Digests,
}

/// Reads the files of the model called `name`. In a run that is gone on with it may lie at several
/// places: the right one is that whose weights have the digest that the run noted.
fn loaded_files(
    host: &Host,
    name: &str,
    pre_tokenizer: Option<&str>,
) -> anyhow::Result<(FromFiles, Name)> {
    host.count_model()?;
    let found = host.resolve(name)?;
    let then = host.settings.places.digests.get(name);
    source::right_one(
        found,
        |found| loaded_from(host, found, pre_tokenizer),
        |loaded| then == Some(&loaded.digests.digest),
    )
}

/// Reads a model's files, or where nothing is computed their shapes.
fn loaded_from(
    host: &Host,
    found: &Name,
    pre_tokenizer: Option<&str>,
) -> anyhow::Result<FromFiles> {
    let files = source::model(found)?.split_by(pre_tokenizer)?;
    if host.outlook().is_some() {
        return Ok(FromFiles {
            network: model::meta::load(&files, host.settings.dtype)?,
            digests: Digests::default(),
            files,
        });
    }
    let network = model::load::load(&files, &host.settings.device, host.settings.dtype)?;
    Ok(FromFiles { digests: network.model.digests()?, network, files })
}

/// Gives a model that was read its place in the run.
fn placed_model(
    context: &NativeCallContext,
    host: &Host,
    name: &str,
    mode: MergeMode,
    loaded: FromFiles,
    making: &mut Making,
) -> anyhow::Result<Model> {
    let FromFiles { files, network: Loaded { model: network, tokenizer, extras, notes }, digests } =
        loaded;
    let shapes = host.outlook().is_some();
    if !making.again {
        notes.iter().for_each(|note| host.console.note(&format!("`{name}`: {note}")));
    }
    let index = host.with_run(|run| run.note_model(name, digests.digest.clone()))?;
    if !shapes {
        making.effects.insert(format!("the digest of `{name}`"), digests.digest.clone().into());
    }
    if index == 0
        && let ModelFiles::Gguf { pre_tokenizer: Some(rule), .. } = &files
    {
        host.with_run(|run| run.note_pre_tokenizer(rule))?;
    }
    let model = Model::new(name, index, network, tokenizer, extras, Some((files, digests)));
    model.with(|m| m.merge_by(host, mode))?;
    if shapes {
        model.with(|m| suppose::opened(context, host, name, m))?;
    } else {
        let digested = model.clone();
        host.at_end(move || digested.live(|m| m.final_digest()));
    }
    Ok(model)
}

/// What `template.json` says: name and text of the template behind the model, or of each task's
/// where they differ.
fn taught(wording: &[(String, Arc<PromptFormat>)], tokenizer: &Tokenizer) -> Option<Value> {
    let one = |wording: &PromptFormat| {
        let text = match &wording.mapping {
            Some(mapping) => mapping.text(),
            None => wording.template.text(tokenizer),
        };
        json!({ "name": wording.name(), "text": text })
    };
    let all: Vec<(&String, Value)> =
        wording.iter().map(|(task, wording)| (task, one(wording))).collect();
    let first = all.first()?.1.clone();
    if all.iter().all(|(_, told)| *told == first) {
        return Some(first);
    }
    let of = |(task, told): (&String, Value)| {
        json!({
            "task": task,
            "name": told["name"],
            "text": told["text"],
        })
    };
    Some(json!({ "tasks": all.into_iter().map(of).collect::<Vec<_>>() }))
}
