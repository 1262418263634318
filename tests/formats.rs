//! Every format on files that are right: the real ones as they are published, and small ones of
//! each shape.

mod common;

use std::fs;
use std::path::Path;

use common::tiny_parquet::{Column, parquet};
use parquet::basic::{Compression, ZstdLevel};
use serde_json::{Value, json};
use xgbrun::data::formats::{self, Encoding, Format, Layout, LineFile};
use xgbrun::data::item::{Item, Message};
use xgbrun::data::{Dataset, Split};
use xgbrun::error::{Class, class_of, hint_of};
use xgbrun::source::{DataFiles, Name, data, data_with};

fn columns(names: &str) -> Option<Vec<String>> {
    Some(names.split(' ').map(str::to_owned).collect())
}

fn rows() -> Layout {
    Layout { rows: true, ..Layout::default() }
}

/// The layouts that the real tables need.
fn cola() -> Layout {
    Layout { columns: columns("source label mark sentence"), ..rows() }
}
fn sst2() -> Layout {
    Layout { delimiter: Some(b' '), columns: columns("label sentence"), ..rows() }
}
fn subj() -> Layout {
    Layout { encoding: Encoding::Latin1, ..sst2() }
}
fn sick() -> Layout {
    Layout { format: Some(Format::Tsv), ..rows() }
}
fn mmlu() -> Layout {
    Layout { columns: columns("question A B C D answer"), ..rows() }
}

/// Every file of the README's table with its rows.
fn real() -> Vec<(String, Layout, usize)> {
    let mut files = Vec::new();
    let mut add = |layout: Layout, list: &[(&str, usize)]| {
        files.extend(list.iter().map(|(file, rows)| ((*file).to_owned(), layout.clone(), *rows)));
    };
    add(
        Layout::default(),
        &[
            ("commonsense/ARC-Challenge/train.json", 1119),
            ("commonsense/ARC-Challenge/test.json", 1172),
            ("commonsense/ARC-Easy/train.json", 2251),
            ("commonsense/ARC-Easy/test.json", 2376),
            ("commonsense/boolq/train.json", 9427),
            ("commonsense/boolq/test.json", 3270),
            ("commonsense/piqa/test.json", 1838),
            ("commonsense/winogrande/test.json", 1267),
            ("text/tinyshakespeare.txt", 1),
            ("text/wikitext-2/valid.txt", 1),
        ],
    );
    add(
        cola(),
        &[
            ("glue/CoLA/in_domain_train.tsv", 8551),
            ("glue/CoLA/in_domain_dev.tsv", 527),
            ("glue/CoLA/out_of_domain_dev.tsv", 516),
        ],
    );
    add(
        sst2(),
        &[
            ("glue/SST-2/stsa.binary.train", 6920),
            ("glue/SST-2/stsa.binary.dev", 872),
            ("glue/SST-2/stsa.binary.test", 1821),
        ],
    );
    add(rows(), &[("glue/RTE/train.tsv", 2490), ("glue/RTE/dev.tsv", 277)]);
    add(subj(), &[("glue/SUBJ/subj.all", 10_000)]);
    add(
        sick(),
        &[
            ("glue/SICK/SICK_train.txt", 4500),
            ("glue/SICK/SICK_trial.txt", 500),
            ("glue/SICK/SICK_test_annotated.txt", 4927),
        ],
    );
    let subjects = [
        ("abstract_algebra", [5, 11, 100]),
        ("global_facts", [5, 10, 100]),
        ("high_school_geography", [5, 22, 198]),
        ("philosophy", [5, 34, 311]),
    ];
    for (subject, counts) in subjects {
        for (split, rows) in ["dev", "val", "test"].into_iter().zip(counts) {
            add(mmlu(), &[(&format!("mmlu/{split}/{subject}_{split}.csv"), rows)]);
        }
    }
    files
}

