//! A classifier as a run makes it: the sum of its boosters, in other programs and after taking back.

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
    let worded = ["ask", "run", "Which?", "--template", "none", "--device", "cpu"];
    assert_eq!(xgbrun(&home, &worded).0, Some(2));
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
    let (_, told, said) = xgbrun(&home, &["ask", "run", "Which is snow?", "--rounds", "3"]);
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
