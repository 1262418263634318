//! Older names of options, which stay valid.

use rhai::Map;

use crate::error::{Error, error};

/// The native, an option's older name, and its name.
const OPTIONS: [(&str, &str, &str); 9] = [
    ("fit", "recompute", "gradient_checkpointing"),
    ("model::create", "width", "hidden_size"),
    ("model::create", "ff", "intermediate_size"),
    ("model::create", "layers", "num_hidden_layers"),
    ("model::create", "heads", "num_attention_heads"),
    ("model::create", "groups", "num_key_value_heads"),
    ("model::create", "head_width", "head_dim"),
    ("model::create", "vocabulary", "vocab_size"),
    ("model::create", "positions", "max_position_embeddings"),
];

/// Options that were given under an older name: (name, older name).
pub(super) type Older = Vec<(&'static str, &'static str)>;

/// The options of `call` under their names, and those that had older ones, as (name, older name).
///
/// Errors (class usage): an option under both.
pub(super) fn resolved(call: &str, mut map: Map) -> Result<(Map, Older), Error> {
    let mut older = vec![];
    for (_, old, new) in OPTIONS.into_iter().filter(|(native, ..)| *native == call) {
        let Some(value) = map.remove(old) else { continue };
        if map.insert(new.into(), value).is_some() {
            return Err(error!(
                Usage,
                "`{new}` and `{old}` of `{call}` are the same option";
                hint: "`{old}` is its older name"
            ));
        }
        older.push((new, old));
    }
    Ok((map, older))
}
