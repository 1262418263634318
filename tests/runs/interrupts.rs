//! Ctrl-C: a step that was begun is finished, what was done is kept, and a second one ends the
//! process at once.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{HEAD, Home, files};

/// The program, at work on `body` with the run folder `out`.
fn start(home: &Home, body: &str, out: &str) -> (Child, PathBuf) {
    let recipe = format!("{out}.rhai");
    fs::write(home.path().join(&recipe), format!("{HEAD}{body}")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
    command.current_dir(home.path()).args([
        &recipe,
        "--device",
        "cpu",
        "--threads",
        "1",
        "--out",
        out,
    ]);
    let child = command
        .args(["-p", "model=model", "-p", "data=data"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (child, home.path().join(out))
}

/// Waits until `ready`, for half a minute at most.
fn wait(what: &str, mut ready: impl FnMut() -> bool) {
    let started = Instant::now();
    while !ready() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn interrupt(child: &Child) {
    let id = child.id().try_into().unwrap();
    // SAFETY: `kill` touches no memory; the process is a child that has not been waited for, so its
    // id is its own.
    let sent = unsafe { libc::kill(id, libc::SIGINT) };
    assert_eq!(sent, 0);
}

/// Exit code and what was said.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Lines of metrics.jsonl, all of which must be whole.
fn metrics(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is cut");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn json(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_first_finishes_the_step_and_leaves_a_whole_folder() {
    let home = Home::new();
    let body = "let b = model.booster(#{ layers: [0, 2] }); model.evaluate(task.test);
        try { b.fit(task.train, #{ steps: 1000000, optimizer: sgd(#{ lr: 0.0 }) }); } catch { }
        model.save(\"model\");";
    let (child, out) = start(&home, body, "run");
    let lines =
        || fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    wait("no step was logged", || lines() > 10);
    let asked = Instant::now();
    interrupt(&child);
    let (code, said) = end(child);
    assert_eq!(code, Some(130), "{said}");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());

    let lines = metrics(&out);
    let steps: Vec<u64> = lines.iter().filter_map(|line| line["step"].as_u64()).collect();
    assert_eq!(steps, (1..=steps.len() as u64).collect::<Vec<_>>());
    let wanted = format!(
        "interrupted after {} training steps; what was done until then is in the run folder `run`",
        steps.len()
    );
    let last: Vec<&str> = said.lines().rev().take(2).collect();
    assert_eq!(last, ["  = `xgbrun --resume run` goes on", wanted.as_str()]);
    let training = format!("boosters/training/00000-{}.safetensors", steps.len());
    assert_eq!(
        files(&out),
        [
            training.as_str(),
            "journal.jsonl",
            "metrics.jsonl",
            "recipe.rhai",
            "report.html",
            "run.json",
            "summary.json"
        ]
    );
    let summary = json(out.join("summary.json"));
    assert_eq!(
        (&summary["interrupted"], &summary["weights_digest"], &summary["tuned"]["items"]),
        (&true.into(), &Value::Null, &6.into())
    );
    assert!(json(out.join("run.json"))["digests"]["model"].is_string());
}

#[test]
fn a_run_that_ends_by_itself_was_not_interrupted() {
    let home = Home::new();
    let run = home.recipe("", "run", &[]).good();
    assert!(run.json("summary.json").get("interrupted").is_none());
}

#[test]
fn long_natives_notice_it() {
    let home = Home::new();
    let many = "let texts = []; for i in 0..2000 { texts.push(`Snow ${i}`); } \
                model.generate(texts, #{ max_tokens: 400, beams: 4 });";
    let measured = "loop { model.evaluate(task.test, #{ protocol: \"llm-adapters\" }); }";
    for (name, body) in [("generate", many), ("evaluate", measured)] {
        let (mut child, out) = start(&home, body, name);
        wait("the model was not loaded", || out.join("run.json").exists());
        std::thread::sleep(Duration::from_millis(500));
        assert!(child.try_wait().unwrap().is_none(), "{name} ended too early");
        let asked = Instant::now();
        interrupt(&child);
        let (code, said) = end(child);
        assert_eq!(code, Some(130), "{name}: {said}");
        assert!(asked.elapsed() < Duration::from_secs(3), "{name}: {:?}", asked.elapsed());
        assert_eq!(json(out.join("summary.json"))["interrupted"], true, "{name}");
    }
}

/// A step of so many batches takes minutes: the first interrupt waits for it, the second does not.
#[test]
fn the_second_ends_the_process_at_once() {
    let home = Home::new();
    let body = "model.booster(#{ layers: [0] }).fit(task.train, \
                #{ steps: 3, batch: 1, accumulate: 60000, optimizer: sgd(#{ lr: 0.0 }) });";
    let (mut child, out) = start(&home, body, "run");
    wait("the model was not loaded", || out.join("metrics.jsonl").exists());
    std::thread::sleep(Duration::from_millis(500));
    interrupt(&child);
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "the step was not finished");
    let asked = Instant::now();
    interrupt(&child);
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGINT), "a shell shows this as 130");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    metrics(&out);
    assert!(json(out.join("run.json"))["digests"]["model"].is_string());
}
