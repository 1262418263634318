//! Architectures: one file each, and the registry of all.
//!
//! A file holds what a published model of its type says of itself (`config.json`, GGUF's metadata),
//! the published names of its tensors, the modules that boosters can target, and how modules of
//! [`super::nn`] make the network. Nothing outside this folder knows a name of an architecture.

mod bert;
mod builder;
mod distilbert;
mod encoder;
mod fields;
mod gguf_keys;
mod gguf_rope;
mod gpt2;
mod head_config;
mod keys;
pub mod llama;
mod mistral;
pub(in crate::model) mod qwen2;
pub(in crate::model) mod qwen3;
mod roberta;
mod rope_config;
mod windows;

use std::collections::BTreeMap;
use std::fmt::Debug;

use anyhow::Result;
use candle_core::quantized::gguf_file;
use serde_json::{Value, json};

pub use builder::{Builder, BuiltParams, Target};
pub use head_config::{HeadConfig, HeadKind, SequenceConfig, class_of};

use super::Network;
use super::params::ModelParams;
use crate::error::{bail, did_you_mean};
use crate::source::{Gguf, GgufValue};
use fields::ConfigFields;

/// All architectures. A new one is a file and a line here.
const REGISTRY: [&ArchitectureEntry; 8] = [
    &llama::ENTRY,
    &mistral::ENTRY,
    &qwen2::ENTRY,
    &qwen3::ENTRY,
    &gpt2::ENTRY,
    &bert::ENTRY,
    &roberta::ENTRY,
    &distilbert::ENTRY,
];

/// What names of heads beside a decoder's begin with.
const DECODER_HEADS: &[&str] =
    &["v_head.", "score.", "classifier.", "value_head.", "reward_head.", "mtp.", HEAD];

/// The published name of a head of its own, in all causal language models of transformers.
pub const HEAD: &str = "lm_head.weight";

/// Reads a config; what a person should know goes into the notes.
pub type ReadConfig = fn(&ConfigFields, &mut Vec<String>) -> Result<Box<dyn Architecture>>;
/// The same of a GGUF file's metadata.
pub type ReadGguf = fn(&Gguf, &mut Vec<String>) -> Result<Box<dyn Architecture>>;

/// What is known of an architecture without a model.
pub struct ArchitectureEntry {
    /// As `config.json` names it.
    pub model_type: &'static str,
    /// transformers' classes of the model with each head; the first where config.json names none.
    pub classes: &'static [(HeadKind, &'static str)],
    /// transformers' class of its config.
    pub config_class: &'static str,
    pub family: Family,
    /// Keys of `config.json` that this architecture reads, beside those that all read.
    pub keys: &'static [&'static [&'static str]],
    pub read: ReadConfig,
    pub gguf: Option<GgufEntry>,
}

/// What architectures with the same modules have alike.
pub struct Family {
    /// What published names may begin with or not, as transformers has it.
    pub base_model_prefix: &'static str,
    /// What the names of layers begin with, up to their number.
    pub layers: &'static str,
    /// The targets that PEFT takes where an adapter's config names none.
    pub peft_targets: &'static [&'static str],
    /// Keys that say how much training drops out.
    pub dropouts: &'static [&'static str],
    /// Whether the embedding serves as head where `config.json` does not say.
    pub tied_by_default: bool,
    /// Whether a file may hold a tensor of that published name that says nothing.
    pub buffer: fn(&str) -> bool,
    /// The module of a masked language model whose weight is tied to the embedding, and the name of
    /// its bias.
    pub tied_decoder: Option<(&'static str, &'static str)>,
    /// What names of heads begin with, which a model with another head does without.
    pub other_heads: &'static [&'static str],
}

impl Family {
    /// The layer that a published name belongs to.
    pub fn layer_of(&self, name: &str) -> Option<usize> {
        name.strip_prefix(self.layers)?.split_once('.')?.0.parse().ok()
    }
}

/// An architecture in GGUF files.
pub struct GgufEntry {
    /// As `general.architecture` names it.
    pub name: &'static str,
    pub read: ReadGguf,
}

/// What configs of all architectures say.
#[derive(Clone, Debug, PartialEq)]
pub struct CommonConfig {
    /// D
    pub hidden_size: usize,
    /// L
    pub num_hidden_layers: usize,
    /// V
    pub vocab_size: usize,
    /// The longest sequence that the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the embedding serves as head.
    pub tie_word_embeddings: bool,
    pub head: HeadConfig,
    pub bos_token_id: Option<u32>,
    /// The tokens that end a generated text.
    pub eos_token_ids: Vec<u32>,
}

impl CommonConfig {
    /// Errors (class data): sizes that cannot be. `heads` is the width of all together.
    fn check(&self, intermediate_size: usize, heads: usize) -> Result<()> {
        let numbers = [self.hidden_size, intermediate_size, heads, self.vocab_size];
        let possible = numbers.iter().all(|n| (1..=1 << 24).contains(n));
        if self.num_hidden_layers > 10_000 || !possible {
            bail!(
                Data,
                "impossible sizes: {} layers, width {}, feed-forward {}, vocabulary {}",
                self.num_hidden_layers,
                self.hidden_size,
                intermediate_size,
                self.vocab_size
            );
        }
        Ok(())
    }

    /// The tokens that end a text, as `config.json` names them.
    fn eos_to_json(&self) -> Value {
        match self.eos_token_ids.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            ids => json!(ids),
        }
    }
}

/// Where a GGUF file has a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufTensor {
    pub name: String,
    pub layout: GgufLayout,
}

