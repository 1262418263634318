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

/// With a model and data of one's own: the recipe suits them, and runs with what `new` says.
#[test]
fn a_recipe_for_a_model_and_data_runs() {
    let home = Home::new();
    let xgbrun = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
        let output = command.current_dir(home.path()).args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let csv = "question,reply\nwhat is cold?,snow\nwhat is hot?,fire\n";
    std::fs::write(home.path().join("my table.csv"), csv.repeat(20)).unwrap();
    for (name, data) in [("choices", "data"), ("texts", "text"), ("rows", "my table.csv")] {
        let (code, told, said) = xgbrun(&["new", name, "--model", "model", "--data", data]);
        assert_eq!(code, Some(0), "{said}");
        let line = told.lines().find(|line| line.contains("run it")).unwrap();
        let given = format!("data={data}");
        assert!(line.contains(&given), "{told}");
        let text = std::fs::read_to_string(home.path().join(format!("{name}.rhai"))).unwrap();
        assert!(text.contains("rounds: 8, ") && text.contains("layers: 1, "), "{text}");
        let recipe = format!("{name}.rhai");
        let run = [&recipe, "-p", "model=model", "-p", &given, "-p", "steps=1", "--out", name];
        let (code, _, said) = xgbrun(&run);
        assert_eq!(code, Some(0), "{said}");
    }
    let (code, _, said) = xgbrun(&["new", "none", "--model", "nowhere", "--data", "data"]);
    assert!(code == Some(3) && said.contains("nowhere"), "{code:?} {said}");
    assert!(!home.path().join("none.rhai").exists());
    assert_eq!(xgbrun(&["new", "half", "--model", "model"]).0, Some(2));
}
