//! A file of rows that stays on disk: only where each row begins is kept.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use memmap2::Mmap;

use super::layout::{FileKind, Layout};
use super::packed::Packing;
use super::record::RecordRule;
use super::table::{Head, Table, only_a_header};
use super::{Encoding, Unused, decode, digest, foreign, json, mark};
use crate::data::item::{Item, ItemPlace};
use crate::error::{Error, bail, error};
use crate::source::tensors::map;

/// The rows of a file whose rows are lines: JSON lines, and tables without quotes. Items and errors
/// are those of [`super::parse`], each when its row is asked for.
#[derive(Debug)]
pub struct LineFile {
    text: Text,
    form: RowForm,
    rule: RecordRule,
    /// Keys of the first row that nothing is made of.
    unused: Unused,
    index: Index,
    digest: String,
}

#[derive(Debug)]
enum RowForm {
    Json,
    Table(Table, Head),
}

impl LineFile {
    /// Finds the rows of a file, and reads the first one, which says what the others have to be.
    ///
    /// Errors: the file cannot be read, has no rows, or its first row is broken (class data); its
    /// rows are not lines (class usage).
    pub fn open(path: &Path, layout: &Layout) -> Result<Self> {
        let table = table(path, layout)?;
        let map = map(path)?;
        check(path, &map, layout)?;
        let (index, header) = Index::of(&map, mark(&map, layout.encoding), table.as_ref());
        let Some(&first) = index.starts.first() else {
            return Err(match header {
                Some(_) => only_a_header(path),
                None => error!(Data, "`{}` is empty", path.display()).into(),
            });
        };
        let text = Text { file: Arc::from(path), map, encoding: layout.encoding };
        let (form, field) = match table {
            None => {
                no_list(path, &text.map[first as usize..])?;
                (RowForm::Json, "key")
            }
            Some(table) => {
                let (start, line) = header.unwrap_or((first as usize, index.lines[0] as usize));
                let (place, row) = text.row(start, line)?;
                let head = Head::new(&table, &place, &table.cells(&place, &row)?)?;
                (RowForm::Table(table, head), "column")
            }
        };
        let (rule, unused) = (RecordRule::new(layout.rows, field), Unused::default());
        let digest = digest(&text.map);
        let mut rows = Self { text, form, rule, unused, index, digest };
        let (place, value) = rows.value(0)?;
        rows.rule.next(place, value, &mut rows.unused)?;
        Ok(rows)
    }

    /// Number of rows; at least one.
    #[expect(clippy::len_without_is_empty, reason = "a file without rows is refused")]
    pub fn len(&self) -> usize {
        self.index.starts.len()
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
            RowForm::Json => 0,
            RowForm::Table(_, head) => head.kept(),
        };
        size_of::<Self>() + self.index.kept() + head
    }

    fn value(&self, i: usize) -> Result<(ItemPlace, serde_json::Value)> {
        let Some(&start) = self.index.starts.get(i) else {
            bail!(
                Data,
                "`{}` has {} rows; there is no row {i}, counted from 0",
                self.text.file.display(),
                self.len()
            );
        };
        let (place, row) = self.text.row(start as usize, self.index.line(i, &self.text.map))?;
        let value = match &self.form {
            RowForm::Json => json::value(&place, &row)?,
            RowForm::Table(table, head) => head.record(&place, &table.cells(&place, &row)?)?,
        };
        Ok((place, value))
    }
}

/// The table that a file is; `None` for JSON lines. Errors (class usage): its rows are not lines.
fn table(path: &Path, layout: &Layout) -> Result<Option<Table>> {
    let why = match layout.kind(path)? {
        FileKind::Json => return Ok(None),
        FileKind::Table(table) if !table.quote => return Ok(Some(table)),
        FileKind::Table(_) => "quoted cells may hold line ends; set `quote: false`",
        _ => "only JSON lines and tables without quotes can",
    };
    Err(unstreamable(path, why).into())
}

/// Errors where a file is compressed (class usage), or of another kind than its format (data).
fn check(path: &Path, bytes: &[u8], layout: &Layout) -> Result<()> {
    if let Some(packing) = Packing::of(bytes) {
        let why = format!("it is compressed with {}", packing.name());
        return Err(unstreamable(path, &why)
            .hint("unpack it, or leave out `stream`, which reads it into memory")
            .into());
    }
    foreign::by_content(path, bytes, layout.format(path)?).map_or(Ok(()), |error| Err(error.into()))
}

/// Errors (class usage) where the rows of a file begin as a JSON list does.
fn no_list(path: &Path, rows: &[u8]) -> Result<()> {
    if !rows.trim_ascii_start().starts_with(b"[") {
        return Ok(());
    }
    let hint = "write a record on each line, or leave out `stream`, which reads it into memory";
    Err(unstreamable(path, "it holds a JSON list, which is read whole").hint(hint).into())
}

fn unstreamable(path: &Path, why: &str) -> Error {
    error!(Usage, "`{}` cannot be streamed: {why}", path.display())
}

/// The text of a file that is mapped into memory.
#[derive(Debug)]
struct Text {
    file: Arc<Path>,
    map: Mmap,
    encoding: Encoding,
}

impl Text {
    /// The row that begins at `start`, in `line`.
    fn row(&self, start: usize, line: usize) -> Result<(ItemPlace, Cow<'_, str>)> {
        let part = start..end_of_row(&self.map, start);
        let text = decode(&self.file, &self.map, part, self.encoding, line)?;
        Ok((ItemPlace::new(&self.file, "line", line), text))
    }
}

/// Where rows are in a file.
#[derive(Debug, Default)]
struct Index {
    /// Where each row begins.
    starts: Vec<u64>,
    /// The line of every [`STRIDE`]th row; between them, lines are counted anew.
    lines: Vec<u64>,
}

/// Rows from one kept line number to the next.
const STRIDE: usize = 16;

impl Index {
    /// The rows of `bytes` from `at` on; of a table with a header, where that begins, and its line.
    fn of(bytes: &[u8], mut at: usize, table: Option<&Table>) -> (Self, Option<(usize, usize)>) {
        let wants_header = table.is_some_and(|table| table.header);
        let (mut index, mut header, mut line) = (Self::default(), None, 0);
        while at < bytes.len() {
            line += 1;
            let end = end_of_line(bytes, at);
            let body = &bytes[at..end];
            let blank = if table.is_some() {
                matches!(body, [] | b"\r")
            } else {
                body.trim_ascii().is_empty()
            };
            if !blank && wants_header && header.is_none() {
                header = Some((at, line));
            } else if !blank {
                index.push(at, line);
            }
            at = end + 1;
        }
        index.starts.shrink_to_fit();
        index.lines.shrink_to_fit();
        (index, header)
    }

    fn push(&mut self, start: usize, line: usize) {
        if self.starts.len().is_multiple_of(STRIDE) {
            self.lines.push(line as u64);
        }
        self.starts.push(start as u64);
    }

    /// The line of row `i` of `bytes`.
    fn line(&self, i: usize, bytes: &[u8]) -> usize {
        let (from, to) = (self.starts[i / STRIDE * STRIDE], self.starts[i]);
        let between = &bytes[from as usize..to as usize];
        self.lines[i / STRIDE] as usize + between.iter().filter(|&&b| b == b'\n').count()
    }

    fn kept(&self) -> usize {
        (self.starts.capacity() + self.lines.capacity()) * size_of::<u64>()
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
