//! DistilBERT (Sanh et al. 2019): half of BERT's layers, without token types and pooler.

use anyhow::Result;
use serde_json::json;

use super::bert::{encoder_only, tied};
use super::encoder::{Config, Variant, target};
use super::fields::{ConfigFields, activation_name};
use super::{Architecture, ArchitectureEntry, CommonConfig, Family, HeadConfig, HeadKind, Target};
use crate::model::nn::HeadActivation;
use crate::ops::activation::Activation;

pub static ENTRY: ArchitectureEntry = ArchitectureEntry {
    model_type: "distilbert",
    classes: &[
        (HeadKind::Base, "DistilBertModel"),
        (HeadKind::MaskedLm, "DistilBertForMaskedLM"),
        (HeadKind::Sequence, "DistilBertForSequenceClassification"),
        (HeadKind::MultipleChoice, "DistilBertForMultipleChoice"),
    ],
    config_class: "DistilBertConfig",
    family: Family {
        base_model_prefix: "distilbert.",
        layers: "distilbert.transformer.layer.",
        peft_targets: &["q_lin", "v_lin"],
        dropouts: &["dropout", "attention_dropout", "seq_classif_dropout"],
        tied_by_default: true,
        buffer: |name| name.ends_with("embeddings.position_ids"),
        tied_decoder: Some(("vocab_projector", "vocab_projector.bias")),
        other_heads: &["vocab_", "pre_classifier.", "classifier.", "qa_outputs."],
    },
    keys: &[KEYS],
    gguf: None,
    read: |f, _| read(f),
};

const KEYS: &[&str] = &[
    "dim",
    "hidden_size",
    "n_layers",
    "num_hidden_layers",
    "n_heads",
    "num_attention_heads",
    "hidden_dim",
    "max_position_embeddings",
    "activation",
    "dropout",
    "attention_dropout",
    // Of a head that is not known here.
    "qa_dropout",
    "seq_classif_dropout",
    // How the table of positions was made; it is stored.
    "sinusoidal_pos_embds",
    // Of older files.
    "tie_weights_",
];

static Q: Target = target("q_lin", "attention.q_lin", false);
static K: Target = target("k_lin", "attention.k_lin", false);
static V: Target = target("v_lin", "attention.v_lin", false);
static O: Target = target("out_lin", "attention.out_lin", true);
static UP: Target = target("lin1", "ffn.lin1", false);
static DOWN: Target = target("lin2", "ffn.lin2", true);

static VARIANT: Variant = Variant {
    entry: &ENTRY,
    prefix: "distilbert.",
    targets: [&Q, &K, &V, &O, &UP, &DOWN],
    norms: ["sa_layer_norm", "output_layer_norm"],
    dense: [("pre_classifier", HeadActivation::Other(Activation::Relu)); 2],
    out: ["classifier"; 2],
    masked: ["vocab_transform", "vocab_layer_norm", "vocab_projector.bias"],
    masked_activation: None,
    to_json: |config, json| {
        let c = &config.common;
        json["dim"] = json!(c.hidden_size);
        json["n_layers"] = json!(c.num_hidden_layers);
        json["n_heads"] = json!(config.num_attention_heads);
        json["hidden_dim"] = json!(config.intermediate_size);
        json["activation"] = json!(activation_name(config.hidden_act));
        json["max_position_embeddings"] = json!(c.max_position_embeddings);
    },
};

/// Reads a config as transformers' `DistilBertConfig` does. Errors (class data): an impossible
/// value, an option that is not known here.
fn read(f: &ConfigFields) -> Result<Box<dyn Architecture>> {
    encoder_only(f)?;
    let config = Config {
        common: CommonConfig {
            hidden_size: f.size_by(["dim", "hidden_size"], 768)?,
            num_hidden_layers: f.size_by(["n_layers", "num_hidden_layers"], 6)?,
            vocab_size: f.size_or("vocab_size", 30_522)?,
            max_position_embeddings: f.size_or("max_position_embeddings", 512)?,
            tie_word_embeddings: tied(f)?,
            head: HeadConfig::Base,
            bos_token_id: None,
            eos_token_ids: vec![],
        },
        intermediate_size: f.size_or("hidden_dim", 3072)?,
        num_attention_heads: f.size_by(["n_heads", "num_attention_heads"], 12)?,
        hidden_act: f.activation("activation", "gelu")?,
        layer_norm_eps: 1e-12,
        type_vocab_size: 0,
        position_offset: 0,
        pooler: false,
        variant: &VARIANT,
    };
    config.check()?;
    Ok(Box::new(config))
}
