//! Which tokens end a generated text, by what a model's files say, and what else they say of
//! generation.
//!
//! As in transformers, `generation_config.json` takes the place of what `config.json` says of
//! generation: where it is there, end tokens are those that it names, and none where it names none.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::arch::CommonConfig;
use super::generation_keys::notes_of;
use crate::error::{bail, error};
use crate::source::{self, Gguf, ModelFolder, Tokenizer};

/// The file beside a model's config that says how it generates.
const FILE: &str = "generation_config.json";

/// Ids that GGUF has for tokens that end a turn or a message, beside the one that ends a text.
/// llama.cpp ends at each.
pub(super) const GGUF_KEYS: [&str; 2] =
    ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

/// Sets the end tokens of a model in a folder, whose `config.json` is `json`. What a person should
/// know goes into `notes`.
///
/// Errors (class data): a file that is no JSON object, end tokens that are no ids.
pub(super) fn of_folder(
    folder: &ModelFolder,
    json: &Value,
    tokenizer: &Tokenizer,
    config: &mut CommonConfig,
    notes: &mut Vec<String>,
) -> Result<()> {
    let path = folder.others.iter().find(|path| path.file_name().is_some_and(|name| name == FILE));
    let Some(path) = path else {
        notes.extend(notes_of("config.json", json.as_object().into_iter().flatten(), false));
        within("config.json", tokenizer, config, &[], notes);
        return Ok(());
    };
    let own = object(path)?;
    notes.extend(notes_of(FILE, &own, true));
    let (ends, beyond) = ids(own.get("eos_token_id").unwrap_or(&Value::Null), config.vocab_size)
        .with_context(|| format!("`{}`", path.display()))?;
    if !beyond.is_empty() {
        notes.push(format!(
            "{FILE}: `eos_token_id` {} is no token of the vocabulary of {}, so no text ends there",
            beyond.join(", "),
            config.vocab_size
        ));
    }
    let before = std::mem::replace(&mut config.eos_token_ids, ends);
    within(FILE, tokenizer, config, &before, notes);
    Ok(())
}

fn object(path: &Path) -> Result<Map<String, Value>> {
    let text = source::text_file::json_text(path)?;
    let object = serde_json::from_str(&text).map_err(|e| {
        error!(
            Data,
            "`{}` is no JSON object: {e}",
            path.display();
            hint: "without it, config.json says how texts end"
        )
    })?;
    Ok(object)
}

/// Adds the end tokens of a GGUF file beside the one of its config.
pub(super) fn of_gguf(
    gguf: &Gguf,
    config: &mut CommonConfig,
    notes: &mut Vec<String>,
) -> Result<()> {
    for key in GGUF_KEYS {
        match gguf
            .optional(key, source::GgufValue::as_u64)?
            .map(|id| u32::try_from(id).ok().filter(|id| (*id as usize) < config.vocab_size))
        {
            None => {}
            Some(Some(id)) if config.eos_token_ids.contains(&id) => {}
            Some(Some(id)) => config.eos_token_ids.push(id),
            Some(None) => notes.push(format!(
                "`{key}` is no token of the vocabulary of {}, so no text ends there",
                config.vocab_size
            )),
        }
    }
    Ok(())
}

/// The token ids that a value names, and what it names beyond a vocabulary of `size`, as
/// transformers takes it: a number or a list.
fn ids(value: &Value, size: usize) -> Result<(Vec<u32>, Vec<String>)> {
    let list = match value {
        Value::Null => &[],
        Value::Array(list) if list.is_empty() => {
            bail!(Data, "`eos_token_id` is an empty list; leave it out where no token ends a text")
        }
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    let (mut ids, mut beyond) = (vec![], vec![]);
    for value in list {
        let Some(number) = value.as_f64().filter(|number| number.fract() == 0.0) else {
            bail!(Data, "`eos_token_id` holds {value}, which is no token id");
        };
        if (0.0..size as f64).contains(&number) {
            ids.push(number as u32);
        } else {
            beyond.push(value.to_string());
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok((ids, beyond))
}

/// Says where tokens that end a text by the tokenizer, or by the config that `file` takes the place
/// of (`before`), do not end a generated one.
fn within(
    file: &str,
    tokenizer: &Tokenizer,
    config: &CommonConfig,
    before: &[u32],
    notes: &mut Vec<String>,
) {
    let mut left: Vec<u32> = before
        .iter()
        .copied()
        .chain(tokenizer.eos())
        .filter(|id| !config.eos_token_ids.contains(id))
        .collect();
    left.sort_unstable();
    left.dedup();
    if left.is_empty() {
        return;
    }
    let which = if config.eos_token_ids.is_empty() {
        "at no token".to_owned()
    } else {
        format!("at {}", named(&config.eos_token_ids, tokenizer))
    };
    let left = named(&left, tokenizer);
    notes.push(format!(
        "by its {file}, as in transformers, a generated text ends {which}, not at {left}; as a \
         `stop` it ends there too"
    ));
}

/// Tokens as they are written, or their ids.
fn named(ids: &[u32], tokenizer: &Tokenizer) -> String {
    let name = |id: &u32| {
        tokenizer.token(*id).map_or_else(|| id.to_string(), |token| format!("`{token}`"))
    };
    ids.iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn end_tokens_are_one_or_a_list() {
        let of = |value: Value| ids(&value, 10).map_err(|e| e.to_string());
        for (value, want) in [
            (json!(3), vec![3]),
            (json!([3, 1, 3]), vec![1, 3]),
            (json!(null), vec![]),
            (json!([3.0]), vec![3]),
        ] {
            assert_eq!(of(value).unwrap(), (want, vec![]));
        }
        assert_eq!(of(json!([3, 10, -1])).unwrap(), (vec![3], vec!["10".to_owned(), "-1".into()]));
        for (value, want) in [
            (json!([]), "`eos_token_id` is an empty list; leave it out where no token ends a text"),
            (json!("3"), "`eos_token_id` holds \"3\", which is no token id"),
            (json!([[3]]), "`eos_token_id` holds [3], which is no token id"),
            (json!(2.5), "`eos_token_id` holds 2.5, which is no token id"),
        ] {
            assert_eq!(of(value).unwrap_err(), want);
        }
    }
}
