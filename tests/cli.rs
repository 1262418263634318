//! The program as it is called: exit codes, what it writes, what a recipe cannot do.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn xgbrun(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
    command.current_dir(folder).args(arguments);
    command
}

/// Runs `script` as `r.rhai` in a folder of its own.
fn script(script: &str, arguments: &[&str]) -> (tempfile::TempDir, Output) {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("r.rhai"), script).unwrap();
    let output = xgbrun(home.path(), &["r.rhai"]).args(arguments).output().unwrap();
    (home, output)
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Standard output.
fn told(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_run_leaves_its_recipe_parameters_and_summary() {
    let recipe = "let p = params(#{ rank: 1, model: `m` });\nprint(p.rank);\n";
    let (home, output) = script(
        recipe,
        &["-p", "rank=4", "--seed", "7", "--threads", "1", "--out", "o", "--device", "cpu"],
    );
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), "4\n"));
    assert_eq!(told(&output), "run folder: o\n");
    let out = home.path().join("o");
    assert_eq!(fs::read_to_string(out.join("recipe.rhai")).unwrap(), recipe);
    let run: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
    assert_eq!(run["parameters"], serde_json::json!({ "model": "m", "rank": 4 }));
    assert_eq!(
        (&run["seed"], &run["threads"], &run["device"], &run["dtype"]),
        (&7.into(), &1.into(), &"cpu".into(), &"f32".into())
    );
    assert!(out.join("summary.json").exists());
    // The same folder again is refused and left as it is.
    let again = xgbrun(home.path(), &["r.rhai", "--out", "o"]).output().unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(said(&again).contains("run folder `o` is not empty"), "{}", said(&again));
}

#[test]
fn without_out_the_folder_is_named_after_recipe_and_time() {
    let (home, output) = script("", &["--quiet"]);
    assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""));
    let runs: Vec<_> = fs::read_dir(home.path().join("runs"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(runs.len() == 1 && runs[0].starts_with("r-2"), "{runs:?}");
}

#[test]
fn a_recipe_that_fails_at_once_leaves_no_folder() {
    let (home, output) = script("let p = params(#{ rank: 1 });", &["-p", "rnk=2"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!home.path().join("runs").exists());
}

#[test]
fn usage_is_told_on_standard_error_with_exit_2() {
    let home = tempfile::tempdir().unwrap();
    for (arguments, message) in [
        (
            &["evla"][..],
            "error: unknown command `evla`; did you mean `eval`?\n  = commands are run, ",
        ),
        (&["--quiet", "eval"], "error: invalid value 'eval' for '<RECIPE>': a command comes first"),
        (&["help", "evla"], "error: unknown command `evla`; did you mean `eval`?"),
        (&["new", "a/"], "error: `a/` is no name for a recipe"),
        (
            &["api", "fitt"],
            "error: nothing that a recipe can call is named `fitt`; did you mean `booster.fit`?\n  \
             = `xgbrun api`",
        ),
        (
            &["train"],
            "error: unknown command `train`\n  = recipes are run by `xgbrun FILE.rhai`; `xgbrun ",
        ),
        (
            &["none.rhai", "--device", "cpu"],
            "error: cannot read `none.rhai`: there is no such file",
        ),
        (&["--color", "pink", "a.rhai"], "error: `--color` must be one of auto, always, never, "),
        (&["a.rhai", "--color=pink"], "error: invalid value 'pink' for '--color <WHEN>'"),
        (&["a.rhai", "--params", "no.json"], "error: cannot read `no.json`: there is no such file"),
        (&["./", "--device", "cpu"], "error: cannot read `./`: it is not a file"),
        (
            &["a.rhai", "--device", "tpu"],
            "error: unknown device `tpu`: one of auto, cpu, cuda, cuda:N",
        ),
        (
            &["a.rhai", "--device", "cpu", "--dtype", "f8"],
            "error: unknown dtype `f8`: one of auto, f32, bf16, f16",
        ),
        (&["a.rhai", "--threads", "0"], "error: invalid value '0' for '--threads <N>'"),
        (
            &["a.rhai", "-p", "rank"],
            "error: invalid value 'rank' for '-p <NAME=VALUE>': write it as NAME=VALUE",
        ),
        (
            &["a.rhai", "--sed", "1"],
            "error: unexpected argument '--sed' found\n\n  tip: a similar argument exists: \
             '--seed'",
        ),
        (
            &["a.rhai", "--learning-rate", "1"],
            "error: unexpected argument '--learning-rate' found\n\n  tip: `-p lr=1` sets a \
             parameter of the recipe; `learning-rate` is `lr` of an optimizer",
        ),
        (
            &["plan", "a.rhai", "--rank=2"],
            "error: unexpected argument '--rank' found\n\n  tip: `-p rank=2` sets a parameter of \
             the recipe\n\nUsage: xgbrun plan [OPTIONS] <RECIPE>",
        ),
        (
            &["a.rhai", "--bf16"],
            "error: unexpected argument '--bf16' found\n\n  tip: `bf16` is decided on the command \
             line: `--dtype f32`",
        ),
        (
            &["ask", "run", "what", "--params", "x.json"],
            "error: unexpected argument '--params' found\n\n  tip: a run's parameters stand in its \
             `run.json`; `-p model=PATH` says where its model is now",
        ),
    ] {
        let output = xgbrun(home.path(), arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).starts_with(message), "{arguments:?}: {}", said(&output));
    }
}

#[test]
fn a_recipe_that_is_not_there_is_looked_for_nearby() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("recipes")).unwrap();
    for name in ["p1.rhai", "recipes/commonsense.rhai"] {
        fs::write(home.path().join(name), "").unwrap();
    }
    for (word, says) in [
        (
            "p1",
            "unknown command `p1`; did you mean `p1.rhai`?\n  = a recipe is run by its whole name",
        ),
        ("p2", "unknown command `p2`; did you mean `p1.rhai`?"),
        ("p2.rhai", "cannot read `p2.rhai`: there is no such file; did you mean `p1.rhai`?\n"),
        (
            "recipes/comonsense.rhai",
            "cannot read `recipes/comonsense.rhai`: there is no such file; did you mean \
             `recipes/commonsense.rhai`?\n",
        ),
        ("recipes/other.rhai", "cannot read `recipes/other.rhai`: there is no such file\n"),
        ("none/p1.rhai", "cannot read `none/p1.rhai`: there is no such file\n"),
    ] {
        let device: &[&str] = if word.ends_with(".rhai") { &["--device", "cpu"] } else { &[] };
        let output = xgbrun(home.path(), &[&[word], device].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{word}");
        assert!(said(&output).starts_with(&format!("error: {says}")), "{}", said(&output));
    }
}

