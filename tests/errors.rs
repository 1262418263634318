//! Wrong scripts beside the exact text of their errors: `errors/NAME.rhai` and `errors/NAME.txt`.
//!
//! `xgbrun check` finds the same, unless a line says why it cannot (`// check: …`).
//!
//! A script's first lines may give arguments (`// args: …`) and an exit code (`// exit: …`, else
//! 2). `MODEL` in the arguments stands for a tiny model's folder, and in the text for where that
//! was. `XGBRUN_BLESS=1 cargo test --release --test errors` writes the texts anew; read the diff.

mod common;

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::tiny::Tiny;

#[test]
fn every_wrong_script_is_told_what_is_wrong() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = tempfile::tempdir().unwrap();
    Tiny { layers: 2, tied: true, ..Tiny::default() }.write(model.path());
    let model = model.path().display().to_string();
    let mut scripts: Vec<_> = fs::read_dir(home.join("tests/errors"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter_map(|n| n.strip_suffix(".rhai").map(str::to_owned))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 15);
    let wrong: Vec<String> = scripts
        .iter()
        .flat_map(|name| [run(home, &model, name, false), run(home, &model, name, true)])
        .flatten()
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs or checks one script; `Some` says what differs.
fn run(home: &Path, model: &str, name: &str, check: bool) -> Option<String> {
    let script = format!("tests/errors/{name}.rhai");
    let text = fs::read_to_string(home.join(&script)).unwrap();
    let setting = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)).map(str::trim);
    if check && setting("// check:").is_some() {
        return None;
    }
    let out = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_xgbrun"))
        .current_dir(home)
        .args(check.then_some("check"))
        .args([script.as_str(), "--quiet", "--threads", "1", "--device", "cpu"])
        .args(if check { vec![] } else { vec![OsString::from("--out"), out.path().into()] })
        .args(setting("// args:").unwrap_or_default().replace("MODEL", model).split_whitespace())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap().replace(model, "MODEL");
    // Where a run was kept is told of a run alone, and its folder is another each time.
    let told = said.split_inclusive('\n').filter(|line| !line.contains("goes on from it"));
    let (found, code) = (told.collect::<String>(), output.status.code());
    let exit = setting("// exit:").map_or(2, |c| c.parse().unwrap());
    let expected = home.join(format!("tests/errors/{name}.txt"));
    if std::env::var_os("XGBRUN_BLESS").is_some() && !check {
        fs::write(&expected, &found).unwrap();
    }
    let wanted = fs::read_to_string(&expected).unwrap_or_default();
    (found != wanted || code != Some(exit)).then(|| {
        format!(
            "--- {name}{} (exit {code:?}, wanted {exit})\n{found}--- wanted\n{wanted}",
            if check { " by check" } else { "" }
        )
    })
}
