//! From files to a model: everything is checked before anything is computed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use super::block::{Block, Dense, Norm};
use super::config::Config;
use super::ends;
use super::gguf;
use super::names::{self, Role};
use super::stored::{self, Stored};
use super::{MergeMode, Model};
use crate::error::{self, Error};
use crate::source::{self, Gguf, Grants, ModelFiles, Safetensors, TensorSource, Tokenizer};
use crate::{bail_data, device};

/// A model with its tokenizer and what is copied along when it is saved.
pub struct Loaded {
    pub model: Model,
    pub tokenizer: Tokenizer,
    pub extras: Extras,
    /// What a person should know of the files: what was passed over, decided or recognised. A line
    /// each.
    pub notes: Vec<String>,
}

/// What is saved along with the weights.
pub struct Extras {
    /// The `config.json` the model came with, or the one that says the same.
    pub config: Value,
    /// Files that are copied unchanged: generation config, chat template.
    pub others: Vec<PathBuf>,
}

/// Loads the model that `name` stands for, if it may be read. Errors: those of [`source::resolve`]
/// and [`load`].
pub fn open(name: &str, grants: &Grants, device: &Device, storage: DType) -> Result<Loaded> {
    load(&source::model(&source::resolve(name, grants)?)?, device, storage)
}

/// Loads a model. `storage` is the type in which weights are kept: f32, bf16, f16, or f64 for
/// tests.
///
/// Errors (class data): a file that is missing, damaged or of another shape than its config says;
/// an unknown architecture.
pub fn load(files: &ModelFiles, device: &Device, storage: DType) -> Result<Loaded> {
    prepare(files, &mut |config, weights| assemble(config, weights, device, storage))
}

/// Reads and checks all but the weights, of which `make` makes the model.
pub(super) fn prepare(
    files: &ModelFiles,
    make: &mut dyn FnMut(Config, &dyn TensorSource) -> Result<Model>,
) -> Result<Loaded> {
    let mut notes = vec![];
    let mut loaded = parts(files, &mut notes, make)?;
    notes.extend(loaded.tokenizer.notes().iter().cloned());
    loaded.notes = notes;
    Ok(loaded)
}

/// The parts of a model; what configs tell of goes into `notes`.
fn parts(
    files: &ModelFiles,
    notes: &mut Vec<String>,
    make: &mut dyn FnMut(Config, &dyn TensorSource) -> Result<Model>,
) -> Result<Loaded> {
    match files {
        ModelFiles::Folder(folder) => {
            let path = folder.config.display();
            let text = source::model::json_text(&folder.config)?;
            let json: Value = serde_json::from_str(&text)
                .map_err(|e| Error::data(format!("`{path}` is no JSON: {e}")))?;
            let within = || format!("cannot use the model in `{}`", folder.root.display());
            let mut config = Config::from_json(&json, notes).with_context(within)?;
            let source = stored::open(folder, &config, notes)?;
            let weights = Stored::new(source, &mut config, notes).with_context(within)?;
            let tokenizer = Tokenizer::from_file(&folder.tokenizer)?
                .with_special_ids(config.bos, config.eos.first().copied());
            let tokenizer = tokenizer.with_rows(config.vocabulary).with_context(within)?;
            ends::of_folder(folder, &json, &tokenizer, &mut config, notes)?;
            let extras = Extras { config: config.corrected(json), others: folder.others.clone() };
            let model = make(config, &weights).with_context(within)?;
            Ok(Loaded { model, tokenizer, extras, notes: vec![] })
        }
        ModelFiles::Embedded(micro) => {
            let json: Value = serde_json::from_str(micro.config).context("the embedded config")?;
            let config = Config::from_json(&json, notes)?;
            let tokenizer = Tokenizer::embedded(micro.tokenizer)?
                .with_special_ids(config.bos, config.eos.first().copied());
            let tokenizer = tokenizer.with_rows(config.vocabulary)?;
            let model = make(config, &Safetensors::embedded(micro.name, micro.weights)?)?;
            Ok(Loaded {
                model,
                tokenizer,
                extras: Extras { config: json, others: vec![] },
                notes: vec![],
            })
        }
        ModelFiles::Gguf { file: path, pre_tokenizer } => {
            let gguf = Gguf::open(path)?;
            let mut config = gguf::config(&gguf, notes)?;
            ends::of_gguf(&gguf, &mut config, notes)?;
            gguf.readable()?;
            let tokenizer = Tokenizer::from_gguf_split(&gguf, pre_tokenizer.as_deref())?
                .with_rows(config.vocabulary);
            let tokenizer = tokenizer
                .with_context(|| format!("cannot use the model in `{}`", path.display()))?;
            let extras = Extras { config: config.to_json(), others: vec![] };
            let weights = gguf::Published::new(&gguf, &config);
            let model = make(config, &weights)
                .with_context(|| format!("cannot use the model in `{}`", path.display()))?;
            Ok(Loaded { model, tokenizer, extras, notes: vec![] })
        }
    }
}