#[test]
fn a_wrong_name_leaves_no_run_folder() {
    let loads = "let p = params(#{ data: `builtin:microworld/piqa` });
        let m = model::load(`builtin:micro`); let t = data::load(p.data);";
    for (body, arguments, code) in [
        (loads, &["-p", "data=/nowhere"][..], 3),
        (loads, &["-p", "data=builtin:microworld/pica"], 3),
        ("model::load(`builtin:macro`);", &[], 3),
    ] {
        let (home, output) = script(body, arguments);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(!home.path().join("runs").exists(), "{}", said(&output));
    }
    // What was read is in the folder once there is one, and so are the calls that waited for it.
    let (home, output) = script(loads, &["--out", "o"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let read = |name: &str| fs::read_to_string(home.path().join("o").join(name)).unwrap();
    assert!(read("run.json").contains("\"builtin:micro\""));
    let calls: Vec<bool> =
        ["model::load", "data::load"].iter().map(|c| read("journal.jsonl").contains(c)).collect();
    assert_eq!(calls, [true, true]);
    // A folder that is taken is told of before anything is read.
    fs::write(home.path().join("r.rhai"), "model::load(`builtin:micro`); throw `late`;").unwrap();
    let taken = xgbrun(home.path(), &["r.rhai", "--out", "o"]).output().unwrap();
    assert!(said(&taken).contains("run folder `o` is not empty"), "{}", said(&taken));
}

#[test]
fn scripts_that_are_not_text_or_too_large_are_refused() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("binary.rhai"), [b'a', 0xff]).unwrap();
    fs::write(home.path().join("large.rhai"), vec![b' '; (1 << 20) + 1]).unwrap();
    for (name, message) in [
        ("binary.rhai", "it is not UTF-8 (at byte 1)"),
        ("large.rhai", "it has 1048577 bytes, a script has at most 1048576"),
    ] {
        let output = xgbrun(home.path(), &[name, "--device", "cpu"]).output().unwrap();
        assert_eq!(
            (output.status.code(), said(&output)),
            (Some(2), format!("error: cannot read `{name}`: {message}\n"))
        );
    }
}

