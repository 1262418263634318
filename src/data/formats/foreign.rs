//! Files that are no data of the formats read here, by their first bytes: what each is, and what
//! makes data of it.

use std::path::Path;

use super::format::Format;
use crate::error::{Error, error};
use crate::source::lfs;

/// What a file is, in words, by what it begins with.
const BEGINNINGS: [(&[u8], &str, &str); 13] = [
    (b"BZh", "is compressed with bzip2, which is not read", UNPACK),
    (b"\xfd7zXZ\0", "is compressed with xz, which is not read", UNPACK),
    (b"\x04\x22\x4d\x18", "is compressed with lz4, which is not read", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive, which is not read", UNPACK),
    (
        b"PK\x03\x04",
        "is a ZIP archive (or a file made of one, as .xlsx, .npz and .pt are), which is not read",
        UNPACK,
    ),
    (b"ARROW1\0\0", "is an Arrow file, which is not read", ARROW),
    (
        b"\xff\xff\xff\xff",
        "is an Arrow stream, as `save_to_disk` writes it, which is not read",
        ARROW,
    ),
    (
        b"FEA1",
        "is a Feather file, which is not read",
        "pandas converts it: `pandas.read_feather(FILE).to_parquet(\"train.parquet\")`",
    ),
    (
        b"ORC",
        "is an ORC file, which is not read",
        "pandas converts it: `pandas.read_orc(FILE).to_parquet(\"train.parquet\")`",
    ),
    (b"Obj\x01", "is an Avro file, which is not read", "write it as JSON lines or Parquet"),
    (
        b"SQLite format 3\0",
        "is a SQLite database, which is not read",
        "write a table of it as CSV or JSON lines",
    ),
    (PDF, "is a PDF, which is not read", "write its text as `.txt`"),
    (
        b"GGUF",
        "is a GGUF model, no data",
        "a model is named before `--data`, or loaded with `model::load`",
    ),
];

const PDF: &[u8] = b"%PDF-";
const UNPACK: &str = "unpack it, or compress it with gzip or zstd, which are read";
const ARROW: &str = "datasets converts it: `Dataset.from_file(FILE).to_parquet(\"train.parquet\")`";

/// Endings of formats that are not read, with what is said of a file so called whose content was
/// not looked at.
const ENDINGS: [(&str, &str, &str); 13] = [
    ("arrow", "is an Arrow file, which is not read", ARROW),
    (
        "feather",
        "is a Feather file, which is not read",
        "pandas converts it: `pandas.read_feather(FILE).to_parquet(\"train.parquet\")`",
    ),
    ("bz2", "is compressed with bzip2, which is not read", UNPACK),
    ("xz", "is compressed with xz, which is not read", UNPACK),
    ("lz4", "is compressed with lz4, which is not read", UNPACK),
    ("zip", "is a ZIP archive, which is not read", UNPACK),
    ("7z", "is a 7-Zip archive, which is not read", UNPACK),
    ("tar", "is a tar archive, which is not read", "unpack it and give the file in it"),
    ("tgz", "is a tar archive, which is not read", "unpack it and give the file in it"),
    (
        "pkl",
        "is a pickle, which can run code when it is read, so it is not",
        "write it as JSON lines or Parquet",
    ),
    (
        "pickle",
        "is a pickle, which can run code when it is read, so it is not",
        "write it as JSON lines or Parquet",
    ),
    ("xlsx", "is a spreadsheet, which is not read", "save it as CSV"),
    ("html", "is an HTML page, no data", PAGE),
];

const PAGE: &str = "of a file on the hub, the address with `/resolve/` gives the file, that with \
                    `/blob/` a page about it";

const LINK: &str = "holds the path of a link, not what it leads to: it was copied as a text";

/// What a file is, if its ending is that of a format that is known and not read.
pub(super) fn by_ending(path: &Path) -> Option<Error> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    let (_, what, hint) = ENDINGS.iter().find(|(known, ..)| *known == ending)?;
    Some(refusal(path, what, hint))
}

