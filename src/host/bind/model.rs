//! `model`: a network with its tokenizer, boosted round by round.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use rhai::plugin::*;
use rhai::{Array, Dynamic, FLOAT, INT, Map, NativeCallContext};
use serde_json::json;

use super::booster::Booster;
use super::data::Set;
use super::{Answer, placed, refuse};
use crate::boost::{self, Init, Spec, adapter};
use crate::error::Error;
use crate::eval::{self, Encoded};
use crate::host::console::Progress;
use crate::host::context::{Host, host, lock};
use crate::host::door;
use crate::host::options::Options;
use crate::model::{self, Overlay};
use crate::run::{Evaluation, EvaluationTiming};
use crate::seed::Stream;
use crate::source::Tokenizer;

/// A model; copies are the same.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    /// As the recipe named it.
    name: String,
    open: Mutex<Open>,
}

/// What a model is at the moment.
pub(super) struct Open {
    pub(super) network: model::Model,
    pub(super) tokenizer: Arc<Tokenizer>,
    extras: model::load::Extras,
    /// Boosters merged so far.
    pub(super) round: usize,
    /// Boosters made so far: each draws its start from a stream of its own.
    boosters: usize,
}

impl Model {
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn with<T>(&self, body: impl FnOnce(&mut Open) -> T) -> T {
        body(&mut lock(&self.0.open))
    }

    /// Errors (class usage) where a booster was made for another model.
    fn owns(&self, other: &Model) -> Result<(), Error> {
        if Arc::ptr_eq(&self.0, &other.0) { Ok(()) } else { Err(Error::usage("the booster belongs to another model")) }
    }
}

/// `model::…`.
#[export_module]
pub(super) mod module {
    /// Loads the model called `name`: a Hugging Face folder, a GGUF file or a hub id (`owner/name@revision`), as `-p`
    /// gave it on the command line.
    ///
    /// # Example
    /// ```rhai,no_run
    /// let model = model::load(p.model);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn load(context: NativeCallContext, name: &str) -> Answer<Model> {
        let host = host(&context)?;
        placed(&context, door::call(&host, "model::load", &json!({ "name": name }), || open(&host, name)))
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
        model.with(|m| m.network.roles().into_iter().map(|r| Dynamic::from(r.name().to_string())).collect())
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
    /// Options: `layers` (a list of indices), `targets` (names; all), `rank` (r, 1), `alpha` (the product is scaled
    /// by α/r; r, for a scale of 1), `init` of A ("kaiming" as PEFT, "gaussian", "orthogonal"; kaiming).
    ///
    /// # Example
    /// ```rhai,no_run
    /// let booster = model.booster(#{ layers: [3, 17], targets: ["q_proj", "v_proj"], rank: 1 });
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn booster(context: NativeCallContext, model: &mut Model, options: Map) -> Answer<Booster> {
        let host = host(&context)?;
        let (layers, targets, rank, alpha, init) = booster_options(options).map_err(|e| door::to_script(&e))?;
        door::call(&host, "model.booster", &json!({ "layers": layers, "targets": targets, "rank": rank }), || {
            let booster = model.with(|m| {
                let spec = Spec::new(&m.network, &layers, &targets, rank, alpha.unwrap_or(rank as f64), init)?;
                let mut stream = Stream::new(host.settings.seed, &format!("init/{}", m.boosters));
                m.boosters += 1;
                boost::Booster::new(&m.network, &spec, &mut stream)
            })?;
            Ok(Booster::new(booster, model.clone()))
        })
    }

    /// Adds the booster to the weights: W ← W + s·BA.
    #[rhai_fn(return_raw, pure)]
    pub fn merge(context: NativeCallContext, model: &mut Model, booster: Booster) -> Answer<()> {
        merge_by(&*host(&context)?, model, &booster, 1.0)
    }

    /// Adds the booster to the weights with step weight `eta` (paper Eq. 8): W ← W + η·s·BA.
    #[rhai_fn(name = "merge", return_raw, pure)]
    pub fn merge_with(context: NativeCallContext, model: &mut Model, booster: Booster, eta: FLOAT) -> Answer<()> {
        merge_by(&*host(&context)?, model, &booster, eta)
    }