#[test]
fn every_real_file_has_the_rows_of_its_readme() {
    let Some(shared) = common::shared("data") else { return };
    for (file, layout, rows) in real() {
        let items =
            formats::read(&shared.join(&file), &layout).unwrap_or_else(|e| panic!("{file}: {e:#}"));
        assert_eq!(items.len(), rows, "{file}");
        assert!(layout.rows == matches!(items[0], Item::Row(_)), "{file}");
    }
}

fn fields(item: &Item) -> Value {
    match item {
        Item::Row(row) => Value::Object(row.fields.clone()),
        other => panic!("not a row: {other:?}"),
    }
}

#[test]
fn real_rows_are_what_their_readme_shows() {
    let Some(shared) = common::shared("data") else { return };
    let row = |file: &str, layout: &Layout, i: usize| {
        fields(&formats::read(&shared.join(file), layout).unwrap()[i])
    };
    assert_eq!(
        row("glue/CoLA/in_domain_train.tsv", &cola(), 0),
        json!({ "source": "gj04", "label": "1", "mark": "", "sentence": "Our friends won't buy \
            this analysis, let alone the next one we propose." })
    );
    let text = "a stirring , funny and finally transporting re-imagining of beauty and the beast \
                and 1930s horror films";
    assert_eq!(
        row("glue/SST-2/stsa.binary.train", &sst2(), 0),
        json!({ "label": "1", "sentence": text })
    );
    assert_eq!(
        row("glue/SICK/SICK_trial.txt", &sick(), 0),
        json!({
            "pair_ID": "4", "sentence_A": "The young boys are playing outdoors and the man is \
                                           smiling nearby",
            "sentence_B": "There is no boy playing outdoors and there is no man smiling",
            "relatedness_score": "3.6", "entailment_judgment": "CONTRADICTION"
        })
    );
    let first = row("mmlu/test/abstract_algebra_test.csv", &mmlu(), 0);
    let question =
        "Find the degree for the given field extension Q(sqrt(2), sqrt(3), sqrt(18)) over Q.";
    assert_eq!(
        first,
        json!({ "question": question, "A": "0", "B": "4", "C": "2", "D": "6", "answer": "B" })
    );
    // Quotes that are part of the text, and letters of Latin-1.
    let all = formats::read(&shared.join("glue/RTE/train.tsv"), &rows()).unwrap();
    assert!(all.iter().any(|item| fields(item)["sentence1"].as_str().unwrap().starts_with('"')));
    let all = formats::read(&shared.join("glue/SUBJ/subj.all"), &subj()).unwrap();
    assert!(all.iter().any(|item| fields(item)["sentence"].as_str().unwrap().contains('é')));
    let labels = |label: &str| all.iter().filter(|item| fields(item)["label"] == label).count();
    assert_eq!((labels("0"), labels("1")), (5000, 5000));
}

#[test]
fn a_folder_as_it_is_published() {
    let Some(shared) = common::shared("data") else { return };
    let folder = Name::Path(shared.join("glue/SICK"));
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let splits = [
        ("train", "SICK_train.txt"),
        ("validation", "SICK_trial.txt"),
        ("test", "SICK_test_annotated.txt"),
    ];
    let splits = splits.map(|(split, file)| (split.to_owned(), names(&[file]))).into();
    let task =
        Dataset::open("SICK", &data_with(&folder, &splits).unwrap(), 0, &sick(), &Ok).unwrap();
    let sizes = [Split::Train, Split::Validation, Split::Test]
        .map(|split| task.items(split).unwrap().len());
    assert_eq!((task.name.as_str(), sizes), ("SICK", [4500, 500, 4927]));

    // GLUE's dev set of CoLA is two files of the corpus, one after the other.
    let folder = Name::Path(shared.join("glue/CoLA"));
    let splits = [
        ("train".to_owned(), names(&["in_domain_train.tsv"])),
        ("validation".to_owned(), names(&["in_domain_dev.tsv", "out_of_domain_dev.tsv"])),
    ];
    let task = Dataset::open("CoLA", &data_with(&folder, &splits.into()).unwrap(), 0, &cola(), &Ok)
        .unwrap();
    assert_eq!(task.items(Split::Validation).unwrap().len(), 1043);
    assert_eq!(task.digests.len(), 3);

    let files = data(&Name::Path(shared.join("commonsense"))).unwrap();
    assert!(matches!(&files, DataFiles::Tasks(tasks) if tasks.len() == 5));
    let tasks = Dataset::open_all("commonsense", &files, 0, &Layout::default(), &Ok).unwrap();
    let held: Vec<_> = tasks
        .iter()
        .map(|task| (task.name.as_str(), task.validation.as_ref().map(Vec::len)))
        .collect();
    let expected = [
        ("ARC-Challenge", Some(111)),
        ("ARC-Easy", Some(120)),
        ("boolq", Some(120)),
        ("piqa", None),
        ("winogrande", None),
    ];
    assert_eq!(held, expected);
}

