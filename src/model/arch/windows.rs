//! Which layers attend to a sliding window only, as transformers 5.24 decides it for each type of
//! models.

use anyhow::Result;
use serde_json::Value;

use super::fields::ConfigFields;
use crate::error::bail;

/// The window of configs that lack the key.
const WINDOW: usize = 4096;
/// Qwen's first layer with a window, where the config lacks the key.
const FIRST: i64 = 28;

/// What `layer_types` may say of a layer.
#[derive(Clone, Copy, PartialEq)]
enum LayerType {
    Full,
    Sliding,
}

fn types(f: &ConfigFields, layers: usize) -> Result<Option<Vec<LayerType>>> {
    let Some(value) = f.get("layer_types") else { return Ok(None) };
    let Some(list) = value.as_array() else {
        return f.wrong("layer_types", "a list with an entry for each layer");
    };
    if list.len() != layers {
        bail!(
            Data,
            "config.json: `layer_types` has {} entries, `num_hidden_layers` is {layers}",
            list.len()
        );
    }
    let kind = |v: &Value| match v.as_str() {
        Some("full_attention" | "attention") => Ok(LayerType::Full),
        Some("sliding_attention") => Ok(LayerType::Sliding),
        _ => bail!(
            Data,
            "config.json: `layer_types` has {v}; known are full_attention, sliding_attention"
        ),
    };
    list.iter().map(kind).collect::<Result<_>>().map(Some)
}

/// transformers' class attends to all tokens, but its cache would follow these keys when it
/// generates.
pub fn llama(
    f: &ConfigFields,
    layers: usize,
    positions: usize,
    _: &mut Vec<String>,
) -> Result<Vec<Option<usize>>> {
    let types = types(f, layers)?;
    let sliding = types.is_some_and(|types| types.contains(&LayerType::Sliding));
    let window = f.size("sliding_window")?.filter(|&window| window < positions);
    if let Some(key) = window.map(|_| "sliding_window").or(sliding.then_some("layer_types")) {
        bail!(
            Data,
            "config.json: `{key}` is {}: transformers' `llama` measures without a window and \
             generates with one in its cache",
            f.0[key];
            hint: "take `{key}` out of the config, or say `\"model_type\": \"mistral\"` if all \
                   layers have the window"
        );
    }
    Ok(vec![])
}

/// All layers have the window, or those that `layer_types` says: with that key transformers takes
/// the model for a Ministral.
pub fn mistral(
    f: &ConfigFields,
    layers: usize,
    _: usize,
    notes: &mut Vec<String>,
) -> Result<Vec<Option<usize>>> {
    let types = types(f, layers)?;
    let window = match f.raw("sliding_window") {
        Some(Value::Null) => None,
        _ => Some(f.size_or("sliding_window", WINDOW)?),
    };
    let unread =
        ["use_sliding_window", "max_window_layers"].into_iter().find(|key| f.get(key).is_some());
    if let (Some(window), Some(key), None) = (window, unread, &types) {
        notes.push(format!(
            "config.json: all layers have the sliding window of {window}; transformers' `mistral` \
             does not look at `{key}`"
        ));
    }
    let sliding = types.map_or(vec![window.is_some(); layers], |types| {
        types.iter().map(|kind| *kind == LayerType::Sliding).collect()
    });
    each(sliding, window)
}

/// `layer_types` says it, else layers from `max_window_layers` on have the window.
pub fn qwen(
    f: &ConfigFields,
    layers: usize,
    _: usize,
    _: &mut Vec<String>,
) -> Result<Vec<Option<usize>>> {
    let types = types(f, layers)?;
    let used = f.flag_or("use_sliding_window", false)?;
    let first = f.or("max_window_layers", FIRST, "a whole number", Value::as_i64)?;
    let window = match f.raw("sliding_window") {
        Some(Value::Null) => None,
        _ if used => Some(f.size_or("sliding_window", WINDOW)?),
        _ => None,
    };
    let sliding = match types {
        Some(types) => types.into_iter().map(|kind| kind == LayerType::Sliding).collect(),
        None => (0..layers).map(|layer| window.is_some() && layer as i64 >= first).collect(),
    };
    each(sliding, window)
}

