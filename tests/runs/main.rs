//! Recipes run through the program on a tiny model: what they leave, what repeats to the bit, what they refuse.

#[path = "../common/mod.rs"]
mod common;
#[path = "../tiny/mod.rs"]
mod tiny;

mod bad_input;
mod exchange;
mod repeat;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// A folder with a tiny model in `m`, data in `d`, and a place for runs.
pub struct Home(tempfile::TempDir);

impl Home {
    pub fn make() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        tiny::write(&home.at("m"));
        fs::create_dir(home.at("d")).unwrap();
        fs::write(home.at("d/train.json"), questions(24)).unwrap();
        fs::write(home.at("d/test.json"), questions(5)).unwrap();
        home
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `body` as a recipe with `model` and `task` in scope, into the run folder `out`.
    pub fn run(&self, body: &str, out: &str, more: &[&str]) -> Output {
        let recipe = format!(
            "let p = params(#{{ model: `m`, data: `d`, adapter: `` }});\nlet model = model::load(p.model);\nlet task = data::load(p.data);\n{body}\n"
        );
        fs::write(self.at("r.rhai"), recipe).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
        command.current_dir(self.0.path()).args(["./r.rhai", "--device", "cpu", "--threads", "2", "--out", out]);
        if !more.contains(&"-p") {
            command.args(["-p", "model=m", "-p", "data=d"]);
        }
        command.args(more).output().unwrap()
    }

    /// As [`Home::run`]; it must succeed.
    pub fn good(&self, body: &str, out: &str, more: &[&str]) {
        let output = self.run(body, out, more);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }

    /// `summary.json` without what the clock measured.
    pub fn summary(&self, out: &str) -> Value {
        timeless(&fs::read_to_string(self.at(out).join("summary.json")).unwrap())
    }

    /// The lines of `metrics.jsonl` without what the clock measured.
    pub fn metrics(&self, out: &str) -> Vec<Value> {
        fs::read_to_string(self.at(out).join("metrics.jsonl")).unwrap().lines().map(timeless).collect()
    }

    /// The losses of all training steps.
    pub fn losses(&self, out: &str) -> Vec<f64> {
        self.metrics(out).iter().filter_map(|line| line["loss"].as_f64()).collect()
    }
}

fn timeless(text: &str) -> Value {
    let mut value: Value = serde_json::from_str(text).unwrap();
    assert!(value.as_object_mut().unwrap().remove("timing").is_some(), "{text}");
    value
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Questions whose answer is always the second of three.
fn questions(n: usize) -> String {
    let item = |i: usize| {
        json!({ "instruction": format!("Pick {i}.\n\nAnswer format: answer1/answer2/answer3"), "input": "",
                "output": "the correct answer is answer2", "answer": "answer2" })
    };
    Value::from_iter((0..n).map(item)).to_string()
}

/// SHA-256 of a file.
pub fn digest(path: &Path) -> String {
    xgbrun::run::digest(&fs::read(path).unwrap())
}
