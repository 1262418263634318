//! Tables: csv, tsv, and lines divided by something else. All cells are texts.
//!
//! Without quotes a row is a line. With them the csv crate finds the cells; it forgives a quote
//! that is never closed, which would swallow the rows after it, so quotes are checked here.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde_json::{Map, Value};

use super::record::Records;
use super::text;
use crate::data::item::{Item, ItemPlace};
use crate::error::{Error, bail, error};

/// Bytes of the longest row. A longer one is a sign of another format.
const LONGEST: usize = 1 << 20;

/// Column names in a message.
const SHOWN: usize = 12;

/// How a table is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub delimiter: u8,
    pub quote: bool,
    /// The first row names the columns.
    pub header: bool,
    /// Names that come before those of the header.
    pub columns: Option<Vec<String>>,
}

impl Table {
    pub fn parse(&self, file: &Arc<Path>, text: &str, mut records: Records) -> Result<Vec<Item>> {
        let (mut head, mut items) = (None, Vec::new());
        let mut row = |place: ItemPlace, cells: &[&str]| -> Result<()> {
            let explained = |error: anyhow::Error| self.explained(&error, text);
            let head = match &head {
                Some(head) => head,
                None => {
                    let first = Head::new(self, &place, cells).map_err(explained)?;
                    let first = head.insert(first);
                    if self.header {
                        return Ok(());
                    }
                    &*first
                }
            };
            let item = head.record(&place, cells).and_then(|record| records.next(place, record));
            // Of a later row the fault is its own.
            items.push(if items.is_empty() { item.map_err(explained)? } else { item? });
            Ok(())
        };
        if self.quote {
            self.quoted(file, text, &mut row)?;
        } else {
            for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
                let place = ItemPlace::new(file, "line", i + 1);
                row(place.clone(), &self.cells(&place, line)?)?;
            }
        }
        if items.is_empty() {
            return Err(only_a_header(file));
        }
        Ok(items)
    }

    /// An error about columns, with what else the table may be than what it was read as.
    fn explained(&self, error: &anyhow::Error, text: &str) -> anyhow::Error {
        let own = char::from(self.delimiter);
        let alone = text.lines().next().is_some_and(|line| !line.contains(own));
        let more = match text::divider(text).filter(|_| alone) {
            Some(letter) => format!(
                "it was read as divided by {own:?} and looks divided by {letter:?}: `delimiter: \
                 \"{}\"`",
                letter.escape_default()
            ),
            None if self.header && self.columns.is_none() => {
                "line 1 was taken for a header; a table without one is read with `columns` or \
                 `header: false`"
                    .to_owned()
            }
            None => String::new(),
        };
        let error = Error::from(error);
        let hint = match (&error.hint, more.is_empty()) {
            (_, true) => return error.into(),
            (Some(hint), false) => format!("{hint}; {more}"),
            (None, false) => more,
        };
        error.hint(hint).into()
    }

    /// The cells of a line without quotes.
    pub fn cells<'a>(&self, place: &ItemPlace, line: &'a str) -> Result<Vec<&'a str>> {
        short_enough(place, line)?;
        let delimiter = char::from(self.delimiter);
        Ok(match &self.columns {
            Some(columns) if delimiter == ' ' => line.splitn(columns.len(), delimiter).collect(),
            _ => line.split(delimiter).collect(),
        })
    }

    fn reader<'a>(&self, text: &'a str) -> csv::Reader<&'a [u8]> {
        csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(self.delimiter)
            .from_reader(text.as_bytes())
    }

    fn quoted(
        &self,
        file: &Arc<Path>,
        text: &str,
        row: &mut dyn FnMut(ItemPlace, &[&str]) -> Result<()>,
    ) -> Result<()> {
        let mut reader = self.reader(text);
        let mut record = csv::StringRecord::new();
        let (mut start, mut line) = (0, 1);
        while reader
            .read_record(&mut record)
            .map_err(|e| error!(Data, "`{}` line {line}: {e}", file.display()))?
        {
            let end = usize::try_from(reader.position().byte()).unwrap_or(text.len());
            // The reader counts blank lines, and the end of the line before, as part of a row;
            // messages should not.
            let raw = text.get(start..end).unwrap_or_default();
            let body = raw.trim_start_matches(['\r', '\n']);
            line += newlines(&raw[..raw.len() - body.len()]);
            check_quotes(file, body, self.delimiter, line)?;
            let place = ItemPlace::new(file, "line", line);
            short_enough(&place, body)?;
            row(place, &record.iter().collect::<Vec<_>>())?;
            line += newlines(body);
            start = end;
        }
        Ok(())
    }
}

