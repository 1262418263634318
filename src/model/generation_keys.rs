//! The keys of a generation config: which say nothing for texts generated here, and which would
//! change them in transformers.

use serde_json::Value;

use crate::error::clip;

/// Read elsewhere.
const READ: [&str; 1] = ["eos_token_id"];

/// Keys that change no text here.
const NOTHING: [&str; 36] = [
    // Prompts are always given, and nothing is padded.
    "bos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    // How long a text gets is said with every call.
    "max_length",
    "max_new_tokens",
    // How it is computed, not what.
    "use_cache",
    "cache_implementation",
    "cache_config",
    "max_cache_len",
    "low_memory",
    "prefill_chunk_size",
    "compile_config",
    "disable_compile",
    "continuous_batching_config",
    "renormalize_logits",
    // Numbers that are none end a run here.
    "remove_invalid_values",
    // What comes beside the text.
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "return_dict_in_generate",
    "num_return_sequences",
    // Speculation gives the same text sooner.
    "is_assistant",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_lookbehind",
    "target_lookbehind",
    "prompt_lookup_num_tokens",
    "max_matching_ngram_size",
    "speculation_type",
    "use_mtp",
    // About the file.
    "transformers_version",
    "_from_model_config",
    "_commit_hash",
];

/// Keys of sampling.
const SAMPLING: [(&str, Usual); 9] = [
    ("do_sample", Usual::No),
    ("temperature", Usual::Number(1.0)),
    ("top_k", Usual::Number(50.0)),
    ("top_p", Usual::Number(1.0)),
    ("min_p", Usual::Nothing),
    ("top_h", Usual::Nothing),
    ("typical_p", Usual::Number(1.0)),
    ("epsilon_cutoff", Usual::Number(0.0)),
    ("eta_cutoff", Usual::Number(0.0)),
];

/// Keys that change the text, unless they have their usual value.
const CHANGES: [(&str, Usual); 29] = [
    ("num_beams", Usual::Number(1.0)),
    ("early_stopping", Usual::No),
    ("length_penalty", Usual::Number(1.0)),
    ("num_beam_groups", Usual::Number(1.0)),
    ("diversity_penalty", Usual::Number(0.0)),
    ("constraints", Usual::Nothing),
    ("force_words_ids", Usual::Nothing),
    ("penalty_alpha", Usual::Number(0.0)),
    ("dola_layers", Usual::Nothing),
    ("min_length", Usual::Number(0.0)),
    ("min_new_tokens", Usual::Number(0.0)),
    ("max_time", Usual::Nothing),
    ("stop_strings", Usual::Nothing),
    ("repetition_penalty", Usual::Number(1.0)),
    ("no_repeat_ngram_size", Usual::Number(0.0)),
    // Of models without an encoder, the prompt stands for what it reads.
    ("encoder_repetition_penalty", Usual::Number(1.0)),
    ("encoder_no_repeat_ngram_size", Usual::Number(0.0)),
    ("bad_words_ids", Usual::Nothing),
    ("forced_bos_token_id", Usual::Nothing),
    ("forced_eos_token_id", Usual::Nothing),
    ("forced_decoder_ids", Usual::Nothing),
    ("suppress_tokens", Usual::Nothing),
    ("begin_suppress_tokens", Usual::Nothing),
    ("exponential_decay_length_penalty", Usual::Nothing),
    ("sequence_bias", Usual::Nothing),
    ("token_healing", Usual::No),
    ("guidance_scale", Usual::Number(1.0)),
    ("watermarking_config", Usual::Nothing),
    ("assistant_ensemble_weight", Usual::Nothing),
];

/// Keys that are not known, of which so many are named.
const MOST: usize = 8;

/// The value with which a key changes nothing, beside null.
#[derive(Clone, Copy)]
enum Usual {
    /// Null or an empty list.
    Nothing,
    No,
    Number(f64),
}

impl Usual {
    fn is(self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null) => true,
            (Self::Nothing, Value::Array(list)) => list.is_empty(),
            (Self::No, value) => *value == Value::Bool(false),
            (Self::Number(usual), value) => value.as_f64() == Some(usual),
            _ => false,
        }
    }
}

