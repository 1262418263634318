//! `xgbrun eval` as it is called, and the summary at the end of a run, on a tiny model; and a
//! figure of a real one.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::tiny::Tiny;
use serde_json::{Value, json};

/// A folder with a tiny model in `m`, and questions and text beside it.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    Tiny { layers: 2, tied: true, ..Tiny::default() }.write(&at("m"));
    for folder in ["both", "validation", "several/one"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    fs::write(at("q.json"), questions(&[0, 1, 1, 2, 9])).unwrap();
    fs::write(at("both/test.json"), questions(&[1, 1])).unwrap();
    fs::write(at("both/dev.json"), questions(&[0, 1, 2])).unwrap();
    fs::write(at("both/train.json"), questions(&[0])).unwrap();
    fs::write(at("validation/dev.json"), questions(&[0, 1, 2])).unwrap();
    fs::write(at("several/one/test.json"), questions(&[0])).unwrap();
    fs::create_dir_all(at("several/two")).unwrap();
    fs::write(at("several/two/test.json"), questions(&[1, 2, 1])).unwrap();
    // No two of its bytes make a token.
    fs::write(at("t.txt"), "b e f g h j k l m n o p q u v w").unwrap();
    fs::write(
        at("t.jsonl"),
        "{\"ids\": [1, 2, 3, 4], \"mask_first\": 2}\n{\"ids\": [5, 6], \"mask_first\": 2}\n",
    )
    .unwrap();
    home
}

/// Questions with three choices; a label beyond them is no choice.
fn questions(labels: &[usize]) -> String {
    let names = ["answer1", "answer2", "answer3"];
    let item = |(i, &label): (usize, &usize)| {
        let answer = names.get(label).unwrap_or(&"none");
        json!({
            "instruction": format!("Pick {i}.\n\nAnswer format: {}", names.join("/")), "input": "",
            "output": format!("the correct answer is {answer}"), "answer": answer,
        })
    };
    Value::from_iter(labels.iter().enumerate().map(item)).to_string()
}

fn eval(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
    command
        .current_dir(home)
        .arg("eval")
        .args(arguments)
        .args(["--device", "cpu", "--threads", "2"])
        .output()
        .unwrap()
}

