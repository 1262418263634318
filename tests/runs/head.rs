//! A classifier as a run makes it: the sum of its boosters, in other programs and after taking back.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common;
use crate::harness::{self, Home};

/// Three boosters with a head; the head as it stands after each, by its digest.
const BODY: &str = r#"
model.head(#{ labels: ["answer1", "answer2"], metric: "matthews" });
let at = [model.digest()];
for round in 0..3 {
    let b = model.booster(#{ layers: [round % 2], rank: 1 + round, head: true });
    b.fit(task.train, #{ steps: 4, batch: 4, optimizer: adamw(#{ lr: 0.03 }) });
    if round == 0 { b.save("one"); }
    model.merge(b);
    at.push(model.digest());
}
model.evaluate(task.test);
model.save("tuned");
for round in [2, 0] {
    model.truncate(round);
    print(model.digest() == at[round]);
}
model.replay();
"#;

fn xgbrun(home: &Home, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
    let output = command.current_dir(home.path()).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_head_is_part_of_the_sum() {
    let home = Home::new();
    let printed = home.printed(BODY, "run", &[]);
    // Whole tensors may differ by the rounding of one sum, but not the start.
    assert_eq!(printed.last().map(String::as_str), Some("true"), "{printed:?}");
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(home.path().join("run/run.json")).unwrap()).unwrap();
    assert_eq!(manifest["head"]["labels"], serde_json::json!(["answer1", "answer2"]));
}

#[test]
fn a_run_goes_on_from_another_with_its_head() {
    let home = Home::new();
    let body = BODY.split("for round in [2, 0]").next().unwrap();
    let first = home.recipe(body, "run", &[]).good().json("summary.json");
    let more = r#"
let p = params(#{ run: "", base: "", data: "" });
let model = model::from_run(p.run, #{ base: p.base });
print(model.digest());
print(model.labels);
let task = data::load(p.data, #{ });
let b = model.booster(#{ layers: [0], rank: 1, head: true });
b.fit(task.train, #{ steps: 2, batch: 4, optimizer: adamw(#{ lr: 0.03 }) });
model.merge(b);
model.save("more");
"#;
    std::fs::write(home.path().join("more.rhai"), more).unwrap();
    let run = |out: &str, from: &str| {
        let (from, data) = (format!("run={from}"), "data=data");
        let given = ["-p", &from, "-p", "base=model", "-p", data, "--quiet", "--out", out];
        let (code, _, said) =
            xgbrun(&home, &[&["more.rhai"][..], &given, &["--seed", "9"]].concat());
        assert_eq!(code, Some(0), "{said}");
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let printed = run("second", "run");
    assert_eq!(printed[0], first["weights_digest"].as_str().unwrap());
    assert_eq!(printed[1], "[\"answer1\", \"answer2\"]");
    // The head was drawn from the first run's seed, and the second says so.
    run("third", "second");
    let (code, _, said) = xgbrun(&home, &["ask", "third", "Which?", "--device", "cpu"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_classifier_is_asked_and_planned() {
    let home = Home::new();
    let body = BODY.split("for round in [2, 0]").next().unwrap();
    home.recipe(body, "run", &[]).good();
    let (code, told, said) = xgbrun(&home, &["ask", "run", "Which is snow?", "--device", "cpu"]);
    assert_eq!(code, Some(0), "{said}");
    let rows: Vec<&str> = told.lines().collect();
    assert!(rows[1].starts_with("answer1") && rows[2].starts_with("answer2"), "{told}");
    assert!(rows[1].matches('%').count() == 3, "{told}");
    let pair = ["ask", "run", "Which?", "--pair", "Snow.", "--rounds", "3", "--device", "cpu"];
    assert_eq!(xgbrun(&home, &pair).0, Some(0));
    // Worded as in the run, unless another wording is asked for.
    let shares = |more: &[&str]| {
        let (code, told, said) = xgbrun(&home, &[&["ask", "run", "Which?"][..], more].concat());
        assert_eq!(code, Some(0), "{said}");
        told
    };
    assert_eq!(shares(&[]), shares(&["--template", "alpaca"]));
    assert_ne!(shares(&[]), shares(&["--template", "none"]));
    let (code, told, said) =
        xgbrun(&home, &["plan", "run.rhai", "-p", "model=model", "-p", "data=data"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(told.contains("peak memory"), "{told}");
    let (code, _, said) = xgbrun(&home, &["export", "run", "--gguf", "x.gguf"]);
    assert!(code == Some(2) && said.contains("GGUF"), "{code:?} {said}");
}

#[test]
fn a_classifier_is_the_same_in_transformers_and_peft() {
    let Some(python) = common::model("peer/bin/python") else { return };
    let home = Home::new();
    let body = BODY.split("for round in [2, 0]").next().unwrap();
    home.recipe(body, "run", &[]).good();
    for form in [&["--merged", "merged"][..], &["--peft", "adapter"]] {
        let (code, _, said) = xgbrun(&home, &[&["export", "run"], form].concat());
        assert_eq!(code, Some(0), "{said}");
    }
    let path = |name: &str| home.path().join(name);
    let job = serde_json::json!({
        "base": path("model"), "adapter": path("adapter"), "merged": path("merged"),
        "saved": path("run/tuned"), "text": "Which is snow?",
    });
    let theirs = harness::python(&python, "classified.py", &job);
    let shares = |name: &str| -> Vec<f64> { serde_json::from_value(theirs[name].clone()).unwrap() };
    let (_, told, said) =
        xgbrun(&home, &["ask", "run", "Which is snow?", "--rounds", "3", "--template", "none"]);
    for name in ["merged", "saved", "adapter"] {
        let theirs = shares(name);
        for (share, label) in theirs.iter().zip(["answer1", "answer2"]) {
            let row = told.lines().find(|line| line.starts_with(label)).expect(&said);
            let number = row.trim_start_matches(label).trim().trim_start_matches("* ");
            let own: f64 = number.trim_end_matches(" %").parse().unwrap();
            assert!((own - 100.0 * share).abs() < 0.06, "{name}: {row}, {theirs:?}");
        }
    }
    assert_eq!(theirs["labels"], serde_json::json!({ "0": "answer1", "1": "answer2" }));
}

/// A task's folder, files, header, the columns before the last, and values of the last in turns.
type GlueTask<'a> = (&'a str, &'a [&'a str], &'a str, &'a [&'a str], &'a [&'a str]);

/// GLUE's files with their headers, and rows of what the table says.
fn write_glue(folder: &Path) {
    let tasks: [GlueTask; 9] = [
        (
            "MNLI",
            &["train.tsv", "dev_matched.tsv", "dev_mismatched.tsv"],
            "index\tpromptID\tsentence1\tsentence2\tlabel1\tgold_label",
            &["1", "2", "snow is cold", "it is \"warm", "neutral"],
            &["entailment", "neutral", "contradiction"],
        ),
        ("SST-2", &["train.tsv", "dev.tsv"], "sentence\tlabel", &["fine , snow"], &["0", "1"]),
        (
            "MRPC",
            &["train.tsv", "dev.tsv"],
            "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
            &[],
            &["1\t7\t8\tsnow\train", "0\t9\t10\tsand\tiron"],
        ),
        (
            "CoLA",
            &["train.tsv", "dev.tsv"],
            "",
            &[],
            &["gj04\t1\t\tsnow is.", "gj04\t0\t*\tis is."],
        ),
        (
            "QNLI",
            &["train.tsv", "dev.tsv"],
            "index\tquestion\tsentence\tlabel",
            &["1", "what is snow?", "snow is cold"],
            &["entailment", "not_entailment"],
        ),
        (
            "QQP",
            &["train.tsv", "dev.tsv"],
            "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
            &["1", "2", "3", "what?", "who?"],
            &["0", "1"],
        ),
        (
            "RTE",
            &["train.tsv", "dev.tsv"],
            "index\tsentence1\tsentence2\tlabel",
            &["1", "snow is cold", "it is warm"],
            &["entailment", "not_entailment"],
        ),
        (
            "STS-B",
            &["train.tsv", "dev.tsv"],
            "index\tgenre\tsentence1\tsentence2\tscore",
            &["1", "main", "snow", "rain"],
            &["0.250", "5.000", "3.4"],
        ),
        (
            "WNLI",
            &["train.tsv", "dev.tsv"],
            "index\tsentence1\tsentence2\tlabel",
            &["1", "snow and iron", "iron"],
            &["0", "1"],
        ),
    ];
    for (task, files, header, before, last) in tasks {
        std::fs::create_dir_all(folder.join(task)).unwrap();
        for file in files {
            let mut lines: Vec<String> =
                Some(header.to_owned()).into_iter().filter(|h| !h.is_empty()).collect();
            for i in 0..130 {
                let row = [before, &[last[i % last.len()]]].concat();
                lines.push(row.join("\t"));
            }
            std::fs::write(folder.join(task).join(file), lines.join("\n") + "\n").unwrap();
        }
    }
}

#[test]
fn all_of_glue_is_read_from_its_own_files() {
    let home = Home::new();
    write_glue(&home.path().join("GLUE"));
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/glue.rhai");
    let more = ["data=GLUE", "task=all", "quick=true", "layers=1", "lora_rank=2", "max_length=24"];
    let more: Vec<&str> = more.iter().flat_map(|p| ["-p", *p]).collect();
    let printed = home.file(&recipe, "all", &more).lines();
    for task in ["mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb", "wnli"] {
        let rows = printed.iter().filter(|line| line.starts_with(task));
        assert_eq!(rows.count(), 3, "{task}: {printed:#?}");
        assert!(home.path().join(format!("all/model-{task}/config.json")).exists());
    }
    for way in ["head", "lora", "xgblora"] {
        assert!(printed.iter().any(|line| line.starts_with(&format!("{way}: average "))));
    }
    let config = std::fs::read(home.path().join("all/model-stsb/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["problem_type"], "regression");
}

/// An adapter of two labels over a model of three.
#[test]
fn an_adapter_of_another_task_gives_its_factors() {
    let home = Home::new();
    let body = BODY.split("for round in [2, 0]").next().unwrap();
    home.recipe(body, "run", &[]).good();
    let start = |options: &str| {
        format!(
            "model.head(#{{ labels: [\"answer1\", \"answer2\", \"neither\"] }});
             let before = model.digest();
             model.merge(model.load_adapter(p.adapter{options}));
             print(model.digest() == before);
             print(model.evaluate(task.test).items);"
        )
    };
    let adapter = ["-p", "adapter=run/one"];
    let refused = home.recipe(&start(""), "refused", &adapter);
    assert_eq!(refused.code, Some(3), "{}", refused.said);
    assert!(
        refused.said.contains("score.weight") && refused.said.contains("[2, "),
        "{}",
        refused.said
    );
    let lines = home.printed(&start(", #{ head: false }"), "taken", &adapter);
    assert_eq!(lines, ["false", "6"]);
    let unknown = home.recipe(&start(", #{ heads: false }"), "unknown", &adapter);
    assert!(
        unknown.code == Some(2) && unknown.said.contains("did you mean `head`"),
        "{}",
        unknown.said
    );
}
