//! Scripts that want harm: `hostile/NAME.rhai`, and those that are made here since they are long or
//! no text.
//!
//! Each must end soon, in little memory, with an error in our words, and leave nothing but its run
//! folder.
//!
//! A script's first lines may give arguments (`// args: …`), an exit code (`// exit: …`, else 2)
//! and what standard error must hold (`// says: …`).

#![cfg(unix)]

use std::collections::BTreeSet;
use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// How long a script may compute, in milliseconds of its own time: a loaded machine does not count.
const MILLISECONDS: u64 = 2_000;
/// How much memory it may hold at once beside the program, whose libraries may be large.
const MEBIBYTES: u64 = 260;
/// How much it may say.
const SAID: usize = 4096;
/// What takes longer is killed.
const WATCHDOG: Duration = Duration::from_secs(20);
/// No child gets more address space, so that one that misbehaves does not take the machine along.
const ADDRESSES: u64 = 3 << 30;

/// A script and what standard error must hold.
struct Script {
    name: String,
    text: Vec<u8>,
    says: Vec<String>,
}

/// How a child ended.
struct Ended {
    code: Option<i32>,
    signal: Option<i32>,
    killed: bool,
    milliseconds: u64,
    mebibytes: u64,
}

#[test]
fn no_script_does_harm() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let mut scripts: Vec<Script> = fs::read_dir(&home)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "rhai"))
        .map(|path| Script {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            text: fs::read(&path).unwrap(),
            says: vec![],
        })
        .collect();
    scripts.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(scripts.len() >= 40, "only {} scripts", scripts.len());
    scripts.extend(made());
    scripts.reverse();

    let bare = harm_of_nothing();
    let (left, wrong) = (Mutex::new(scripts), Mutex::new(vec![]));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    // The lock is not held while a script runs.
                    let next = left.lock().unwrap().pop();
                    let Some(script) = next else { break };
                    if let Some(what) = harm(&script, bare) {
                        wrong.lock().unwrap().push(what);
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    assert!(wrong.is_empty(), "{} scripts do harm:\n{}", wrong.len(), wrong.join("\n"));
}

/// Scripts too long to keep, or that are no text.
fn made() -> Vec<Script> {
    let lines = |count: usize, line: &dyn Fn(usize) -> String| {
        (0..count).map(line).collect::<String>().into_bytes()
    };
    let made = |name: &str, text: Vec<u8>, says: &str| Script {
        name: format!("made_{name}"),
        text,
        says: vec![says.to_owned()],
    };
    let lines_of = "a script has at most 60000 lines of 10000 bytes";
    vec![
        made("nul", vec![0; 1000], "unexpected `\\u{0}`"),
        made("not_utf8", b"print(\"\xff\xfe\");\n".to_vec(), "cannot read"),
        made("huge", "let x = 1;\n".repeat(120_000).into(), "a script has at most 1048576"),
        made(
            "parentheses",
            format!("throw {}1{};", "(".repeat(100_000), ")".repeat(100_000)).into(),
            lines_of,
        ),
        made("calls", "f(".repeat(100_000).into(), lines_of),
        made(
            "else_if",
            format!("if false {{}}{}", " else if false {}".repeat(20_000)).into(),
            lines_of,
        ),
        made(
            "functions",
            lines(2_000, &|i| format!("fn f{i}() {{}}\n")),
            "defines more than 1000 functions",
        ),
        made(
            "variables",
            lines(2_000, &|i| format!("let v{i} = 1;\n")),
            "has more than 1000 variables at once",
        ),
        made("long_name", format!("{}();", "x".repeat(300_000)).into(), lines_of),
        made(
            "long_variables",
            format!("let {} = 1; {} + 1;", "x".repeat(60_000), "y".repeat(60_000)).into(),
            lines_of,
        ),
        made("long_number", format!("throw 0x{};", "f".repeat(100_000)).into(), lines_of),
        made(
            "long_line",
            format!("let x = \"{}\"; throw z;", "y".repeat(500_000)).into(),
            lines_of,
        ),
        made(
            "many_arguments",
            format!("fn f(a) {{}}\nf({}1);", "1,".repeat(50_000)).into(),
            lines_of,
        ),
        made("many_lines", format!("{}nope();", "\n".repeat(70_000)).into(), lines_of),
    ]
}

