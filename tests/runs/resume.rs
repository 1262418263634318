//! A run that was stopped goes on as if it had never been: cut behind every record, killed at any
//! moment, on a full disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::skip;
use crate::harness::{HEAD, Home, Ran, copy};
use crate::stopped_recipes::{
    BANDIT, CAUGHT, DENSE, FAILS, HEADED, KEPT, KIN, OPTIMIZERS, SIX, SWEPT,
};

/// `xgbrun --resume OUT MORE` in `home`.
pub fn resume(home: &Home, out: &str, more: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
    let output = command
        .current_dir(home.path())
        .args(["--resume", out, "--quiet"])
        .args(more)
        .output()
        .unwrap();
    Ran {
        code: output.status.code(),
        said: String::from_utf8(output.stderr).unwrap(),
        out: home.path().join(out),
    }
}

/// Runs `body`, and gives also the boosters in training that its journal tells of, as files of the
/// run `again`: the run itself removes them as it goes on, so somebody has to look all the time,
/// and over again where a look came too late.
pub fn watched(
    home: &Home,
    body: &str,
    name: &str,
    more: &[&str],
) -> (Ran, BTreeMap<PathBuf, Vec<u8>>) {
    let mut seen = BTreeMap::new();
    for _ in 0..50 {
        let _ = fs::remove_dir_all(home.path().join(name));
        let training = home.path().join(name).join("boosters/training");
        let ended = AtomicBool::new(false);
        let run = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    for entry in fs::read_dir(&training).into_iter().flatten().flatten() {
                        let file = entry.file_name().to_string_lossy().into_owned();
                        if file.ends_with(".safetensors")
                            && !seen.contains_key(&file)
                            && let Ok(bytes) = fs::read(entry.path())
                        {
                            seen.insert(file, bytes);
                        }
                    }
                }
            });
            let run = home.recipe(body, name, more);
            ended.store(true, Ordering::Relaxed);
            run.good()
        });
        let told = records(&run.out);
        let file =
            |line: &String| Some(line.split_once("\"file\":\"")?.1.split_once('"')?.0.to_owned());
        if told
            .iter()
            .filter(|line| line.contains("\"feed\":") || line.contains("\"effects\":{\"file\":"))
            .filter_map(file)
            .all(|file| seen.contains_key(&file))
        {
            let path = |file: String| home.path().join("again/boosters/training").join(file);
            return (run, seen.into_iter().map(|(file, bytes)| (path(file), bytes)).collect());
        }
    }
    panic!("files of `{name}` are gone too soon to be seen");
}

/// Lines of the journal.
pub fn records(out: &Path) -> Vec<String> {
    fs::read_to_string(out.join("journal.jsonl")).unwrap().lines().map(str::to_owned).collect()
}

/// Makes `out` a copy of the run `from` whose process ended behind `count` lines of its journal.
pub fn stopped(home: &Home, from: &str, out: &str, count: usize) {
    let (from, out) = (home.path().join(from), home.path().join(out));
    let _ = fs::remove_dir_all(&out);
    copy(&from, &out);
    let lines = records(&from);
    fs::write(
        out.join("journal.jsonl"),
        lines[..count].iter().map(|line| format!("{line}\n")).collect::<String>(),
    )
    .unwrap();
    for name in ["summary.json", "report.html"] {
        fs::remove_file(out.join(name)).unwrap();
    }
    // It is written from time to time, so a process may end before it ever was.
    let _ = fs::remove_file(out.join("boosters/ensemble.json"));
}