fn parse(file: &str, bytes: impl AsRef<[u8]>, layout: &Layout) -> Vec<Item> {
    formats::parse(Path::new(file), bytes.as_ref(), layout)
        .unwrap_or_else(|e| panic!("{file}: {e:#}"))
}

#[test]
fn records_are_items_by_their_keys() {
    let items = |file: &str, text: &str| parse(file, text, &Layout::default());
    let alpaca = items(
        "a.jsonl",
        "{\"instruction\": \"Add.\", \"output\": \"3\"}\n\n\
         {\"instruction\": \"b\", \"input\": null, \"output\": \"c\"}",
    );
    let Item::Instruction(item) = &alpaca[1] else { panic!() };
    assert_eq!(
        (item.place.to_string().as_str(), item.input.as_str(), item.choices.len(), item.label),
        ("`a.jsonl` line 3", "", 0, None)
    );
    // The output says which choice is right where no answer does.
    let text = "[{\"instruction\": \"q\\n\\nAnswer format: yes/no\", \
                \"output\": \"the correct answer is no\"}]";
    assert!(matches!(
        &items("a.json", text)[0],
        Item::Instruction(item) if item.label == Some(1) && item.names == ["yes", "no"]
    ));
    let Item::Instruction(item) = &items("a.csv", "prompt,completion\nq,\"a, b\"\n")[0] else {
        panic!()
    };
    assert_eq!(
        (item.instruction.as_str(), item.answer_text.as_str(), item.label),
        ("q", "a, b", None)
    );
    let chat = "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, \
                {\"role\": \"assistant\", \"content\": \"a\", \"name\": null}]}";
    let Item::Chat(chat) = &items("a.jsonl", chat)[0] else { panic!() };
    assert_eq!(chat.messages, [Message::new("user", "q"), Message::new("assistant", "a")]);
    assert!(matches!(
        &items("a.json", "[{\"ids\": [1, 2], \"mask_first\": 1}]")[0],
        Item::Tokens(row) if row.ids == [1, 2]
    ));
    let Item::Text(text) = &items("a.ndjson", "{\"text\": \"t\", \"url\": \"u\"}")[0] else {
        panic!()
    };
    assert!(text.ended && text.text == "t");
    let row = parse("a.json", "[{\"b\": [1, null], \"a\": {\"c\": 0.5}}]", &rows());
    assert_eq!(fields(&row[0]).to_string(), "{\"b\":[1,null],\"a\":{\"c\":0.5}}");
}

