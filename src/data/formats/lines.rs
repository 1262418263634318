//! A file of rows that stays on disk: only where each row begins is kept.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use memmap2::Mmap;

use super::layout::{Kind, Layout};
use super::packed::Packing;
use super::record::{Rule, place};
use super::table::{Head, Table, only_a_header};
use super::{Encoding, Unused, decode, digest, foreign, json, mark};
use crate::data::item::{Item, Place};
use crate::error::Error;
use crate::source::tensors::map;
use crate::{bail_data, bail_usage};

/// The rows of a file whose rows are lines: JSON lines, and tables without quotes. Items and errors
/// are those of [`super::parse`], each when its row is asked for.
#[derive(Debug)]
pub struct Lines {
    file: Arc<Path>,
    map: Mmap,
    encoding: Encoding,
    form: Form,
    rule: Rule,
    /// Keys of the first row that nothing is made of.
    unused: Unused,
    /// Where each row begins in the file.
    starts: Vec<u64>,
    /// The line of every [`STRIDE`]th row; between them, lines are counted anew.
    lines: Vec<u64>,
    digest: String,
}

/// Rows from one kept line number to the next.
const STRIDE: usize = 16;

#[derive(Debug)]
enum Form {
    Json,
    Table(Table, Head),
}

impl Lines {
    /// Finds the rows of a file, and reads the first one, which says what the others have to be.
    ///
    /// Errors: the file cannot be read, has no rows, or its first row is broken (class data); its
    /// rows are not lines (class usage).
    pub fn open(path: &Path, layout: &Layout) -> Result<Self> {
        let kind = layout.kind(path)?;
        let (table, field) = match kind {
            Kind::Json => (None, "key"),
            Kind::Table(table) if !table.quote => (Some(table), "column"),
            Kind::Table(_) => bail_usage!(
                "`{}` cannot be streamed: quoted cells may hold line ends; set `quote: false`",
                path.display()
            ),
            _ => bail_usage!(
                "`{}` cannot be streamed: only JSON lines and tables without quotes can",
                path.display()
            ),
        };
        let map = map(path)?;
        if let Some(packing) = Packing::of(&map) {
            let error = Error::usage(format!(
                "`{}` cannot be streamed: it is compressed with {}",
                path.display(),
                packing.name()
            ));
            return Err(error
                .hint("unpack it, or leave out `stream`, which reads it into memory")
                .into());
        }
        if let Some(error) = foreign::by_content(path, &map, layout.format(path)?) {
            return Err(error.into());
        }
        let (mut starts, mut lines, mut header) = (Vec::new(), Vec::new(), None);
        let wants_header = table.as_ref().is_some_and(|table| table.header);
        let (mut at, mut line) = (mark(&map, layout.encoding), 0);
        while at < map.len() {
            line += 1;
            let end = end_of_line(&map, at);
            let body = &map[at..end];
            let blank = if table.is_some() {
                matches!(body, [] | b"\r")
            } else {
                body.trim_ascii().is_empty()
            };
            if !blank && wants_header && header.is_none() {
                header = Some((at, line));
            } else if !blank {
                if starts.len() % STRIDE == 0 {
                    lines.push(line as u64);
                }
                starts.push(at as u64);
            }
            at = end + 1;
        }
        starts.shrink_to_fit();
        lines.shrink_to_fit();
        let file: Arc<Path> = Arc::from(path);
        let Some(&first) = starts.first() else {
            return Err(match header {
                Some(_) => only_a_header(path),
                None => Error::data(format!("`{}` is empty", path.display())).into(),
            });
        };
        let form = match table {
            None if map[first as usize..].trim_ascii_start().starts_with(b"[") => {
                let error = Error::usage(format!(
                    "`{}` cannot be streamed: it holds a JSON list, which is read whole",
                    path.display()
                ));
                return Err(error
                    .hint(
                        "write a record on each line, or leave out `stream`, which reads it into \
                         memory",
                    )
                    .into());
            }
            None => Form::Json,
            Some(table) => {
                let (start, line) = header.unwrap_or((first as usize, lines[0] as usize));
                let place = place(&file, "line", line);
                let text =
                    decode(path, &map, start..end_of_row(&map, start), layout.encoding, line)?;
                let head = Head::new(&table, &place, &table.cells(&place, &text)?)?;
                Form::Table(table, head)
            }
        };
        let (rule, unused) = (Rule::new(layout.rows, field), Unused::default());
        let digest = digest(&map);
        let mut rows = Self {
            file,
            map,
            encoding: layout.encoding,
            form,
            rule,
            unused,
            starts,
            lines,
            digest,
        };
        let (place, value) = rows.value(0)?;
        rows.rule.next(place, value, &mut rows.unused)?;
        Ok(rows)
    }

    /// Number of rows; at least one.
    #[expect(clippy::len_without_is_empty, reason = "a file without rows is refused")]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Row `i`, counted from 0. Errors (class data): the row is broken, or there is no such row.
    pub fn get(&self, i: usize) -> Result<Item> {
        let (place, value) = self.value(i)?;
        self.rule.item(place, value, &mut Unused::default())
    }

    /// Keys of the first row that nothing is made of.
    pub fn unused(&self) -> &Unused {
        &self.unused
    }

    /// SHA-256 of the file in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Bytes of memory that are kept, about eight a row, beside the pages of the file that the
    /// system holds and can drop.
    pub fn kept(&self) -> usize {
        let head = match &self.form {
            Form::Json => 0,
            Form::Table(_, head) => head.kept(),
        };
        size_of::<Self>()
            + (self.starts.capacity() + self.lines.capacity()) * size_of::<u64>()
            + head
    }

    fn value(&self, i: usize) -> Result<(Place, serde_json::Value)> {
        let Some(&start) = self.starts.get(i) else {
            bail_data!(
                "`{}` has {} rows; there is no row {i}, counted from 0",
                self.file.display(),
                self.len()
            );
        };
        let start = start as usize;
        let from = self.starts[i / STRIDE * STRIDE] as usize;
        let line = self.lines[i / STRIDE] as usize
            + self.map[from..start].iter().filter(|&&b| b == b'\n').count();
        let place = place(&self.file, "line", line);
        let text = decode(
            &self.file,
            &self.map,
            start..end_of_row(&self.map, start),
            self.encoding,
            line,
        )?;
        let value = match &self.form {
            Form::Json => json::value(&place, &text)?,
            Form::Table(table, head) => head.record(&place, &table.cells(&place, &text)?)?,
        };
        Ok((place, value))
    }
}

fn end_of_line(bytes: &[u8], start: usize) -> usize {
    bytes[start..].iter().position(|&b| b == b'\n').map_or(bytes.len(), |at| start + at)
}

/// As [`end_of_line`], without the `\r` of a line end of other systems.
fn end_of_row(bytes: &[u8], start: usize) -> usize {
    let end = end_of_line(bytes, start);
    if end > start && end < bytes.len() && bytes[end - 1] == b'\r' { end - 1 } else { end }
}