#[test]
fn stopped_behind_any_record_it_ends_with_the_same_bytes() {
    let home = Home::new();
    // A run whose booster is cut.
    let broken = "let b = model.booster(#{ layers: [0] }); \
                  b.fit(task.train, #{ steps: 1, optimizer: sgd(#{ lr: 0.1 }) }); model.merge(b);";
    let booster = home.recipe(broken, "broken", &[]).good().out.join("boosters/0000.safetensors");
    let bytes = fs::read(&booster).unwrap();
    fs::write(&booster, &bytes[..bytes.len() - 7]).unwrap();
    for (name, body, more) in [
        ("six", SIX, &[][..]),
        ("bf16", SIX, &["--dtype", "bf16"]),
        ("f16", SIX, &["--dtype", "f16"]),
        ("bandit", BANDIT, &[]),
        ("dense", DENSE, &[]),
        ("dense bf16", DENSE, &["--dtype", "bf16"]),
        ("caught", CAUGHT, &["-p", "adapter=broken"]),
        ("fails", FAILS, &[]),
        ("swept", SWEPT, &[]),
        ("kin", KIN, &[]),
        ("optimizers", OPTIMIZERS, &[]),
        ("headed", HEADED, &[]),
    ] {
        // Each step of each fit is kept, as of a fit that takes long.
        let more = [more, &["--checkpoint", "0"]].concat();
        let (whole, files) = watched(&home, body, name, &more);
        let want = whole.fingerprint();
        let lines = records(&whole.out);
        assert!(lines.iter().any(|line| line.contains("\"checkpoint\"")), "{name}");
        for count in 0..=lines.len() {
            stopped(&home, name, "again", count);
            // What a run that stopped there had not written yet.
            if count < lines.len()
                && !lines[..count].iter().any(|line| line.contains("\"model.save\""))
            {
                fs::remove_dir_all(home.path().join("again/model")).unwrap();
            }
            files.iter().for_each(|(path, bytes)| {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            });
            let again = resume(&home, "again", &["--checkpoint", "0"]).good();
            let print = again.fingerprint();
            let differ: Vec<&String> = want
                .keys()
                .chain(print.keys())
                .filter(|key| want.get(*key) != print.get(*key))
                .collect();
            assert!(
                differ.is_empty(),
                "{name}, stopped behind {count} of {} records: {differ:?}; {}",
                lines.len(),
                again.said
            );
            // What was said before is not said again.
            let said: Vec<&str> = again.said.lines().collect();
            assert!(
                whole.said.lines().collect::<Vec<_>>().ends_with(&said),
                "{name} {count}: {said:?}"
            );
        }
    }
}

#[test]
fn killed_at_any_moment_it_ends_with_the_same_bytes() {
    let home = Home::new();
    let whole = home.recipe(SIX, "whole", &["--threads", "1"]).good();
    let want = whole.fingerprint();
    // Times of kills, spread over the run and drawn by a generator of fixed seed.
    let mut state = 12345_u64;
    let mut drawn = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as f64 / (1u64 << 31) as f64
    };
    let started = std::time::Instant::now();
    home.recipe(SIX, "timed", &["--threads", "1", "--checkpoint", "0"]).good();
    let length = started.elapsed().as_secs_f64();
    let (mut kills, mut runs) = (0, 0);
    while kills < 30 {
        let out = format!("killed-{runs}");
        fs::write(home.path().join("recipe.rhai"), format!("{HEAD}{SIX}")).unwrap();
        let mut first = true;
        loop {
            let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
            command.current_dir(home.path()).stderr(Stdio::null());
            if first && !home.path().join(&out).join("run.json").is_file() {
                let _ = fs::remove_dir_all(home.path().join(&out));
                command.args([
                    "recipe.rhai",
                    "--quiet",
                    "--device",
                    "cpu",
                    "--threads",
                    "1",
                    "--checkpoint",
                    "0",
                    "--out",
                    &out,
                ]);
                command.args(["-p", "model=model", "-p", "data=data"]);
            } else {
                first = false;
                command.args(["--resume", &out, "--quiet", "--checkpoint", "0"]);
            }
            let mut child = command.spawn().unwrap();
            std::thread::sleep(Duration::from_secs_f64(length * drawn()));
            // SIGKILL.
            let _ = child.kill();
            let status = child.wait().unwrap();
            if status.success() {
                break;
            }
            assert_eq!(status.code(), None, "it failed by itself");
            kills += 1;
        }
        runs += 1;
        let again = Ran { code: Some(0), said: String::new(), out: home.path().join(&out) };
        assert_eq!(again.fingerprint_as("recipe.rhai", "whole.rhai"), want, "{out}");
    }
}