/// The window of each layer that has it; empty where none has.
fn each(sliding: Vec<bool>, window: Option<usize>) -> Result<Vec<Option<usize>>> {
    if !sliding.contains(&true) {
        return Ok(vec![]);
    }
    if window.is_none() {
        bail!(
            Data,
            "config.json: `layer_types` has sliding_attention, but `sliding_window` or \
             `use_sliding_window` says that there is no window"
        );
    }
    Ok(sliding.into_iter().map(|sliding| window.filter(|_| sliding)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(model_type: &str, config: Value) -> Result<(Vec<Option<usize>>, usize)> {
        let (mut notes, f) = (vec![], ConfigFields(&config));
        let windows = match model_type {
            "mistral" => mistral(&f, 2, 256, &mut notes),
            "qwen2" | "qwen3" => qwen(&f, 2, 256, &mut notes),
            _ => llama(&f, 2, 256, &mut notes),
        };
        windows.map(|windows| (windows, notes.len()))
    }

    fn check(cases: &[(&str, Value, Vec<Option<usize>>)]) -> Result<()> {
        for (model_type, config, want) in cases {
            assert_eq!(of(model_type, config.clone())?, (want.clone(), 0), "{model_type} {config}");
        }
        Ok(())
    }

    #[test]
    fn qwens_have_windows_where_they_are_used() -> Result<()> {
        let both = ["sliding_attention", "full_attention"];
        check(&[
            ("qwen2", json!({ "use_sliding_window": true, "sliding_window": 16 }), vec![]),
            (
                "qwen2",
                json!({ "use_sliding_window": true, "sliding_window": 16, "max_window_layers": 2 }),
                vec![],
            ),
            (
                "qwen2",
                json!({ "use_sliding_window": true, "sliding_window": 16, "max_window_layers": 1 }),
                vec![None, Some(16)],
            ),
            (
                "qwen3",
                json!({ "use_sliding_window": true, "sliding_window": 16, "layer_types": both }),
                vec![Some(16), None],
            ),
            (
                "qwen3",
                json!({ "use_sliding_window": true, "max_window_layers": -1 }),
                vec![Some(4096); 2],
            ),
            ("qwen3", json!({ "sliding_window": 16, "max_window_layers": 0 }), vec![]),
        ])
    }

    #[test]
    fn all_layers_of_a_mistral_have_windows() -> Result<()> {
        let both = ["sliding_attention", "full_attention"];
        check(&[
            ("mistral", json!({ "sliding_window": 16 }), vec![Some(16); 2]),
            ("mistral", json!({}), vec![Some(4096); 2]),
            ("mistral", json!({ "sliding_window": 16, "layer_types": both }), vec![Some(16), None]),
            ("mistral", json!({ "sliding_window": null }), vec![]),
        ])?;
        let unread = of("mistral", json!({ "sliding_window": 16, "use_sliding_window": false }))?;
        assert_eq!(unread, (vec![Some(16); 2], 1));
        Ok(())
    }

    #[test]
    fn no_layer_of_a_llama_has_a_window() -> Result<()> {
        let full = ["full_attention", "attention"];
        check(&[("llama", json!({ "sliding_window": 256, "layer_types": full }), vec![])])
    }

    #[test]
    fn what_cannot_be_is_named() {
        let both = ["sliding_attention", "full_attention"];
        for (model_type, config, words) in [
            ("qwen3", json!({ "layer_types": both }), "says that there is no window"),
            ("qwen3", json!({ "layer_types": ["full_attention"] }), "has 1 entries"),
            (
                "qwen3",
                json!({ "layer_types": ["full_attention", "linear_attention"] }),
                "linear_attention",
            ),
            (
                "qwen2",
                json!({ "use_sliding_window": true, "sliding_window": 0 }),
                "`sliding_window` is 0",
            ),
            ("qwen2", json!({ "use_sliding_window": "yes" }), "`use_sliding_window`"),
            ("mistral", json!({ "layer_types": both, "sliding_window": null }), "`layer_types`"),
            ("mistral", json!({ "sliding_window": -1 }), "`sliding_window` is -1"),
            ("llama", json!({ "sliding_window": 16 }), "`sliding_window` is 16"),
            ("llama", json!({ "layer_types": both }), "`layer_types`"),
        ] {
            let error = of(model_type, config).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
