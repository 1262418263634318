//! The data layer on real files, on broken ones, and against independent renderings.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use xgbrun::data::choices::encode_choices;
use xgbrun::data::formats::{self, Layout};
use xgbrun::data::item::{Instruction, Item};
use xgbrun::data::task::{Dataset, Split};
use xgbrun::data::template::Template;
use xgbrun::data::{Encode, EncodeOptions, LossOn, encode_train};
use xgbrun::error::{Class, class_of, hint_of};

/// A file of the shared real data.
fn shared(path: &str) -> Option<PathBuf> {
    common::shared(&format!("data/{path}"))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Item>> {
    formats::parse(path, bytes, &Layout::default())
}

fn instruction(item: &Item) -> &Instruction {
    match item {
        Item::Instruction(item) => item,
        other => panic!("not an instruction: {other:?}"),
    }
}

#[test]
fn the_commonsense_sets_hold_what_their_readme_says() {
    // Set, split, rows, and the share of the most common answer in per cent where it is published.
    let table = [
        ("ARC-Challenge", "train", 1119, None),
        ("ARC-Challenge", "test", 1172, Some(26.5)),
        ("ARC-Easy", "train", 2251, None),
        ("ARC-Easy", "test", 2376, Some(26.6)),
        ("boolq", "train", 9427, None),
        ("boolq", "test", 3270, Some(62.2)),
        ("piqa", "test", 1838, Some(50.5)),
        ("winogrande", "test", 1267, Some(50.4)),
    ];
    for (set, split, rows, majority) in table {
        let Some(path) = shared(&format!("commonsense/{set}/{split}.json")) else { return };
        let items = formats::read(&path, &Layout::default()).unwrap();
        assert_eq!(items.len(), rows, "{set} {split}");
        assert!(
            items.iter().all(Item::is_scorable),
            "{set} {split}: every item names its answer among its choices"
        );
        let mut labels = BTreeMap::new();
        for item in items.iter().map(instruction) {
            let label = item.label.unwrap();
            *labels.entry(label).or_insert(0) += 1;
            assert_eq!(item.choices[label], item.answer_text, "{}", item.place);
        }
        if let Some(majority) = majority {
            let most = f64::from(*labels.values().max().unwrap());
            assert_eq!((1000.0 * most / rows as f64).round() / 10.0, majority, "{set} {split}");
        }
    }
}

#[test]
fn a_few_arc_items_have_three_or_five_choices() {
    let Some(path) = shared("commonsense/ARC-Easy/test.json") else { return };
    let mut sizes = BTreeMap::new();
    for item in formats::read(&path, &Layout::default()).unwrap().iter().map(instruction) {
        *sizes.entry(item.choices.len()).or_insert(0) += 1;
    }
    assert_eq!(sizes, BTreeMap::from([(3, 7), (4, 2365), (5, 4)]));
}

#[test]
fn a_task_from_files_holds_validation_out_of_train() {
    let Some(train) = shared("commonsense/ARC-Easy/train.json") else { return };
    let test = train.with_file_name("test.json");
    let files =
        BTreeMap::from([("train".to_owned(), vec![train]), ("test".to_owned(), vec![test])]);
    let task = Dataset::from_files("ARC-Easy", &files, 1, &Layout::default(), &Ok).unwrap();
    let (kept, held) = (task.items(Split::Train).unwrap(), task.items(Split::Validation).unwrap());
    assert_eq!((kept.len(), held.len(), task.items(Split::Test).unwrap().len()), (2131, 120, 2376));
    let numbers = |items: &[Item]| items.iter().map(|item| item.place().number).collect::<Vec<_>>();
    assert!(numbers(kept).is_sorted() && numbers(held).is_sorted());
    let mut all = [numbers(kept), numbers(held)].concat();
    all.sort_unstable();
    assert_eq!(all, (1..=2251).collect::<Vec<_>>());
    let again = |seed| {
        Dataset::from_files("ARC-Easy", &files, seed, &Layout::default(), &Ok)
            .unwrap()
            .validation
            .unwrap()
    };
    assert_eq!(again(1), held);
    assert_ne!(again(2), held);
}

#[test]
fn a_task_without_train_says_what_it_has() {
    let Some(path) = shared("commonsense/piqa/test.json") else { return };
    let piqa = Dataset::from_file(&path, 1, &Layout::default(), &Ok).unwrap();
    assert_eq!(piqa.items(Split::Test).unwrap().len(), 1838);
    let error = piqa.items(Split::Train).unwrap_err();
    assert_eq!(error.to_string(), "the task `test` has no split `train`; it has `test`");
    assert_eq!(class_of(&error), Class::Data);
}

/// The prompts as the published scripts write them: an indented literal in a function.
const RENDER: &str = r####"
import json, sys
rows = json.load(open(sys.argv[1], encoding="utf-8"))[:int(sys.argv[2])]
task = ("Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.")
def train(row):
        return f"""{task}{'  '}

                ### Instruction:
                {row["instruction"]}
                {''}
                ### Response:
                {row["output"]}"""
def test(row):
        return f"""{task}{' '}

                ### Instruction:
                {row["instruction"]}

                ### Response:
                """
def alpaca(row):
        instruction = ["### Instruction:", row["instruction"]]
        return "\n".join([task, "", *instruction, "", "### Response:", ""])
json.dump([[train(row), test(row), alpaca(row)] for row in rows], sys.stdout)
"####;

#[test]
fn prompts_equal_an_independent_rendering() {
    for set in ["boolq", "piqa", "winogrande"] {
        let Some(path) = shared(&format!("commonsense/{set}/test.json")) else { return };
        let output =
            match Command::new("python3").args(["-c", RENDER]).arg(&path).arg("50").output() {
                Ok(output) => output,
                Err(error) => {
                    common::skip(&format!("no python3: {error}"));
                    return;
                }
            };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let rendered: Vec<[String; 3]> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(rendered.len(), 50);
        for (item, [train, test, alpaca]) in
            formats::read(&path, &Layout::default()).unwrap().iter().map(instruction).zip(&rendered)
        {
            let (prompt, answer) = Template::LlmAdapters.train_text(item).unwrap();
            assert_eq!(&format!("{prompt}{answer}"), train);
            assert_eq!(&Template::LlmAdapters.test_prompt(item).unwrap(), test);
            assert_eq!(&Template::Alpaca.test_prompt(item).unwrap(), alpaca);
            assert_eq!(
                Template::Alpaca.train_text(item).unwrap(),
                (alpaca.clone(), item.answer_text.clone())
            );
        }
    }
}

#[test]
fn an_input_has_a_place_in_alpaca_only() {
    let text = br#"[{"instruction": "Add.", "input": "1 2", "output": "3", "answer": "3"}]"#;
    let items = parse(Path::new("sums.json"), text).unwrap();
    let item = instruction(&items[0]);
    assert_eq!(
        Template::Alpaca.test_prompt(item).unwrap(),
        "Below is an instruction that describes a task, paired with an input that provides further \
         context. Write a response that appropriately completes the request.\n\n\
         ### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n"
    );
    let message = "`sums.json` item 1: `input` is not empty, which the template `llm-adapters` has \
                   no place for; `alpaca` has";
    let encoded = encode_train(
        &items,
        Template::LlmAdapters,
        &Words,
        &EncodeOptions { max_length: 99, loss: LossOn::All },
    );
    let errors = [
        Template::LlmAdapters.train_text(item).unwrap_err(),
        Template::LlmAdapters.test_prompt(item).unwrap_err(),
        encoded.unwrap_err(),
    ];
    for error in errors {
        assert_eq!((error.to_string().as_str(), class_of(&error)), (message, Class::Data));
    }
}

#[test]
fn broken_files_are_named_with_the_place() {
    let fields = "expected are the strings `instruction`, `input`, `output` and `answer`";
    let row = "expected is `{\"ids\": [token ids], \"mask_first\": number}`";
    let shapes = "possible are {instruction, input, output, answer}, {prompt, completion}, \
                  {messages}, {conversations}, {ids, mask_first}, {input_ids, labels} and {text}";
    let endings = "the endings are `.json`, `.jsonl` and `.ndjson` (a list of records, or a record \
                   a line), `.csv`, `.tsv`, `.parquet` (rows) and `.txt` (plain text), also with \
                   `.gz` or `.zst` behind them";
    let good = r#"{"instruction": "i", "input": "", "output": "o", "answer": "a"}"#;
    let table: Vec<(&str, Vec<u8>, String)> = vec![
        (
            "a.json",
            format!("[\n{good},\n{{\"instruction\" 1}}]").into(),
            "`a.json` line 3 column 16: not valid JSON: expected `:`".into(),
        ),
        (
            "a.json",
            format!("[\n{good},\n{{\"instr").into(),
            "`a.json` line 3 column 7: the JSON is cut short (EOF while parsing a string)".into(),
        ),
        ("a.json", b"[]".into(), "`a.json` holds an empty list".into()),
        (
            "a.json",
            b"7".into(),
            "`a.json` holds a number; expected a list of objects, or an object on each line".into(),
        ),
        ("a.json", b"".into(), "`a.json` is empty".into()),
        ("a.json", b"\xef\xbb\xbf \r\n".into(), "`a.json` is empty".into()),
        (
            "a.json",
            format!("[{good}, 7]").into(),
            format!("`a.json` item 2 is a number, expected an object; {fields}"),
        ),
        (
            "a.json",
            format!("[{}, {good}]", good.replace("output", "outptu")).into(),
            format!("`a.json` item 1 has no `output`; {fields}"),
        ),
        (
            "a.json",
            format!("[{}]", good.replace("\"a\"", "3")).into(),
            format!("`a.json` item 1: `answer` is a number, expected a string; {fields}"),
        ),
        (
            "a.json",
            b"[\n\"\xff\"]".into(),
            "`a.json` line 2: byte 0xff at offset 3 is not UTF-8".into(),
        ),
        (
            "a.txt",
            b"\xef\xbb\xbfa\n\xc3".into(),
            "`a.txt` line 2: byte 0xc3 at offset 5 is not UTF-8".into(),
        ),
        (
            "a.txt",
            b"\xff\xfeh\0".into(),
            "`a.txt` line 1: byte 0xff at offset 0 is not UTF-8; it looks like UTF-16".into(),
        ),
        ("a.txt", b" \n".into(), "`a.txt` is empty".into()),
        ("a.dat", b"a,b".into(), format!("`a.dat` is of no data format that is known; {endings}")),
        ("data", b"".into(), format!("`data` is of no data format that is known; {endings}")),
        (
            "a.jsonl",
            b"{\"ids\": [1]}\r\n\r\n{\"ids\": [1}".into(),
            "`a.jsonl` line 3 column 11: not valid JSON: expected `,` or `]`".into(),
        ),
        (
            "a.jsonl",
            b"{\"ids\": [1]}\n{\"ids\"".into(),
            "`a.jsonl` line 2 column 6: the JSON is cut short (EOF while parsing an object)".into(),
        ),
        (
            "a.jsonl",
            b"[1, 2]\n[3]".into(),
            format!("`a.jsonl` line 1 is a list, expected an object; {shapes}"),
        ),
        ("a.jsonl", b"{\"mask_first\": 1}".into(), format!("`a.jsonl` line 1 has no `ids`; {row}")),
        ("a.jsonl", b"{\"ids\": 1}".into(), format!("`a.jsonl` line 1: `ids` is a number, {row}")),
        (
            "a.jsonl",
            b"{\"ids\": [1, \"2\"]}".into(),
            "`a.jsonl` line 1: `ids[1]` is a string, expected a token id".into(),
        ),
        (
            "a.jsonl",
            b"{\"ids\": [1], \"mask_frist\": 1}".into(),
            format!(
                "`a.jsonl` line 1: unknown key `mask_frist`; did you mean `mask_first`?; {row}"
            ),
        ),
        (
            "a.jsonl",
            b"{\"ids\": [1], \"mask_first\": 2}".into(),
            "`a.jsonl` line 1: `mask_first` is 2, more than the row has ids (1)".into(),
        ),
        (
            "a.jsonl",
            b"{\"ids\": [1], \"mask_first\": -1}".into(),
            "`a.jsonl` line 1: `mask_first` is -1, expected a whole number".into(),
        ),
        (
            "a.jsonl",
            b"{\"ids\": [4294967296]}".into(),
            "`a.jsonl` line 1: `ids[0]` is 4294967296, ids are whole numbers from 0 to 4294967295"
                .into(),
        ),
    ];
    for (name, bytes, message) in table {
        let error = parse(Path::new(name), &bytes).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(class_of(&error), Class::Data, "{message}");
    }
    let deep = "[".repeat(100_000);
    assert!(
        parse(Path::new("deep.json"), deep.as_bytes())
            .unwrap_err()
            .to_string()
            .contains("recursion limit")
    );
}

#[test]
fn missing_files_and_folders_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.json");
    let error = formats::read(&path, &Layout::default()).unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("`{}` cannot be read: ", path.display())),
        "{error}"
    );
    assert_eq!(class_of(&error), Class::Data);
    std::fs::create_dir(&path).unwrap();
    assert_eq!(
        formats::read(&path, &Layout::default()).unwrap_err().to_string(),
        format!("`{}` is not a file", path.display())
    );
}

