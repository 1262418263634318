//! Runs that are gone on with, asked and exported from another folder than the one they were begun
//! in, or after they or what they read was moved; and recipes as editors write them.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Ran, case, program, ran, xgbrun};

/// A run of two rounds begun in `a` with relative names: `run`, and `cut`, which stopped before its
/// end.
fn begun() -> Option<tempfile::TempDir> {
    let from = case("refused-run-from-another-folder")?;
    let home = tempfile::tempdir().unwrap();
    copy(&from, home.path());
    let recipe = fs::read_to_string(home.path().join("res.rhai"))
        .unwrap()
        .replace("steps: 30", "steps: 2")
        .replace("rounds: 4", "rounds: 2");
    fs::write(home.path().join("res.rhai"), recipe).unwrap();
    let run = [
        "../res.rhai",
        "-p",
        "model=model",
        "-p",
        "data=data",
        "--out",
        "../run",
        "--device",
        "cpu",
        "--quiet",
    ];
    good(&xgbrun(&home.path().join("a"), &run));
    cut(home.path(), "run", "cut");
    Some(home)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target)
        } else {
            fs::write(target, fs::read(&path).unwrap()).unwrap()
        }
    }
}

/// Makes `out` the run `from` as if it had been killed behind its first merge.
fn cut(home: &Path, from: &str, out: &str) {
    let (from, out) = (home.join(from), home.join(out));
    let _ = fs::remove_dir_all(&out);
    copy(&from, &out);
    let journal = fs::read_to_string(from.join("journal.jsonl")).unwrap();
    let merge = journal.find("\"model.merge\"").unwrap();
    let end = merge + journal[merge..].find('\n').unwrap() + 1;
    fs::write(out.join("journal.jsonl"), &journal[..end]).unwrap();
    ["summary.json", "report.html", "boosters/ensemble.json"]
        .iter()
        .for_each(|file| fs::remove_file(out.join(file)).unwrap());
    fs::remove_dir_all(out.join("model")).unwrap();
}

