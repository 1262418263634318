//! Keys of `adapter_config.json`, those of PEFT 0.21's `LoraConfig` and what older versions wrote:
//! each is read, says nothing about the numbers, or is refused by name where it is set.

use serde_json::{Map, Value};

use crate::error::{Error, did_you_mean, error};

/// What is done with a key.
pub(super) enum AdapterKeyRule {
    /// [`super::config::LoraConfig`] judges its value.
    Read,
    /// It changes no number of an adapter that is loaded.
    Silent,
    /// It changes numbers. Passes only where it is not set; what it asks for, and whether PEFT
    /// merges such an adapter.
    Refused(&'static str, bool),
}

use AdapterKeyRule::{Read, Refused, Silent};

/// The way out of what PEFT merges and this program does not load.
pub(super) const MERGE: &str = "merge it with peft and give the merged model: \
     `PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(\"merged\")`";

/// The way out of what it does not merge.
pub(super) const ELSEWHERE: &str = "measure it with the program that trained it";

/// In the order of the alphabet.
#[rustfmt::skip]
pub(super) const KEYS: [(&str, AdapterKeyRule); 44] = [
    ("alora_invocation_tokens", Refused("its factors act behind an invocation text only \
                                         (aLoRA)", false)),
    ("alpha_pattern", Read),
    ("arrow_config", Refused("it chooses among several adapters, token by token (Arrow)", false)),
    // How the model's class is found.
    ("auto_mapping", Silent),
    ("base_model_name_or_path", Read),
    ("bias", Read),
    // Of a start that `init_lora_weights` names, else ignored by PEFT; so are the other three
    // starts' keys.
    ("corda_config", Silent),
    ("enable_lora", Refused("its factors are for parts of fused modules", true)),
    ("ensure_weight_tying", Read),
    ("eva_config", Silent),
    ("exclude_modules", Read),
    ("fan_in_fan_out", Read),
    ("inference_mode", Silent),
    ("init_lora_weights", Read),
    ("kasa_config", Refused("it takes the smallest singular components out of the weights and puts \
                             a diagonal between its factors (KaSA)", true)),
    ("layer_replication", Refused("it makes a model with other layers of the base's, by repeating \
                                   some", true)),
    ("layers_pattern", Read),
    ("layers_to_transform", Read),
    ("loftq_config", Silent),
    ("lora_alpha", Read),
    ("lora_bias", Read),
    ("lora_dropout", Read),
    ("lora_ga_config", Silent),
    ("megatron_config", Refused("it is for layers of Megatron", false)),
    // Names a library, which `megatron_config` calls.
    ("megatron_core", Silent),
    // Whether evaluation merged in place, in PEFT before 0.3.
    ("merge_weights", Silent),
    ("modules_to_save", Read),
    ("monteclora_config", Refused("its factors are drawn around a mean (MonteCLoRA)", true)),
    ("peft_type", Read),
    ("peft_version", Silent),
    // Of `use_qalora`.
    ("qalora_group_size", Silent),
    ("r", Read),
    ("rank_pattern", Read),
    ("revision", Silent),
    // What PEFT drops on reading.
    ("runtime_config", Silent),
    ("target_modules", Read),
    ("target_parameters", Refused("its factors are for parameters, not for modules", true)),
    ("task_type", Read),
    ("trainable_token_indices", Read),
    ("use_bdlora", Refused("its factors are block-diagonal (BD-LoRA)", true)),
    ("use_dora", Read),
    ("use_qalora", Refused("its factors take inputs that are averaged over groups \
                            (QA-LoRA)", false)),
    ("use_rslora", Read),
    // Compresses what a training step keeps.
    ("velora_config", Read),
];

/// Whether a value says nothing: null, false, or empty.
pub(super) fn unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// A value in a message.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Errors (class data): a key that changes numbers in a way that is not followed here, or that is
/// not known, and is set.
pub(super) fn check(config: &Map<String, Value>) -> Result<(), Error> {
    for (key, value) in config.iter().filter(|(_, value)| !unset(value)) {
        match KEYS.iter().find(|(known, _)| known == key) {
            Some((_, Read | Silent)) => {}
            Some((_, Refused(what, merges))) => {
                let error = error!(Data, "`{key}` is {}: {what}", shown(value));
                return Err(error.hint(if *merges { MERGE } else { ELSEWHERE }));
            }
            None => {
                let near = did_you_mean(key, KEYS.iter().map(|(known, _)| *known));
                return Err(error!(
                    Data,
                    "its config has a key `{key}` with the value {}, which is not known{near}",
                    shown(value);
                    hint: "take the key out if it says nothing about the weights; PEFT 0.21 would \
                           ignore it"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(config: Value) -> String {
        check(config.as_object().unwrap()).err().map(|e| e.message).unwrap_or_default()
    }

    #[test]
    fn unknown_keys_pass_where_they_say_nothing() {
        let nothing = json!({ "a": null, "b": false, "c": "", "d": [], "e": {},
            "use_qalora": false, "kasa_config": null });
        assert_eq!(said(nothing), "");
        for value in [json!(true), json!(0), json!("x"), json!([1]), json!({ "x": 1 })] {
            assert!(
                said(json!({ "new_variant": value }))
                    .contains("a key `new_variant` with the value")
            );
        }
        assert!(
            said(json!({ "rank_patern": { "q": 1 } })).ends_with("did you mean `rank_pattern`?")
        );
        assert!(
            said(json!({ "alora_invocation_tokens": [1, 2] }))
                .starts_with("`alora_invocation_tokens` is [1,2]: ")
        );
    }

    #[test]
    fn each_key_is_there_once() {
        for (i, (key, _)) in KEYS.iter().enumerate() {
            assert!(KEYS[..i].iter().all(|(other, _)| other != key), "{key}");
        }
    }
}