#[test]
fn a_half_line_is_done_again_and_damage_is_refused() {
    let home = Home::new();
    let whole = home.recipe(SIX, "whole", &[]).good();
    let (want, lines) = (whole.fingerprint(), records(&whole.out));
    // A line cut in half.
    let merge = lines.iter().rposition(|line| line.contains("\"name\":\"model.merge\"")).unwrap();
    stopped(&home, "whole", "cut", merge);
    let path = home.path().join("cut/journal.jsonl");
    let half = format!(
        "{}{}",
        fs::read_to_string(&path).unwrap(),
        &lines[merge][..lines[merge].len() / 2]
    );
    fs::write(&path, half).unwrap();
    assert_eq!(resume(&home, "cut", &[]).good().fingerprint(), want);
    // A line in the middle changed.
    stopped(&home, "whole", "changed", lines.len() - 3);
    let path = home.path().join("changed/journal.jsonl");
    fs::write(&path, fs::read_to_string(&path).unwrap().replacen("0.03", "0.04", 1)).unwrap();
    let refused = resume(&home, "changed", &[]);
    assert_eq!(
        (refused.code, refused.said.contains("journal.jsonl`, line ")),
        (Some(3), true),
        "{}",
        refused.said
    );
    // A booster changed.
    stopped(&home, "whole", "damaged", lines.len() - 6);
    let path = home.path().join("damaged/boosters/0002.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let refused = resume(&home, "damaged", &[]);
    assert_eq!(
        (refused.code, refused.said.contains("0002.safetensors` is damaged")),
        (Some(3), true),
        "{}",
        refused.said
    );
    // It is no event of the run, so the journal does not tell of it; and the rounds before it are
    // good.
    assert_eq!(records(&home.path().join("damaged")), lines[..lines.len() - 6]);
    assert_eq!(resume(&home, "damaged", &["--from-round", "2"]).good().fingerprint(), want);
}

#[test]
fn a_full_disk_ends_the_run_and_room_lets_it_go_on() {
    let home = Home::new();
    let whole = home.recipe(SIX, "whole", &[]).good();
    let small = home.path().join("small");
    fs::create_dir(&small).unwrap();
    let mount = |size: &str| {
        let options = format!("size={size}{}", if size == "8m" { ",remount" } else { "" });
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "xgbrun-test"])
            .arg(&small)
            .output();
        output.is_ok_and(|output| output.status.success())
    };
    let mut full = 0;
    for kib in [12, 20, 40, 60, 90, 130] {
        if !mount(&format!("{kib}k")) {
            skip("a file system of a few KiB cannot be mounted here");
            return;
        }
        fs::write(home.path().join("whole.rhai"), format!("{HEAD}{SIX}")).unwrap();
        let run = home.file(Path::new("whole.rhai"), "small/run", &[]);
        let grown = Command::new("mount")
            .args(["-o", "remount,size=8m"])
            .arg(&small)
            .status()
            .unwrap()
            .success();
        let again = if run.code == Some(1) {
            resume(&home, "small/run", &[])
        } else {
            resume(&home, "whole", &[])
        };
        let print = (again.code == Some(0)).then(|| again.fingerprint());
        assert!(Command::new("umount").arg(&small).status().unwrap().success() && grown);
        if run.code == Some(1) && again.code != Some(2) {
            full += 1;
            assert!(run.said.contains("cannot write"), "{kib} KiB: {}", run.said);
            assert_eq!(print.as_ref(), Some(&whole.fingerprint()), "{kib} KiB: {}", again.said);
        }
    }
    assert!(full >= 3, "{full}");
}