    /// Measures the model on `set` and records it under the set's split and the model's round: for items with choices
    /// `accuracy` (largest log-likelihood), `accuracy_norm` (per character), `standard_error`, `items`; otherwise
    /// `nll` (mean, in nats a token), `perplexity`, `tokens`. Answers with the metrics.
    #[rhai_fn(return_raw, pure)]
    pub fn evaluate(context: NativeCallContext, model: &mut Model, set: Set) -> Answer<Map> {
        measure(&*host(&context)?, model, &set, Map::new())
    }

    /// Measures the model on `set`. Options: `items` (only the first so many; 0, the default, for all), `booster` (laid over the model, not
    /// merged; then nothing is recorded).
    #[rhai_fn(name = "evaluate", return_raw, pure)]
    pub fn evaluate_with(context: NativeCallContext, model: &mut Model, set: Set, options: Map) -> Answer<Map> {
        measure(&*host(&context)?, model, &set, options)
    }

    /// The text that follows `prompt`, each token the likeliest. Options: `max_tokens` (32).
    #[rhai_fn(return_raw, pure)]
    pub fn generate(context: NativeCallContext, model: &mut Model, prompt: &str, options: Map) -> Answer<String> {
        let host = host(&context)?;
        let mut o = Options::new("generate", options, &["max_tokens"]).map_err(refuse)?;
        let most: usize = o.take_or("max_tokens", 32).map_err(refuse)?;
        door::call(&host, "model.generate", &json!({ "prompt": prompt, "max_tokens": most }), || {
            model.with(|m| {
                let mut ids: Vec<u32> = if m.tokenizer.add_bos() { m.tokenizer.bos().into_iter().collect() } else { vec![] };
                ids.extend(m.tokenizer.encode(prompt)?);
                let stop: Vec<u32> = m.network.config().eos.iter().copied().chain(m.tokenizer.eos()).collect();
                let out = eval::generate::greedy(&m.network, &Overlay::default(), &ids, most, &stop, || Ok(host.guard.check()?))?;
                m.tokenizer.decode(&out, true)
            })
        })
    }

    /// The PEFT LoRA adapter in the folder at `path`, which `-p` gave, as a booster of this model.
    #[rhai_fn(return_raw, pure)]
    pub fn load_adapter(context: NativeCallContext, model: &mut Model, path: &str) -> Answer<Booster> {
        let host = host(&context)?;
        door::call(&host, "model.load_adapter", &json!({ "path": path }), || {
            let folder = host.grants(path).check(path)?;
            let booster = model.with(|m| adapter::load(&folder, &m.network))?;
            Ok(Booster::new(booster, model.clone()))
        })
    }

    /// Writes the current weights as a Hugging Face folder called `name`, below the run folder.
    #[rhai_fn(return_raw, pure)]
    pub fn save(context: NativeCallContext, model: &mut Model, name: &str) -> Answer<()> {
        let host = host(&context)?;
        door::call(&host, "model.save", &json!({ "name": name }), || {
            let folder = host.with_run(|run| run.folder.child(name))?;
            model.with(|m| model::save::save(&m.network, &m.tokenizer, &m.extras, &folder))
        })
    }
}

fn open(host: &Host, name: &str) -> anyhow::Result<Model> {
    let loaded = model::load::open(name, &host.grants(name), &host.settings.device, host.settings.dtype)?;
    let model::load::Loaded { model: network, tokenizer, extras } = loaded;
    let digest = network.digest()?;
    host.with_run(|run| run.note_digest(name, digest))?;
    let open = Open { network, tokenizer: Arc::new(tokenizer), extras, round: 0, boosters: 0 };
    let model = Model(Arc::new(Inner { name: name.into(), open: Mutex::new(open) }));
    let digested = model.clone();
    host.at_end(move || digested.with(|m| m.network.digest()));
    Ok(model)
}

/// layers, targets, rank, alpha, init.
type BoosterOptions = (Vec<usize>, Vec<String>, usize, Option<f64>, Init);