#[test]
fn marks_and_line_ends_of_other_systems_change_nothing() {
    let plain = "[\n{\"instruction\": \"q\\n\\nAnswer format: a/b\",\n\
                 \"input\": \"\", \"output\": \"b\", \"answer\": \"b\"}]\n";
    let foreign = format!("\u{feff}{}", plain.replace('\n', "\r\n"));
    let read = |text: &str| parse(Path::new("a.json"), text.as_bytes()).unwrap();
    assert_eq!(read(plain), read(&foreign));
    assert_eq!(instruction(&read(plain)[0]).label, Some(1));
    let text = |bytes: &[u8]| parse(Path::new("a.txt"), bytes).unwrap();
    assert_eq!(text(b"a\nb\n"), text(b"\xef\xbb\xbfa\r\nb\r\n"));
}

#[test]
fn an_answer_outside_the_choices_is_kept_and_counted() {
    let row = |answer: &str| {
        format!(
            r#"{{"instruction": "q\n\nAnswer format: true/false", "input": "",
                "output": "the correct answer is {answer}", "answer": "{answer}"}}"#
        )
    };
    let items =
        parse(Path::new("a.json"), format!("[{}, {}]", row("maybe"), row("false")).as_bytes())
            .unwrap();
    assert!(!items[0].is_scorable() && items[1].is_scorable());
    let options = EncodeOptions { max_length: 512, loss: LossOn::Answer };
    let encoded = encode_train(&items, Template::Alpaca, &Words, &options).unwrap();
    assert_eq!((encoded.examples.len(), encoded.report.unscorable), (2, 1));
    let (scored, report) = encode_choices(&items, Template::Alpaca, &Words, 512).unwrap();
    assert_eq!((scored.len(), report.unscorable), (1, 1));
}