#[test]
fn tables_have_headers_quotes_and_physical_lines() {
    let text = "\u{feff}q,a\r\n\r\n\"one,\r\n\"\"two\"\"\",x\r\n\r\nplain,\"y\"";
    let items = parse("a.csv", text, &rows());
    let at: Vec<_> = items.iter().map(|item| item.place().to_string()).collect();
    assert_eq!(at, ["`a.csv` line 3", "`a.csv` line 6"]);
    assert_eq!(fields(&items[0]), json!({ "q": "one,\r\n\"two\"", "a": "x" }));
    assert_eq!(fields(&items[1]), json!({ "q": "plain", "a": "y" }));
    let numbered = Layout { header: Some(false), ..rows() };
    assert_eq!(fields(&parse("a.tsv", "\"a\t\n", &numbered)[0]), json!({ "1": "\"a", "2": "" }));
    let renamed = Layout { header: Some(true), columns: columns("x y"), ..rows() };
    assert_eq!(fields(&parse("a.csv", "q,a\n1,2\n", &renamed)[0]), json!({ "x": "1", "y": "2" }));
    let other = Layout { delimiter: Some(b';'), ..rows() };
    assert_eq!(
        fields(&parse("a.data", "q;a\n1;\"2;3\"\n", &other)[0]),
        json!({ "q": "1", "a": "2;3" })
    );
}

#[test]
fn parquet_has_the_types_of_json() {
    let schema = "message rows {
        required binary text (UTF8); required binary raw; required int64 n; required double x;
        required boolean ok;
        optional group list (LIST) { repeated group list { optional int64 element; } }
        required group pair { required int64 a; optional binary b (UTF8); }
    }";
    let columns = [
        Column::Texts(&["é", ""]),
        Column::Bytes(&[b"b", b"c"]),
        Column::Longs(&[i64::MAX, -1]),
        Column::Doubles(&[0.5, f64::NAN]),
        Column::Flags(&[true, false]),
        Column::LongsAt(&[1], &[3, 2, 0], &[0, 1, 0]),
        Column::Longs(&[7, 8]),
        Column::TextsAt(&["z"], &[1, 0], &[0, 0]),
    ];
    for compression in
        [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default())]
    {
        let items = parse("a.parquet", parquet(schema, compression, &columns), &rows());
        let expected = [
            json!({
                "text": "é", "raw": "b", "n": i64::MAX, "x": 0.5, "ok": true, "list": [1, null],
                "pair": { "a": 7, "b": "z" },
            }),
            json!({
                "text": "", "raw": "c", "n": -1, "x": { "\0": "NaN, which JSON does not have" },
                "ok": false, "list": null, "pair": { "a": 8, "b": null },
            }),
        ];
        assert_eq!(items.iter().map(fields).collect::<Vec<_>>(), expected);
        assert_eq!(items[1].place().to_string(), "`a.parquet` row 2");
    }
    let shape =
        "message rows { required binary prompt (UTF8); required binary completion (UTF8); }";
    let bytes =
        parquet(shape, Compression::SNAPPY, &[Column::Texts(&["q"]), Column::Texts(&["a"])]);
    assert!(matches!(
        &parse("a.parquet", bytes, &Layout::default())[0],
        Item::Instruction(item) if item.answer_text == "a"
    ));
}

#[test]
fn damaged_parquet_ends_in_an_error() {
    let schema = "message rows { required binary text (UTF8); optional group list (LIST) { \
                  repeated group list { optional int64 element; } } }";
    let columns =
        [Column::Texts(&["one", "two"]), Column::LongsAt(&[1, 2], &[3, 3, 0], &[0, 1, 0])];
    let good = parquet(schema, Compression::SNAPPY, &columns);
    let check = |bytes: &[u8]| {
        if let Err(error) = formats::parse(Path::new("a.parquet"), bytes, &rows()) {
            assert_eq!(class_of(&error), Class::Data, "{error:#}");
            assert!(error.to_string().starts_with("`a.parquet`"), "{error}");
        }
    };
    for length in 0..good.len() {
        assert!(formats::parse(Path::new("a.parquet"), &good[..length], &rows()).is_err());
        check(&good[..length]);
    }
    for at in 0..good.len() {
        for flip in [1, 0x10, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            check(&bad);
        }
    }
}