#[test]
fn a_run_goes_on_as_it_began() {
    let home = Home::new();
    let whole = home.recipe(SIX, "whole", &["--seed", "3"]).good();
    let count = records(&whole.out).len() - 4;
    let edit = |old: &str, new: &str| {
        stopped(&home, "whole", "edited", count);
        let path = home.path().join("edited/recipe.rhai");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{old}");
        fs::write(&path, text.replacen(old, new, 1)).unwrap();
        resume(&home, "edited", &[])
    };
    for (old, new, line, want) in [
        (
            "lr: 0.03",
            "lr: 0.02",
            10,
            "another `optimizer.lr` than when the run went through this place: it was 0.03 and is \
             0.02",
        ),
        (
            "steps: 3",
            "steps: 4",
            10,
            "another `steps` than when the run went through this place: it was 3 and is 4",
        ),
        (
            "rank: 1",
            "rank: 2",
            9,
            "another `rank` than when the run went through this place: it was 1 and is 2",
        ),
        (
            "model.evaluate(task.test);",
            "",
            19,
            "`model.booster` is called here, but when the run went through this place it called \
             `model.evaluate`",
        ),
        ("task.test, #{ booster", "task.train, #{ booster", 14, "another `set.split` than"),
        (
            "data::load(p.data, #{ })",
            "data::load(p.data, #{ max_length: 99 })",
            4,
            "another `max_length` than when the run went through this place: it was not there and \
             is 99",
        ),
    ] {
        let run = edit(old, new);
        assert_eq!(run.code, Some(2), "{new}: {}", run.said);
        assert!(run.said.contains(want), "{new}: {}", run.said);
        let _ = line;
        assert!(run.said.contains("--from-round"), "{}", run.said);
    }
    // What changes no call may change.
    edit("let s = sampler", "let unused = 1; let s = sampler").good();
    let ended = edit("model.save(\"before\");", "throw \"over\";");
    assert_eq!((ended.code, ended.said.contains("over")), (Some(2), true), "{}", ended.said);

    stopped(&home, "whole", "others", count);
    for (more, want) in [
        (&["-p", "adapter=x"][..], "the parameter `adapter` was \"\" in the run and is \"x\" now"),
        (&["--threads", "7"], "the number of threads was "),
    ] {
        let run = resume(&home, "others", more);
        assert_eq!((run.code, run.said.contains(want)), (Some(2), true), "{}", run.said);
    }
    let manifest = home.path().join("others/run.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let other = text.replace("\"device\": ", "\"card\": \"a T4, CUDA 12.4\",\n  \"device\": ");
    fs::write(&manifest, other).unwrap();
    let run = resume(&home, "others", &[]);
    let want = "the GPU was a T4, CUDA 12.4 in the run and is none here";
    assert_eq!((run.code, run.said.contains(want)), (Some(2), true), "{}", run.said);
    fs::write(&manifest, text).unwrap();
    resume(&home, "others", &["--threads", "7", "--allow-inexact"]).good();
    // A refusal takes nothing off, whatever was asked for.
    stopped(&home, "whole", "others", count);
    let before = records(&home.path().join("others"));
    assert_eq!(resume(&home, "others", &["--threads", "7", "--from-round", "1"]).code, Some(2));
    assert_eq!(records(&home.path().join("others")), before);
    // Another base, other data.
    for (file, want, back) in [
        ("model/model.safetensors", "the digest of `model` was", true),
        ("data/train.json", "train.json` was", false),
    ] {
        stopped(&home, "whole", "others", count);
        let path = home.path().join(file);
        let bytes = fs::read(&path).unwrap();
        let mut changed = bytes.clone();
        if back {
            *changed.last_mut().unwrap() ^= 1
        } else {
            changed.extend(b"\n")
        }
        fs::write(&path, changed).unwrap();
        let run = resume(&home, "others", &[]);
        assert_eq!((run.code, run.said.contains(want)), (Some(3), true), "{}", run.said);
        fs::write(&path, bytes).unwrap();
    }
    let none = resume(&home, "nowhere", &[]);
    assert_eq!(
        (none.code, none.said.contains("is no run folder")),
        (Some(2), true),
        "{}",
        none.said
    );
}