/// A token per word: its length.
struct Words;

impl Encode for Words {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(text.split_whitespace().map(|word| word.len() as u32).collect())
    }
    fn bos(&self) -> Option<u32> {
        None
    }
    fn eos(&self) -> Option<u32> {
        Some(0)
    }
    fn add_bos(&self) -> bool {
        false
    }
    fn vocab_size(&self) -> usize {
        100
    }
    fn chat_template(&self) -> Option<&str> {
        None
    }
    fn token(&self, _: u32) -> Option<String> {
        None
    }
    fn decode(&self, _: &[u32]) -> Result<String> {
        Ok(String::new())
    }
}

#[test]
fn splits_are_named_and_single() {
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (1..=25).map(|i| format!("{{\"ids\": [{i}, 2]}}\n")).collect();
    let path = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, &rows).unwrap();
        (path.file_stem().unwrap().to_string_lossy().into_owned(), vec![path])
    };
    let of = |names: &[&str]| {
        Dataset::from_files(
            "t",
            &names.iter().map(|name| path(name)).collect(),
            1,
            &Layout::default(),
            &Ok,
        )
    };
    let file = |name: &str| folder.path().join(name).display().to_string();

    let small = of(&["train.jsonl"]).unwrap();
    assert_eq!(
        (small.train.unwrap().len(), small.validation.unwrap().len(), small.test),
        (23, 2, None)
    );
    let own = of(&["train.jsonl", "valid.jsonl"]).unwrap();
    assert_eq!((own.train.unwrap().len(), own.validation.unwrap().len()), (25, 25));

    let error = of(&["tran.jsonl"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("`{}` is for no split that is known; did you mean `train`?", file("tran.jsonl"))
    );
    assert_eq!(hint_of(&error), Some("splits are `train`, `validation` and `test`"));
    let error = of(&["dev.jsonl", "valid.jsonl"]).unwrap_err();
    let both = format!(
        "`{}` and `{}` are both for the split `validation`",
        file("dev.jsonl"),
        file("valid.jsonl")
    );
    assert_eq!(error.to_string(), both);
    assert_eq!(of(&[]).unwrap_err().to_string(), "the task `t` has no items in any split");
}

