//! Rows that are tokenised already: one `{"ids": [1, 2, 3], "mask_first": 2}` a line.
//!
//! `mask_first`, 0 where it is missing, says how many tokens at the front count in no loss. Blank
//! lines are passed over. Other keys are refused: a mistyped `mask_first` would change the loss.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde_json::{Map, Value};

use super::{json_fault, kind};
use crate::bail_data;
use crate::data::item::{Item, Place, TokenRow};
use crate::error::{Error, nearest};

const EXPECTED: &str = "expected is `{\"ids\": [token ids], \"mask_first\": number}`";

pub(super) fn parse(file: &Arc<Path>, text: &str) -> Result<Vec<Item>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(i, line)| row(Place { file: file.clone(), unit: "line", number: i + 1 }, line)).collect()
}

fn row(place: Place, line: &str) -> Result<Item> {
    let value: Value = serde_json::from_str(line).map_err(|e| Error::data(format!("{place} column {}: {}", e.column(), json_fault(&e))))?;
    let Value::Object(fields) = value else {
        bail_data!("{place} is {}, {EXPECTED}", kind(&value));
    };
    let known = ["ids", "mask_first"];
    if let Some(key) = fields.keys().find(|key| !known.contains(&key.as_str())) {
        let near = nearest(key, known).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        bail_data!("{place}: unknown key `{key}`{near}; {EXPECTED}");
    }
    let ids = ids(&place, &fields)?;
    let mask_first = match fields.get("mask_first") {
        None => 0,
        Some(value) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) if n <= ids.len() => n,
            Some(n) => bail_data!("{place}: `mask_first` is {n}, more than the row has ids ({})", ids.len()),
            None => bail_data!("{place}: `mask_first` is {value}, expected a whole number"),
        },
    };
    Ok(Item::Tokens(TokenRow { place, ids, mask_first }))
}

fn ids(place: &Place, fields: &Map<String, Value>) -> Result<Vec<u32>> {
    let list = match fields.get("ids") {
        Some(Value::Array(list)) => list,
        Some(other) => bail_data!("{place}: `ids` is {}, {EXPECTED}", kind(other)),
        None => bail_data!("{place} has no `ids`; {EXPECTED}"),
    };
    let id = |(i, value): (usize, &Value)| match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
        Some(id) => Ok(id),
        None if value.is_number() => bail_data!("{place}: `ids[{i}]` is {value}, ids are whole numbers from 0 to {}", u32::MAX),
        None => bail_data!("{place}: `ids[{i}]` is {}, expected a token id", kind(value)),
    };
    list.iter().enumerate().map(id).collect()
}
