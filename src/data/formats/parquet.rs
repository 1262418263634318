//! Parquet: a record a row, with the types that JSON has. Dates, times and decimals become texts;
//! what is neither a text nor a number that JSON has passes where nobody uses it.

use std::cell::Cell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Once};

use ::parquet::errors::{ParquetError, Result as Parquet};
use ::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use ::parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use ::parquet::record::{Field, Row};
use anyhow::Result;
use serde_json::{Number, Value};

use super::loose;
use super::packed::{most, too_much};
use super::record::Records;
use crate::data::item::{Item, ItemPlace};
use crate::error::{Error, bail, error};

pub(super) fn parse(file: &Arc<Path>, bytes: &[u8], records: Records) -> Result<Vec<Item>> {
    let name = file.display();
    match bytes {
        [] => bail!(Data, "`{name}` is empty"),
        [b'P', b'A', b'R', b'E', ..] => {
            bail!(Data, "`{name}` is encrypted Parquet, which is not read")
        }
        [start @ .., b'P', b'A', b'R', b'1'] if start.starts_with(b"PAR1") && start.len() >= 8 => {}
        [b'P', b'A', b'R', b'1', ..] => {
            bail!(
                Data,
                "`{name}` is cut short: Parquet ends with `PAR1`";
                hint: "copy or download it again"
            );
        }
        _ => bail!(Data, "`{name}` is no Parquet file: those begin and end with `PAR1`"),
    }
    let at = Cell::new(0);
    // The library trusts what a file says of itself in places, and panics where that is wrong.
    let read = quietly(|| catch_unwind(AssertUnwindSafe(|| rows(file, bytes, records, &at))));
    read.unwrap_or_else(|_| Err(damaged(file, at.get(), "its parts contradict each other").into()))
}

fn rows(
    file: &Arc<Path>,
    bytes: &[u8],
    mut records: Records,
    at: &Cell<usize>,
) -> Result<Vec<Item>> {
    let fault = |error| fault(file, at.get(), error);
    let reader =
        SerializedFileReader::new(owned(File::get_bytes, bytes.to_vec())).map_err(fault)?;
    check(file, bytes.len(), reader.metadata())?;
    let mut items = Vec::new();
    for row in reader.get_row_iter(None).map_err(fault)? {
        let row = row.map_err(fault)?;
        at.set(items.len() + 1);
        items.push(
            records.next(ItemPlace::new(file, ItemPlace::PARQUET_ROW, at.get()), object(row))?,
        );
    }
    if items.is_empty() {
        bail!(Data, "`{}` has no rows", file.display());
    }
    Ok(items)
}

/// Errors (class data) where a file of `length` bytes has no columns, one that lies outside of it,
/// or more in them than it can hold.
fn check(file: &Path, length: usize, metadata: &ParquetMetaData) -> Result<()> {
    if metadata.file_metadata().schema_descr().num_columns() == 0 {
        bail!(Data, "`{}` has no columns", file.display());
    }
    let mut unpacked = 0usize;
    for column in metadata.row_groups().iter().flat_map(RowGroupMetaData::columns) {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        let packed = column.compressed_size();
        if start < 0 || packed < 0 || start.saturating_add(packed) as u64 > length as u64 {
            let what = format!("column `{}` lies outside the file", column.column_path());
            return Err(damaged(file, 0, &what).into());
        }
        unpacked =
            unpacked.saturating_add(usize::try_from(column.uncompressed_size()).unwrap_or(0));
    }
    if unpacked > most(length) {
        return Err(too_much(file, length).into());
    }
    Ok(())
}

/// Bytes as the library wants them: its type for them, known here only as what it reads from a
/// file.
fn owned<T: From<Vec<u8>>>(_: fn(&File, u64, usize) -> Parquet<T>, bytes: Vec<u8>) -> T {
    bytes.into()
}

/// What the library says of a file, after `row`.
fn fault(file: &Path, row: usize, error: ParquetError) -> Error {
    match error {
        ParquetError::General(what) if what.contains("Disabled feature") => {
            error!(
                Data,
                "`{}` is compressed in a way that is not read ({what})",
                file.display();
                hint: "write it again with zstd, snappy or gzip, or without compression"
            )
        }
        error => damaged(file, row, &error.to_string()),
    }
}

fn damaged(file: &Path, row: usize, what: &str) -> Error {
    let after = if row == 0 { String::new() } else { format!(" after row {row}") };
    error!(
        Data,
        "`{}` is damaged{after}: {what}",
        file.display();
        hint: "copy or download it again"
    )
}

/// A field as JSON.
fn json(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(x) => x.into(),
        Field::Byte(x) => x.into(),
        Field::Short(x) => x.into(),
        Field::Int(x) => x.into(),
        Field::Long(x) => x.into(),
        Field::UByte(x) => x.into(),
        Field::UShort(x) => x.into(),
        Field::UInt(x) => x.into(),
        Field::ULong(x) => x.into(),
        Field::Float16(x) => float(x.to_f64()),
        // By way of its shortest text, so that 0.1 stays 0.1.
        Field::Float(x) => float(x.to_string().parse().unwrap_or(f64::from(x))),
        Field::Double(x) => float(x),
        Field::Str(text) => text.into(),
        // Writers that know no text type store texts as bytes.
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => text.into(),
            Err(_) => loose::fault("bytes that are no text"),
        },
        Field::Group(row) => object(row),
        Field::ListInternal(list) => {
            Value::Array(list.elements().iter().cloned().map(json).collect())
        }
        Field::MapInternal(map) => {
            let entry = |(name, value)| (key(name), json(value));
            Value::Object(map.entries().iter().cloned().map(entry).collect())
        }
        other => other.to_string().into(),
    }
}

fn object(row: Row) -> Value {
    Value::Object(row.into_columns().into_iter().map(|(name, field)| (name, json(field))).collect())
}

/// The name of an entry of a map.
fn key(field: Field) -> String {
    match json(field) {
        Value::String(key) => key,
        other => other.to_string(),
    }
}

fn float(x: f64) -> Value {
    let name = match x {
        x if x.is_nan() => "NaN",
        f64::INFINITY => "Infinity",
        _ => "-Infinity",
    };
    Number::from_f64(x)
        .map_or_else(|| loose::fault(format!("{name}, which JSON does not have")), Value::Number)
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` without the message that a panic prints: it is told as an error of the file instead.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    QUIET.set(true);
    let out = work();
    QUIET.set(false);
    out
}