#[test]
fn a_single_file_is_train_unless_its_name_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let single = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, "{\"ids\": [1, 2]}\n").unwrap();
        Dataset::from_file(&path, 1, &Layout::default(), &Ok).unwrap()
    };
    let test = single("test.jsonl");
    assert!(test.train.is_none() && test.validation.is_none() && test.test.is_some());
    let few = single("few.jsonl");
    assert_eq!(few.items(Split::Train).unwrap().len(), 1);
    let error = few.items(Split::Validation).unwrap_err();
    assert_eq!(error.to_string(), "the task `few` has no split `validation`; it has `train`");
    assert_eq!(
        hint_of(&error),
        Some("one is held out of every ten of train, which has 1; add a validation file")
    );
}

/// A published vocabulary, through the library that reads it.
struct Published(tokenizers::Tokenizer);

impl Encode for Published {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.0.encode_fast(text, false).map_err(|e| anyhow::anyhow!("{e}"))?.get_ids().to_vec())
    }
    fn bos(&self) -> Option<u32> {
        None
    }
    fn eos(&self) -> Option<u32> {
        self.0.token_to_id("<|im_end|>")
    }
    fn add_bos(&self) -> bool {
        false
    }
    fn vocab_size(&self) -> usize {
        self.0.get_vocab_size(true)
    }
    fn chat_template(&self) -> Option<&str> {
        None
    }
    fn token(&self, _: u32) -> Option<String> {
        None
    }
    fn decode(&self, _: &[u32]) -> Result<String> {
        Ok(String::new())
    }
}