#[track_caller]
fn good(ran: &Ran) {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

/// Fails unless two runs hold the same bytes, times aside.
#[track_caller]
fn same(home: &Path, a: &str, b: &str) {
    for file in [
        "run.json",
        "model/model.safetensors",
        "boosters/0000.safetensors",
        "boosters/0001.safetensors",
    ] {
        assert_eq!(
            fs::read(home.join(a).join(file)).unwrap(),
            fs::read(home.join(b).join(file)).unwrap(),
            "{file}"
        );
    }
}

#[test]
fn a_run_goes_on_from_any_folder() {
    let Some(home) = begun() else { return };
    let home = home.path();
    for (folder, run) in [("b", "../cut"), (".", "cut"), ("a/model", "../../cut")] {
        cut(home, "run", "cut");
        good(&xgbrun(&home.join(folder), &["--resume", run, "--quiet"]));
        same(home, "run", "cut");
    }
    // What has the names here is another thing, or none at all.
    copy(&home.join("a/data"), &home.join("b/data"));
    fs::write(home.join("b/data/train.jsonl"), "{\"text\": \"Another.\"}\n").unwrap();
    fs::create_dir(home.join("b/model")).unwrap();
    cut(home, "run", "cut");
    good(&xgbrun(&home.join("b"), &["--resume", "../cut", "--quiet"]));
    same(home, "run", "cut");
}

#[test]
fn a_run_whose_model_was_moved_is_told_where_it_is() {
    let Some(home) = begun() else { return };
    let home = home.path();
    fs::rename(home.join("a"), home.join("moved")).unwrap();
    let lost = xgbrun(&home.join("b"), &["--resume", "../cut", "--quiet"]);
    let begun =
        home.join("a").canonicalize().unwrap_or_else(|_| home.canonicalize().unwrap().join("a"));
    let was =
        format!("the run was begun in `{0}`, and `model` was `{0}/model` then", begun.display());
    lost.refused(3, &[&was, "`-p model=PATH` says where it is now"]);
    let half =
        xgbrun(&home.join("b"), &["--resume", "../cut", "--quiet", "-p", "model=../moved/model"]);
    half.refused(3, &["and `data` was `", "`-p data=PATH` says where it is now"]);
    let now = ["-p", "model=../moved/model", "-p", "data=../moved/data"];
    good(&xgbrun(&home.join("b"), &[&["--resume", "../cut", "--quiet"][..], &now].concat()));
    assert_eq!(
        fs::read(home.join("run/model/model.safetensors")).unwrap(),
        fs::read(home.join("cut/model/model.safetensors")).unwrap()
    );
    // It is known from then on.
    good(&xgbrun(home, &["export", "cut", "--peft", "known"]));
    for verb in [
        &["export", "run", "--peft", "p"][..],
        &["ask", "run", "why?", "--template", "none", "--max-tokens", "2"],
    ] {
        xgbrun(home, verb).refused(3, &[&was, "`-p model=PATH` says where it is now"]);
        good(&xgbrun(home, &[verb, &["-p", "model=moved/model"]].concat()));
        xgbrun(home, &[verb, &["-p", "data=moved/data"]].concat())
            .refused(2, &["does not say where the run's model is, which is `model`"]);
        xgbrun(home, &[verb, &["-p", "model=nowhere/x"]].concat())
            .refused(3, &["there is no file or folder `nowhere/x`, given for `model`"]);
    }
    let bytes =
        |folder: &str| fs::read(home.join(folder).join("adapter_model.safetensors")).unwrap();
    assert_eq!(bytes("p"), bytes("known"));
    // Another model is none, wherever it lies.
    let weights = home.join("moved/model/model.safetensors");
    let mut other = fs::read(&weights).unwrap();
    *other.last_mut().unwrap() ^= 1;
    fs::write(weights, other).unwrap();
    let words = ["is not the model that the run began with: its weights are others"];
    xgbrun(home, &["export", "run", "--peft", "q", "-p", "model=moved/model"]).refused(3, &words);
}

#[test]
fn a_run_is_asked_exported_and_reported_from_any_folder() {
    let Some(home) = begun() else { return };
    let home = home.path();
    good(&xgbrun(&home.join("a"), &["export", "../run", "--peft", "../here"]));
    fs::create_dir(home.join("elsewhere")).unwrap();
    fs::rename(home.join("run"), home.join("elsewhere/run")).unwrap();
    // Its name here is another thing.
    fs::create_dir_all(home.join("b/model")).unwrap();
    for (folder, run) in [("b", "../elsewhere/run"), (".", "elsewhere/run")] {
        let out = home.join(folder).join("out");
        good(&xgbrun(&home.join(folder), &["export", run, "--peft", "out"]));
        assert_eq!(
            fs::read(out.join("adapter_model.safetensors")).unwrap(),
            fs::read(home.join("here/adapter_model.safetensors")).unwrap()
        );
        good(&xgbrun(
            &home.join(folder),
            &["ask", run, "why?", "--template", "none", "--max-tokens", "2", "--quiet"],
        ));
        good(&xgbrun(&home.join(folder), &["report", run, "--out", "report.html"]));
        let model = format!("{run}/model");
        good(&xgbrun(
            &home.join(folder),
            &[
                "eval",
                &model,
                "--data",
                &home.join("a/data/train.jsonl").display().to_string(),
                "--quiet",
            ],
        ));
    }
    let report = fs::read_to_string(home.join("b/report.html")).unwrap();
    assert!(!report.contains(&home.display().to_string()), "a report tells of no folder");
}

#[test]
fn a_run_that_noted_no_folder_goes_on() {
    let Some(home) = begun() else { return };
    let home = home.path();
    for run in ["run", "cut"] {
        let path = home.join(run).join("run.json");
        let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert!(manifest.as_object_mut().unwrap().remove("begun").is_some());
        fs::write(path, format!("{manifest:#}\n")).unwrap();
    }
    let old =
        ["the run may have been begun in another folder", "`-p model=PATH` says where it is now"];
    xgbrun(&home.join("b"), &["--resume", "../cut", "--quiet"]).refused(3, &old);
    xgbrun(home, &["export", "run", "--peft", "p"]).refused(3, &old);
    good(&xgbrun(home, &["export", "run", "--peft", "p", "-p", "model=a/model"]));
    good(&xgbrun(
        &home.join("b"),
        &["--resume", "../cut", "--quiet", "-p", "model=../a/model", "-p", "data=../a/data"],
    ));
    same(home, "run", "cut");
    cut(home, "run", "cut");
    good(&xgbrun(&home.join("a"), &["--resume", "../cut", "--quiet"]));
    same(home, "run", "cut");
}

#[test]
fn a_recipe_goes_on_with_a_run_from_any_folder() {
    let Some(home) = begun() else { return };
    let home = home.path();
    let body = "let p = params(#{ run: \"\", base: \"\" }); let model = model::from_run(p.run); \
                model.save(\"model\");";
    fs::write(home.join("b/on.rhai"), body).unwrap();
    fs::write(home.join("b/based.rhai"), body.replace("(p.run)", "(p.run, #{ base: p.base })"))
        .unwrap();
    let run = |recipe: &str, more: &[&str], out: &str| {
        let recipe = [recipe, "--device", "cpu", "--quiet", "--out", out, "-p", "run=../run"];
        xgbrun(&home.join("b"), &[&recipe, more].concat())
    };
    run("on.rhai", &[], "none").refused(
        2,
        &["the base of the run, `model`, was `", "which no `-p` gives", "#{ base: p.base }"],
    );
    // What is given lies where the base lay, whatever it is called.
    good(&run("on.rhai", &["-p", "base=../a/model"], "on"));
    fs::rename(home.join("a"), home.join("moved")).unwrap();
    run("on.rhai", &["-p", "base=../moved/model"], "lost").refused(2, &["which no `-p` gives"]);
    good(&run("based.rhai", &["-p", "base=../moved/model"], "based"));
    let weights = |out: &str| fs::read(home.join(out).join("model/model.safetensors")).unwrap();
    assert!(weights("b/on") == weights("run") && weights("b/based") == weights("run"));
}

#[test]
fn recipes_may_begin_with_a_byte_order_mark() {
    let Some(folder) = case("refused-recipe-with-bom") else { return };
    let home = tempfile::tempdir().unwrap();
    let run = |recipe: &str| ran(program(home.path()).args([recipe, "--quiet", "--device", "cpu"]));
    fs::write(home.path().join("mine.rhai"), fs::read(folder.join("mine.rhai")).unwrap()).unwrap();
    let mine = run("mine.rhai");
    good(&mine);
    mine.says(&["2"]);
    // So may what it imports.
    fs::write(home.path().join("part.rhai"), "\u{feff}fn seven() { 7 }\r\n").unwrap();
    fs::write(
        home.path().join("whole.rhai"),
        "\u{feff}import \"part\" as part;\r\nprint(part::seven());\r\n",
    )
    .unwrap();
    let whole = run("whole.rhai");
    good(&whole);
    whole.says(&["7"]);
    good(&ran(program(home.path()).args(["check", "whole.rhai"])));
    let utf16: Vec<u8> = "\u{feff}print(1);".encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(home.path().join("wide.rhai"), utf16).unwrap();
    run("wide.rhai").refused(2, &["cannot read `wide.rhai`: it is UTF-16, and a script is UTF-8"]);
    // Elsewhere it is no part of a script, and places are those of the text.
    fs::write(home.path().join("inside.rhai"), "print(1);\u{feff}").unwrap();
    run("inside.rhai").refused(2, &["inside.rhai:1:10", "a script is written in ASCII"]);
    fs::write(home.path().join("wrong.rhai"), "\u{feff}prnt(1);").unwrap();
    run("wrong.rhai").refused(2, &["wrong.rhai:1:1"]);
}

#[test]
fn a_model_whose_files_begin_with_a_byte_order_mark_is_refused() {
    let Some(from) = case("refused-run-from-another-folder") else { return };
    for file in ["config.json", "generation_config.json", "tokenizer_config.json"] {
        let home = tempfile::tempdir().unwrap();
        copy(&from.join("a"), home.path());
        let path = home.path().join("model").join(file);
        fs::write(&path, format!("\u{feff}{}", fs::read_to_string(&path).unwrap())).unwrap();
        let words = [
            &format!("{file}` begins with a byte order mark")[..],
            "save it as UTF-8 without that mark",
        ];
        xgbrun(home.path(), &["eval", "model", "--data", "data/train.jsonl"]).refused(3, &words);
    }
}

#[test]
fn a_pointer_in_place_of_a_models_config_says_what_to_do() {
    let Some(from) = case("refused-run-from-another-folder") else { return };
    for file in ["config.json", "generation_config.json", "tokenizer_config.json"] {
        let home = tempfile::tempdir().unwrap();
        copy(&from.join("a"), home.path());
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        fs::write(home.path().join("model").join(file), pointer).unwrap();
        let words = [&format!("{file}` is a Git LFS pointer")[..], "git lfs pull"];
        xgbrun(home.path(), &["eval", "model", "--data", "data/train.jsonl"]).refused(3, &words);
    }
}
