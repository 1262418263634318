//! JSON lines: a record a line. Blank lines are passed over.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde_json::Value;

use super::json_fault;
use super::record::{Records, place};
use crate::data::item::{Item, Place};
use crate::error::Error;

pub(super) fn parse(file: &Arc<Path>, text: &str, mut records: Records) -> Result<Vec<Item>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    lines
        .map(|(i, line)| {
            let place = place(file, "line", i + 1);
            let value = value(&place, line)?;
            records.next(place, value)
        })
        .collect()
}

/// The record of a line.
pub(super) fn value(place: &Place, line: &str) -> Result<Value> {
    Ok(serde_json::from_str(line).map_err(|e| Error::data(format!("{place} column {}: {}", e.column(), json_fault(&e))))?)
}
