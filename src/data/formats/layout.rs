//! What a recipe says about its files where their names do not say it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::foreign;
use super::format::{Encoding, Format};
use super::table::Table;
use crate::error::{Error, bail, error};

/// The endings that are read, with what each stands for.
pub const ENDINGS: &str = "`.json`, `.jsonl` and `.ndjson` (a list of records, or a record a \
                           line), `.csv`, `.tsv`, `.parquet` (rows) and `.txt` (plain text), also \
                           with `.gz` or `.zst` behind them";

/// How a file is laid out. The default leaves all to the ending of its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// None: by the ending. A delimiter alone makes a file a table, whatever its ending.
    pub format: Option<Format>,
    /// Names for the columns of a table, which then has no header unless `header` says so.
    pub columns: Option<Vec<String>>,
    /// What they are called in a table where nothing is said of columns and header; a table has no
    /// header then.
    pub usual: Option<Vec<String>>,
    /// Whether a table's first row names its columns. Without names from anywhere they are `1`,
    /// `2`, ….
    pub header: Option<bool>,
    /// What divides the cells of a table; a comma for csv, a tab for tsv. With a space, the last
    /// column takes the rest of its line.
    pub delimiter: Option<u8>,
    /// Whether cells may be quoted (RFC 4180). By default those divided by a tab or a space are
    /// not.
    pub quote: Option<bool>,
    pub encoding: Encoding,
    /// A recipe's own template words the records: each becomes a row with all its fields.
    pub rows: bool,
}

fn unnamed(path: &Path) -> Error {
    error!(
        Data,
        "`{}` is of no data format that is known; the endings are {ENDINGS}",
        path.display();
        hint: "a recipe can say it: `format: \"tsv\"`; for `xgbrun eval`, `--format tsv`"
    )
}

/// A format with what it needs to know.
#[derive(Debug)]
pub(super) enum FileKind {
    /// A list of records or lines of them: which, the content says.
    Json,
    Table(Table),
    Parquet,
    Text,
}

impl Layout {
    /// The format of the file `path`. Errors (class data): an ending that says nothing, or that of
    /// a format that is not read.
    pub(super) fn format(&self, path: &Path) -> Result<Format> {
        let ending = Format::of(path);
        match (self.format, self.delimiter, ending) {
            (Some(format), ..) => Ok(format),
            (None, Some(_), Some(Format::Tsv)) => Ok(Format::Tsv),
            (None, Some(_), _) => Ok(Format::Csv),
            (None, None, Some(format)) => Ok(format),
            (None, None, None) => {
                Err(foreign::by_ending(path).unwrap_or_else(|| unnamed(path)).into())
            }
        }
    }

    /// How to read the file `path`.
    ///
    /// Errors: those of [`Self::format`]; options that do not fit the format (class usage).
    pub(super) fn kind(&self, path: &Path) -> Result<FileKind> {
        let format = self.format(path)?;
        let refuse = |option: &str, for_what: &str| -> Result<FileKind> {
            bail!(
                Usage,
                "the option `{option}` is for {for_what}, and `{}` is read as {}",
                path.display(),
                format.name()
            )
        };
        if !matches!(format, Format::Csv | Format::Tsv)
            && let Some(option) = self.of_tables()
        {
            return refuse(option, "csv and tsv");
        }
        match format {
            Format::Json | Format::Jsonl => Ok(FileKind::Json),
            Format::Parquet if self.encoding != Encoding::default() => {
                refuse("encoding", "text files")
            }
            Format::Parquet => Ok(FileKind::Parquet),
            // There are no fields that a template could name.
            Format::Text if self.rows => Err(error!(
                Data,
                "`{}` is plain text, and a template of the recipe needs records: name its \
                 `format`",
                path.display();
                hint: "`format: \"tsv\"` or \"csv\" reads a table; `xgbrun eval` has `--format`"
            )
            .into()),
            Format::Text => Ok(FileKind::Text),
            Format::Csv => Ok(FileKind::Table(self.table(b',')?)),
            Format::Tsv => Ok(FileKind::Table(self.table(b'\t')?)),
        }
    }

    /// An option for tables, if one is given.
    fn of_tables(&self) -> Option<&'static str> {
        let given = [
            ("columns", self.columns.is_some()),
            ("header", self.header.is_some()),
            ("delimiter", self.delimiter.is_some()),
            ("quote", self.quote.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    fn table(&self, usual: u8) -> Result<Table> {
        let delimiter = self.delimiter.unwrap_or(usual);
        if !delimiter.is_ascii() || matches!(delimiter, b'"' | b'\n' | b'\r' | 0) {
            bail!(
                Usage,
                "`delimiter` cannot be {:?}; expected a letter of ASCII that is no quote and no \
                 line end",
                char::from(delimiter)
            );
        }
        let quote = self.quote.unwrap_or(!matches!(delimiter, b'\t' | b' '));
        if quote && delimiter == b' ' {
            bail!(
                Usage,
                "`quote` cannot be true where a space divides: the last column takes the rest of \
                 its line"
            );
        }
        let usual = self.usual.as_ref().filter(|_| self.header.is_none());
        let columns = self.columns.as_ref().or(usual);
        let header = self.header.unwrap_or(columns.is_none());
        if let Some(columns) = columns {
            let mut seen = BTreeSet::new();
            if columns.is_empty() {
                bail!(Usage, "`columns` is empty");
            }
            if let Some(twice) = columns.iter().find(|name| !seen.insert(name.as_str())) {
                bail!(Usage, "`columns` names `{twice}` twice");
            }
        } else if delimiter == b' ' {
            bail!(Usage, "where a space divides, `columns` has to say how many there are");
        }
        Ok(Table { delimiter, quote, header, columns: columns.cloned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of};

    fn names(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|&name| name.to_owned()).collect())
    }

    fn refused(layout: Layout, file: &str, message: &str) {
        let error = layout.kind(Path::new(file)).unwrap_err();
        assert_eq!((error.to_string().as_str(), class_of(&error)), (message, Class::Usage));
    }

    #[test]
    fn options_of_another_format_are_refused() {
        refused(
            Layout { columns: names(&["a"]), ..Layout::default() },
            "a.json",
            "the option `columns` is for csv and tsv, and `a.json` is read as json",
        );
        refused(
            Layout { quote: Some(true), ..Layout::default() },
            "a.txt",
            "the option `quote` is for csv and tsv, and `a.txt` is read as text",
        );
        refused(
            Layout { encoding: Encoding::Latin1, ..Layout::default() },
            "a.parquet",
            "the option `encoding` is for text files, and `a.parquet` is read as parquet",
        );
    }

    #[test]
    fn options_of_tables_that_do_not_fit_are_refused() {
        let columns = |columns: &[&str]| Layout { columns: names(columns), ..Layout::default() };
        refused(columns(&["a", "b", "a"]), "a.csv", "`columns` names `a` twice");
        refused(columns(&[]), "a.csv", "`columns` is empty");
        let divided = |by: u8| Layout { delimiter: Some(by), ..Layout::default() };
        refused(
            divided(b'\n'),
            "a.csv",
            "`delimiter` cannot be '\\n'; expected a letter of ASCII that is no quote and no line \
             end",
        );
        refused(
            Layout { quote: Some(true), ..divided(b' ') },
            "a.csv",
            "`quote` cannot be true where a space divides: the last column takes the rest of its \
             line",
        );
        refused(
            divided(b' '),
            "a",
            "where a space divides, `columns` has to say how many there are",
        );
    }
}