/// Writes a file and reads it whole and by line.
fn both(
    folder: &Path,
    name: &str,
    bytes: impl AsRef<[u8]>,
    layout: &Layout,
) -> (LineFile, Vec<Item>) {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    let lines = LineFile::open(&path, layout).unwrap_or_else(|e| panic!("{name}: {e:#}"));
    let formats::FileRead { items, digest, .. } = formats::read_noted(&path, layout).unwrap();
    assert_eq!(lines.digest(), digest);
    (lines, items)
}

#[test]
fn rows_on_disk_are_the_rows_in_memory() {
    let home = tempfile::tempdir().unwrap();
    let text = |i: usize| {
        format!(
            "{{\"text\": \"sentence {i} of a text that is some words long\"}}\n{}",
            if i % 7 == 3 { " \r\n\n" } else { "" }
        )
    };
    let json: String = (0..1000).map(text).collect();
    let space = format!("\n{}", "1 a b  c d e f\r\n\n0 words, \n".repeat(500));
    let cases = [
        ("a.jsonl", format!("\u{feff}\n{json}"), Layout::default()),
        ("b.tsv", format!("\n\nq\ta\n{}", "a cell\tand a \"longer cell\n\n".repeat(400)), rows()),
        ("c.data", space, sst2()),
        (
            "d.csv",
            "a,b\r\n1,2\r\n3,4".into(),
            Layout { quote: Some(false), header: Some(false), ..rows() },
        ),
    ];
    for (name, text, layout) in cases {
        let (lines, items) = both(home.path(), name, &text, &layout);
        let each: Vec<Item> = (0..lines.len()).map(|i| lines.get(i).unwrap()).collect();
        assert_eq!(each, items, "{name}");
        assert!(
            text.len() < 100 || lines.kept() < text.len(),
            "{name}: keeps {} bytes of {}",
            lines.kept(),
            text.len()
        );
        assert!(lines.get(lines.len()).unwrap_err().to_string().contains("there is no row"));
    }
    let Some(shared) = common::shared("data") else { return };
    for (file, layout, rows) in real() {
        if let Ok(lines) = LineFile::open(&shared.join(&file), &layout) {
            let items = formats::read(&shared.join(&file), &layout).unwrap();
            assert_eq!((lines.len(), items.len()), (rows, rows), "{file}");
            assert!(
                items.iter().enumerate().all(|(i, item)| lines.get(i).unwrap() == *item),
                "{file}"
            );
            assert!(
                lines.kept() as u64 * 2 < fs::metadata(shared.join(&file)).unwrap().len(),
                "{file}: keeps {}",
                lines.kept()
            );
        }
    }
}

#[test]
fn broken_rows_on_disk_give_the_errors_of_the_file() {
    let home = tempfile::tempdir().unwrap();
    let tsv = Layout { quote: Some(false), ..rows() };
    let cases: [(&str, &[u8], &Layout); 7] = [
        ("a.jsonl", b"{\"text\": \"a\"}\n\n{\"text\": 1}\n", &Layout::default()),
        ("a.jsonl", b"{\"text\": \"a\"}\n{\"text\": \n", &Layout::default()),
        ("a.jsonl", b"{\"text\": \"a\"}\n\n{\"messages\": []}\n", &Layout::default()),
        ("a.jsonl", b"\xef\xbb\xbf{\"text\": \"a\"}\n\n{\"text\": \"\xff\"}\n", &Layout::default()),
        ("a.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"\0\"}\n", &Layout::default()),
        ("a.tsv", b"a\tb\n1\t2\n\n\n1\n", &tsv),
        ("a.tsv", b"a\tb\n1\t2\n1\t2\t3", &tsv),
    ];
    for (name, bytes, layout) in cases {
        let path = home.path().join(name);
        fs::write(&path, bytes).unwrap();
        let lines = LineFile::open(&path, layout).unwrap();
        let (one, whole) = (lines.get(1).unwrap_err(), formats::read(&path, layout).unwrap_err());
        assert_eq!((one.to_string(), hint_of(&one)), (whole.to_string(), hint_of(&whole)));
    }
    let opened = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).unwrap();
        LineFile::open(&path, &rows()).unwrap_err()
    };
    assert_eq!(class_of(&opened("q.csv", "a\n1\n")), Class::Usage);
    assert!(
        opened("q.csv", "a\n1\n")
            .to_string()
            .ends_with("quoted cells may hold line ends; set `quote: false`")
    );
    assert!(
        opened("q.json", "[]")
            .to_string()
            .ends_with("cannot be streamed: it holds a JSON list, which is read whole")
    );
    assert!(
        opened("q.parquet", "a")
            .to_string()
            .ends_with("only JSON lines and tables without quotes can")
    );
    assert!(opened("h.tsv", "a\n").to_string().ends_with("has a header and no rows"));
    assert!(opened("h.tsv", "\n\n").to_string().ends_with("is empty"));
}

