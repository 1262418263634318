//! The formats of data files, and how bytes stand for letters in them.

use std::path::Path;

use anyhow::Result;

use crate::error::{Error, did_you_mean, error};
use crate::source::without_packing;

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
    pub(super) fn of(path: &Path) -> Option<Self> {
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

fn unknown(what: &str, name: &str, known: &[&str]) -> Error {
    let near = did_you_mean(name, known.iter().copied());
    error!(Usage, "unknown {what} `{name}`{near}"; hint: "known are {}", known.join(", "))
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
}
