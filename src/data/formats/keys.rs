//! Keys of a record beside those that an item is made of: each says nothing, is named in a note, or
//! is refused.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::error::{Error, clip, error, nearest};

/// Keys that say nothing of what is to be learnt, by why.
#[rustfmt::skip]
const SILENT: [(&str, &[&str]); 4] = [
    (
        "names the record",
        &[
            "id", "_id", "idx", "index", "uid", "uuid", "guid", "qid", "pid", "row_id", "item_id",
            "example_id", "sample_id", "prompt_id", "question_id", "conversation_id", "conv_id",
            "session_id", "message_id", "message_tree_id", "parent_id", "user_id", "hash", "sha256",
            "md5", "__index_level_0__", "Unnamed: 0",
        ],
    ),
    (
        "says where the record is from",
        &[
            "source", "url", "urls", "link", "links", "uri", "dataset", "dataset_name",
            "data_source", "origin", "license", "author", "file", "filename", "file_name", "path",
            "repo", "model", "model_name", "generator", "date", "created", "created_at",
            "timestamp", "dump", "file_path", "warc_file",
        ],
    ),
    (
        "says what kind the record is of",
        &[
            "category", "categories", "task", "task_name", "task_type", "topic", "topics", "tag",
            "tags", "domain", "subject", "type", "level", "difficulty", "lang", "language",
            "language_score", "meta", "metadata", "info", "split", "turn", "turns", "num_turns",
            "title", "height", "width",
        ],
    ),
    (
        "counts or rates the record",
        &[
            "score", "scores", "score_chosen", "score_rejected", "rating", "ratings", "quality",
            "int_score", "length", "len", "num_tokens", "n_tokens", "token_count", "tokens",
            "word_count", "perplexity", "votes", "likes",
        ],
    ),
];

const LOSS: &str = "which tokens count in the loss";
const WEIGHT: &str = "how much the record weighs";

/// Keys that would change what is learnt, by what they hold. A kind of record that words one of
/// them takes it out before.
#[rustfmt::skip]
const MATTERS: [(&str, &[&str]); 10] = [
    ("a system text", &["system", "system_prompt", "system_message"]),
    ("turns before the question", &["history"]),
    ("functions that the model may call", &[
            "tools", "functions", "function_call", "tool_calls",
        ]),
    ("variables of a chat template", &["chat_template_kwargs"]),
    ("answers by preference", &[
            "chosen", "rejected", "chosen_response", "rejected_response", "preferred",
            "dispreferred", "kto_tag",
        ]),
    (
        "a context of the question",
        &[
            "input", "instruction", "instructions", "context", "contexts", "document", "documents",
            "passage", "passages", "background", "knowledge", "examples", "demonstrations",
            "prefix", "suffix",
        ],
    ),
    (
        "thoughts before the answer",
        &[
            "reasoning", "reasoning_content", "reasoning_trace", "thinking", "think", "thought",
            "thoughts", "rationale", "chain_of_thought", "cot", "scratchpad",
        ],
    ),
    (
        LOSS,
        &[
            "labels", "mask", "masks", "loss_mask", "loss_masks", "label_mask", "assistant_mask",
            "assistant_masks", "completion_mask", "prompt_mask", "mask_first", "mask_prompt",
            "mask_history", "train_on_input", "train_on_inputs", "train_on_prompt", "train_on_turn",
            "attention_mask", "position_ids", "token_type_ids", "seq_lengths",
        ],
    ),
    ("what is no text", &[
            "image", "images", "video", "videos", "audio", "audios", "pixel_values",
        ]),
    (WEIGHT, &WEIGHTS),
];

const WEIGHTS: [&str; 5] = ["weight", "weights", "sample_weight", "example_weight", "loss_weight"];

/// Keys of unpaired preference (KTO), which say whether an answer is a good one.
const DESIRABLE: [&str; 3] = ["label", "kto_tag", "desirable"];

/// Keys whose slips of the pen are told from other keys.
const SLIPS: [&str; 5] = ["system", "history", "tools", "label", "weight"];

/// Names kept of one file.
const MOST: usize = 100;

/// Names in a note.
const SHOWN: usize = 12;

/// Keys of files that nothing is made of.
#[derive(Clone, Debug, Default)]
pub struct Unused {
    columns: BTreeSet<String>,
    of_messages: BTreeSet<String>,
}

