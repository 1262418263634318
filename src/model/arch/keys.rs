//! What becomes of every key of `config.json`: read, known to say nothing of the numbers, refused,
//! or passed over with a note as transformers passes over what its class for this type of model
//! does not have.

use anyhow::Result;
use serde_json::Value;

use super::fields::ConfigFields;
use super::{ArchitectureEntry, HeadKind};
use crate::error::bail;

/// What becomes of a key.
enum KeyRule {
    /// Its value is looked at, here or where the architecture's config is read.
    Read,
    /// It says nothing of what the model computes.
    Silent,
    /// Only values that change nothing are taken; with what others would mean.
    Only(fn(&Value) -> bool, &'static str),
}

/// Keys that are read of all architectures, beside those of their [`ArchitectureEntry`].
const READ: &[&str] = &[
    "model_type",
    "vocab_size",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "architectures",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "auto_map",
    "quantization_config",
    "compression_config",
];

/// Keys that say nothing of what the model computes.
const SILENT: [&[&str]; 7] = [
    // Who wrote the file, and from what.
    &[
        "transformers_version",
        "_name_or_path",
        "name_or_path",
        "_model_name_or_path",
        "_commit_hash",
        "model_name",
        "tokenizer_class",
        "license",
        "is_llama_config",
        "transformers.js_config",
    ],
    // The type in which weights are kept: `--dtype` says it here.
    &["dtype", "torch_dtype"],
    // How transformers computes and what it returns.
    &[
        "use_cache",
        "pretraining_tp",
        "return_dict",
        "use_return_dict",
        "output_hidden_states",
        "output_attentions",
        "torchscript",
        "use_bfloat16",
        "chunk_size_feed_forward",
        "gradient_checkpointing",
        "attn_implementation",
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_attn_implementation_internal",
        "_experts_implementation",
        "_experts_implementation_internal",
        "_flash_attn_2_enabled",
        "tie_last_hidden_states",
    ],
    // How new weights would be drawn.
    &["initializer_range"],
    // Classifiers and encoder-decoders.
    &[
        "finetuning_task",
        "task_specific_params",
        "is_decoder",
        "tie_encoder_decoder",
        "add_cross_attention",
        "cross_attention_hidden_size",
        "pruned_heads",
        "prefix",
    ],
    // Tokens that the network does not know of: nothing is padded here.
    &[
        "pad_token_id",
        "sep_token_id",
        "cls_token_id",
        "unk_token_id",
        "mask_token_id",
        "decoder_start_token_id",
    ],
    // Generation, which transformers reads from generation_config.json alone.
    &[
        "assistant_confidence_threshold",
        "assistant_lookbehind",
        "bad_words_ids",
        "begin_suppress_tokens",
        "diversity_penalty",
        "do_sample",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "encoder_repetition_penalty",
        "epsilon_cutoff",
        "eta_cutoff",
        "exponential_decay_length_penalty",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "length_penalty",
        "max_length",
        "min_length",
        "no_repeat_ngram_size",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "output_scores",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict_in_generate",
        "suppress_tokens",
        "target_lookbehind",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
    ],
];

/// Keys that transformers' common code would act on.
const ONLY: [(&str, KeyRule); 12] = [
    ("is_causal", KeyRule::Only(|v| *v == Value::Bool(true), "attention in both directions")),
    ("is_encoder_decoder", KeyRule::Only(nothing, "an encoder beside the decoder")),
    ("per_layer_config", KeyRule::Only(nothing, "layers of different sizes")),
    (
        "text_config",
        KeyRule::Only(nothing, "a config inside the config, as of models that see or hear"),
    ),
    ("decoder", KeyRule::Only(nothing, "a config inside the config")),
    ("generator", KeyRule::Only(nothing, "a config inside the config")),
    ("text_encoder", KeyRule::Only(nothing, "a config inside the config")),
    ("attention_chunk_size", KeyRule::Only(nothing, "attention in chunks")),
    ("kv_sharing_modes", KeyRule::Only(nothing, "layers that share keys and values")),
    ("attribute_map", KeyRule::Only(nothing, "keys under other names")),
    ("fusion_config", KeyRule::Only(nothing, "fused modules")),
    (
        "transformers_weights",
        KeyRule::Only(
            |v| nothing(v) || v == "model.safetensors",
            "weights under another file's name",
        ),
    ),
];

/// Whether a value says nothing.
fn nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn rule(entry: &ArchitectureEntry, key: &str) -> Option<&'static KeyRule> {
    if READ.contains(&key) || entry.keys.iter().any(|keys| keys.contains(&key)) {
        return Some(&KeyRule::Read);
    }
    if key.starts_with("unsloth_") || SILENT.iter().any(|keys| keys.contains(&key)) {
        return Some(&KeyRule::Silent);
    }
    ONLY.iter().find(|(name, _)| *name == key).map(|(_, rule)| rule)
}

