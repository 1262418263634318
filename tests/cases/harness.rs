//! The program on an input, and scripts of the peer environment that make inputs with their
//! answers.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::common;

/// A folder of `../shared/cases`; `None`, said aloud, where it is absent.
pub fn case(name: &str) -> Option<PathBuf> {
    common::shared(&format!("cases/{name}"))
}

/// What the program said.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Standard output as JSON; fails the test if the program failed.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }

    /// The mean negative log-likelihood of `eval --json`.
    #[track_caller]
    pub fn nll(&self) -> f64 {
        self.json()["metrics"]["nll"].as_f64().unwrap_or_else(|| panic!("no nll: {}", self.stdout))
    }

    /// Fails the test unless the NLL is `want` within 1e-4.
    #[track_caller]
    pub fn has_nll(&self, want: f64) {
        let nll = self.nll();
        assert!((nll - want).abs() < 1e-4, "NLL {nll}, right is {want}; {}", self.stderr);
    }

    /// Fails the test unless the program ended with `code` and said each of `words`.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        words.iter().for_each(|words| {
            assert!(self.stderr.contains(words), "{} does not say `{words}`", self.stderr)
        });
    }

    /// Fails the test unless standard error says each of `words`.
    #[track_caller]
    pub fn says(&self, words: &[&str]) -> &Self {
        words.iter().for_each(|words| {
            assert!(self.stderr.contains(words), "{} does not say `{words}`", self.stderr)
        });
        self
    }
}

/// Runs the program in `folder`.
pub fn xgbrun(folder: &Path, arguments: &[&str]) -> Ran {
    ran(program(folder).args(arguments))
}

/// The program, to be run in `folder`, without the hub.
pub fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
    command.current_dir(folder).env("HF_HUB_OFFLINE", "1");
    command
}

/// Runs a command to its end.
pub fn ran(command: &mut Command) -> Ran {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// `xgbrun eval MODEL --data DATA --json` and `more` in `folder`.
pub fn eval(folder: &Path, model: &str, data: &str, more: &[&str]) -> Ran {
    ran(program(folder)
        .args(["eval", model, "--data", data, "--json", "--device", "cpu"])
        .args(more))
}

/// Runs `recipe` in a fresh folder with `parameters`, and gives its standard output and error;
/// paths in them are absolute.
pub fn recipe(recipe: &Path, parameters: &[(&str, &str)], more: &[&str]) -> Ran {
    let home = tempfile::tempdir().unwrap();
    let mut command = program(home.path());
    command.arg(recipe).args(["--device", "cpu", "--out", "run"]);
    parameters.iter().for_each(|(name, value)| {
        command.args(["-p", &format!("{name}={value}")]);
    });
    ran(command.args(more))
}

/// Runs `tests/cases/SCRIPT` with the peer's python on a fresh folder; `None`, said aloud, where
/// there is no peer. The script writes inputs, and their answers into `expected.json`.
pub fn made(script: &str) -> Option<(tempfile::TempDir, Value)> {
    let python = common::model("peer/bin/python")?;
    let home = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(script);
    let out = Command::new(python)
        .arg(&script)
        .arg(home.path())
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let expected = std::fs::read_to_string(home.path().join("expected.json")).unwrap();
    Some((home, serde_json::from_str(&expected).unwrap()))
}

/// What `SCRIPT HOME FOLDER...` writes into `losses.json`: what transformers has of folders that
/// the program wrote below `home`.
pub fn transformers(home: &Path, script: &str, folders: &[&str]) -> Value {
    let python = common::model("peer/bin/python").expect("the peer made the inputs");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(script);
    let out = Command::new(python)
        .arg(&script)
        .arg(home)
        .args(folders)
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_str(&std::fs::read_to_string(home.join("losses.json")).unwrap()).unwrap()
}