impl Unused {
    /// What a person should know of them, a line each.
    pub fn notes(&self) -> Vec<String> {
        let lines = [
            ("columns not used", &self.columns),
            ("keys of messages that only a chat template could word", &self.of_messages),
        ];
        let line = |(what, names): (&str, &BTreeSet<String>)| {
            let shown: Vec<String> =
                names.iter().take(SHOWN).map(|name| format!("`{}`", clip(name))).collect();
            let more = if names.len() > SHOWN { ", …" } else { "" };
            format!("{what}: {}{more}", shown.join(", "))
        };
        lines.into_iter().filter(|(_, names)| !names.is_empty()).map(line).collect()
    }

    /// Adds those of another file.
    pub fn add(&mut self, other: &Self) {
        other.columns.iter().for_each(|name| self.column(name));
        other.of_messages.iter().for_each(|name| self.of_message(name));
    }

    pub(super) fn column(&mut self, name: &str) {
        add(&mut self.columns, name);
    }

    pub(super) fn of_message(&mut self, name: &str) {
        add(&mut self.of_messages, name);
    }

    /// Whether an earlier message had the key.
    pub(super) fn has_of_message(&self, name: &str) -> bool {
        self.of_messages.contains(name)
    }
}

fn add(names: &mut BTreeSet<String>, name: &str) {
    if names.len() < MOST && !names.contains(name) {
        names.insert(name.to_owned());
    }
}

/// Whether a value stands where there is nothing: tables and texts have no other way to say so.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => matches!(text.trim(), "" | "[]" | "{}" | "null" | "None"),
        Value::Array(list) => list.iter().all(Value::is_null),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A key beside a text that is learnt as it stands, whatever the record tells of it: it is named in
/// a note, but where it weighs the record or its tokens.
///
/// Errors: as [`pass`].
pub(super) fn pass_beside_text(key: &str, value: &Value, unused: &mut Unused) -> Result<(), Error> {
    if key == "label" || matters(key).is_some_and(|holds| holds != LOSS && holds != WEIGHT) {
        if !is_empty(value) {
            unused.column(key);
        }
        return Ok(());
    }
    pass(key, value, &[], unused)
}

/// A key, with its value, that no item is made of.
///
/// Errors (class data), without the place: it would change what is learnt; `slips` are names that
/// it may be meant as, beside [`SLIPS`].
pub(super) fn pass(
    key: &str,
    value: &Value,
    slips: &[&str],
    unused: &mut Unused,
) -> Result<(), Error> {
    if is_empty(value) || why_silent(key).is_some() {
        return Ok(());
    }
    match truth(value) {
        // A good answer is an answer.
        Some(true) if DESIRABLE.contains(&key) || WEIGHTS.contains(&key) => return Ok(()),
        Some(false) if DESIRABLE.contains(&key) => return Err(undesirable(key)),
        _ => {}
    }
    // An earlier record had it; looking for what it may be a slip for takes longer than the rest.
    if unused.columns.contains(key) {
        return Ok(());
    }
    if let Some(holds) = matters(key) {
        let error = error!(Data, "`{key}` holds {holds}, which would be left out");
        return Err(error.hint(remedy(holds)));
    }
    match nearest(key, SLIPS.iter().chain(slips).copied()) {
        Some(near) if near != key => {
            Err(error!(Data, "unknown key `{key}`; did you mean `{near}`?"))
        }
        _ => {
            unused.column(key);
            Ok(())
        }
    }
}

fn undesirable(key: &str) -> Error {
    error!(
        Data,
        "`{key}` is false, which marks an answer that is not to be learnt (unpaired preference, \
         KTO)";
        hint: "leave out the records whose `{key}` is false, or the column where it means \
               something else"
    )
}

/// Why a key says nothing of what is to be learnt.
pub(super) fn why_silent(key: &str) -> Option<&'static str> {
    SILENT.iter().find(|(_, keys)| keys.contains(&key)).map(|(why, _)| *why)
}

/// What a key holds that would change what is learnt.
pub(super) fn matters(key: &str) -> Option<&'static str> {
    MATTERS.iter().find(|(_, keys)| keys.contains(&key)).map(|(holds, _)| *holds)
}

