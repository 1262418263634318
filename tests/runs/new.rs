//! `xgbrun new`: the recipe that it writes, as it stands.

use std::path::Path;
use std::process::Command;

use crate::harness::Home;

#[test]
fn the_starting_recipe_runs() {
    let home = Home::new();
    let new = |name: &str| {
        Command::new(env!("CARGO_BIN_EXE_xgbrun"))
            .current_dir(home.path())
            .args(["new", name])
            .output()
            .unwrap()
    };
    let output = new("mine");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        said.starts_with("wrote mine.rhai; next:\n\n  xgbrun check mine.rhai ")
            && said.contains("\n  xgbrun mine.rhai  "),
        "{said}"
    );

    let run =
        home.file(Path::new("mine.rhai"), "run", &["-p", "rounds=16", "-p", "steps=2"]).good();
    assert_eq!(run.losses().len(), 32);
    let splits: Vec<_> = run
        .metrics()
        .iter()
        .filter_map(|line| Some((line["split"].as_str()?.to_owned(), line["round"].as_u64()?)))
        .collect();
    assert_eq!(splits, [("test".into(), 0), ("validation".into(), 16), ("test".into(), 16)]);
    assert!(run.out.join("model/model.safetensors").exists());

    let before = std::fs::read(home.path().join("mine.rhai")).unwrap();
    for (name, message) in [
        (
            "mine",
            "error: `mine.rhai` exists already\n  = give another name; nothing is overwritten\n",
        ),
        ("none/mine", "error: cannot write `none/mine.rhai`: there is no such folder\n"),
    ] {
        let output = new(name);
        assert_eq!(
            (output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()),
            (Some(2), message)
        );
    }
    assert_eq!(std::fs::read(home.path().join("mine.rhai")).unwrap(), before);
}
