//! Broken data beside the exact text of their errors: the cases here, the texts in
//! `broken_data/expected.txt`.
//!
//! `XGBRUN_BLESS=1 cargo test --release --test broken_data` writes the texts anew; read the diff.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::tiny_parquet::{Column, parquet};
use parquet::basic::Compression;
use xgbrun::data::Dataset;
use xgbrun::data::formats::{Encoding, Format, Layout};
use xgbrun::error::{class_of, hint_of};
use xgbrun::source::{Name, data_with};

struct Case {
    name: &'static str,
    files: Vec<(&'static str, Vec<u8>)>,
    layout: Layout,
    /// What a recipe says of splits.
    splits: Vec<(&'static str, &'static str)>,
}

fn case(name: &'static str, file: &'static str, bytes: impl Into<Vec<u8>>) -> Case {
    Case { name, files: vec![(file, bytes.into())], layout: Layout::default(), splits: vec![] }
}

impl Case {
    fn and(mut self, file: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.push((file, bytes.into()));
        self
    }

    fn read_as(self, layout: Layout) -> Self {
        Self { layout, ..self }
    }

    fn split(mut self, split: &'static str, file: &'static str) -> Self {
        self.splits.push((split, file));
        self
    }
}

fn rows() -> Layout {
    Layout { rows: true, ..Layout::default() }
}

fn columns(names: &str) -> Layout {
    Layout { columns: Some(names.split(' ').map(str::to_owned).collect()), ..rows() }
}

fn utf16(text: &str, mark: bool) -> Vec<u8> {
    mark.then_some('\u{feff}')
        .into_iter()
        .chain(text.chars())
        .flat_map(|c| (c as u16).to_le_bytes())
        .collect()
}

const PAIR: &str = "message rows { required binary prompt (UTF8); required int64 score; }";

fn pair() -> Vec<u8> {
    parquet(PAIR, Compression::SNAPPY, &[Column::Texts(&["a", "b"]), Column::Longs(&[1, 2])])
}

fn tables() -> Vec<Case> {
    vec![
        case("csv of other columns", "train.csv", "question,label\nwhy?,1\n"),
        case("csv with a column misspelt", "train.csv", "prompt,completon\na,b\n"),
        case(
            "csv without the header it needs",
            "train.csv",
            "a question,an answer\nanother,one more\n",
        ),
        case("csv with a quote never closed", "train.csv", "q,a\n1,\"two\nthree,3\n4,5\n")
            .read_as(rows()),
        case(
            "csv with a quote closed too late",
            "train.csv",
            "q,a\nx,y\n1,\"two\nthree,3\n4,\"5\"\n",
        )
        .read_as(rows()),
        case("csv with a cell too many", "train.csv", "q,a\n1,2\n\n3,4,5\n").read_as(rows()),
        case("csv with a cell too few", "train.csv", "q,a,b\r\n1,2,3\r\n\"x\r\ny\",2,3\r\n4,5\r\n")
            .read_as(rows()),
        case("csv with fewer columns than are named", "train.csv", "1,2\n")
            .read_as(columns("q a b")),
        case("csv with a row too long", "train.csv", format!("q,a\n1,{}\n", "x".repeat(1 << 20)))
            .read_as(rows()),
        case("tsv with a row too long", "train.tsv", format!("q\ta\n1\t{}\n", "x".repeat(1 << 20)))
            .read_as(rows()),
        case("csv with a name twice in its header", "train.csv", "q,a,q\n1,2,3\n").read_as(rows()),
        case("csv with a header only", "train.csv", "q,a\n").read_as(rows()),
        case("csv empty", "train.csv", "").read_as(rows()),
        case("csv of blank lines", "train.csv", "\n\r\n\n").read_as(rows()),
        case("csv that is not UTF-8", "train.csv", b"q,a\n1,caf\xe9\n".to_vec()).read_as(rows()),
        case("csv in UTF-16", "train.csv", utf16("q,a\n1,2\n", true)).read_as(rows()),
        case("csv in UTF-16 without a mark", "train.csv", utf16("q,a\n1,2\n", false))
            .read_as(rows()),
        case(
            "tsv with a NUL byte",
            "train.tsv",
            "q\ta\nmany letters before\0many letters after\t2\n",
        )
        .read_as(rows()),
        case(
            "latin-1 with a NUL byte",
            "train.tsv",
            b"q\ta\n\xe9\xe9\xe9\xe9\0\xe9\xe9\xe9\xe9\t2\n".to_vec(),
        )
        .read_as(Layout { encoding: Encoding::Latin1, ..rows() }),
        case("tsv that is csv", "train.tsv", "q,a\n1,2\n"),
        case("tsv with a quote that divides nothing", "train.tsv", "q\ta\n\"1\t2\"\t3\n")
            .read_as(rows()),
        case("lines divided by spaces, one without any", "train.txt", "1 good\n0\n")
            .read_as(Layout { delimiter: Some(b' '), ..columns("label sentence") }),
        case("csv of messages", "train.csv", "messages\nhello\n"),
    ]
}

fn json() -> Vec<Case> {
    let good = r#"{"instruction": "i", "output": "o"}"#;
    vec![
        case(
            "json of other keys",
            "train.json",
            r#"[{"question": "q", "choices": ["a"], "label": 0}]"#,
        ),
        case("json of a text with a label", "train.json", r#"[{"text": "t", "label": 0}]"#),
        case("json of no keys", "train.json", "[{}]"),
        case(
            "json with a key misspelt",
            "train.json",
            r#"[{"instruction": "i", "output": "o", "anwser": "a"}]"#,
        ),
        case("json without an output", "train.json", r#"[{"instruction": "i", "answer": "a"}]"#),
        case("json of the wrong type", "train.json", r#"[{"instruction": "i", "output": ["o"]}]"#),
        case(
            "json of mixed kinds",
            "train.json",
            format!(r#"[{good}, {{"prompt": "p", "completion": "c"}}]"#),
        ),
        case("json with a number among rows", "train.json", r#"[{"a": 1}, 2]"#).read_as(rows()),
        case("json that is one object of rows", "train.json", format!("{{\"rows\": [{good}]}}")),
        case("json lines that are lists", "train.jsonl", format!("[{good}]\n[{good}]\n")),
        case(
            "json lines cut short",
            "train.jsonl",
            format!("{good}\n{{\"instruction\": \"i\", \"out"),
        ),
        case(
            "json lines of mixed kinds",
            "train.jsonl",
            "{\"text\": \"a\"}\n\n{\"messages\": []}\n",
        ),
        case("json lines with a blank conversation", "train.jsonl", r#"{"messages": []}"#),
        case(
            "json lines with a role that is none",
            "train.jsonl",
            r#"{"messages": [{"role": "asistant", "content": "a"}]}"#,
        ),
        case(
            "json lines with a message without content",
            "train.jsonl",
            r#"{"messages": [{"role": "user"}]}"#,
        ),
        case(
            "json lines with a picture",
            "train.jsonl",
            r#"{"messages": [{"role": "user", "content": "a", "images": ["b"]}]}"#,
        ),
        case(
            "json lines with ids as a text",
            "train.jsonl",
            "{\"ids\": [1]}\n{\"ids\": \"1 2\"}\n",
        ),
    ]
}

fn parquets() -> Vec<Case> {
    let whole = pair();
    let cut = whole[..whole.len() / 2].to_vec();
    let mut middle = whole.clone();
    middle.drain(20..40);
    let bytes = parquet(
        "message rows { required binary text; }",
        Compression::UNCOMPRESSED,
        &[Column::Bytes(&[b"ok", b"\xff\xfe"])],
    );
    let of = |column: &str, values| {
        parquet(&format!("message rows {{ {column} }}"), Compression::SNAPPY, &[values])
    };
    let ids = "required group ids (LIST) { repeated group list { optional int64 element; } }";
    let instructions =
        "message rows { required binary instruction (UTF8); required int64 output; }";
    let numbers =
        parquet(instructions, Compression::SNAPPY, &[Column::Texts(&["a"]), Column::Longs(&[1])]);
    vec![
        case("parquet of another schema", "train.parquet", whole),
        case("parquet with a number for a text", "train.parquet", numbers),
        case(
            "parquet with ids that are no list",
            "train.parquet",
            of("required double ids;", Column::Doubles(&[0.5])),
        ),
        case(
            "parquet with an id below zero",
            "train.parquet",
            of(ids, Column::LongsAt(&[1, -1], &[2, 2], &[0, 1])),
        ),
        case(
            "parquet with a flag for a text",
            "train.parquet",
            of("required boolean text;", Column::Flags(&[true])),
        ),
        case(
            "parquet with nothing for a text",
            "train.parquet",
            of("optional binary text (UTF8);", Column::TextsAt(&["a"], &[1, 0], &[0, 0])),
        ),
        case("parquet cut short", "train.parquet", cut),
        case("parquet with a piece missing", "train.parquet", middle).read_as(rows()),
        case("parquet that is csv", "train.parquet", "q,a\n1,2\n").read_as(rows()),
        case("parquet empty", "train.parquet", "").read_as(rows()),
        case(
            "parquet without rows",
            "train.parquet",
            parquet(PAIR, Compression::SNAPPY, &[Column::Texts(&[]), Column::Longs(&[])]),
        ),
        case("parquet of bytes that are no text", "train.parquet", bytes),
    ]
}

fn splits() -> Vec<Case> {
    let row = "{\"text\": \"a\"}\n";
    vec![
        case("two files for a split", "train.csv", "").and("train.json", ""),
        case("two words for a split", "dev.jsonl", row).and("trial.jsonl", row),
        case("a shard missing", "train-00001-of-00002.jsonl", row),
        case("no file of a split", "data.jsonl", row),
        case("kinds mixed between shards", "train-00000-of-00002.jsonl", row)
            .and("train-00001-of-00002.jsonl", "{\"ids\": [1]}"),
        case("splits with a file that is missing", "SICK_trial.txt", row)
            .split("train", "SICK_tiral.txt"),
        case("splits with a file that is missing in a folder", "dev/a_dev.jsonl", row)
            .split("dev", "dev/a_devv.jsonl"),
        case("splits with a path that leads out", "a.jsonl", row).split("train", "../a.jsonl"),
        case("splits with a path from the root", "a.jsonl", row).split("train", "/etc/passwd"),
        case("splits with a folder", "dev/a.jsonl", row).split("train", "dev"),
        case("splits with a file twice", "a.jsonl", row)
            .split("test", "a.jsonl")
            .split("train", "a.jsonl"),
        case("splits with an ending that says nothing", "a.data", row).split("train", "a.data"),
        case("splits with plain text for a template", "a.txt", row)
            .split("train", "a.txt")
            .read_as(rows()),
        case("splits with the format of another", "a.txt", row)
            .split("train", "a.txt")
            .read_as(Layout { format: Some(Format::Parquet), ..rows() }),
    ]
}

/// The error of a case, with its hint.
fn error(case: &Case) -> Result<String, String> {
    let home = tempfile::tempdir().unwrap();
    for (file, bytes) in &case.files {
        let path = home.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let splits: BTreeMap<_, _> = case
        .splits
        .iter()
        .map(|(split, file)| ((*split).to_owned(), vec![(*file).to_owned()]))
        .collect();
    let name = Name::Path(home.path().into());
    let read = data_with(&name, &splits)
        .and_then(|files| Dataset::open("t", &files, 0, &case.layout, &Ok));
    let Err(error) = read else { return Err(format!("{}: was accepted", case.name)) };
    let code = class_of(&error).code();
    if code != 3 {
        return Err(format!("{}: exit {code}, wanted 3: {error:#}", case.name));
    }
    let hint = hint_of(&error).map_or(String::new(), |hint| format!("  hint: {hint}\n"));
    Ok(format!("--- {}\n{error:#}\n{hint}", case.name)
        .replace(&home.path().display().to_string(), "data"))
}

#[test]
fn every_broken_file_is_told_what_is_wrong() {
    let cases: Vec<Case> = [tables(), json(), parquets(), splits()].into_iter().flatten().collect();
    assert!(cases.len() >= 25);
    let found: String =
        cases.iter().map(|case| error(case).unwrap_or_else(|wrong| panic!("{wrong}"))).collect();
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken_data/expected.txt");
    if std::env::var_os("XGBRUN_BLESS").is_some() {
        fs::create_dir_all(expected.parent().unwrap()).unwrap();
        fs::write(&expected, &found).unwrap();
    }
    let wanted = fs::read_to_string(&expected).unwrap_or_default();
    for (found, wanted) in found.split("--- ").zip(wanted.split("--- ")) {
        assert_eq!(found, wanted);
    }
    assert_eq!(found.len(), wanted.len(), "a case without its text, or a text without its case");
}
