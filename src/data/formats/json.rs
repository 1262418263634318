//! A JSON list of records.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde_json::Value;

use super::record::{Records, place};
use super::{json_fault, kind};
use crate::bail_data;
use crate::data::item::Item;
use crate::error::Error;

/// What a file may be that is no list.
const LINES: &str = "a file with a record on each line is called `.jsonl`";

pub(super) fn parse(file: &Arc<Path>, text: &str, mut records: Records) -> Result<Vec<Item>> {
    let name = file.display();
    let value: Value = serde_json::from_str(text).map_err(|e| {
        let error = Error::data(format!("`{name}` line {} column {}: {}", e.line(), e.column(), json_fault(&e)));
        if e.to_string().starts_with("trailing characters") { error.hint(LINES) } else { error }
    })?;
    let Value::Array(list) = value else {
        let error = Error::data(format!("`{name}` holds {}, expected a list of objects", kind(&value)));
        return Err(error.hint(LINES).into());
    };
    if list.is_empty() {
        bail_data!("`{name}` holds an empty list");
    }
    list.into_iter().enumerate().map(|(i, value)| records.next(place(file, "item", i + 1), value)).collect()
}
