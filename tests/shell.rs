//! What shells, scripts and logs see of the program: completions, manual pages, colours, which
//! stream says what, results as JSON, parameters from a file.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::skip;
use serde_json::Value;

/// Two tasks of the micro world, a booster a round.
const RECIPE: &str = "let p = params(#{ rounds: 2, lr: 0.01, model: `builtin:micro` });
let model = model::load(p.model);
let task = data::load(`builtin:microworld`, #{ template: `cloze` });
let asked = #{ items: 2 };
model.evaluate(task.test, asked);
for round in 0..p.rounds {
    let b = model.booster(#{ layers: [round % 8] });
    b.fit(task.train, #{ steps: 2, batch: 2, optimizer: sgd(#{ lr: p.lr }) });
    print(`said ${round}`);
    model.merge(b);
}
model.evaluate(task.test, asked);
";

fn xgbrun(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
    command.current_dir(folder).args(arguments);
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A run of [`RECIPE`] in a folder of its own.
fn ran(arguments: &[&str]) -> (tempfile::TempDir, Output) {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("r.rhai"), RECIPE).unwrap();
    let output = xgbrun(home.path(), &["r.rhai", "--out", "run"]).args(arguments).output().unwrap();
    (home, output)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Names of the commands, as the first page lists them.
fn verbs() -> Vec<String> {
    let page = text(&xgbrun(Path::new("/"), &["--help"]).output().unwrap().stdout);
    let listed = page.lines().skip_while(|line| *line != "Commands:").skip(1);
    let verbs = listed.map_while(|line| line.split_whitespace().next().map(str::to_owned));
    verbs.filter(|verb| verb != "help").collect()
}

/// What a shell says of a script; nothing where the shell is not installed.
fn shell(name: &str, folder: &Path, script: &str) -> Option<String> {
    let bare = match name {
        "bash" => ["--norc", "--noprofile"].as_slice(),
        "zsh" => &["-f"],
        _ => &["--no-config"],
    };
    let output = Command::new(name).current_dir(folder).args(bare).args(["-c", script]).output();
    let Ok(output) = output else {
        match name {
            "bash" => skip("there is no `bash`"),
            // Few machines have them all.
            _ => println!("passed over: there is no `{name}`"),
        }
        return None;
    };
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    Some(text(&output.stdout))
}

/// Writes the completions for a shell to `folder/file`.
fn completions(shell: &str, folder: &Path, file: &str) {
    let output = xgbrun(folder, &["completions", shell]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    fs::write(folder.join(file), output.stdout).unwrap();
}

#[test]
fn bash_sources_the_script_and_completes() {
    let home = tempfile::tempdir().unwrap();
    completions("bash", home.path(), "xgbrun.bash");
    let script = r#"source xgbrun.bash; complete -p xgbrun
        completed() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _xgbrun xgbrun "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            echo "$* -> ${COMPREPLY[*]}"
        }
        completed xgbrun re; completed xgbrun run --par; completed xgbrun a.rhai --see
        completed xgbrun eval --template ""; completed xgbrun --color ""
        completed xgbrun --resume runs/a --from; completed xgbrun help exp; completed xgbrun x"#;
    let Some(said) = shell("bash", home.path(), script) else { return };
    // Where nothing fits, bash completes the name of a file: that of a recipe.
    let want = "xgbrun re -> report\n\
                xgbrun run --par -> --params\n\
                xgbrun a.rhai --see -> --seed\n\
                xgbrun eval --template  -> alpaca cloze llm-adapters none chat\n\
                xgbrun --color  -> auto always never\n\
                xgbrun --resume runs/a --from -> --from-round\n\
                xgbrun help exp -> export\n\
                xgbrun x -> \n";
    let (defined, completed) = said.split_once('\n').unwrap();
    assert!(defined.contains("-o default") && defined.contains("-F _xgbrun"), "{defined}");
    assert_eq!(completed, want);
}

#[test]
fn zsh_and_fish_load_their_scripts() {
    let home = tempfile::tempdir().unwrap();
    completions("zsh", home.path(), "_xgbrun");
    completions("fish", home.path(), "xgbrun.fish");
    let zsh = "fpath+=$PWD; autoload -U compinit; compinit -u -d ./dump; autoload +X _xgbrun; \
               print ${_comps[xgbrun]}";
    if let Some(said) = shell("zsh", home.path(), zsh) {
        assert_eq!(said, "_xgbrun\n");
    }
    let fish = "source xgbrun.fish; complete -C 'xgbrun eval --templ'";
    if let Some(said) = shell("fish", home.path(), fish) {
        assert!(said.starts_with("--template\t"), "{said}");
    }
}

#[test]
fn each_command_has_a_manual_page() {
    let home = tempfile::tempdir().unwrap();
    let output = xgbrun(home.path(), &["man", "pages"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "pages\n"));
    let page = |name: &str| fs::read_to_string(home.path().join("pages").join(name)).unwrap();
    let first = page("xgbrun.1");
    for verb in verbs() {
        let own = page(&format!("xgbrun-{verb}.1"));
        assert!(own.contains(&format!(".TH xgbrun-{verb} 1")), "{own}");
        assert!(own.contains("Examples:") && own.contains("\\-\\-color"), "{own}");
        assert!(first.contains(&format!("xgbrun\\-{verb}(1)")), "{verb}: {first}");
    }
    assert!(
        page("xgbrun-resume.1").contains("\\-\\-from\\-round") && first.contains("\\-\\-resume")
    );
    let taken = xgbrun(home.path(), &["man", "pages/xgbrun.1"]).output().unwrap();
    assert_eq!(taken.status.code(), Some(2));
    assert!(text(&taken.stderr).starts_with("error: cannot write `pages/xgbrun.1`: "));
}

#[test]
fn colours_are_there_when_asked_for_and_never_otherwise() {
    let home = tempfile::tempdir().unwrap();
    let coloured = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = xgbrun(home.path(), arguments);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        text(&output.stderr).contains('\x1b') || text(&output.stdout).contains('\x1b')
    };
    for verb in verbs() {
        let page = |when: &str| coloured(&[&verb, "--color", when, "--help"], &[]);
        assert!(page("always") && !page("never") && !page("auto"), "{verb}");
    }
    // Complaints of clap, of ours, and of a recipe, with the option before the command or behind.
    fs::write(home.path().join("r.rhai"), "throw `no`;").unwrap();
    for wrong in [&["eval", "--nope"][..], &["evla"], &["r.rhai"], &["--resume", "none"]] {
        let with = |option: &str| coloured(&[&[option], wrong].concat(), &[]);
        assert!(with("--color=always") && !with("--color=never"), "{wrong:?}");
        let by = |variables: &[(&str, &str)]| coloured(wrong, variables);
        assert!(!by(&[]) && by(&[("CLICOLOR_FORCE", "1")]) && !by(&[("CLICOLOR_FORCE", "")]));
        assert!(!by(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]), "{wrong:?}");
        let option = [&["--color", "always"], wrong].concat();
        assert!(coloured(&option, &[("NO_COLOR", "1")]), "the option is above the variables");
    }
}

#[test]
fn the_result_is_on_standard_output_and_nothing_else() {
    let (_home, loud) = ran(&[]);
    let (told, said) = (text(&loud.stdout), text(&loud.stderr));
    assert_eq!(loud.status.code(), Some(0), "{said}");
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].starts_with("accuracy  ") && lines.contains(&"run folder: run"), "{told}");
    assert!(lines.iter().any(|line| line.starts_with("test accuracy 0.")), "{told}");
    assert!(said.contains("said 0\n") && said.contains("\nnext: xgbrun ask run "), "{said}");
    assert!(!told.contains("said ") && !told.contains("next:") && !told.contains("round "));
    let (_home, quiet) = ran(&["--quiet"]);
    assert_eq!(text(&quiet.stderr), "said 0\nsaid 1\n");
    let head = |text: &str| text.lines().take(10).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(head(&text(&quiet.stdout)), head(&told));
}

