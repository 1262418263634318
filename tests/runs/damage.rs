//! What a run keeps is looked at before it is used again: files that were changed or are damaged
//! are named and refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Home, Ran, copy};
use crate::interrupts::interrupt;
use crate::resume::{records, resume, stopped, watched};

/// Flips a bit of a file's last byte.
fn damage(path: PathBuf) {
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

fn refused(run: &Ran, want: &str) {
    assert_eq!((run.code, run.said.contains(want)), (Some(3), true), "{}", run.said);
}

const TWO: &str = "let late = model.booster(#{ layers: [1] });
    late.fit(task.train, #{ steps: 2, optimizer: adamw(#{ lr: 0.03 }) });
    let b = model.booster(#{ layers: [0] });
    b.fit(task.train, #{ steps: 2, optimizer: adamw(#{ lr: 0.03 }) }); model.merge(b);
    model.evaluate(task.test); model.merge(late, 0.5); print(model.digest());";

/// Puts back what the run removed as it went on.
fn training(files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>) {
    for (path, bytes) in files {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_booster_in_training_that_is_damaged_is_refused() {
    let home = Home::new();
    let (whole, files) = watched(&home, TWO, "whole", &[]);
    let count =
        records(&whole.out).iter().position(|line| line.contains("\"model.evaluate\"")).unwrap()
            + 1;
    stopped(&home, "whole", "again", count);
    training(files.clone());
    damage(home.path().join("again/boosters/training/00000-2.safetensors"));
    refused(
        &resume(&home, "again", &[]),
        "00000-2.safetensors` is damaged: it is not what was kept",
    );
    training(files);
    assert_eq!(resume(&home, "again", &[]).good().fingerprint(), whole.fingerprint());
}

/// Until a run that is taken up has come to where it stopped, its files may be needed: Ctrl-C
/// leaves them.
#[test]
fn an_interrupt_on_the_way_to_where_it_stopped_takes_nothing() {
    let home = Home::new();
    let body = format!("let n = 0; for i in 0..3000000 {{ n += i; }} {TWO}");
    let (whole, files) = watched(&home, &body, "whole", &[]);
    let count =
        records(&whole.out).iter().position(|line| line.contains("\"model.evaluate\"")).unwrap()
            + 1;
    stopped(&home, "whole", "again", count);
    training(files);
    fs::write(home.path().join("again/summary.json"), "{}").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
    let mut child =
        command.current_dir(home.path()).args(["--resume", "again", "--quiet"]).spawn().unwrap();
    let started = Instant::now();
    // It goes as the run is taken up.
    while home.path().join("again/summary.json").exists() {
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(20));
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(home.path().join("again/boosters/training/00000-2.safetensors").is_file());
    assert_eq!(resume(&home, "again", &[]).good().fingerprint(), whole.fingerprint());
}

#[test]
fn what_a_run_was_made_of_must_be_the_same_when_it_goes_on() {
    let home = Home::new();
    home.recipe(TWO, "source", &[]).good();
    let adapter = "let b = model.booster(#{ layers: [0] }); \
                   b.fit(task.train, #{ steps: 2, optimizer: adamw(#{ lr: 0.03 }) }); \
                   b.save(\"adapter\");";
    home.recipe(adapter, "tuned", &[]).good();
    let change = |name: &str, body: &str, given: &str, change: &dyn Fn(&Path), want: &str| {
        let (run, source) = (
            home.recipe(body, name, &["-p", &format!("adapter={given}")]).good(),
            home.path().join(given),
        );
        copy(&source, &home.path().join("before"));
        stopped(&home, name, "again", records(&run.out).len() - 1);
        change(&source);
        refused(&resume(&home, "again", &[]), want);
        fs::remove_dir_all(&source).unwrap();
        fs::rename(home.path().join("before"), &source).unwrap();
        stopped(&home, name, "again", records(&run.out).len() - 1);
        assert_eq!(
            resume(&home, "again", &[]).good().fingerprint_as("again", name),
            run.fingerprint()
        );
    };
    let from = "let m = model::from_run(p.adapter); m.evaluate(task.test); print(m.digest());";
    change(
        "more",
        from,
        "source",
        &|source| damage(source.join("boosters/0001.safetensors")),
        "0001.safetensors",
    );
    let load = "let b = model.load_adapter(p.adapter); model.merge(b); model.evaluate(task.test); \
                print(model.digest());";
    let alpha = |source: &Path| {
        let path = source.join("adapter_config.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replacen("\"lora_alpha\": ", "\"lora_alpha\": 1", 1)).unwrap();
    };
    change("loaded", load, "tuned/adapter", &alpha, "adapter_config.json");
    // The seed is not in any call.
    let run = home.recipe(TWO, "seeded", &["--seed", "3"]).good();
    stopped(&home, "seeded", "again", records(&run.out).len() - 1);
    let path = home.path().join("again/run.json");
    fs::write(&path, fs::read_to_string(&path).unwrap().replacen("\"seed\": 3", "\"seed\": 4", 1))
        .unwrap();
    refused(
        &resume(&home, "again", &[]),
        "the run began with the seed 3, but its `run.json` says 4",
    );
}

/// What lies below a folder that cannot be saved a second time is the run's own.
#[test]
fn what_was_saved_before_stays() {
    let home = Home::new();
    let run = home.recipe(
        "model.save(\"out/half\"); model.evaluate(task.test); model.save(\"out\");",
        "run",
        &[],
    );
    assert_eq!((run.code, run.said.contains("it exists already")), (Some(2), true), "{}", run.said);
    for count in 3..=records(&run.out).len() {
        fs::write(run.out.join("summary.json"), "{}").unwrap();
        fs::write(run.out.join("report.html"), "").unwrap();
        stopped(&home, "run", "again", count);
        let again = resume(&home, "again", &[]);
        assert_eq!(
            (again.code, again.said.contains("it exists already")),
            (Some(2), true),
            "{count}: {}",
            again.said
        );
        let saved = again.out.join("out/half/model.safetensors").is_file();
        assert_eq!(
            saved,
            records(&again.out).iter().any(|line| line.contains("out/half")),
            "{count}"
        );
    }
}

/// Also of a run that has ended.
#[test]
fn boosters_that_give_other_weights_are_not_exported() {
    let home = Home::new();
    let body = format!("{TWO} model.truncate(1); print(model.digest());");
    let run = home.recipe(&body, "run", &[]).good();
    let export = |what: &str, to: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
        let output =
            command.current_dir(home.path()).args(["export", "run", what, to]).output().unwrap();
        Ran {
            code: output.status.code(),
            said: String::from_utf8(output.stderr).unwrap(),
            out: home.path().join(to),
        }
    };
    export("--merged", "good").good();
    let list = run.out.join("boosters/ensemble.json");
    let text = fs::read_to_string(&list).unwrap();
    for (name, spoil) in [
        ("other", &(|| fs::write(&list, text.replacen("1.0", "7.0", 1)).unwrap()) as &dyn Fn()),
        ("missing", &|| fs::remove_file(&list).unwrap()),
        ("damaged", &|| damage(run.out.join("boosters/0000.safetensors"))),
    ] {
        spoil();
        for what in ["--merged", "--peft", "--gguf"] {
            let to = format!("{name}{what}");
            refused(&export(what, &to), "give other weights than it ended with");
            assert!(!home.path().join(&to).exists(), "{to}");
        }
        fs::write(&list, &text).unwrap();
    }
}