/// What lies beside a script to be imported.
fn furnish(folder: &Path, outside: &Path) {
    fs::write(folder.join("circle_a.rhai"), "import \"circle_b\" as b;\n").unwrap();
    fs::write(folder.join("circle_b.rhai"), "import \"circle_a\" as a;\n").unwrap();
    fs::write(folder.join("huge.rhai"), format!("// {}", "x".repeat(2 << 20))).unwrap();
    fs::create_dir(folder.join("folder.rhai")).unwrap();
    fs::write(outside.join("secret.rhai"), "fn f() {}\n").unwrap();
    symlink(outside.join("secret.rhai"), folder.join("link.rhai")).unwrap();
    for (name, text) in [
        ("names", r#"{ "model": "/etc/passwd", "data": "../outside/secret.rhai" }"#.to_owned()),
        ("hub", r#"{ "model": "owner/name" }"#.to_owned()),
        ("escapes", r#"{ "\u001b[31mred": 1 }"#.to_owned()),
        ("deep", format!("{{ \"a\": {}", "[".repeat(500_000))),
        ("wide", format!("{{ \"a\": [1{}] }}", ",1".repeat(200_000))),
        ("map", r#"{ "a": { "b": [[1]] } }"#.to_owned()),
        ("twice", r#"{ "a": 1, "a": 2 }"#.to_owned()),
    ] {
        fs::write(folder.join(format!("{name}.json")), text).unwrap();
    }
}

/// Names in a folder.
fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

/// Runs a script; `Some` says what was wrong with it.
fn harm(script: &Script, bare: u64) -> Option<String> {
    let Script { name, text, says } = script;
    let header = String::from_utf8_lossy(text);
    let settings = |key: &str| {
        header
            .lines()
            .take(8)
            .filter_map(|l| l.strip_prefix(key))
            .map(str::trim)
            .collect::<Vec<_>>()
    };
    let exit = settings("// exit:").first().map_or(2, |code| code.parse().unwrap());
    // `../x` of a script is below `whole`, where it would be found.
    let whole = tempfile::tempdir().unwrap();
    let (folder, outside) = (whole.path().join("inside"), whole.path().join("outside"));
    fs::create_dir(&folder).unwrap();
    fs::create_dir(&outside).unwrap();
    furnish(&folder, &outside);
    fs::write(folder.join(format!("{name}.rhai")), text).unwrap();
    let said = tempfile::NamedTempFile::new().unwrap();
    let before = [names(whole.path()), names(&folder), names(&outside)];

    let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
    command
        .current_dir(&folder)
        .arg(format!("{name}.rhai"))
        .args(["--out", "run", "--quiet", "--threads", "1", "--device", "cpu"])
        .args(settings("// args:").iter().flat_map(|line| line.split_whitespace()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said.reopen().unwrap());
    let ended = run(&mut command);

    let bytes = fs::read(said.path()).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    println!("{name}: {} ms, {} MiB", ended.milliseconds, ended.mebibytes);
    let mut wrong = vec![];
    let mut must = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    must(!ended.killed, format!("did not end in {} s", WATCHDOG.as_secs()));
    must(ended.signal.is_none(), format!("ended by signal {:?}", ended.signal));
    must(ended.code == Some(exit), format!("exit code {:?}, wanted {exit}", ended.code));
    must(ended.milliseconds < MILLISECONDS, format!("computed for {} ms", ended.milliseconds));
    let held = ended.mebibytes.saturating_sub(bare);
    must(held < MEBIBYTES, format!("held {held} MiB"));
    must(bytes.len() < SAID, format!("said {} bytes", bytes.len()));
    must(text.lines().any(|line| line.starts_with("error: ")), "no error in our words".into());
    must(!text.contains("panicked"), "panicked".into());
    must(
        !text.chars().any(|c| c.is_control() && c != '\n'),
        "control characters came through".into(),
    );
    for says in says.iter().map(String::as_str).chain(settings("// says:")) {
        must(text.contains(says), format!("does not say {says:?}"));
    }
    let mut then = before;
    // A script that fails early has no run folder.
    if folder.join("run").exists() {
        then[1].insert("run".into());
    }
    must(
        [names(whole.path()), names(&folder), names(&outside)] == then,
        "left something beside its run folder".into(),
    );
    let start: String = text.chars().take(300).collect();
    (!wrong.is_empty()).then(|| format!("--- {name}: {}\n{start}", wrong.join("; ")))
}

/// MiB that the program holds for a script that does nothing.
fn harm_of_nothing() -> u64 {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("nothing.rhai"), "").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
    command.current_dir(home.path()).args(["nothing.rhai", "--quiet", "--device", "cpu"]);
    run(command.stderr(Stdio::null())).mebibytes
}

/// Runs `command` to its end, or until it has taken too long.
fn run(command: &mut Command) -> Ended {
    let limit = || {
        let (addresses, none) = (
            libc::rlimit { rlim_cur: ADDRESSES, rlim_max: ADDRESSES },
            libc::rlimit { rlim_cur: 0, rlim_max: 0 },
        );
        // SAFETY: both calls only read the structures, which live here; they are safe between fork
        // and exec.
        let failed = unsafe {
            libc::setrlimit(libc::RLIMIT_AS, &addresses) | libc::setrlimit(libc::RLIMIT_CORE, &none)
        };
        if failed == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: the closure makes two system calls and takes no memory or lock.
    unsafe { command.pre_exec(limit) };
    // Waited for below by its number, since only that tells what it used.
    #[allow(clippy::zombie_processes, reason = "`wait4` waits for it")]
    let child = command.spawn().unwrap();
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    let (started, mut killed) = (Instant::now(), false);
    loop {
        let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::zeroed());
        // SAFETY: both places are ours and large enough; `pid` is our child, which nobody else
        // waits for.
        let found = unsafe { libc::wait4(pid, &mut status, libc::WNOHANG, usage.as_mut_ptr()) };
        assert!(found >= 0, "cannot wait for a child: {}", std::io::Error::last_os_error());
        if found == pid {
            // SAFETY: numbers only, all zero before the call.
            let usage = unsafe { usage.assume_init() };
            let milliseconds =
                |time: libc::timeval| time.tv_sec as u64 * 1000 + time.tv_usec as u64 / 1000;
            return Ended {
                code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
                signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
                killed,
                milliseconds: milliseconds(usage.ru_utime) + milliseconds(usage.ru_stime),
                mebibytes: usage.ru_maxrss as u64 / 1024,
            };
        }
        if !killed && started.elapsed() > WATCHDOG {
            killed = true;
            // SAFETY: our own child, which was not waited for yet, so its number is still its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        thread::sleep(Duration::from_millis(5));
    }
}
