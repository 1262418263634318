//! A folder with the tiny model and its data, and the program run in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::common::tiny::{self, Tiny};

/// What most recipes here begin with.
pub const HEAD: &str = r#"
let p = params(#{ model: "", data: "", adapter: "" });
let model = model::load(p.model);
let task = data::load(p.data, #{ });
"#;

/// A temporary folder with `model/`, `data/` (choices) and `text/`.
pub struct Home(tempfile::TempDir);

/// One run of the program.
pub struct Ran {
    pub code: Option<i32>,
    /// Standard error: what the recipe printed, and an error if there was one.
    pub said: String,
    /// The run folder.
    pub out: PathBuf,
}

impl Home {
    pub fn new() -> Self {
        Self::with(&Tiny::default())
    }

    pub fn with(model: &Tiny) -> Self {
        let home = tempfile::tempdir().unwrap();
        model.write(&home.path().join("model"));
        tiny::write_task(&home.path().join("data"));
        tiny::write_text(&home.path().join("text"));
        Self(home)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs the recipe at `recipe` with the tiny model and task, into the folder `out`, and `more`
    /// arguments, which come later and so win.
    pub fn file(&self, recipe: &Path, out: &str, more: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
        command.current_dir(self.path()).arg(recipe).args([
            "--quiet",
            "--device",
            "cpu",
            "--limit-seconds",
            "300",
            "--out",
            out,
        ]);
        for (name, value) in [("model", "model"), ("data", "data")] {
            if !more.iter().any(|a| a.starts_with(&format!("{name}="))) {
                command.args(["-p", &format!("{name}={value}")]);
            }
        }
        let output = command.args(more).output().unwrap();
        Ran {
            code: output.status.code(),
            said: String::from_utf8(output.stderr).unwrap(),
            out: self.path().join(out),
        }
    }

    /// Runs `body` behind [`HEAD`].
    pub fn recipe(&self, body: &str, out: &str, more: &[&str]) -> Ran {
        let recipe = self.path().join(format!("{out}.rhai"));
        fs::write(&recipe, format!("{HEAD}{body}")).unwrap();
        self.file(Path::new(recipe.file_name().unwrap()), out, more)
    }

    /// What [`Home::recipe`] prints; it must end well.
    pub fn printed(&self, body: &str, out: &str, more: &[&str]) -> Vec<String> {
        self.recipe(body, out, more).lines()
    }
}

impl Ran {
    /// Fails the test if the run failed.
    pub fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.said);
        self
    }

    /// Printed lines of a good run.
    pub fn lines(self) -> Vec<String> {
        self.good().said.lines().map(str::to_owned).collect()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.bytes(name)).unwrap()
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.out.join(name)).unwrap_or_else(|e| panic!("{name}: {e}; {}", self.said))
    }

    /// Lines of metrics.jsonl without `timing`.
    pub fn metrics(&self) -> Vec<Value> {
        let text = String::from_utf8(self.bytes("metrics.jsonl")).unwrap();
        text.lines().map(|line| untimed(serde_json::from_str(line).unwrap())).collect()
    }

    /// The losses of all steps.
    pub fn losses(&self) -> Vec<f64> {
        self.metrics().iter().filter_map(|line| line["loss"].as_f64()).collect()
    }

    /// Records of calls in journal.jsonl, without `timing` and checksums; checkpoints come as the
    /// clock says.
    fn calls(&self) -> Vec<Value> {
        let text = String::from_utf8(self.bytes("journal.jsonl")).unwrap();
        let records = text
            .lines()
            .map(|line| untimed(serde_json::from_str::<Value>(line).unwrap()["record"].clone()));
        records.filter(|record| record.get("checkpoint").is_none()).collect()
    }

    /// As [`Ran::fingerprint`], with the recipe called `as_if` where it is called `name`.
    pub fn fingerprint_as(&self, name: &str, as_if: &str) -> BTreeMap<String, String> {
        for file in ["run.json", "report.html"] {
            let text = String::from_utf8(self.bytes(file)).unwrap();
            fs::write(self.out.join(file), text.replace(name, as_if)).unwrap();
        }
        self.fingerprint()
    }

    /// All that must be the same in a second run: every file's SHA-256, metrics, journal, summary
    /// and report without `timing`.
    pub fn fingerprint(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        walk(&self.out, &mut |path| {
            let name = path.strip_prefix(&self.out).unwrap().display().to_string();
            let bytes = match name.as_str() {
                "metrics.jsonl" => self
                    .metrics()
                    .iter()
                    .flat_map(|line| format!("{line}\n").into_bytes())
                    .collect(),
                "journal.jsonl" => {
                    self.calls().iter().flat_map(|line| format!("{line}\n").into_bytes()).collect()
                }
                "summary.json" => untimed(self.json(&name)).to_string().into_bytes(),
                "report.html" => {
                    untimed_report(&String::from_utf8(self.bytes(&name)).unwrap()).into_bytes()
                }
                _ => fs::read(path).unwrap(),
            };
            files.insert(name, sha256(&bytes));
        });
        files
    }
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    walk(from, &mut |path| {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    });
}

/// The names of all files below `folder`, sorted.
pub fn files(folder: &Path) -> Vec<String> {
    let mut names = vec![];
    walk(folder, &mut |path| names.push(path.strip_prefix(folder).unwrap().display().to_string()));
    names.sort();
    names
}

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() { walk(&path, visit) } else { visit(&path) }
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A value without any key `timing`.
pub fn untimed(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(key, _)| key != "timing")
            .map(|(key, value)| (key, untimed(value)))
            .collect(),
        Value::Array(list) => list.into_iter().map(untimed).collect(),
        other => other,
    }
}

/// A report without what a clock measured.
pub fn untimed_report(html: &str) -> String {
    let mut parts = html.split("<span class=\"timing\">");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.split_once("</span>").unwrap().1)
}

/// What the Python script `tests/runs/NAME` answers to `input`, both as JSON.
pub fn python(interpreter: &Path, name: &str, input: &Value) -> Value {
    let mut child = Command::new(interpreter)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runs").join(name))
        .env("HF_HUB_OFFLINE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A printed number.
pub fn number(line: &str) -> f64 {
    line.parse().unwrap_or_else(|_| panic!("`{line}` is no number"))
}

/// Asserts that two numbers differ by less than `bound`.
pub fn close(got: f64, want: f64, bound: f64) {
    assert!((got - want).abs() < bound, "{got} is not {want}: apart by {:e}", (got - want).abs());
}
