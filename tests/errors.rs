//! Wrong scripts beside the exact text of their errors: `errors/NAME.rhai` and `errors/NAME.txt`.
//!
//! A script's first lines may give arguments (`// args: …`) and an exit code (`// exit: …`, else 2). `MODEL` in the
//! arguments stands for a tiny model's folder, and in the text for where that was.
//! `XGBRUN_BLESS=1 cargo test --release --test errors` writes the texts anew; read the diff.

mod tiny;

use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn every_wrong_script_is_told_what_is_wrong() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = tempfile::tempdir().unwrap();
    tiny::write(model.path());
    let model = model.path().display().to_string();
    let mut scripts: Vec<_> = fs::read_dir(home.join("tests/errors"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter_map(|n| n.strip_suffix(".rhai").map(str::to_owned))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 15);
    let wrong: Vec<String> = scripts.iter().filter_map(|name| check(home, &model, name)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs one script; `Some` says what differs.
fn check(home: &Path, model: &str, name: &str) -> Option<String> {
    let script = format!("tests/errors/{name}.rhai");
    let text = fs::read_to_string(home.join(&script)).unwrap();
    let setting = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)).map(str::trim);
    let out = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_xgbrun"))
        .current_dir(home)
        .args([script.as_str(), "--quiet", "--threads", "1", "--device", "cpu", "--out"])
        .arg(out.path())
        .args(setting("// args:").unwrap_or_default().replace("MODEL", model).split_whitespace())
        .output()
        .unwrap();
    let (found, code) = (String::from_utf8(output.stderr).unwrap().replace(model, "MODEL"), output.status.code());
    let exit = setting("// exit:").map_or(2, |c| c.parse().unwrap());
    let expected = home.join(format!("tests/errors/{name}.txt"));
    if std::env::var_os("XGBRUN_BLESS").is_some() {
        fs::write(&expected, &found).unwrap();
    }
    let wanted = fs::read_to_string(&expected).unwrap_or_default();
    (found != wanted || code != Some(exit)).then(|| format!("--- {name} (exit {code:?}, wanted {exit})\n{found}--- wanted\n{wanted}"))
}