#[test]
fn real_items_through_a_real_tokenizer() {
    let Some(path) = shared("commonsense/ARC-Easy/test.json") else { return };
    let Some(folder) = common::model(common::FOLDER) else { return };
    let file = folder.join("tokenizer.json");
    let tokenizer = Published(tokenizers::Tokenizer::from_file(&file).unwrap());
    let items = &formats::read(&path, &Layout::default()).unwrap()[..200];
    let text = |ids: &[u32]| tokenizer.0.decode(ids, false).unwrap();
    let supervised = |template| {
        let options = EncodeOptions { max_length: 2048, loss: LossOn::Answer };
        let encoded = encode_train(items, template, &tokenizer, &options).unwrap();
        assert_eq!((encoded.examples.len(), encoded.report.cut), (200, 0));
        let counted = encoded.examples.iter().map(|example| {
            assert_eq!(example.ids.last().copied(), tokenizer.eos());
            example
                .ids
                .iter()
                .zip(&example.supervised)
                .filter(|(_, s)| **s)
                .map(|(id, _)| *id)
                .collect::<Vec<_>>()
        });
        counted.map(|ids| text(&ids)).collect::<Vec<_>>()
    };
    let (alpaca, published) = (supervised(Template::Alpaca), supervised(Template::LlmAdapters));
    for ((item, alpaca), published) in items.iter().map(instruction).zip(alpaca).zip(published) {
        assert_eq!(alpaca, format!("{}<|im_end|>", item.answer_text));
        assert_eq!(
            published,
            format!(" {alpaca}"),
            "the space that joins the first word, and no more of the prompt"
        );
    }
    let (scored, report) = encode_choices(items, Template::LlmAdapters, &tokenizer, 2048).unwrap();
    assert_eq!(report.scored, 200);
    // The spaces at the prompt's end join the first word of a choice, so they count with it.
    let prompt = Template::LlmAdapters.test_prompt(instruction(&items[0])).unwrap();
    assert_eq!(text(&scored[0].prompt), prompt.trim_end());
    assert_eq!(
        text(&scored[0].choices[1]),
        format!("\n{}{}", " ".repeat(16), instruction(&items[0]).choices[1])
    );
    assert_eq!((report.joined.items, report.joined.spaces), (200, 200));
    let options = EncodeOptions { max_length: 128, loss: LossOn::All };
    let short = encode_train(items, Template::LlmAdapters, &tokenizer, &options).unwrap();
    assert!(
        short.report.cut > 0 && short.examples.iter().all(|e| e.ids.len() <= 128),
        "{}",
        short.report
    );
}