/// The JSON that a call wrote to standard output, alone.
fn answer(home: &Path, arguments: &[&str]) -> Value {
    let output = eval(home, &[arguments, &["--json", "--quiet"]].concat());
    assert_eq!(
        (output.status.code(), text(&output.stderr)),
        (Some(0), String::new()),
        "{arguments:?}"
    );
    assert_eq!(text(&output.stdout).lines().count(), 1);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn choices_are_measured_by_accuracy() {
    let home = home();
    let found = answer(home.path(), &["m", "--data", "q.json"]);
    assert_eq!(
        keys(&found),
        [
            "model",
            "data",
            "split",
            "template",
            "template_from",
            "shots",
            "adapter",
            "metrics",
            "counts",
            "tokens",
            "timing"
        ]
    );
    assert_eq!(
        keys(&found["metrics"]),
        [
            "protocol",
            "accuracy",
            "accuracy_norm",
            "standard_error",
            "items",
            "majority",
            "f1",
            "matthews"
        ]
    );
    assert_eq!(
        keys(&found["timing"]),
        ["seconds", "load_seconds", "tokens_per_second", "peak_rss_mib"]
    );
    assert_eq!(found["counts"], json!({ "items": 4, "left_out": 1 }));
    assert_eq!(
        (&found["model"], &found["data"], &found["template"]),
        (&json!("m"), &json!("q.json"), &json!("alpaca"))
    );
    assert_eq!((&found["split"], &found["adapter"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&found["metrics"]["items"], &found["metrics"]["majority"]),
        (&json!(4), &json!(0.5))
    );
    // The same numbers again, by the other template others.
    assert_eq!(answer(home.path(), &["m", "--data", "q.json"])["metrics"], found["metrics"]);
    let other = answer(
        home.path(),
        &["m", "--data", "q.json", "--template", "llm-adapters", "--items", "2"],
    );
    assert_eq!(
        (&other["template"], &other["counts"]["items"]),
        (&json!("llm-adapters"), &json!(2))
    );
    assert!(other["tokens"].as_u64() > Some(0));
}

#[test]
fn text_and_tokens_are_measured_by_their_nll() {
    let home = home();
    // 31 bytes in blocks of 8 tokens; the first of a block does not count.
    let found = answer(home.path(), &["m", "--data", "t.txt", "--max-length", "8"]);
    assert_eq!(keys(&found["metrics"]), ["protocol", "nll", "perplexity", "tokens"]);
    assert_eq!(
        (&found["counts"], &found["tokens"]),
        (&json!({ "items": 4, "left_out": 0 }), &json!(31))
    );
    assert_eq!((&found["metrics"]["tokens"], &found["template"]), (&json!(27), &Value::Null));
    let (nll, perplexity) = (
        found["metrics"]["nll"].as_f64().unwrap(),
        found["metrics"]["perplexity"].as_f64().unwrap(),
    );
    assert!(nll > 0.0 && (nll.exp() - perplexity).abs() < 1e-9 * perplexity);
    let first = answer(home.path(), &["m", "--data", "t.txt", "--max-length", "8", "--items", "1"]);
    assert_eq!((&first["tokens"], &first["metrics"]["tokens"]), (&json!(8), &json!(7)));
    let rows = answer(home.path(), &["m", "--data", "t.jsonl"]);
    assert_eq!(
        (&rows["counts"], &rows["metrics"]["tokens"]),
        (&json!({ "items": 1, "left_out": 1 }), &json!(2))
    );
}

#[test]
fn a_folder_gives_test_or_what_is_asked_for() {
    let home = home();
    let split = |data: &str, more: &[&str]| {
        let found = answer(home.path(), &[&["m", "--data", data], more].concat());
        (found["split"].as_str().unwrap().to_owned(), found["counts"]["items"].as_u64().unwrap())
    };
    assert_eq!(split("both", &[]), ("test".into(), 2));
    assert_eq!(split("both", &["--split", "validation"]), ("validation".into(), 3));
    assert_eq!(split("both", &["--split", "train"]), ("train".into(), 1));
    assert_eq!(split("validation", &[]), ("validation".into(), 3));
    let told = eval(home.path(), &["m", "--data", "validation"]);
    assert!(
        text(&told.stderr)
            .starts_with("`validation` has no split `test`; measured is `validation`\n"),
        "{}",
        text(&told.stderr)
    );
    assert!(
        text(&told.stdout)
            .starts_with("protocol        lm-eval\ntemplate        alpaca\naccuracy "),
        "{}",
        text(&told.stdout)
    );
}

#[test]
fn several_tasks_are_measured_one_by_one_and_averaged() {
    let home = home();
    let found = answer(home.path(), &["m", "--data", "several"]);
    let alone = ["one", "two"]
        .map(|task| answer(home.path(), &["m", "--data", &format!("several/{task}")]));
    for (task, alone) in ["one", "two"].iter().zip(&alone) {
        assert_eq!(found["metrics"]["tasks"][task], alone["metrics"]);
    }
    let accuracies = alone.map(|a| a["metrics"]["accuracy"].as_f64().unwrap());
    assert_eq!(found["metrics"]["accuracy"], json!(accuracies.iter().sum::<f64>() / 2.0));
    assert_eq!((&found["metrics"]["items"], &found["counts"]["items"]), (&json!(4), &json!(4)));
    let shown = text(&eval(home.path(), &["m", "--data", "several"]).stdout);
    assert!(
        shown.contains("  two              ") && shown.contains("\nitems           4\n"),
        "{shown}"
    );
}

#[test]
fn answers_are_looked_for_in_generated_text() {
    let home = home();
    let found = answer(
        home.path(),
        &["m", "--data", "q.json", "--protocol", "llm-adapters", "--items", "2"],
    );
    assert_eq!(found["metrics"]["protocol"], json!("llm-adapters"));
    // A model of random weights names no answer.
    assert_eq!(
        (&found["metrics"]["unparsed"], &found["metrics"]["accuracy"]),
        (&json!(1.0), &json!(0.0))
    );
}

#[test]
fn wrong_calls_are_told() {
    let home = home();
    for (arguments, code, message) in [
        (
            &["m", "--data", "both", "--split", "tset"][..],
            2,
            "error: unknown split `tset`; did you mean `test`?\n",
        ),
        (
            &["m", "--data", "q.json", "--split", "test"],
            2,
            "error: `--split` is for a data folder; `q.json` is a single file",
        ),
        (
            &["m", "--data", "validation", "--split", "test"],
            3,
            "error: the task `validation` has no split `test`; it has `validation`",
        ),
        (
            &["m", "--data", "q.json", "--template", "alpca"],
            2,
            "error: unknown template `alpca`; did you mean `alpaca`?\n",
        ),
        (
            &["m", "--data", "t.txt", "--template", "alpaca"],
            2,
            "error: `--template` words questions, but `t.txt` holds none\n",
        ),
        (
            &["m", "--data", "t.txt", "--max-length", "513"],
            2,
            "error: `--max-length` 513 is more than the 512 tokens",
        ),
        (
            &["m", "--data", "t.txt", "--items", "0"],
            2,
            "error: invalid value '0' for '--items <N>'",
        ),
        (&["m", "--data", "q.jsn"], 3, "error: `q.jsn` names nothing"),
        (
            &["m", "--data", "q.json", "--protocol", "lm-evl"],
            2,
            "error: unknown protocol `lm-evl`; did you mean `lm-eval`?\n",
        ),
        (&["./n", "--data", "q.json"], 3, "error: there is no file or folder `./n`\n"),
        (
            &["m", "--data", "q.json", "--adapter", "none"],
            3,
            "error: there is no adapter `none`: there is no such folder\n",
        ),
        (
            &["m"],
            2,
            "error: the following required arguments were not provided:\n  --data <FILE|DIR>\n",
        ),
    ] {
        let output = eval(home.path(), arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
        assert!(
            text(&output.stderr).starts_with(message),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn solved_examples_stand_before_questions() {
    let home = home();
    let train = questions(&[0, 1, 2, 0]).replace("Pick", "Choose");
    fs::write(home.path().join("both/train.json"), train).unwrap();
    let shots = |more: &[&str]| {
        answer(home.path(), &[&["m", "--data", "both", "--template", "cloze"], more].concat())
    };
    let (none, two) = (shots(&[]), shots(&["--shots", "2"]));
    assert_eq!((&none["shots"], &two["shots"]), (&Value::Null, &json!(2)));
    assert_eq!(two["counts"], json!({ "items": 2, "left_out": 0 }));
    assert!(two["tokens"].as_u64() > none["tokens"].as_u64());
    let from = |split| shots(&["--shots", "2", "--shots-from", split])["tokens"].clone();
    assert_eq!(from("train"), two["tokens"]);
    assert_eq!(shots(&["--shots", "0"])["metrics"], none["metrics"]);
    for (arguments, code, message) in [
        (&["--shots", "9"][..], 3, "error: the task `both` has 4 items with an answer in `train`"),
        (
            &["--shots", "1", "--shots-from", "test"],
            2,
            "error: solved examples cannot be from `test`",
        ),
        (&["--shots-seed", "1"], 2, "error: the following required arguments were not provided"),
    ] {
        let output = eval(home.path(), &[&["m", "--data", "both"], arguments].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.starts_with(message), "{arguments:?}: {said}");
    }
    let output = eval(home.path(), &["m", "--data", "q.json", "--shots", "1"]);
    assert!(
        text(&output.stderr).contains("the task `q` has no `dev` or `train` or `validation`"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn mmlu_is_read_from_its_own_files() {
    let home = home();
    write_mmlu(&home.path().join("mmlu"));
    let found = answer(home.path(), &["m", "--data", "mmlu", "--template", "mmlu", "--shots", "1"]);
    let metrics = &found["metrics"];
    assert_eq!(
        (&found["template"], &metrics["weights"]),
        (&json!("lm-eval/mmlu"), &json!("items"))
    );
    assert_eq!(keys(&metrics["tasks"]), ["anatomy", "astronomy", "philosophy"]);
    assert_eq!(keys(&metrics["groups"]), ["stem", "humanities"]);
    let stem = &metrics["groups"]["stem"];
    let accuracy = |of: &Value| of["accuracy"].as_f64().unwrap() * of["items"].as_f64().unwrap();
    let tasks = &metrics["tasks"];
    let sum = accuracy(&tasks["anatomy"]) + accuracy(&tasks["astronomy"]);
    assert_eq!((&stem["items"], accuracy(stem).round()), (&json!(5), sum.round()));
    assert_eq!(metrics["items"], json!(9));
    let one = answer(
        home.path(),
        &["m", "--data", "mmlu/test/anatomy_test.csv", "--template", "mmlu", "--items", "2"],
    );
    assert_eq!(one["metrics"]["items"], json!(2));
    let said = eval(home.path(), &["m", "--data", "mmlu"]);
    assert_eq!(said.status.code(), Some(3));
    assert!(
        text(&said.stderr)
            .contains("line 1 was taken for a header; a table without one is read with `columns`"),
        "{}",
        text(&said.stderr)
    );
    let said = text(&eval(home.path(), &["m", "--data", "mmlu/test"]).stderr);
    assert!(
        said.contains("two files for test")
            && said.contains("one of them by itself is `mmlu/test/a"),
        "{said}"
    );
}

/// Files of three subjects as MMLU has them, with another number of questions in each.
fn write_mmlu(folder: &Path) {
    for (split, more) in [("dev", 1), ("val", 1), ("test", 2)] {
        fs::create_dir_all(folder.join(split)).unwrap();
        for (i, subject) in ["anatomy", "astronomy", "philosophy"].iter().enumerate() {
            let row = |n: usize| {
                let letter = ["A", "B", "C", "D"][n % 4];
                format!("\"What, {split} {n}?\",a{n},b,c,d,{letter}\n")
            };
            let rows: String = (0..more + if split == "test" { i } else { 0 }).map(row).collect();
            fs::write(folder.join(split).join(format!("{subject}_{split}.csv")), rows).unwrap();
        }
    }
}

#[test]
fn a_template_of_ones_own_is_read_from_a_file() {
    let home = home();
    let at = |name: &str| home.path().join(name);
    fs::create_dir_all(at("own/one")).unwrap();
    fs::create_dir_all(at("own/two")).unwrap();
    fs::write(at("own/one/test.tsv"), "a cat\tyes\na dog\tno\n").unwrap();
    fs::write(at("own/two/test.tsv"), "a cow\tyes\n").unwrap();
    let template = json!({
        "prompt": "{{ row['1'] }} is an animal:", "label": "2",
        "choices": { "yes": " yes", "no": " no" },
    });
    let options = json!({ "template": template, "header": false, "format": "tsv" });
    fs::write(at("own.json"), options.to_string()).unwrap();
    let found = answer(home.path(), &["m", "--data", "own", "--template", "own.json"]);
    assert_eq!((&found["template"], &found["counts"]["items"]), (&json!("recipe"), &json!(3)));
    assert_eq!(keys(&found["metrics"]["tasks"]), ["one", "two"]);
    // The template alone, for a table with a header.
    fs::write(at("t.tsv"), "1\t2\na cat\tyes\na dog\tno\n").unwrap();
    fs::write(at("map.json"), template.to_string()).unwrap();
    let found = answer(home.path(), &["m", "--data", "t.tsv", "--template", "map.json"]);
    assert_eq!(found["metrics"]["items"], json!(2));
    let jinja = "{{ row['1'] }}:{% generation %} {{ row['2'] }}{% endgeneration %}\n";
    fs::write(at("own.jinja"), jinja).unwrap();
    let found = answer(home.path(), &["m", "--data", "t.tsv", "--template", "own.jinja"]);
    assert_eq!(found["metrics"]["protocol"], json!("perplexity"));
    fs::write(at("broken.json"), "{\"prompt\": ").unwrap();
    fs::write(at("slip.json"), "{\"promt\": \"x\"}").unwrap();
    fs::write(at("plain.jinja"), "{{ a }}").unwrap();
    for (file, code, message) in [
        ("broken.json", 3, "error: template `broken.json` is no JSON: "),
        ("slip.json", 2, "error: unknown option `promt` of `template`; did you mean `prompt`?"),
        ("plain.jinja", 2, "error: option `text` of `template` has no `{% generation %}` block"),
        ("none.json", 3, "error: there is no template file `none.json`"),
    ] {
        let output = eval(home.path(), &["m", "--data", "t.tsv", "--template", file]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{file}: {said}");
        assert!(said.starts_with(message), "{file}: {said}");
    }
}

#[test]
fn a_table_that_was_taken_for_something_else_is_told() {
    let home = home();
    fs::write(home.path().join("trec.txt"), "text\tlabel\nHow?\tDESC\nWho?\tHUM\n").unwrap();
    fs::write(home.path().join("semi.csv"), "instruction;output\nadd 1;2\nadd 2;3\n").unwrap();
    for (arguments, said) in [
        (
            &["m", "--data", "trec.txt", "--protocol", "lm-eval"][..],
            "error: no item can be scored by its choices: `trec.txt` was read as plain text, and \
             looks like a table divided by tabs",
        ),
        (
            &["m", "--data", "semi.csv"],
            "it was read as divided by ',' and looks divided by ';': `delimiter: \";\"`",
        ),
    ] {
        let output = eval(home.path(), arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        let heard = text(&output.stderr);
        assert!(heard.contains(said), "{heard}");
    }
}

#[test]
fn an_adapter_lies_over_the_model_as_merging_it_would() {
    let home = home();
    let recipe = r#"
        let p = params(#{ model: "", data: "" });
        let model = model::load(p.model);
        let task = data::load(p.data);
        model.evaluate(task.test, #{ items: 0 });
        let booster = model.booster(#{ layers: [0, 1], rank: 2 });
        booster.fit(task.train, #{ steps: 4, batch: 1, optimizer: sgd(#{ lr: 0.5 }) });
        booster.save("adapter");
        model.merge(booster);
        model.evaluate(task.test);
        model.save("model");
    "#;
    fs::write(home.path().join("r.rhai"), recipe).unwrap();
    fs::write(home.path().join("both/train.json"), questions(&[0, 1, 2, 0])).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
    command.current_dir(home.path()).args([
        "./r.rhai",
        "-p",
        "model=m",
        "-p",
        "data=both",
        "--out",
        "o",
        "--threads",
        "2",
    ]);
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let told = text(&output.stdout);
    let tail: Vec<&str> = told.lines().rev().take(5).collect();
    assert_eq!(tail[0], "run folder: o");
    assert!(
        tail[1].starts_with("time ")
            && tail[1].contains(" s, peak memory ")
            && tail[1].ends_with(" predicted)"),
        "{said}"
    );
    // Rank 2 on two layers: Σ (in + out) = 32 + 24 + 24 + 32 + 3 · 40 = 232.
    assert!(
        tail[2].starts_with("trained 928 parameters at a time, 928 in total, in 4 steps at "),
        "{said}"
    );
    assert!(tail[3].starts_with("test accuracy_norm ") && tail[3].contains(" → "), "{said}");
    assert!(
        tail[4].starts_with("test accuracy 0.") || tail[4].starts_with("test accuracy 1."),
        "{said}"
    );
    assert!(tail[4].contains(" → ") && tail[4].matches(" ± ").count() == 2, "{said}");

    let nll = |arguments: &[&str]| {
        answer(home.path(), &[arguments, &["--data", "t.txt"]].concat())["metrics"]["nll"]
            .as_f64()
            .unwrap()
    };
    let (base, over, merged) =
        (nll(&["m"]), nll(&["m", "--adapter", "o/adapter"]), nll(&["o/model"]));
    assert!((over - merged).abs() < 1e-5 && (base - over).abs() > 1e-3, "{base} {over} {merged}");
    assert_eq!(
        answer(home.path(), &["m", "--data", "q.json", "--adapter", "o/adapter"])["adapter"],
        "o/adapter"
    );
}

#[test]
fn the_recipe_in_the_repository_runs_with_few_rounds_too() {
    let home = home();
    fs::write(home.path().join("both/train.json"), questions(&[0, 1, 2, 0])).unwrap();
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/commonsense.rhai");
    for (rounds, items) in [("1", "0"), ("9", "1")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
        command.current_dir(home.path()).arg(&recipe).args([
            "-p",
            "model=m",
            "-p",
            "data=both",
            "-p",
            "steps=1",
            "-p",
            "layers=1",
        ]);
        command.args([
            "-p",
            &format!("rounds={rounds}"),
            "-p",
            &format!("items={items}"),
            "--out",
            rounds,
            "--quiet",
        ]);
        let output = command.output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
        let summary: Value = serde_json::from_slice(
            &fs::read(home.path().join(rounds).join("summary.json")).unwrap(),
        )
        .unwrap();
        assert_eq!(summary["base"]["items"], if items == "0" { 2 } else { 1 });
        assert_eq!(summary["best_round"], if rounds == "9" { json!(8) } else { Value::Null });
        assert!(home.path().join(rounds).join("model/model.safetensors").exists());
    }
}

/// 7 of 40 by transformers' AutoModelForCausalLM in f32, prompt and choice scored as a whole.
#[test]
fn a_real_model_scores_what_transformers_scores() {
    let (Some(model), Some(data)) =
        (common::model(common::FOLDER), common::shared("data/commonsense/ARC-Easy/test.json"))
    else {
        return;
    };
    let (model, data) = (model.display().to_string(), data.display().to_string());
    let found =
        answer(Path::new("."), &[&model, "--data", &data, "--items", "40", "--template", "alpaca"]);
    assert_eq!(
        (&found["metrics"]["accuracy"], &found["counts"]),
        (&json!(0.175), &json!({ "items": 40, "left_out": 0 }))
    );
}

#[test]
fn a_gguf_file_is_a_model_too() {
    let (Some(model), Some(data)) =
        (common::model(common::GGUF), common::shared("data/commonsense/ARC-Easy/test.json"))
    else {
        return;
    };
    let (model, data) = (model.display().to_string(), data.display().to_string());
    let found = answer(Path::new("."), &[&model, "--data", &data, "--items", "4"]);
    assert_eq!((&found["counts"]["items"], &found["model"]), (&json!(4), &json!(model)));
}
