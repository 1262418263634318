//! What a recipe says about its files where their names do not say it.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::foreign;
use super::table::Table;
use crate::error::{Error, nearest};
use crate::source::without_packing;
use crate::{bail_data, bail_usage};

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

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Jsonl,
    Csv,
    Tsv,
    Parquet,
    Text,
}

impl Format {
    const ALL: [Format; 6] =
        [Format::Json, Format::Jsonl, Format::Csv, Format::Tsv, Format::Parquet, Format::Text];

    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Jsonl => "jsonl",
            Format::Csv => "csv",
            Format::Tsv => "tsv",
            Format::Parquet => "parquet",
            Format::Text => "text",
        }
    }

    /// By name. Errors (class usage): no format has that name; the nearest is named.
    pub fn parse(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|format| format.name() == name) {
            Some(format) => Ok(format),
            None => Err(unknown("format", name, &Self::ALL.map(Self::name)).into()),
        }
    }

    /// By the ending of a file's name, that of a compressed one aside.
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        match without_packing(name).rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "json" => Some(Format::Json),
            "jsonl" | "ndjson" => Some(Format::Jsonl),
            "csv" => Some(Format::Csv),
            "tsv" => Some(Format::Tsv),
            "parquet" => Some(Format::Parquet),
            "txt" => Some(Format::Text),
            _ => None,
        }
    }
}

/// How bytes stand for letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    Utf8,
    /// ISO 8859-1: a byte a letter.
    Latin1,
}

impl Encoding {
    /// By name: `utf-8` or `latin-1`. Errors (class usage): another name.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "utf-8" => Ok(Encoding::Utf8),
            "latin-1" => Ok(Encoding::Latin1),
            _ => Err(unknown("encoding", name, &["utf-8", "latin-1"]).into()),
        }
    }
}

fn unnamed(path: &Path) -> Error {
    let message = format!(
        "`{}` is of no data format that is known; the endings are {ENDINGS}",
        path.display()
    );
    Error::data(message)
        .hint("a recipe can say it: `format: \"tsv\"`; for `xgbrun eval`, `--format tsv`")
}

fn unknown(what: &str, name: &str, known: &[&str]) -> Error {
    let near = nearest(name, known.iter().copied())
        .map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    Error::usage(format!("unknown {what} `{name}`{near}"))
        .hint(format!("known are {}", known.join(", ")))
}

/// A format with what it needs to know.
#[derive(Debug)]
pub(super) enum Kind {
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
    pub(super) fn kind(&self, path: &Path) -> Result<Kind> {
        let format = self.format(path)?;
        let refuse = |option: &str, for_what: &str| -> Result<Kind> {
            bail_usage!(
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
            Format::Json | Format::Jsonl => Ok(Kind::Json),
            Format::Parquet if self.encoding != Encoding::default() => {
                refuse("encoding", "text files")
            }
            Format::Parquet => Ok(Kind::Parquet),
            // There are no fields that a template could name.
            Format::Text if self.rows => {
                bail_data!(
                    "`{}` is plain text, and a template of the recipe needs records: name its \
                     `format`",
                    path.display()
                )
            }
            Format::Text => Ok(Kind::Text),
            Format::Csv => Ok(Kind::Table(self.table(b',')?)),
            Format::Tsv => Ok(Kind::Table(self.table(b'\t')?)),
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
            bail_usage!(
                "`delimiter` cannot be {:?}; expected a letter of ASCII that is no quote and no \
                 line end",
                char::from(delimiter)
            );
        }
        let quote = self.quote.unwrap_or(!matches!(delimiter, b'\t' | b' '));
        if quote && delimiter == b' ' {
            bail_usage!(
                "`quote` cannot be true where a space divides: the last column takes the rest of \
                 its line"
            );
        }
        let header = self.header.unwrap_or(self.columns.is_none());
        if let Some(columns) = &self.columns {
            let mut seen = BTreeSet::new();
            if columns.is_empty() {
                bail_usage!("`columns` is empty");
            }
            if let Some(twice) = columns.iter().find(|name| !seen.insert(name.as_str())) {
                bail_usage!("`columns` names `{twice}` twice");
            }
        } else if delimiter == b' ' {
            bail_usage!("where a space divides, `columns` has to say how many there are");
        }
        Ok(Table { delimiter, quote, header, columns: self.columns.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of, hint_of};

    #[test]
    fn names_are_known_or_nearly() {
        assert_eq!(Format::parse("jsonl").unwrap(), Format::Jsonl);
        let error = Format::parse("parqet").unwrap_err();
        assert_eq!(error.to_string(), "unknown format `parqet`; did you mean `parquet`?");
        assert_eq!(
            (class_of(&error), hint_of(&error)),
            (Class::Usage, Some("known are json, jsonl, csv, tsv, parquet, text"))
        );
        assert_eq!(Encoding::parse("latin-1").unwrap(), Encoding::Latin1);
        assert_eq!(
            Encoding::parse("utf8").unwrap_err().to_string(),
            "unknown encoding `utf8`; did you mean `utf-8`?"
        );
    }

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
