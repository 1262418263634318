//! From files to a model: everything is checked before anything is computed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use serde_json::Value;

use super::Model;
use super::arch::{self, Architecture, Builder, HeadConfig};
use super::ends;
use super::gguf;
use super::params::{ParamId, ParamKind};
use super::stored::{self, Stored};
use crate::builtin::Micro;
use crate::error::{Error, and_more, bail, error, nearest};
use crate::source::{
    self, Gguf, Grants, ModelFiles, ModelFolder, Safetensors, TensorSource, Tokenizer,
};

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
pub(super) fn prepare(files: &ModelFiles, make: Make) -> Result<Loaded> {
    let mut notes = vec![];
    let mut loaded = parts(files, &mut notes, make)?;
    notes.extend(loaded.tokenizer.notes().iter().cloned());
    if loaded.model.is_causal_lm() {
        notes.extend(loaded.tokenizer.unfollowed_end().cloned());
    }
    loaded.notes = notes;
    Ok(loaded)
}

/// Makes a model of its architecture and its tensors.
type Make<'a> = &'a mut dyn FnMut(Box<dyn Architecture>, &dyn TensorSource) -> Result<Model>;

/// The parts of a model; what configs tell of goes into `notes`.
fn parts(files: &ModelFiles, notes: &mut Vec<String>, make: Make) -> Result<Loaded> {
    match files {
        ModelFiles::Folder(folder) => of_folder(folder, notes, make),
        ModelFiles::Embedded(micro) => of_embedded(micro, notes, make),
        ModelFiles::Gguf { file, pre_tokenizer } => {
            of_gguf(file, pre_tokenizer.as_deref(), notes, make)
        }
    }
}

fn of_folder(folder: &ModelFolder, notes: &mut Vec<String>, make: Make) -> Result<Loaded> {
    let path = folder.config.display();
    let text = source::text_file::json_text(&folder.config)?;
    let json: Value =
        serde_json::from_str(&text).map_err(|e| error!(Data, "`{path}` is no JSON: {e}"))?;
    let within = || format!("cannot use the model in `{}`", folder.root.display());
    let mut architecture = arch::from_json(&json, notes).with_context(within)?;
    let source = stored::open(folder, &*architecture, notes)?;
    let weights = Stored::new(source, &mut *architecture, notes).with_context(within)?;
    let config = architecture.common_mut();
    let tokenizer = Tokenizer::from_file(&folder.tokenizer)?
        .with_special_ids(config.bos_token_id, config.eos_token_ids.first().copied());
    let tokenizer = tokenizer.with_rows(config.vocab_size).with_context(within)?;
    // Only a language model's texts end.
    let mut unsaid = vec![];
    let told = if config.head == HeadConfig::CausalLm { notes } else { &mut unsaid };
    ends::of_folder(folder, &json, &tokenizer, config, told)?;
    let config = arch::corrected(&*architecture, json);
    let extras = Extras { config, others: folder.others.clone() };
    let model = make(architecture, &weights).with_context(within)?;
    Ok(Loaded { model, tokenizer, extras, notes: vec![] })
}

fn of_embedded(micro: &Micro, notes: &mut Vec<String>, make: Make) -> Result<Loaded> {
    let json: Value = serde_json::from_str(micro.config).context("the embedded config")?;
    let architecture = arch::from_json(&json, notes)?;
    let config = architecture.common();
    let tokenizer = Tokenizer::embedded(micro.tokenizer)?
        .with_special_ids(config.bos_token_id, config.eos_token_ids.first().copied());
    let tokenizer = tokenizer.with_rows(config.vocab_size)?;
    let model = make(architecture, &Safetensors::embedded(micro.name, micro.weights)?)?;
    let extras = Extras { config: json, others: vec![] };
    Ok(Loaded { model, tokenizer, extras, notes: vec![] })
}

fn of_gguf(
    path: &Path,
    pre_tokenizer: Option<&str>,
    notes: &mut Vec<String>,
    make: Make,
) -> Result<Loaded> {
    let within = || format!("cannot use the model in `{}`", path.display());
    let gguf = Gguf::open(path)?;
    let mut architecture = arch::from_gguf(&gguf, notes)?;
    let config = architecture.common_mut();
    ends::of_gguf(&gguf, config, notes)?;
    gguf.readable()?;
    let tokenizer = Tokenizer::from_gguf_split(&gguf, pre_tokenizer)?.with_rows(config.vocab_size);
    let tokenizer = tokenizer.with_context(within)?;
    let extras = Extras { config: architecture.to_json(), others: vec![] };
    let weights = gguf::PublishedTensors::new(&gguf, &*architecture);
    let model = make(architecture, &weights).with_context(within)?;
    Ok(Loaded { model, tokenizer, extras, notes: vec![] })
}

/// What helps where only the head is missing.
const HEADLESS: &str = "if the embedding serves as head, config.json says \
                        `\"tie_word_embeddings\": true`";

/// Compares names and shapes with what the config asks for, before anything is loaded.
pub(super) fn check(architecture: &dyn Architecture, source: &dyn TensorSource) -> Result<()> {
    let params = arch::params(architecture)?;
    let present = source.names();
    let missing: Vec<&ParamId> =
        params.ids().filter(|id| source.shape(&id.name).is_none()).collect();
    let unexpected: Vec<&str> =
        present.iter().copied().filter(|name| params.find(name).is_none()).collect();
    if let Some(first) = missing.first() {
        return Err(lacking(first, missing.len(), &unexpected).into());
    }
    if let Some(first) = unexpected.first() {
        bail!(
            Data,
            "the weights have a tensor `{first}`{} that a `{}` model of this config does not have",
            and_more(unexpected.len()),
            architecture.entry().model_type;
            hint: "if it is a part of the model, the config is another model's; if not, write the \
                   file again without it"
        );
    }
    for id in params.ids() {
        let (found, wanted) = (source.shape(&id.name).unwrap_or_default(), id.published_shape());
        if found != wanted {
            bail!(Data, "tensor `{}` has shape {found:?}, the config asks for {wanted:?}", id.name);
        }
    }
    Ok(())
}

/// What is wrong with weights that lack `count` tensors.
fn lacking(first: &ParamId, count: usize, unexpected: &[&str]) -> Error {
    let near = nearest(&first.name, unexpected.iter().copied());
    let near = near.map(|n| format!("; there is `{n}`")).unwrap_or_default();
    let more = and_more(count);
    let asked = match first.kind {
        ParamKind::TaskHead => ", which `architectures` of config.json asks for",
        _ => "",
    };
    let error = error!(Data, "the weights have no tensor `{}`{asked}{more}{near}", first.name);
    match first.kind {
        ParamKind::Head => error.hint(HEADLESS),
        ParamKind::TaskHead => error.hint(
            "name the class that the weights are of; `model.head(…)` gives a model another head",
        ),
        _ => error,
    }
}

/// Builds a model from tensors by published name.
pub fn assemble(
    architecture: Box<dyn Architecture>,
    source: &dyn TensorSource,
    device: &Device,
    storage: DType,
) -> Result<Model> {
    check(&*architecture, source)?;
    Model::build(architecture, Builder::new(source, device, storage))
}
