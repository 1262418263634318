//! Columns of a record, for those that word it.

use anyhow::Result;
use serde_json::Value;

use super::item::Row;
use crate::error::{Error, did_you_mean, error};

/// The error for a column that is not there.
pub(super) fn no_column(row: &Row, column: &str) -> anyhow::Error {
    let near = did_you_mean(column, row.fields.keys().map(String::as_str));
    let columns: Vec<String> = row.fields.keys().map(|k| format!("`{k}`")).collect();
    error!(
        Data,
        "{} has no column `{column}`{near}",
        row.place;
        hint: "its columns are {}",
        columns.join(", ")
    )
    .into()
}

/// A field as a text: strings as they are, other values as JSON.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A text in a column.
pub(super) fn text(row: &Row, column: &str) -> Result<String> {
    match row.fields.get(column) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(other_than(row, column, other, "a text").into()),
        None => Err(no_column(row, column)),
    }
}

/// A list of texts in a column.
pub(super) fn texts(row: &Row, column: &str) -> Result<Vec<String>> {
    let wanted = "a list of texts";
    let one = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(other_than(row, column, other, wanted).into()),
    };
    match row.fields.get(column) {
        Some(Value::Array(list)) => list.iter().map(one).collect(),
        Some(other) => Err(other_than(row, column, other, wanted).into()),
        None => Err(no_column(row, column)),
    }
}

/// The error for a column that holds something else.
pub(super) fn other_than(row: &Row, column: &str, found: &Value, wanted: &str) -> Error {
    let mut shown = plain(found);
    if shown.chars().count() > 60 {
        shown = format!("{}…", shown.chars().take(60).collect::<String>());
    }
    error!(Data, "{}: column `{column}` holds `{shown}`, expected {wanted}", row.place)
}