#[test]
fn json_is_the_summary_with_the_folder() {
    let (home, output) = ran(&["--json", "--quiet"]);
    assert_eq!(text(&output.stderr), "said 0\nsaid 1\n");
    let told = text(&output.stdout);
    assert_eq!(told.lines().count(), 1, "{told}");
    let is_summary = |told: &str| {
        let mut found: Value = serde_json::from_str(told).unwrap();
        assert_eq!(found.as_object_mut().unwrap().remove("run_folder"), Some("run".into()));
        assert_eq!(found, json(&home.path().join("run/summary.json")));
    };
    is_summary(&told);
    // Of a run that has ended it is told again; done anew, it is told anew.
    for more in [&[][..], &["--from-round", "1"]] {
        let again =
            xgbrun(home.path(), &["--resume", "run", "--json"]).args(more).output().unwrap();
        assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
        is_summary(&text(&again.stdout));
    }
}

#[test]
fn a_log_has_a_line_a_round_and_a_line_an_evaluation() {
    let (_home, output) = ran(&["-p", "rounds=3"]);
    let said = text(&output.stderr);
    let with = |word: &str| said.lines().filter(|l| l.contains(word)).collect::<Vec<_>>();
    let rounds = with("merged a booster on layers");
    assert_eq!(rounds.len(), 3, "{said}");
    for (i, line) in rounds.iter().enumerate() {
        assert!(line.starts_with(&format!("round {} of 3: merged a booster ", i + 1)), "{line}");
        assert!(line.contains(", loss ") && line.ends_with(" s left") == (i < 2), "{line}");
    }
    let measured = with(" test accuracy ");
    assert_eq!(measured.len(), 2, "{said}");
    for line in measured {
        assert!(line.contains(" ± ") && line.ends_with(", 8 tasks, 16 items"), "{line}");
    }
    assert!(with("majority ").is_empty(), "{said}");
    let (_home, output) = ran(&["--verbose", "-p", "rounds=1"]);
    let said = text(&output.stderr);
    assert_eq!(said.lines().filter(|line| line.contains("majority ")).count(), 2 * 9, "{said}");
}

