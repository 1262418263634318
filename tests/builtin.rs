//! What is embedded: the micro world's data and the micro model, and that a run on them learns.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use xgbrun::builtin::world::{SEED, TASKS, World, WorldSplit, questions};
use xgbrun::seed::Stream;

fn xgbrun(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_xgbrun"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn ten_thousand_questions_are_there_at_once() {
    let started = Instant::now();
    let world = World::new(SEED + 1);
    let mut made = 0;
    for round in 0.. {
        for task in TASKS {
            made += questions(&world, task, WorldSplit::Train, 400, &mut Stream::new(round, task))
                .len();
        }
        if made >= 10_000 {
            break;
        }
    }
    // A tenth of a second on any machine of today; the bound only tells seconds from minutes.
    assert!(started.elapsed().as_secs() < 10, "{made} questions took {:?}", started.elapsed());
}

#[test]
fn the_embedded_model_is_small_and_of_the_stated_size() {
    let micro = &xgbrun::builtin::MICRO;
    assert!(micro.weights.len() + micro.tokenizer.len() < 12_000_000);
    let config: serde_json::Value = serde_json::from_str(micro.config).unwrap();
    assert_eq!((&config["model_type"], &config["num_hidden_layers"]), (&"llama".into(), &8.into()));
}

#[test]
fn a_short_run_needs_no_parameter_no_file_and_no_network() {
    let home = tempfile::tempdir().unwrap();
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/commonsense.rhai");
    let (code, _, said) =
        xgbrun(home.path(), &[recipe, "-p", "rounds=2", "-p", "items=5", "--out", "run"]);
    assert_eq!(code, Some(0), "{said}");
    let summary: serde_json::Value = serde_json::from_str(
        &std::fs::read_to_string(home.path().join("run/summary.json")).unwrap(),
    )
    .unwrap();
    assert_eq!((&summary["base"]["items"], &summary["tuned"]["items"]), (&40.into(), &40.into()));
    assert!(summary["timing"]["predicted_peak_mib"].is_number());
    assert!(said.contains("next: xgbrun ask run \"What does the owl eat?"), "{said}");
    // The run answers, and the model that it saved is one.
    let (code, told, said) = xgbrun(
        home.path(),
        &["ask", "run", "What does the owl eat? Answer1: seeds Answer2: fish Answer3: meat"],
    );
    assert_eq!(code, Some(0), "{said}");
    assert!(told.contains("answer3"), "{told}");
    let (code, _, said) = xgbrun(
        home.path(),
        &["eval", "run/model", "--data", "builtin:microworld/piqa", "--items", "3"],
    );
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn other_names_are_told() {
    let home = tempfile::tempdir().unwrap();
    for (arguments, message) in [
        (
            ["eval", "builtin:mikro", "--data", "builtin:microworld"],
            "there is no embedded model `builtin:mikro`; did you mean `builtin:micro`?",
        ),
        (
            ["eval", "builtin:micro", "--data", "builtin:microwrld"],
            "there are no embedded data `builtin:microwrld`; did you mean `builtin:microworld`?",
        ),
        (
            ["eval", "builtin:micro", "--data", "builtin:microworld@seven"],
            "there are no embedded data `builtin:microworld@seven`; did you mean \
             `builtin:microworld`?",
        ),
        (
            ["eval", "builtin:micro", "--data", "builtin:microworld/pika"],
            "there are no embedded data `builtin:microworld/pika`; did you mean \
             `builtin:microworld/piqa`?",
        ),
    ] {
        let (code, _, said) = xgbrun(home.path(), &arguments);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains(message), "{said}");
    }
}
