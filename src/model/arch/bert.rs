//! BERT (Devlin et al. 2019).

use anyhow::Result;

use super::encoder::{self, Config, Variant, target};
use super::fields::ConfigFields;
use super::{Architecture, ArchitectureEntry, CommonConfig, Family, HeadConfig, HeadKind, Target};
use crate::error::bail;
use crate::model::nn::HeadActivation;

pub static ENTRY: ArchitectureEntry = ArchitectureEntry {
    model_type: "bert",
    classes: &[
        (HeadKind::Base, "BertModel"),
        (HeadKind::MaskedLm, "BertForMaskedLM"),
        (HeadKind::Sequence, "BertForSequenceClassification"),
        (HeadKind::MultipleChoice, "BertForMultipleChoice"),
    ],
    config_class: "BertConfig",
    family: Family {
        base_model_prefix: "bert.",
        layers: "bert.encoder.layer.",
        peft_targets: &["query", "value"],
        dropouts: DROPOUTS,
        tied_by_default: true,
        buffer: |name| name.ends_with("embeddings.position_ids"),
        tied_decoder: Some(("cls.predictions.decoder", "cls.predictions.bias")),
        other_heads: &["cls.", "classifier.", "qa_outputs.", "bert.pooler.", "pooler."],
    },
    keys: &[KEYS],
    gguf: None,
    read: |f, _| read(f),
};

/// Keys that say how much training drops out.
pub const DROPOUTS: &[&str] =
    &["hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"];

/// Keys of `config.json` that BERT and RoBERTa read.
pub const KEYS: &[&str] = &[
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "max_position_embeddings",
    "type_vocab_size",
    "layer_norm_eps",
    "position_embedding_type",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
];

static QUERY: Target = target("query", "attention.self.query", false);
static KEY: Target = target("key", "attention.self.key", false);
static VALUE: Target = target("value", "attention.self.value", false);
static O: Target = target("attention.output.dense", "attention.output.dense", true);
static UP: Target = target("intermediate.dense", "intermediate.dense", false);
static DOWN: Target = target("output.dense", "output.dense", true);

/// The linear modules of a layer.
pub const TARGETS: [&Target; 6] = [&QUERY, &KEY, &VALUE, &O, &UP, &DOWN];
/// The norms of a layer.
pub const NORMS: [&str; 2] = ["attention.output.LayerNorm", "output.LayerNorm"];

static VARIANT: Variant = Variant {
    entry: &ENTRY,
    prefix: "bert.",
    targets: TARGETS,
    norms: NORMS,
    dense: [("bert.pooler.dense", HeadActivation::Tanh); 2],
    out: ["classifier"; 2],
    masked: [
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.bias",
    ],
    masked_activation: None,
    to_json: encoder::usual_json,
};

/// What transformers' class takes where a config lacks a key.
pub struct Defaults {
    pub vocab_size: usize,
    pub types: usize,
    pub positions: usize,
}

fn read(f: &ConfigFields) -> Result<Box<dyn Architecture>> {
    let config = config(&VARIANT, f, &Defaults { vocab_size: 30_522, types: 2, positions: 512 })?;
    config.check()?;
    Ok(Box::new(config))
}

/// Reads a config as transformers' `BertConfig` does. Errors (class data): a value that is none, an
/// option that is not known here.
pub fn config(variant: &'static Variant, f: &ConfigFields, defaults: &Defaults) -> Result<Config> {
    if let Some(kind) = f.text_or_null("position_embedding_type")?.filter(|k| *k != "absolute") {
        bail!(
            Data,
            "config.json: `position_embedding_type` is `{kind}`: known here is `absolute` alone"
        );
    }
    encoder_only(f)?;
    Ok(Config {
        common: CommonConfig {
            hidden_size: f.size_or("hidden_size", 768)?,
            num_hidden_layers: f.size_or("num_hidden_layers", 12)?,
            vocab_size: f.size_or("vocab_size", defaults.vocab_size)?,
            max_position_embeddings: f.size_or("max_position_embeddings", defaults.positions)?,
            tie_word_embeddings: tied(f)?,
            head: HeadConfig::Base,
            bos_token_id: None,
            eos_token_ids: vec![],
        },
        intermediate_size: f.size_or("intermediate_size", 3072)?,
        num_attention_heads: f.size_or("num_attention_heads", 12)?,
        hidden_act: f.activation("hidden_act", "gelu")?,
        layer_norm_eps: f.number_or("layer_norm_eps", 1e-12)?,
        type_vocab_size: f.size_or("type_vocab_size", defaults.types)?,
        position_offset: 0,
        pooler: false,
        variant,
    })
}

/// Errors (class data) where a config makes a decoder of an encoder.
pub fn encoder_only(f: &ConfigFields) -> Result<()> {
    for key in ["is_decoder", "add_cross_attention"] {
        if f.get(key).is_some() && f.flag_or(key, false)? {
            bail!(Data, "config.json: `{key}` is true: a decoder of this type is not known here");
        }
    }
    Ok(())
}

/// Whether the embedding serves as decoder of a masked language model. Errors (class data): it does
/// not, which is not known here.
pub fn tied(f: &ConfigFields) -> Result<bool> {
    if f.get("tie_word_embeddings").is_some() && !f.flag_or("tie_word_embeddings", true)? {
        bail!(
            Data,
            "config.json: `tie_word_embeddings` is false: an encoder whose head has a decoder of \
             its own is not known here"
        );
    }
    Ok(true)
}