/// How a GGUF file lays a parameter out, compared with published files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GgufLayout {
    Same,
    /// The two halves of the rows of each of so many heads in turns.
    Interleaved(usize),
    Transposed,
}

/// A model's architecture with its sizes and options.
pub trait Architecture: Debug + Send + Sync {
    fn entry(&self) -> &'static ArchitectureEntry;
    fn common(&self) -> &CommonConfig;
    fn common_mut(&mut self) -> &mut CommonConfig;
    fn boxed(&self) -> Box<dyn Architecture>;

    /// Learns which tensors the files hold, by published names, where the config leaves it open.
    fn settle(&mut self, _has: &dyn Fn(&str) -> bool) {}

    /// Errors (class data): sizes that cannot be.
    fn check(&self) -> Result<()>;

    /// Registers all parameters in the order of the network, and makes its modules.
    fn build(&self, b: &mut Builder) -> Result<Network>;

    /// As `config.json`, for models that came without one.
    fn to_json(&self) -> Value;

    /// As `general.architecture` names it in files that are written.
    fn gguf_name(&self) -> &'static str;

    /// Where a GGUF file has the parameters, by their published names.
    fn gguf_tensors(&self) -> BTreeMap<String, GgufTensor>;

    /// What a GGUF file says of the model, below the architecture's name. Errors (class usage):
    /// something that GGUF has no words for.
    fn gguf_metadata(&self) -> Result<Vec<(&'static str, gguf_file::Value)>>;

    /// The factors of rotary frequencies that a GGUF file holds as a tensor.
    fn gguf_rope_factors(&self) -> Option<Vec<f32>> {
        None
    }
}

impl Clone for Box<dyn Architecture> {
    fn clone(&self) -> Self {
        self.boxed()
    }
}

impl PartialEq for dyn Architecture {
    fn eq(&self, other: &Self) -> bool {
        self.common() == other.common() && self.to_json() == other.to_json()
    }
}

/// Reads a Hugging Face config. Errors (class data): an unknown `model_type`, a missing or
/// impossible value, an option that is not known here. What a person should know goes into `notes`.
pub fn from_json(json: &Value, notes: &mut Vec<String>) -> Result<Box<dyn Architecture>> {
    if !json.is_object() {
        bail!(Data, "config.json holds no object");
    }
    let known: Vec<&str> = REGISTRY.iter().map(|entry| entry.model_type).collect();
    let f = ConfigFields(json);
    let Some(model_type) = f.text("model_type")? else {
        bail!(Data, "config.json has no `model_type`; known are {}", known.join(", "))
    };
    let Some(entry) = REGISTRY.into_iter().find(|entry| entry.model_type == model_type) else {
        let near = did_you_mean(model_type, known.iter().copied());
        bail!(Data, "unknown architecture `{model_type}`; known are {}{near}", known.join(", "));
    };
    keys::check(&f, entry, notes)?;
    let head = HeadConfig::read(head_config::kind(&f, entry, notes)?, &f)?;
    let mut architecture = (entry.read)(&f, notes)?;
    architecture.common_mut().head = head;
    Ok(architecture)
}

/// Reads what a GGUF file's metadata say. Errors and notes as [`from_json`].
pub fn from_gguf(gguf: &Gguf, notes: &mut Vec<String>) -> Result<Box<dyn Architecture>> {
    gguf_keys::check_type(gguf)?;
    let name = gguf.required("general.architecture", GgufValue::as_str)?;
    let entries: Vec<&GgufEntry> =
        REGISTRY.iter().filter_map(|entry| entry.gguf.as_ref()).collect();
    let Some(entry) = entries.iter().find(|entry| entry.name == name) else {
        let known: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
        let path = gguf.path().display();
        bail!(Data, "`{path}`: unknown architecture `{name}`; known are {}", known.join(", "));
    };
    (entry.read)(gguf, notes)
}

/// All parameters of an architecture, without numbers. Errors (class data): sizes that cannot be.
pub fn params(architecture: &dyn Architecture) -> Result<ModelParams> {
    architecture.check()?;
    let mut builder = Builder::meta(candle_core::DType::F32);
    architecture.build(&mut builder)?;
    Ok(builder.finish().params)
}

/// The `config.json` that an architecture was read from, with what its weights said otherwise:
/// whether head and embedding are tied, and the class that the model is of.
pub fn corrected(architecture: &dyn Architecture, mut json: Value) -> Value {
    let tied = architecture.common().tie_word_embeddings;
    let said = json.get("tie_word_embeddings").and_then(Value::as_bool);
    if !tied && said.unwrap_or(architecture.entry().family.tied_by_default) {
        json["tie_word_embeddings"] = Value::Bool(false);
    }
    let class = class_of(architecture);
    architecture.common().head.write(&mut json);
    // Where nobody says, it is the first of the classes.
    let usual = architecture.entry().classes.first().is_some_and(|(_, usual)| *usual == class);
    let other = match json.get("architectures").and_then(Value::as_array) {
        Some(names) => names.iter().all(|name| *name != class),
        None => !usual,
    };
    if other {
        json["architectures"] = json!([class]);
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_names_of_their_own() {
        for (i, entry) in REGISTRY.iter().enumerate() {
            let later = &REGISTRY[i + 1..];
            assert!(later.iter().all(|other| other.model_type != entry.model_type));
            let gguf = |entry: &ArchitectureEntry| entry.gguf.as_ref().map(|gguf| gguf.name);
            assert!(gguf(entry).is_none_or(|name| later.iter().all(|e| gguf(e) != Some(name))));
        }
    }
}