#[test]
fn an_interrupt_ends_with_130() {
    let home = tempfile::tempdir().unwrap();
    fs::write(
        home.path().join("r.rhai"),
        "print(`on`); try { loop { } } catch { } print(`after`);",
    )
    .unwrap();
    let limits = ["--limit-operations", "1000000000000", "--limit-script-seconds", "60"];
    let mut child = xgbrun(home.path(), &["r.rhai", "--device", "cpu"])
        .args(limits)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    std::thread::sleep(Duration::from_millis(300));
    assert!(
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success()
    );
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "killed after 20 s, unless it ended");
    assert!(
        said(&output).starts_with("on\ninterrupted before anything was written\n"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let home = tempfile::tempdir().unwrap();
    for arguments in [&["--help"][..], &["eval", "--help"], &["api"], &["api", "fit"]] {
        let mut child = xgbrun(home.path(), arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn help_is_on_standard_output_unless_nothing_was_asked() {
    let home = tempfile::tempdir().unwrap();
    let help = xgbrun(home.path(), &["--help"]).output().unwrap();
    assert_eq!((help.status.code(), said(&help).as_str()), (Some(0), ""));
    let page = String::from_utf8(help.stdout).unwrap();
    let nothing = xgbrun(home.path(), &[]).output().unwrap();
    assert_eq!((nothing.status.code(), said(&nothing)), (Some(2), page.clone()));
    for verb in page
        .lines()
        .skip_while(|l| *l != "Commands:")
        .skip(1)
        .map_while(|l| l.split_whitespace().next())
    {
        let output = xgbrun(home.path(), &["help", verb]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{verb}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("Usage: xgbrun") && text.contains("Examples:\n"), "{verb}: {text}");
        let own = xgbrun(home.path(), &[verb, "--help"]).output().unwrap();
        assert_eq!(
            (own.status.code(), String::from_utf8(own.stdout).unwrap()),
            (Some(0), text),
            "{verb}"
        );
    }
}

#[test]
fn the_reference_is_on_standard_output() {
    let home = tempfile::tempdir().unwrap();
    let api = |term: &str| {
        let output = xgbrun(home.path(), &["api", term]).output().unwrap();
        assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), ""), "{term}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(
        api("fit")
            .starts_with("booster.fit(set: set, options: map) → map\n\n    Trains the booster")
    );
    for (term, part) in [
        ("model.booster", "\n    Example\n        let booster = model.booster("),
        ("data::load", "data::load(path: string, options: map) → task\n"),
        (
            "policy::uniform",
            "policy::uniform(sampler, model, k)\n    import \"std/policy\" as policy;\n",
        ),
        ("cosine", "along half a cosine"),
        ("warmup", "schedule::linear(p, round)\n"),
        ("model", "\n  model.layers "),
        ("sampler", "sampler(name: string) → sampler\n"),
    ] {
        assert!(api(term).contains(part), "{term}: {}", api(term));
    }
}

#[test]
fn modules_come_from_beside_the_recipe_only() {
    let home = tempfile::tempdir().unwrap();
    let (inside, outside) = (home.path().join("in"), home.path().join("out"));
    fs::create_dir_all(inside.join("lib")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(inside.join("lib/helper.rhai"), "fn two() { 2 }").unwrap();
    fs::write(outside.join("secret.rhai"), "fn two() { 3 }").unwrap();
    std::os::unix::fs::symlink(outside.join("secret.rhai"), inside.join("link.rhai")).unwrap();
    let run = |import: &str| {
        fs::write(inside.join("r.rhai"), format!("import \"{import}\" as m; print(m::two());"))
            .unwrap();
        let output = xgbrun(home.path(), &["in/r.rhai", "--quiet"]).output().unwrap();
        (output.status.code(), said(&output))
    };
    assert_eq!(run("lib/helper"), (Some(0), "2\n".into()));
    let absolute = outside.join("secret").display().to_string();
    for (path, message) in [
        ("link", "error: module `link` leads out of the recipe's folder"),
        ("../out/secret", "error: module `../out/secret` is not a plain name"),
        ("lib/../lib/helper", "error: module `lib/../lib/helper` is not a plain name"),
        (&absolute, "error: module `/"),
        ("lib/helpr", "error: unknown module `lib/helpr`"),
    ] {
        let (code, text) = run(path);
        assert!(code == Some(2) && text.starts_with(message), "{path}: {code:?} {text}");
    }
}

#[test]
fn odd_borders_of_a_template_are_told_before_and_while_it_is_used() {
    let recipe = r#"
        let p = params(#{ model: "builtin:micro", data: "" });
        let model = model::load(p.model);
        let task = data::load(p.data, #{ template: #{
            prompt: "{{ q }} A: ", label: "l", choices: ["yes", "no"], eos: false,
        } });
        task.train.show(model, 0);
        task.stats(model);
        let booster = model.booster(#{ layers: [0], rank: 1 });
        booster.fit(task.train, #{ steps: 1, batch: 1, optimizer: sgd(#{ lr: 0.1 }) });
    "#;
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("r.rhai"), recipe).unwrap();
    fs::write(home.path().join("t.csv"), "q,l\nIs it?,yes\nWas it?,no\n").unwrap();
    let warning = "2 of 2 items: the prompt ends in a space, which most tokenizers have as the";
    let checked = xgbrun(home.path(), &["check", "r.rhai", "-p", "data=t.csv"]).output().unwrap();
    let told = String::from_utf8(checked.stdout.clone()).unwrap();
    assert_eq!(checked.status.code(), Some(0), "{}", said(&checked));
    assert!(told.contains(&format!("warning: t train: {warning}")), "{told}");
    let run = xgbrun(home.path(), &["r.rhai", "-p", "data=t.csv", "--out", "o"]).output().unwrap();
    let heard = said(&run);
    assert_eq!(run.status.code(), Some(0), "{heard}");
    for told in [
        format!("\nwarning: {warning}"),
        format!("\n        \"{warning}"),
        format!("\nt train: {warning}"),
        "\"ends\": 0.0".to_owned(),
    ] {
        assert!(heard.contains(&told), "{told:?} in {heard}");
    }
}

#[test]
fn the_standard_library_does_what_it_says() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, wanted) in [
        ("policy", ""),
        ("schedule", ""),
        ("boost", ""),
        ("stop", ""),
        ("growth", ""),
        (
            "grid",
            "lr     rank  result\n0.001  1     0.001\n0.001  16    0.016\n0.5    1     0.5\n0.5    \
             16    8.0\n",
        ),
        (
            "sampler",
            "[3, 2, 1]\n[\"a\", \"c\", \"d\", \"b\"]\n[20, 30]\n0.985600325574055\n[3, 2, 7]\n[4, \
             0, 3]\n0.8811559206602763\n0.18627105807556454\n",
        ),
    ] {
        let out = tempfile::tempdir().unwrap();
        let script = format!("tests/stdlib/{name}.rhai");
        let output = xgbrun(home, &[&script, "--quiet", "--out"]).arg(out.path()).output().unwrap();
        assert_eq!((output.status.code(), said(&output).as_str()), (Some(0), wanted), "{name}");
    }
}

#[test]
fn thresholds_make_the_exit_code_tell() {
    let body = "let m = model::load(`builtin:micro`);
        let t = data::load(`builtin:microworld/piqa`, #{ template: `cloze` });
        threshold(`accuracy`, `>= 0`); threshold(`accuracy`, `> 2`);
        threshold(`validation.nll`, `< 1`); m.evaluate(t.test, #{ items: 4 });";
    let (home, output) = script(body, &[]);
    let text = told(&output) + &said(&output);
    assert_eq!(output.status.code(), Some(4), "{text}");
    for line in [
        "✓ accuracy >= 0: ",
        "✗ accuracy > 2: ",
        "✗ validation.nll < 1: not measured",
        "error: not reached: accuracy > 2, validation.nll < 1",
    ] {
        assert!(text.lines().any(|l| l.starts_with(line)), "{line}\n{text}");
    }
    drop(home);
}

#[test]
fn a_recipe_asks_the_hub_only_where_that_is_allowed() {
    let body = "model::load(`owner/name@main`);";
    let refused = "the recipe may not ask for by itself";
    let output = script(body, &["--quiet"]).1;
    assert_eq!(
        (output.status.code(), said(&output).contains(refused)),
        (Some(2), true),
        "{}",
        said(&output)
    );
    assert!(said(&output).contains("--allow-hub"));
    // Allowed, it gets as far as the hub, which is nowhere here.
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("r.rhai"), body).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_xgbrun"))
        .current_dir(home.path())
        .envs([("HF_ENDPOINT", "http://127.0.0.1:9"), ("HF_HOME", "hub")])
        .args(["r.rhai", "--quiet", "--out", "run", "--allow-hub"])
        .output()
        .unwrap();
    assert!(!output.status.success() && !said(&output).contains(refused), "{}", said(&output));
}

/// At a terminal the hub is asked after a yes, which holds for the run.
#[cfg(unix)]
#[test]
fn the_person_at_the_terminal_may_allow_the_hub() {
    let refused = "may not ask for by itself";
    let body = "try { model::load(`owner/name`); } catch {} model::load(`owner/name`);";
    for (typed, goes_on) in [("y\n", true), ("\n\n", false), ("no\nno\n", false)] {
        for quiet in [&["--quiet"][..], &[]] {
            let (code, shown) = at_terminal(body, quiet, typed);
            assert!(
                shown.contains(
                    "The recipe asks for `owner/name` from the Hugging Face hub. Fetch it? [y/N]"
                ),
                "{shown}"
            );
            assert_eq!(shown.matches("Fetch it?").count(), if goes_on { 1 } else { 2 }, "{shown}");
            assert_eq!(
                (shown.contains(refused), code == Some(2)),
                (!goes_on, !goes_on),
                "{typed:?}: {shown}"
            );
        }
    }
}

/// Runs a recipe at a terminal where `typed` was typed; the exit code and what the terminal shows.
#[cfg(unix)]
fn at_terminal(body: &str, arguments: &[&str], typed: &str) -> (Option<i32>, String) {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::ptr::null_mut;
    let (mut ours, mut theirs) = (0, 0);
    // SAFETY: two valid places for file descriptors; the other arguments may be null.
    let opened =
        unsafe { libc::openpty(&mut ours, &mut theirs, null_mut(), null_mut(), null_mut()) };
    assert_eq!(opened, 0);
    // SAFETY: both were just opened and belong to nobody else.
    let (mut ours, theirs) = unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("r.rhai"), body).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_xgbrun"))
        .current_dir(home.path())
        .envs([("HF_ENDPOINT", "http://127.0.0.1:9"), ("HF_HOME", "hub"), ("TERM", "xterm")])
        .args(["r.rhai", "--out", "run"])
        .args(arguments)
        .stdin(theirs.try_clone().unwrap())
        .stderr(theirs)
        .spawn()
        .unwrap();
    ours.write_all(typed.as_bytes()).unwrap();
    // At the end, reading fails.
    let mut shown = vec![];
    let _ = ours.read_to_end(&mut shown);
    (child.wait().unwrap().code(), String::from_utf8_lossy(&shown).into_owned())
}

#[test]
fn hostile_scripts_end_in_an_error_not_a_crash() {
    for text in [
        // Values nested as deep as the limits allow, and their destruction.
        "let a = []; loop { a = [a]; }",
        "let a = #{}; loop { a = #{ a: a }; }",
        // A value that holds itself.
        "let a = []; let f = || a.push(a); loop { f.call(); }",
        "let m = #{}; let f = || { m.m = m; }; loop { f.call(); }",
        // Functions that call functions through pointers.
        "fn f(x) { let g = Fn(\"f\"); g.call(x) } f(1);",
        "let f = || 0; f = || f.call(); f.call();",
        // What is not there by name is not there by pointer.
        "Fn(\"eval\").call(\"1\"); throw `eval`;",
        "Fn(\"sleep\").call(60); throw `sleep`;",
        "Fn(\"timestamp\").call(); throw `clock`;",
        // Strings that grow at once.
        "let s = \"a\"; s.pad(9000000000, \"b\");",
        "let a = []; a.pad(9000000000, 1);",
        "let s = \"a\"; loop { s = `${s}${s}`; }",
        // Sorting by a comparison that makes no sense.
        "let a = []; for i in 0..5000 { a.push(i % 7); } a.sort(|x, y| 1); throw `done`;",
        "let s = \"x\"; for i in 0..1000000000 { s.split(\"\"); } ",
    ] {
        let started = Instant::now();
        let (_home, output) = script(text, &["--quiet", "--limit-seconds", "5"]);
        assert_eq!(output.status.code(), Some(2), "{text}: {:?} {}", output.status, said(&output));
        assert!(said(&output).starts_with("error: "), "{text}: {}", said(&output));
        assert!(started.elapsed() < Duration::from_secs(60), "{text}");
    }
}