/// What a file that is to be read as `format` is, if that is something else.
pub(super) fn by_content(path: &Path, bytes: &[u8], format: Format) -> Option<Error> {
    if lfs::is_pointer(bytes) {
        return Some(lfs::pointer_error(path));
    }
    if is_link(path, bytes) {
        return Some(refusal(
            path,
            LINK,
            "copy the folder with `cp -RL`, or download the file again",
        ));
    }
    let refused = |what: &str, hint: &str| Some(refusal(path, what, hint));
    let text = format != Format::Parquet;
    if let Some((begins, what, hint)) = BEGINNINGS.iter().find(|(b, ..)| bytes.starts_with(b)) {
        // A text may begin with a word in capitals.
        let word = bytes.iter().take(64).all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
        return if text && word && *begins != PDF { None } else { refused(what, hint) };
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return refused("is a tar archive, which is not read", "unpack it and give the file in it");
    }
    if text && bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1") && bytes.len() > 8 {
        return refused(
            &format!("is a Parquet file, and is read as {}", format.name()),
            "call it `.parquet`, or say `format: \"parquet\"`",
        );
    }
    // A plain text may be a page.
    let page = format != Format::Text && is_page(bytes);
    if page { refused("is an HTML or XML page, no data", PAGE) } else { None }
}

/// The error; `FILE` in a hint stands for the file.
fn refusal(path: &Path, what: &str, hint: &str) -> Error {
    error!(Data, "`{}` {what}", path.display())
        .hint(hint.replace("FILE", &format!("\"{}\"", path.display())))
}

/// Whether bytes are the path of another file that is there, as a link is that a system without
/// links has copied.
fn is_link(path: &Path, bytes: &[u8]) -> bool {
    let target = std::str::from_utf8(bytes)
        .ok()
        .filter(|text| text.starts_with("../") && text.len() < 256 && !text.contains('\n'));
    target.is_some_and(|target| path.parent().unwrap_or(Path::new("")).join(target).is_file())
}

/// Whether bytes begin as pages do.
fn is_page(bytes: &[u8]) -> bool {
    let start = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    ["<!doctype", "<html", "<?xml"].iter().any(|tag| {
        start.get(..tag.len()).is_some_and(|head| head.eq_ignore_ascii_case(tag.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bytes: &[u8], format: Format) -> Option<String> {
        by_content(Path::new("train.x"), bytes, format).map(|error| error.message)
    }

    #[test]
    fn files_are_told_by_how_they_begin() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
        for (bytes, words) in [
            (&pointer[..], "is a Git LFS pointer"),
            (b"BZh91AY&SY\0\0\xff", "bzip2"),
            (b"PK\x03\x04\x14\0", "a ZIP archive"),
            (b"ARROW1\0\0\x01", "an Arrow file"),
            (b"\xff\xff\xff\xff\x10\0", "an Arrow stream"),
            (b"\n <!DOCTYPE html><p>", "an HTML or XML page"),
            (b"\xef\xbb\xbf<html>", "an HTML or XML page"),
        ] {
            let told = told(bytes, Format::Jsonl).unwrap();
            assert!(told.starts_with("`train.x` ") && told.contains(words), "{told}");
        }
        for text in [&b"{}"[..], b"", b"ORChids grow.", b"GGUF is a format", b"BZh", b"<p>"] {
            assert_eq!(told(text, Format::Csv), None);
        }
        assert_eq!(told(b"<html></html>", Format::Text), None);
        assert!(
            told(b"PAR1xxxxPAR1", Format::Json)
                .unwrap()
                .contains("a Parquet file, and is read as json")
        );
        assert_eq!(told(b"PAR1xxxxPAR1", Format::Parquet), None);
    }

    #[test]
    fn endings_of_other_formats_are_known() {
        assert!(
            by_ending(Path::new("a/train.ARROW")).unwrap().message.contains("is an Arrow file")
        );
        assert!(
            by_ending(Path::new("train.jsonl")).is_none()
                && by_ending(Path::new("train")).is_none()
        );
    }
}