pub(super) fn only_a_header(file: &Path) -> anyhow::Error {
    error!(
        Data,
        "`{}` has a header and no rows",
        file.display();
        hint: "a file without header is read with `header: false`, or with names for its `columns`"
    )
    .into()
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|&b| b == b'\n').count()
}

fn short_enough(place: &ItemPlace, row: &str) -> Result<()> {
    if row.len() > LONGEST {
        bail!(Data, "{place} has {} bytes, more than a row may have ({LONGEST})", row.len());
    }
    Ok(())
}

/// A place in a cell; of a quoted one, with the line where its quote opened.
enum At {
    Start,
    Plain,
    Quoted(usize),
    Closed(usize),
}

/// Checks that each quoted cell of a row ends where its quote is closed.
fn check_quotes(file: &Path, row: &str, delimiter: u8, mut line: usize) -> Result<()> {
    let fault = |opened: usize, what: &str| {
        let place = format!("`{}` line {opened}", file.display());
        error!(Data, "{place}: the quote that opens here {what}"; hint: "{QUOTES}")
    };
    let mut at = At::Start;
    for byte in row.bytes() {
        at = match (at, byte) {
            (At::Start, b'"') => At::Quoted(line),
            (At::Quoted(opened), b'"') => At::Closed(opened),
            (At::Closed(opened), b'"') | (At::Quoted(opened), _) => At::Quoted(opened),
            (_, byte) if byte == delimiter || byte == b'\n' || byte == b'\r' => At::Start,
            (At::Closed(opened), _) => {
                let what = format!("is closed in line {line}, where text follows it");
                return Err(fault(opened, &what).into());
            }
            (At::Start | At::Plain, _) => At::Plain,
        };
        line += usize::from(byte == b'\n');
    }
    match at {
        At::Quoted(opened) => Err(fault(opened, "is never closed").into()),
        _ => Ok(()),
    }
}

const QUOTES: &str =
    "a quote inside quotes is doubled; where quotes are part of the text, read with `quote: false`";

/// The columns of a table.
#[derive(Clone, Debug)]
pub(super) struct Head {
    names: Vec<String>,
    delimiter: char,
}

impl Head {
    /// From the cells of the first row, be it a header or not.
    pub fn new(table: &Table, place: &ItemPlace, cells: &[&str]) -> Result<Self> {
        let names = match &table.columns {
            Some(columns) => columns.clone(),
            None if table.header => {
                let mut seen = BTreeSet::new();
                if let Some(twice) = cells.iter().find(|name| !seen.insert(**name)) {
                    bail!(Data, "{place}: the header names `{twice}` twice");
                }
                cells.iter().map(|&cell| cell.to_owned()).collect()
            }
            None => (1..=cells.len()).map(|i| i.to_string()).collect(),
        };
        let head = Self { names, delimiter: char::from(table.delimiter) };
        head.check(place, cells)?;
        Ok(head)
    }

    pub fn record(&self, place: &ItemPlace, cells: &[&str]) -> Result<Value> {
        self.check(place, cells)?;
        let pairs = self
            .names
            .iter()
            .zip(cells)
            .map(|(name, cell)| (name.clone(), Value::String((*cell).to_owned())));
        Ok(Value::Object(pairs.collect::<Map<_, _>>()))
    }

    /// Bytes that it takes.
    pub fn kept(&self) -> usize {
        self.names.iter().map(|name| name.capacity() + size_of::<String>()).sum()
    }

    fn check(&self, place: &ItemPlace, cells: &[&str]) -> Result<()> {
        if cells.len() == self.names.len() {
            return Ok(());
        }
        let names: Vec<String> =
            self.names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
        let more = if self.names.len() > SHOWN { ", …" } else { "" };
        let columns = if cells.len() == 1 { "column" } else { "columns" };
        Err(error!(
            Data,
            "{place} has {} {columns}, expected {} ({}{more})",
            cells.len(),
            self.names.len(),
            names.join(", ");
            hint: "columns are divided by {:?}",
            self.delimiter
        )
        .into())
    }
}