#[test]
fn a_file_sets_parameters_and_check_and_plan_take_it_too() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("r.rhai"), RECIPE).unwrap();
    fs::write(home.path().join("p.json"), r#"{ "rounds": 1, "lr": 1 }"#).unwrap();
    let run = |arguments: &[&str]| {
        let output = xgbrun(home.path(), arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    run(&["r.rhai", "--params", "p.json", "-p", "lr=0.5", "--quiet", "--out", "run"]);
    let manifest = json(&home.path().join("run/run.json"));
    let want = serde_json::json!({ "rounds": 1, "lr": 0.5, "model": "builtin:micro" });
    assert_eq!(manifest["parameters"], want);
    assert_eq!(manifest["given_in_file"], serde_json::json!({ "rounds": 1, "lr": 1 }));
    assert!(run(&["check", "r.rhai", "--params", "p.json"]).contains("1 merge,"));
    assert!(run(&["plan", "r.rhai", "--params", "p.json"]).contains("\n    0 "));
    // A name that no file can grant, in all three.
    let path = home.path().join("model").display().to_string();
    fs::write(home.path().join("p.json"), format!("{{ \"model\": {path:?} }}")).unwrap();
    for verb in ["run", "check", "plan"] {
        let output = xgbrun(home.path(), &[verb, "r.rhai", "--params", "p.json"]).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{verb}: {said}");
        assert!(said.contains(&format!("give it with `-p model={path}`")), "{verb}: {said}");
    }
}

#[test]
fn an_export_says_what_its_reader_will_miss() {
    let (home, output) = ran(&["--quiet"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let run = |arguments: &[&str]| {
        let output = xgbrun(home.path(), arguments).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    let (code, said) = run(&["export", "run", "--peft", "adapter"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("`xgbrun export run --merged DIR --round 0` writes it"), "{said}");
    assert_eq!(
        run(&["export", "run", "--merged", "base", "--round", "0"]),
        (Some(0), String::new())
    );
    // The adapter fits what was written.
    let eval = ["eval", "base", "--data", "builtin:microworld/piqa", "--items", "2", "--quiet"];
    assert_eq!(run(&[&eval[..], &["--adapter", "adapter"]].concat()), (Some(0), String::new()));
    fs::create_dir(home.path().join("empty")).unwrap();
    for (arguments, code, message) in [
        (
            &["export", "run", "--gguf", "none/x.gguf"][..],
            2,
            "cannot write `none/x.gguf`: there is no folder `none`\n  = make it first: `mkdir -p \
             none`\n",
        ),
        (
            &["report", "run", "--out", "none/x"],
            2,
            "cannot write `none/x`: there is no folder `none`",
        ),
        (
            &[&eval[..], &["--adapter", "empty"]].concat(),
            3,
            "`empty` is no PEFT adapter: there is no `adapter_config.json` in it",
        ),
        (&[&eval[..], &["--adapter", "none"]].concat(), 3, "there is no adapter `none`"),
    ] {
        let (found, said) = run(arguments);
        assert_eq!(found, Some(code), "{said}");
        assert!(said.starts_with(&format!("error: {message}")), "{said}");
        assert!(!said.contains("os error"), "{said}");
    }
}
