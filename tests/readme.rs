//! The commands that README shows, run as they stand but for their length.

use std::path::Path;
use std::process::Command;

/// Words of a command line, with what stands in quotes as one.
fn words(line: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => out.push(String::new()),
            c => out.last_mut().unwrap().push(c),
        }
    }
    out.retain(|w| !w.is_empty());
    out
}

#[test]
fn the_commands_of_the_readme_run() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(here.join("README.md")).unwrap();
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(here.join("recipes"), home.path().join("recipes")).unwrap();
    let mut seen = 0;
    let mut inside = false;
    for line in readme.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
            continue;
        }
        let program =
            ["cargo run --release -- ", "xgbrun "].into_iter().find_map(|p| line.strip_prefix(p));
        let Some(arguments) = program.filter(|_| inside) else { continue };
        // Comments are for the reader; RUN stands for a run folder, PATH for a model or data that
        // the reader has.
        let arguments = arguments.split("  # ").next().unwrap().trim();
        let arguments = arguments
            .replace("model=PATH", "model=builtin:micro")
            .replace("data=PATH", "data=builtin:microworld/piqa")
            .replace("RUN", "runs/first");
        let mut words = words(&arguments);
        if words[0].ends_with(".rhai") {
            let out = if seen == 0 { "runs/first".to_owned() } else { format!("runs/{seen}") };
            words.extend(
                ["-p", "rounds=2", "-p", "items=4", "--quiet", "--out", &out].map(str::to_owned),
            );
        }
        let output = Command::new(env!("CARGO_BIN_EXE_xgbrun"))
            .current_dir(home.path())
            .args(&words)
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        seen += 1;
    }
    assert!(seen >= 6, "{seen} commands were found");
}