/// What can be done about a key that is refused.
fn remedy(holds: &str) -> &'static str {
    match holds {
        "answers by preference" => {
            "keep the answer that was preferred, as `completion`; preferences themselves are not \
             learnt"
        }
        LOSS => {
            "it goes with token ids; in `messages`, `weight: 0` leaves an answer out of the loss"
        }
        "what is no text" => "the models here read text only; leave the column out",
        WEIGHT => {
            "leave the column out, or divide the records into sets and give these weights with \
             `data::mix`"
        }
        _ => {
            "word it with a template of the recipe (`template: #{ prompt: …, answer: … }`), \
             or leave the column out"
        }
    }
}

/// Yes or no, in the ways that tables and numbers say it.
pub(super) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::Number(number) => match number.as_f64() {
            Some(1.0) => Some(true),
            Some(0.0) => Some(false),
            _ => None,
        },
        Value::String(text) => match text.trim() {
            "true" | "True" | "TRUE" | "1" | "1.0" => Some(true),
            "false" | "False" | "FALSE" | "0" | "0.0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_key_is_in_two_lists() {
        let mut seen = BTreeSet::new();
        let lists = SILENT.iter().chain(&MATTERS).flat_map(|(_, keys)| keys.iter());
        lists.for_each(|key| assert!(seen.insert(key), "{key}"));
        // No key that says nothing is taken for a slip: those are asked for first.
        let mut unused = Unused::default();
        SILENT.iter().flat_map(|(_, keys)| *keys).for_each(|key| {
            assert!(pass(key, &json!(7), &["input"], &mut unused).is_ok(), "{key}")
        });
        assert!(unused.notes().is_empty());
    }

    #[test]
    fn a_key_that_matters_is_refused_unless_it_is_empty() {
        let mut unused = Unused::default();
        for key in MATTERS.iter().flat_map(|(_, keys)| *keys) {
            let error = pass(key, &json!("x"), &[], &mut unused).unwrap_err();
            assert!(error.message.contains(&format!("`{key}`")), "{error}");
            assert!(error.hint.is_some());
            for nothing in
                [json!(null), json!(""), json!([]), json!({}), json!("[]"), json!([null])]
            {
                assert!(pass(key, &nothing, &[], &mut unused).is_ok(), "{key}");
            }
        }
        assert!(unused.notes().is_empty());
    }

    #[test]
    fn other_keys_are_noted() {
        let mut unused = Unused::default();
        for (key, value) in [
            ("persona", json!("x")),
            ("label", json!("entailment")),
            ("label", json!(2)),
            ("flag", json!(false)),
        ] {
            assert!(pass(key, &value, &[], &mut unused).is_ok(), "{key}");
        }
        assert_eq!(unused.notes(), ["columns not used: `flag`, `label`, `persona`"]);
        // A key that was named is looked at again for its value.
        assert!(
            pass("label", &json!(false), &[], &mut unused).is_err()
                && pass("persona", &json!("y"), &[], &mut unused).is_ok()
        );
    }

    #[test]
    fn slips_are_told_with_the_nearest_key() {
        for (key, near) in [
            ("sytem", "system"),
            ("histroy", "history"),
            ("tool", "tools"),
            ("wieght", "weight"),
            ("inputs", "input"),
        ] {
            let error = pass(key, &json!("x"), &["input"], &mut Unused::default()).unwrap_err();
            assert_eq!(error.message, format!("unknown key `{key}`; did you mean `{near}`?"));
        }
    }

    #[test]
    fn beside_a_text_a_key_is_noted_unless_it_weighs() {
        let mut beside = Unused::default();
        for (key, fine) in [
            ("image", true),
            ("label", true),
            ("tools", true),
            ("weight", false),
            ("loss_mask", false),
        ] {
            assert_eq!(pass_beside_text(key, &json!(0), &mut beside).is_ok(), fine, "{key}");
        }
        assert_eq!(beside.notes(), ["columns not used: `image`, `label`, `tools`"]);
    }

    #[test]
    fn a_weight_is_one_and_a_label_is_true() {
        for (key, value, fine) in [
            ("weight", json!(1), true),
            ("weight", json!(1.0), true),
            ("weight", json!("1"), true),
            ("weight", json!(0), false),
            ("weight", json!(0.5), false),
            ("label", json!(true), true),
            ("label", json!(1), true),
            ("label", json!(false), false),
            ("label", json!("False"), false),
            ("label", json!(0), false),
        ] {
            let passed = pass(key, &value, &[], &mut Unused::default());
            assert_eq!(passed.is_ok(), fine, "{key} {value}");
        }
    }
}