#[test]
fn shards_are_one_split_and_files_are_read_once() {
    let home = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("train-00001-of-00002.jsonl", "{\"text\": \"b\"}"),
        ("train-00000-of-00002.jsonl", "{\"text\": \"a\"}"),
    ] {
        fs::write(home.path().join(name), text).unwrap();
    }
    let files = data(&Name::Path(home.path().into())).unwrap();
    let task = Dataset::open("t", &files, 0, &Layout::default(), &Ok).unwrap();
    let texts: Vec<_> = task
        .train
        .iter()
        .flatten()
        .map(|item| matches!(item, Item::Text(t) if t.text == "a"))
        .collect();
    assert_eq!(texts, [true, false]);
    let path = home.path().join("train-00000-of-00002.jsonl");
    // printf '{"text": "a"}' | sha256sum
    assert_eq!(
        task.digests[0],
        (path, "fcf7579b2db13f7ef57cfc1b2f6f843f23c06770f6b52d835a4048bffe39c32b".to_owned())
    );
}

#[test]
fn what_a_conversion_refuses_has_its_place() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("train.csv");
    fs::write(&path, "q,a\n1,2\n3,4\n").unwrap();
    let refuse = |item: Item| match fields(&item)["q"].as_str() {
        Some("3") => Err(xgbrun::error::Error::data("no such label").hint("labels are 1").into()),
        _ => Ok(item),
    };
    let error =
        Dataset::open("t", &DataFiles::File(path.clone()), 0, &rows(), &refuse).unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` line 3: no such label", path.display()));
    assert_eq!((class_of(&error), hint_of(&error)), (Class::Data, Some("labels are 1")));
}

#[test]
fn each_of_several_tasks_holds_out_by_a_stream_of_its_own() {
    let home = tempfile::tempdir().unwrap();
    let text: String = (0..100).map(|i| format!("{{\"text\": \"{i}\"}}\n")).collect();
    for task in ["a", "b"] {
        fs::create_dir(home.path().join(task)).unwrap();
        fs::write(home.path().join(task).join("train.jsonl"), &text).unwrap();
    }
    let held = |folder: &Path, layout: &Layout| -> Vec<Vec<usize>> {
        let tasks =
            Dataset::open_all("t", &data(&Name::Path(folder.into())).unwrap(), 3, layout, &Ok)
                .unwrap();
        tasks
            .iter()
            .map(|task| {
                task.items(Split::Validation)
                    .unwrap()
                    .iter()
                    .map(|item| item.place().number)
                    .collect()
            })
            .collect()
    };
    let both = held(home.path(), &Layout::default());
    assert_eq!(both.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10]);
    assert_ne!(both[0], both[1]);
    assert_eq!(held(home.path(), &Layout::default()), both);
    // A task on its own holds out what it always did, whatever its name.
    assert_eq!(
        held(&home.path().join("a"), &Layout::default()),
        held(&home.path().join("b"), &rows())
    );
}
