//! Data files, one format per file of this folder. The ending of a name says the format, or a
//! [`Layout`] does.
//!
//! Formats make records (named fields) or, for plain text, documents; `record` makes items of
//! records.

mod conversation;
mod fields;
mod foreign;
mod format;
pub(super) mod instruction;
mod json;
mod keys;
mod layout;
mod lines;
pub mod loose;
pub(super) mod messages;
mod packed;
mod parquet;
mod record;
mod table;
mod text;
mod tokens;

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use sha2::{Digest, Sha256};

pub use self::format::{Encoding, Format};
pub use self::keys::Unused;
use self::layout::FileKind;
pub use self::layout::Layout;
pub use self::lines::LineFile;
use self::packed::Packing;
use self::record::Records;
pub use self::text::looks_like;
use crate::data::item::Item;
use crate::error::{bail, error};

/// A data file that was read.
#[derive(Debug)]
pub struct FileRead {
    pub items: Vec<Item>,
    /// SHA-256 of the file in hexadecimal.
    pub digest: String,
    /// What a person should know of how it was read.
    pub notes: Vec<String>,
    /// Keys of its records that nothing is made of.
    pub unused: Unused,
}

/// Reads a whole data file. Errors name the file and the line, item or row in it; they are of class
/// data, or of class usage where the layout does not fit the file.
pub fn read(path: &Path, layout: &Layout) -> Result<Vec<Item>> {
    Ok(read_noted(path, layout)?.items)
}

/// As [`read`], with what else is to be known of the file.
pub fn read_noted(path: &Path, layout: &Layout) -> Result<FileRead> {
    layout.kind(path)?;
    let unreadable = |e: std::io::Error| error!(Data, "`{}` cannot be read: {e}", path.display());
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        bail!(Data, "`{}` is not a file", path.display());
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let mut unused = Unused::default();
    let (items, note) = parse_noted(path, &bytes, layout, &mut unused)?;
    Ok(FileRead { items, digest: digest(&bytes), notes: note.into_iter().collect(), unused })
}

/// Reads the bytes of a data file, which may be compressed; `path` names it in messages.
pub fn parse(path: &Path, bytes: &[u8], layout: &Layout) -> Result<Vec<Item>> {
    Ok(parse_noted(path, bytes, layout, &mut Unused::default())?.0)
}

fn parse_noted(
    path: &Path,
    bytes: &[u8],
    layout: &Layout,
    unused: &mut Unused,
) -> Result<(Vec<Item>, Option<String>)> {
    let file = Arc::from(path);
    let kind = layout.kind(path)?;
    let bytes = content(path, bytes, layout)?;
    let field = if let FileKind::Json = kind { "key" } else { "column" };
    let records = Records::new(layout.rows, field, unused);
    if let FileKind::Parquet = kind {
        return Ok((parquet::parse(&file, &bytes, records)?, None));
    }
    let text =
        decode(&file, &bytes, mark(&bytes, layout.encoding)..bytes.len(), layout.encoding, 1)?;
    if text.trim().is_empty() {
        bail!(Data, "`{}` is empty", path.display());
    }
    let items = match kind {
        FileKind::Json => json::parse(&file, &text, records)?,
        FileKind::Table(table) => table.parse(&file, &text, records)?,
        FileKind::Text | FileKind::Parquet => {
            return Ok((text::parse(&file, &text)?, text::note(path, &text)));
        }
    };
    Ok((items, None))
}

/// What a file holds, unpacked if it is compressed. Errors (class data): it is of another kind than
/// data of its format.
fn content<'a>(path: &Path, bytes: &'a [u8], layout: &Layout) -> Result<Cow<'a, [u8]>> {
    let bytes = match Packing::of(bytes) {
        Some(packing) => Cow::Owned(packing.unpack(path, bytes)?),
        None => Cow::Borrowed(bytes),
    };
    foreign::by_content(path, &bytes, layout.format(path)?)
        .map_or(Ok(bytes), |error| Err(error.into()))
}

/// SHA-256 in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Bytes of the byte order mark that a file begins with.
fn mark(bytes: &[u8], encoding: Encoding) -> usize {
    if encoding == Encoding::Utf8 && bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 }
}

/// The text of a part of a file, which begins in `line`.
fn decode<'a>(
    file: &Path,
    bytes: &'a [u8],
    part: Range<usize>,
    encoding: Encoding,
    line: usize,
) -> Result<Cow<'a, str>> {
    let body = &bytes[part.clone()];
    let fault = |at: usize, what: &str, utf16: bool| {
        let line = line + body[..at].iter().filter(|&&b| b == b'\n').count();
        let (name, byte, offset) = (file.display(), body[at], part.start + at);
        let guess = if utf16 { "; it looks like UTF-16" } else { "" };
        error!(
            Data,
            "`{name}` line {line}: byte 0x{byte:02x} at offset {offset} is {what}{guess}";
            hint: "save the file as UTF-8"
        )
    };
    let text = match encoding {
        Encoding::Utf8 => std::str::from_utf8(body).map(Cow::Borrowed).map_err(|e| {
            let utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
            fault(e.valid_up_to(), "not UTF-8", utf16)
        })?,
        Encoding::Latin1 => Cow::Owned(body.iter().map(|&b| char::from(b)).collect()),
    };
    if let Some(at) = body.iter().position(|&b| b == 0) {
        // ASCII in UTF-16 has a zero beside each letter.
        let near = &body[at.saturating_sub(8)..(at + 8).min(body.len())];
        let utf16 = near.iter().filter(|&&b| b == 0).count() * 3 >= near.len();
        return Err(fault(at, "no text", utf16).into());
    }
    Ok(text)
}

/// What a JSON value is called in messages.
fn kind(value: &serde_json::Value) -> Cow<'_, str> {
    if let Some(what) = loose::what(value) {
        return what.into();
    }
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a string",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
    .into()
}

/// A JSON error in words: what, without the place that serde adds at the end.
fn json_fault(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let what = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
    if error.is_eof() {
        format!("the JSON is cut short ({what})")
    } else {
        format!("not valid JSON: {what}")
    }
}
