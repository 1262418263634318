//! What a run leaves on a terminal, as `docs/terminal.py` sees it.

use std::path::Path;
use std::process::Command;

use crate::common::skip;
use crate::harness::{HEAD, Home};

/// Exit code of a run of `body` on a terminal, and the texts of the screen it left.
fn screen(home: &Home, body: &str, more: &[&str]) -> Option<(Option<i32>, Vec<String>)> {
    std::fs::write(
        home.path().join("r.rhai"),
        format!("{}{body}", HEAD.replace("adapter: \"\"", "rounds: 6")),
    )
    .unwrap();
    let recorder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/terminal.py");
    let mut command = Command::new("python3");
    command.current_dir(home.path()).arg(recorder).args([
        "screen.svg",
        "--columns",
        "90",
        "--rows",
        "30",
        "--",
    ]);
    command.args([
        env!("CARGO_BIN_EXE_xgbrun"),
        "r.rhai",
        "--device",
        "cpu",
        "-p",
        "model=model",
        "-p",
        "data=data",
        "--out",
        "run",
    ]);
    let Ok(output) = command.args(more).output() else {
        skip("there is no `python3`");
        return None;
    };
    let svg = std::fs::read_to_string(home.path().join("screen.svg"))
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let texts = svg
        .split("<text ")
        .skip(1)
        .filter_map(|t| Some(t.split_once('>')?.1.split_once('<')?.0.to_owned()));
    Some((output.status.code(), texts.collect()))
}

const BODY: &str = "for round in 0..p.rounds {
    let b = model.booster(#{ layers: [round % 3] });
    b.fit(task.train, #{ steps: 2, optimizer: sgd(#{ lr: 0.1 }) });
    print(`said ${round}`);
    model.merge(b);
}
model.evaluate(task.test);";

#[test]
fn the_figures_stay_once_between_what_was_said_and_the_summary() {
    let home = Home::new();
    let Some((code, texts)) = screen(&home, BODY, &[]) else { return };
    assert_eq!(code, Some(0), "{texts:?}");
    let places = |word: &str| {
        texts
            .iter()
            .enumerate()
            .filter(|(_, t)| t.contains(word))
            .map(|(i, _)| i)
            .collect::<Vec<_>>()
    };
    let (said, figures, folder) = (places("said "), places(" · loss "), places("run folder: run"));
    assert_eq!((said.len(), figures.len(), folder.len()), (6, 1, 1), "{texts:?}");
    assert!(said[5] < figures[0] && figures[0] < folder[0], "{texts:?}");
    assert!(
        texts[figures[0]].contains(" of 6 · ") && texts[figures[0]].contains("test accuracy "),
        "{texts:?}"
    );
    assert!(!texts.iter().any(|t| t.contains("step 2/2") || t.contains('\u{1b}')), "{texts:?}");
}

#[test]
fn an_error_stands_below_and_quiet_shows_what_is_said_alone() {
    let home = Home::new();
    let Some((code, texts)) = screen(&home, &format!("{BODY} throw \"enough\";"), &[]) else {
        return;
    };
    assert_eq!(code, Some(2), "{texts:?}");
    let place = |word: &str| {
        texts
            .iter()
            .position(|t| t.contains(word))
            .unwrap_or_else(|| panic!("no `{word}` in {texts:?}"))
    };
    assert!(place(" · loss ") < place("error: enough"));
    let home = Home::new();
    let Some((_, texts)) = screen(&home, BODY, &["--quiet"]) else { return };
    let said = (0..6).map(|i| format!("said {i}"));
    assert!(texts.iter().take(6).cloned().eq(said), "{texts:?}");
    // The result is there all the same.
    assert!(texts[6].starts_with("test accuracy ") && texts.len() == 11, "{texts:?}");
    assert_eq!(texts[10], "run folder: run");
}