#[test]
fn a_run_that_has_ended_is_left_and_from_a_round_it_is_done_anew() {
    let home = Home::new();
    let whole = home.recipe(SIX, "whole", &[]).good();
    let want = whole.fingerprint();
    assert!(resume(&home, "whole", &[]).good().said.is_empty());
    for round in ["0", "1", "3", "6"] {
        assert_eq!(
            resume(&home, "whole", &["--from-round", round]).good().fingerprint(),
            want,
            "from round {round}"
        );
    }
    let far = resume(&home, "whole", &["--from-round", "9"]);
    assert_eq!(
        (far.code, far.said.contains("the run has no round 9 to go on from")),
        (Some(2), true),
        "{}",
        far.said
    );
    assert_eq!(resume(&home, "whole", &[]).code, Some(0), "it is as it was");

    // More rounds than it was begun with, as users of XGBoost go on training.
    let recipe = "let p = params(#{ model: \"\", data: \"\", rounds: 2 });
        let model = model::load(p.model); let task = data::load(p.data, #{ });
        for round in 0..p.rounds {
            let b = model.booster(#{ layers: [round % 3] });
            b.fit(task.train, #{ steps: 2, optimizer: adamw(#{ lr: 0.01 }) });
            model.merge(b);
        }
        print(model.digest());";
    fs::write(home.path().join("more.rhai"), recipe).unwrap();
    let four = home.file(Path::new("more.rhai"), "four", &["-p", "rounds=4"]).lines();
    home.file(Path::new("more.rhai"), "two", &[]).good();
    assert_eq!(resume(&home, "two", &["--from-round", "2", "-p", "rounds=4"]).lines(), four);
}

#[test]
fn a_run_keeps_its_modules() {
    let home = Home::new();
    fs::create_dir(home.path().join("own")).unwrap();
    fs::write(home.path().join("own/rates.rhai"), "fn next(round) { 0.03 / (round + 1) }").unwrap();
    fs::write(home.path().join("last.rhai"), "fn said() { \"over\" }").unwrap();
    let recipe = "import \"own/rates\" as rates; let p = params(#{ model: \"\", data: \"\" });
        let model = model::load(p.model); let task = data::load(p.data, #{ });
        for round in 0..2 {
            let b = model.booster(#{ layers: [round] });
            b.fit(task.train, #{ steps: 2, optimizer: adamw(#{ lr: rates::next(round) }) });
            model.merge(b);
        }
        import \"last\" as last; print(last::said()); print(model.digest());";
    fs::write(home.path().join("modules.rhai"), recipe).unwrap();
    let whole = home.file(Path::new("modules.rhai"), "whole", &[]);
    let (want, before) = (whole.fingerprint(), whole.lines());
    assert_eq!(
        fs::read_to_string(home.path().join("whole/modules/last.rhai")).unwrap(),
        "fn said() { \"over\" }"
    );

    // One that the run had imported need not be there any more; one that it had not is read from
    // beside the recipe.
    fs::remove_file(home.path().join("own/rates.rhai")).unwrap();
    stopped(&home, "whole", "again", 3);
    fs::remove_file(home.path().join("again/modules/last.rhai")).unwrap();
    let again = resume(&home, "again", &[]).good();
    assert_eq!(again.fingerprint_as("again", "whole"), want);
    assert_eq!(again.lines(), before);

    stopped(&home, "whole", "edited", 3);
    fs::write(
        home.path().join("edited/modules/own/rates.rhai"),
        "fn next(round) { 0.02 / (round + 1) }",
    )
    .unwrap();
    let edited = resume(&home, "edited", &[]);
    assert_eq!(
        (edited.code, edited.said.contains("the module `own/rates` was changed since")),
        (Some(2), true),
        "{}",
        edited.said
    );
}

#[test]
fn one_process_works_on_a_run() {
    let home = Home::new();
    let body = "let b = model.booster(#{ layers: [0] }); \
                b.fit(task.train, #{ steps: 1000000, optimizer: sgd(#{ lr: 0.0 }) });";
    fs::write(home.path().join("long.rhai"), format!("{HEAD}{body}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
    command.current_dir(home.path()).args([
        "long.rhai",
        "--quiet",
        "--device",
        "cpu",
        "--out",
        "long",
        "-p",
        "model=model",
        "-p",
        "data=data",
    ]);
    let mut child = command.spawn().unwrap();
    let metrics = home.path().join("long/metrics.jsonl");
    while fs::metadata(&metrics).map_or(0, |m| m.len()) == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let second = resume(&home, "long", &[]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        (second.code, second.said.contains("is going on in another process")),
        (Some(2), true),
        "{}",
        second.said
    );
}

/// A run that the first version of the journal, the list of boosters and their files was written
/// by, stopped before its third merge: it is gone on with. `XGBRUN_BLESS=1` writes it anew, for a
/// format that was never released.
#[test]
fn runs_of_the_first_version_are_gone_on_with() {
    let home = Home::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runs/version1");
    if std::env::var_os("XGBRUN_BLESS").is_some() {
        let (run, files) = watched(&home, KEPT, "kept", &["--threads", "1", "--checkpoint", "0"]);
        let lines = records(&run.out);
        let merges: Vec<usize> = lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.contains("\"name\":\"model.merge\""))
            .map(|(i, _)| i)
            .collect();
        stopped(&home, "kept", "again", merges[2]);
        for (path, bytes) in files
            .iter()
            .filter(|(path, _)| path.file_name().unwrap().to_string_lossy().starts_with("00002-"))
        {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        fs::remove_file(home.path().join("again/boosters/0002.safetensors")).unwrap();
        let _ = fs::remove_dir_all(&fixture);
        copy(&home.path().join("again"), &fixture);
        fs::write(fixture.join("digest.txt"), run.said.trim()).unwrap();
    }
    copy(&fixture, &home.path().join("old"));
    let old = resume(&home, "old", &["--allow-inexact"]).good();
    assert_eq!(old.said.trim(), fs::read_to_string(fixture.join("digest.txt")).unwrap());
    // Nothing of what was done is done again.
    let before = fs::read_to_string(fixture.join("journal.jsonl")).unwrap();
    assert!(fs::read_to_string(old.out.join("journal.jsonl")).unwrap().starts_with(&before));
    assert!(!before.contains("\"name\":\"model.truncate\""));
    assert_eq!(old.json("summary.json")["trained_in_total"], 3 * 232);
}

#[test]
fn parameters_of_a_file_are_taken_up() {
    let home = Home::new();
    let head = HEAD.replace("adapter: \"\"", "rounds: 1, lr: 0.5");
    let body = "for round in 0..p.rounds {
        let b = model.booster(#{ layers: [round % 3] });
        b.fit(task.train, #{ steps: 2, optimizer: sgd(#{ lr: p.lr }) });
        model.merge(b);
    }";
    let recipe = home.path().join("filed.rhai");
    fs::write(&recipe, format!("{head}{body}")).unwrap();
    fs::write(home.path().join("p.json"), r#"{ "rounds": 3, "lr": 0.25, "data": "nowhere" }"#)
        .unwrap();
    let whole = home.file(Path::new("filed.rhai"), "whole", &["--params", "p.json"]).good();
    let want = whole.fingerprint();
    assert_eq!(whole.json("run.json")["parameters"]["rounds"], 3);
    // The file may be gone.
    fs::remove_file(home.path().join("p.json")).unwrap();
    stopped(&home, "whole", "again", records(&whole.out).len() - 2);
    assert_eq!(resume(&home, "again", &[]).good().fingerprint(), want);
    // Another file is another set of parameters, which `--from-round` alone allows.
    fs::write(home.path().join("q.json"), r#"{ "rounds": 4 }"#).unwrap();
    stopped(&home, "whole", "other", records(&whole.out).len() - 2);
    let other = resume(&home, "other", &["--params", "q.json"]);
    assert_eq!(other.code, Some(2), "{}", other.said);
    assert!(other.said.contains("the parameter `rounds` was 3 in the run and is 4 now"));
    let other = resume(&home, "other", &["--params", "q.json", "--from-round", "2"]).good();
    assert_eq!(other.json("run.json")["parameters"]["rounds"], 4);
    assert_eq!(other.json("run.json")["given_in_file"]["lr"], 0.25);
    // What is given now goes over the file.
    let over = ["--params", "q.json", "-p", "rounds=2", "--from-round", "2"];
    let over = resume(&home, "other", &over).good();
    assert_eq!(over.json("run.json")["parameters"]["rounds"], 2);
    // A path in the file is still none that may be read.
    let path = home.path().join("model").display().to_string();
    fs::write(home.path().join("q.json"), format!("{{ \"model\": {path:?} }}")).unwrap();
    let path = resume(&home, "other", &["--params", "q.json", "--from-round", "0"]);
    assert_eq!(path.code, Some(2), "{}", path.said);
    assert!(path.said.contains("`--params` lets a recipe read nothing"), "{}", path.said);
}
