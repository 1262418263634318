//! RoBERTa (Liu et al. 2019): BERT without token types, whose positions begin behind the padding's.

use super::bert::{self, DROPOUTS, Defaults, KEYS, NORMS, TARGETS};
use super::encoder::{self, Variant};
use super::fields::ConfigFields;
use super::{Architecture, ArchitectureEntry, Family, HeadKind};
use crate::error::bail;
use crate::model::nn::HeadActivation;
use crate::ops::activation::Activation;

pub static ENTRY: ArchitectureEntry = ArchitectureEntry {
    model_type: "roberta",
    classes: &[
        (HeadKind::Base, "RobertaModel"),
        (HeadKind::MaskedLm, "RobertaForMaskedLM"),
        (HeadKind::Sequence, "RobertaForSequenceClassification"),
        (HeadKind::MultipleChoice, "RobertaForMultipleChoice"),
    ],
    config_class: "RobertaConfig",
    family: Family {
        base_model_prefix: "roberta.",
        layers: "roberta.encoder.layer.",
        peft_targets: &["query", "value"],
        dropouts: DROPOUTS,
        tied_by_default: true,
        buffer: |name| name.ends_with("embeddings.position_ids"),
        tied_decoder: Some(("lm_head.decoder", "lm_head.bias")),
        other_heads: &["lm_head.", "classifier.", "qa_outputs.", "roberta.pooler.", "pooler."],
    },
    keys: &[KEYS],
    gguf: None,
    read: |f, _| read(f),
};

static VARIANT: Variant = Variant {
    entry: &ENTRY,
    prefix: "roberta.",
    targets: TARGETS,
    norms: NORMS,
    dense: [
        ("classifier.dense", HeadActivation::Tanh),
        ("roberta.pooler.dense", HeadActivation::Tanh),
    ],
    out: ["classifier.out_proj", "classifier"],
    masked: ["lm_head.dense", "lm_head.layer_norm", "lm_head.bias"],
    masked_activation: Some(Activation::Gelu),
    to_json: |config, json| {
        encoder::usual_json(config, json);
        json["pad_token_id"] = (config.position_offset - 1).into();
    },
};

/// Reads a config as transformers' `RobertaConfig` does: positions are counted from behind
/// `pad_token_id`, so that a table of 514 rows holds 512. Errors as [`bert::read`], and a table
/// without a row for a position.
fn read(f: &ConfigFields) -> anyhow::Result<Box<dyn Architecture>> {
    let defaults = Defaults { vocab_size: 50_265, types: 2, positions: 512 };
    let mut config = bert::config(&VARIANT, f, &defaults)?;
    let padding = f.ids_or("pad_token_id", &[1])?.first().copied().unwrap_or(1);
    let (rows, offset) = (config.common.max_position_embeddings, padding as usize + 1);
    if rows <= offset {
        bail!(
            Data,
            "config.json: `max_position_embeddings` is {rows}, of which {offset} rows are for the \
             padding"
        );
    }
    config.common.max_position_embeddings = rows - offset;
    config.position_offset = offset;
    config.check()?;
    Ok(Box::new(config))
}
