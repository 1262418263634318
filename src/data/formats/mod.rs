//! Data files, one format per file; the ending of the name says which.

mod json;
mod jsonl;
mod text;

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use crate::bail_data;
use crate::data::item::Item;
use crate::error::Error;

/// The endings that are read, with what each stands for.
pub const ENDINGS: &str = "`.json` (a list of instruction, input, output, answer), `.jsonl` (token ids by line), `.txt` (plain text)";

/// Reads a whole data file. Errors name the file and the line or item in it, and are of class data.
pub fn read(path: &Path) -> Result<Vec<Item>> {
    format_of(path)?;
    let unreadable = |e: std::io::Error| Error::data(format!("`{}` cannot be read: {e}", path.display()));
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        bail_data!("`{}` is not a file", path.display());
    }
    parse(path, &std::fs::read(path).map_err(unreadable)?)
}

/// Reads the bytes of a data file; `path` names it in messages and its ending says the format.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Item>> {
    let parse = format_of(path)?;
    parse(&Arc::from(path), decode(path, bytes)?)
}

type Parse = fn(&Arc<Path>, &str) -> Result<Vec<Item>>;

fn format_of(path: &Path) -> Result<Parse> {
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    match ending.as_deref() {
        Some("json") => Ok(json::parse),
        Some("jsonl") => Ok(jsonl::parse),
        Some("txt") => Ok(text::parse),
        _ => bail_data!("`{}` is of no data format that is known; the endings are {ENDINGS}", path.display()),
    }
}

/// The text of a file: UTF-8, without a byte order mark, not empty.
fn decode<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    let path = path.display();
    let body = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(body).map_err(|e| {
        let at = e.valid_up_to();
        let line = body[..at].iter().filter(|&&b| b == b'\n').count() + 1;
        let offset = at + bytes.len() - body.len();
        let found = if body.starts_with(b"\xff\xfe") || body.starts_with(b"\xfe\xff") { "; it looks like UTF-16" } else { "" };
        Error::data(format!("`{path}` line {line}: byte 0x{:02x} at offset {offset} is not UTF-8{found}", body[at]))
            .hint("save the file as UTF-8")
    })?;
    if text.trim().is_empty() {
        bail_data!("`{path}` is empty");
    }
    Ok(text)
}

/// What a JSON value is called in messages.
fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a string",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
}

/// A JSON error in words: what, without the place that serde adds at the end.
fn json_fault(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let what = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
    if error.is_eof() { format!("the JSON is cut short ({what})") } else { format!("not valid JSON: {what}") }
}