fn booster_options(map: Map) -> anyhow::Result<BoosterOptions> {
    let mut o = Options::new("booster", map, &["layers", "targets", "rank", "alpha", "init"])?;
    let init = Init::from_name(&o.take_or("init", Init::NAMES[0].to_string())?)?;
    Ok((o.take("layers")?, o.take_or("targets", vec![])?, o.take_or("rank", 1)?, o.take_opt("alpha")?, init))
}

fn merge_by(host: &Host, model: &Model, booster: &Booster, eta: f64) -> Answer<()> {
    if !eta.is_finite() {
        return Err(refuse(Error::usage(format!("the step weight of a merge must be a finite number, found {eta}"))));
    }
    door::call(host, "model.merge", &json!({ "eta": eta }), || {
        booster.with(|b| {
            b.fresh("merge")?;
            model.owns(&b.model)?;
            model.with(|m| {
                m.network.merge(&b.booster.overlay, eta)?;
                m.round += 1;
                b.merged = Some(m.round);
                Ok(())
            })
        })
    })
}

fn measure(host: &Host, model: &Model, set: &Set, options: Map) -> Answer<Map> {
    let mut o = Options::new("evaluate", options, &["items", "booster"]).map_err(refuse)?;
    let items = o.take_opt("items").map_err(refuse)?.filter(|&n: &usize| n > 0);
    let booster: Option<Booster> = o.take_opt("booster").map_err(refuse)?;
    let what = json!({ "split": set.split().name(), "items": items });
    let metrics = door::call(host, "model.evaluate", &what, || {
        let overlay = match &booster {
            Some(booster) => booster.with(|b| {
                b.fresh("evaluate with")?;
                model.owns(&b.model)?;
                anyhow::Ok(b.booster.overlay.clone())
            })?,
            None => Overlay::default(),
        };
        let started = Instant::now();
        let (round, metrics) = model.with(|m| Ok::<_, anyhow::Error>((m.round, metrics(host, m, set, items, &overlay)?)))?;
        if booster.is_none() {
            let split = set.split().name().to_string();
            let timing = EvaluationTiming { seconds: started.elapsed().as_secs_f64() };
            host.with_run(|run| run.evaluated(Evaluation { split, round, metrics: metrics.clone() }, timing))?;
        }
        Ok(metrics)
    })?;
    let dynamic = |v: &serde_json::Value| match (v.as_i64(), v.as_str()) {
        (Some(n), _) => Dynamic::from_int(n),
        (None, Some(text)) => text.into(),
        (None, None) => Dynamic::from_float(v.as_f64().unwrap_or(f64::NAN)),
    };
    Ok(metrics.iter().map(|(k, v)| (k.as_str().into(), dynamic(v))).collect())
}

fn metrics(
    host: &Host,
    m: &Open,
    set: &Set,
    items: Option<usize>,
    overlay: &Overlay,
) -> anyhow::Result<serde_json::Map<String, serde_json::Value>> {
    let name = set.split().name();
    let progress = |total: usize| {
        move |done: usize| {
            let what = format!("round {}: evaluate {name}", m.round);
            host.console.progress(&Progress { what, done: done as u64, total: total as u64, detail: String::new() });
            Ok(host.guard.check()?)
        }
    };
    let (choices, examples);
    let encoded = if set.has_choices() {
        choices = set.choices(host, &m.tokenizer, items, m.network.config().max_positions)?;
        Encoded::Choices(&choices)
    } else {
        examples = set.examples(host, &m.tokenizer)?;
        Encoded::Sequences(&examples[..items.unwrap_or(usize::MAX).min(examples.len())])
    };
    let metrics = encoded.measure(&m.network, overlay, progress(encoded.len()))?.metrics;
    let shown: Vec<String> = metrics.iter().map(|(k, v)| format!("{k} {}", short(v))).collect();
    host.console.note(&format!("round {}: {name}: {}", m.round, shown.join(", ")));
    Ok(metrics)
}

/// Four digits behind the point are enough to read.
fn short(value: &serde_json::Value) -> String {
    match (value.as_i64(), value.as_str()) {
        (Some(n), _) => n.to_string(),
        (None, Some(text)) => text.to_string(),
        (None, None) => format!("{:.4}", value.as_f64().unwrap_or(f64::NAN)),
    }
}