/// Keys that a person should know of, as they are told.
#[derive(Default)]
struct KeyNotes {
    changes: Vec<String>,
    sampling: Vec<String>,
    unknown: Vec<String>,
}

impl KeyNotes {
    fn add(&mut self, key: &str, value: &Value) {
        let of = |table: &[(&str, Usual)]| {
            table.iter().find(|(name, _)| *name == key).map(|(_, usual)| usual.is(value))
        };
        let note = format!("`{key}` {}", clip(&value.to_string()));
        match (of(&CHANGES), of(&SAMPLING)) {
            (Some(true), _) | (_, Some(true)) => {}
            (Some(false), _) => self.changes.push(note),
            (_, Some(false)) => self.sampling.push(note),
            (None, None) if !READ.contains(&key) && !NOTHING.contains(&key) => {
                self.unknown.push(format!("`{}`", clip(key)))
            }
            (None, None) => {}
        }
    }
}

/// What a person should know of the keys in `file`, a line each. With `all`, keys that are not
/// known are told too; `config.json` has others beside those of generation.
pub(super) fn notes_of<'a>(
    file: &str,
    keys: impl IntoIterator<Item = (&'a String, &'a Value)>,
    all: bool,
) -> Vec<String> {
    let mut found = KeyNotes::default();
    keys.into_iter().for_each(|(key, value)| found.add(key, value));
    let KeyNotes { changes, sampling, mut unknown } = found;
    let mut out = vec![];
    if !changes.is_empty() {
        let hint = "generated texts are without; `beams`, `stop` and `max_tokens` are options of \
                    each call";
        out.push(format!(
            "{file} sets {}, which only transformers follows: {hint}",
            changes.join(", ")
        ));
    }
    if !sampling.is_empty() {
        let hint =
            "tokens are drawn only where a call gives `temperature`, by the options of that call";
        out.push(format!("{file} sets {} for sampling: {hint}", sampling.join(", ")));
    }
    if all && !unknown.is_empty() {
        let more = unknown.len().saturating_sub(MOST);
        unknown.truncate(MOST);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        out.push(format!(
            "{file} has {}{more}, which is not known here and changes nothing",
            unknown.join(", ")
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn notes(value: Value, all: bool) -> Vec<String> {
        notes_of("f.json", value.as_object().unwrap(), all)
    }

    #[test]
    fn what_changes_nothing_is_not_told() {
        let usual = json!({
            "_from_model_config": true, "bos_token_id": 1, "eos_token_id": [2, 3],
            "pad_token_id": 0, "max_length": 4096, "use_cache": true,
            "transformers_version": "5.24.0", "repetition_penalty": 1.0, "do_sample": false,
            "temperature": 1.0, "top_k": 50, "top_p": 1,
            "num_beams": 1, "suppress_tokens": [], "forced_eos_token_id": null,
            "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0,
            "encoder_repetition_penalty": 1.0,
        });
        assert_eq!(notes(usual, true), Vec::<String>::new());
        assert_eq!(
            notes(json!({ "model_type": "llama", "hidden_size": 64, "top_k": null }), false),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_would_change_a_text_is_named() {
        let told = notes(
            json!({ "repetition_penalty": 1.1, "do_sample": true, "top_p": 0.8, "chat_format": "x",
                "bad_words_ids": [[1]] }),
            true,
        );
        let want = [
            "f.json sets `repetition_penalty` 1.1, `bad_words_ids` [[1]], which only transformers \
                follows: generated texts are without; \
             `beams`, `stop` and `max_tokens` are options of each call",
            "f.json sets `do_sample` true, `top_p` 0.8 for sampling: tokens are drawn only where a \
                call gives `temperature`, by the \
             options of that call",
            "f.json has `chat_format`, which is not known here and changes nothing",
        ];
        assert_eq!(told, want);
        assert_eq!(notes(json!({ "model_type": "llama", "min_length": 5 }), false).len(), 1);
    }
}