/// What helps where only the head is missing.
const HEADLESS: &str =
    "if the embedding serves as head, config.json says `\"tie_word_embeddings\": true`";

/// Compares names and shapes with what the config asks for, before anything is loaded.
fn check(config: &Config, source: &dyn TensorSource) -> Result<()> {
    let expected = config.tensors();
    let wanted: BTreeSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    let present = source.names();
    let missing: Vec<&str> =
        expected.iter().map(|(n, _)| n.as_str()).filter(|n| source.shape(n).is_none()).collect();
    let unexpected: Vec<&str> = present.iter().copied().filter(|n| !wanted.contains(n)).collect();
    if let Some(first) = missing.first() {
        let near = error::nearest(first, unexpected.iter().copied())
            .map(|n| format!("; there is `{n}`"))
            .unwrap_or_default();
        let error = Error::data(format!(
            "the weights have no tensor `{first}`{}{near}",
            and_more(missing.len())
        ));
        return Err(if *first == names::HEAD { error.hint(HEADLESS) } else { error }.into());
    }
    if let Some(first) = unexpected.first() {
        let error = Error::data(format!(
            "the weights have a tensor `{first}`{} that a `{}` model of this config does not have",
            and_more(unexpected.len()),
            config.model_type
        ));
        return Err(error
            .hint(
                "if it is a part of the model, the config is another model's; if not, write the \
                 file again without it",
            )
            .into());
    }
    for (name, shape) in &expected {
        let found = source.shape(name).unwrap_or_default();
        if found != shape.as_slice() {
            bail_data!("tensor `{name}` has shape {found:?}, the config asks for {shape:?}");
        }
    }
    Ok(())
}

fn and_more(count: usize) -> String {
    if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() }
}

/// Builds a model from tensors by published name.
pub fn assemble(
    config: Config,
    source: &dyn TensorSource,
    device: &Device,
    storage: DType,
) -> Result<Model> {
    check(&config, source)?;
    let compute = device::compute_dtype(storage, device);
    // Norms and biases are small and computed with in f32; their numbers are those of the storage
    // type, so that what is measured is what is saved.
    let small = if compute == DType::F64 { DType::F64 } else { DType::F32 };
    let vector =
        |name: &str| -> Result<Tensor> { Ok(source.load(name, storage, device)?.to_dtype(small)?) };
    let norm = |name: &str| -> Result<Norm> {
        let weight = vector(&format!("{name}.weight"))?;
        let bias = match source.shape(&format!("{name}.bias")) {
            Some(_) => vector(&format!("{name}.bias"))?,
            None => weight.zeros_like()?,
        };
        Ok(Norm { kind: config.norm, weight, bias, eps: config.eps })
    };
    let dense = |layer: usize, role: Role| -> Result<Dense> {
        let name = |part: &str| names::in_layer(layer, &format!("{}.{part}", role.path()));
        let bias = if config.has_bias(role) { Some(vector(&name("bias"))?) } else { None };
        Ok(Dense { weight: source.load(&name("weight"), storage, device)?, bias, unmerged: None })
    };
    let mut blocks = Vec::with_capacity(config.layers);
    for layer in 0..config.layers {
        let within = |name: &str| names::in_layer(layer, name);
        blocks.push(Block {
            norm1: norm(&within("input_layernorm"))?,
            norm2: norm(&within("post_attention_layernorm"))?,
            head_norms: if config.head_norms {
                Some((norm(&within("self_attn.q_norm"))?, norm(&within("self_attn.k_norm"))?))
            } else {
                None
            },
            q: dense(layer, Role::Q)?,
            k: dense(layer, Role::K)?,
            v: dense(layer, Role::V)?,
            o: dense(layer, Role::O)?,
            gate: if config.gated { Some(dense(layer, Role::Gate)?) } else { None },
            up: dense(layer, Role::Up)?,
            down: dense(layer, Role::Down)?,
            activation: config.activation,
            window: config.window(layer),
        });
    }
    let load = |name: &str| -> Result<Tensor> { source.load(name, storage, device) };
    Ok(Model {
        embedding: load(names::EMBEDDING)?,
        blocks,
        norm: norm(names::NORM)?,
        head: if config.tied { None } else { Some(load(names::HEAD)?) },
        frequencies: config.frequencies(1),
        device: device.clone(),
        storage,
        compute,
        compensation: Default::default(),
        mode: MergeMode::Exact,
        rounding: Default::default(),
        config,
    })
}