/// Goes through all keys. Errors (class data): one that would change what the model computes in a
/// way that is not known here.
pub(super) fn check(
    f: &ConfigFields,
    entry: &ArchitectureEntry,
    notes: &mut Vec<String>,
) -> Result<()> {
    let mut passed = vec![];
    let encoder = entry.classes.iter().all(|(kind, _)| *kind != HeadKind::CausalLm);
    for (key, value) in f.0.as_object().into_iter().flatten() {
        if encoder && key == "is_causal" {
            if *value == Value::Bool(true) {
                bail!(Data, "config.json: `is_causal` is true: an encoder sees both sides here");
            }
            continue;
        }
        match rule(entry, key) {
            Some(KeyRule::Read | KeyRule::Silent) => {}
            Some(KeyRule::Only(harmless, meaning)) if !harmless(value) => {
                bail!(Data, "config.json: `{key}` is {value}: {meaning} is not known here")
            }
            Some(KeyRule::Only(..)) => {}
            None if nothing(value) => {}
            None => passed.push(format!("`{key}`")),
        }
    }
    if !passed.is_empty() {
        notes.push(format!(
            "config.json: transformers' `{}` has no use for {}: passed over",
            entry.config_class,
            passed.join(", ")
        ));
    }
    quantized(f)?;
    own_code(f, notes);
    dropout(f, entry.family.dropouts, notes)
}

fn quantized(f: &ConfigFields) -> Result<()> {
    for key in ["quantization_config", "compression_config"] {
        if let Some(quantized) = f.get(key).filter(|v| !nothing(v)) {
            let method = quantized.get("quant_method").and_then(Value::as_str).unwrap_or("unknown");
            bail!(
                Data,
                "the weights are quantised (`{method}`); give the unquantised model, or a GGUF file"
            );
        }
    }
    Ok(())
}

fn own_code(f: &ConfigFields, notes: &mut Vec<String>) {
    let models = |map: &Value| {
        map.as_object().is_some_and(|map| map.keys().any(|key| key != "AutoTokenizer"))
    };
    if f.get("auto_map").is_some_and(models) {
        notes.push(
            "config.json: `auto_map` names code that comes with the model; it is not run, as \
             without `trust_remote_code`"
                .into(),
        );
    }
}

fn dropout(f: &ConfigFields, keys: &[&str], notes: &mut Vec<String>) -> Result<()> {
    let read = |v: &Value| {
        if v.is_null() { Some(0.0) } else { v.as_f64().filter(|p| (0.0..=1.0).contains(p)) }
    };
    for key in keys {
        let share = f.or(key, 0.0, "a number from 0 to 1", read)?;
        if share != 0.0 {
            notes.push(format!("config.json: `{key}` is {share}; training here drops nothing out"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::arch::REGISTRY;
    use serde_json::json;

    fn checked(model_type: &str, config: Value) -> Result<Vec<String>> {
        let mut notes = vec![];
        let entry = REGISTRY.into_iter().find(|entry| entry.model_type == model_type).unwrap();
        check(&ConfigFields(&config), entry, &mut notes).map(|()| notes)
    }

    #[test]
    fn no_key_has_two_rules() {
        for entry in REGISTRY {
            let mut all: Vec<&str> = READ.to_vec();
            all.extend(entry.keys.iter().copied().flatten());
            all.extend(SILENT.iter().copied().flatten());
            all.extend(ONLY.iter().map(|(key, _)| *key));
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count, "{}", entry.model_type);
        }
    }

    #[test]
    fn what_is_read_or_says_nothing_is_not_told() {
        let silent = json!({ "hidden_size": 8, "use_cache": false, "unsloth_fixed": true,
            "x": null });
        // As SmolLM2 and others are published.
        let published = json!({ "is_llama_config": true, "rope_interleaved": false,
            "transformers.js_config": { "dtype": "q4" },
            "_model_name_or_path": "SmolLM2" });
        for config in [silent, published] {
            assert!(checked("llama", config).unwrap().is_empty());
        }
    }

    #[test]
    fn what_the_class_has_no_use_for_is_passed_over() {
        let config = json!({ "attention_bias": true, "logit_scale": 2.0, "mlp_bias": false });
        assert_eq!(
            checked("mistral", config).unwrap(),
            ["config.json: transformers' `MistralConfig` has no use for `attention_bias`, \
              `logit_scale`: passed over"]
        );
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (config, words) in [
            (json!({ "is_causal": false }), "`is_causal` is false"),
            (json!({ "text_config": { "hidden_size": 8 } }), "`text_config`"),
            (json!({ "attention_dropout": "0.1" }), "`attention_dropout`"),
            (json!({ "quantization_config": { "quant_method": "awq" } }), "`awq`"),
        ] {
            let error = checked("llama", config).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn what_is_done_otherwise_is_told() {
        for (config, words) in [
            (json!({ "auto_map": { "AutoModelForCausalLM": "x.Y" } }), "`auto_map`"),
            (json!({ "attention_dropout": 0.1 }), "drops nothing out"),
        ] {
            let notes = checked("llama", config).unwrap();
            assert!(notes.len() == 1 && notes[0].contains(words), "{notes:?}");
        }
    }
}
