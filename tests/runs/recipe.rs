//! The recipe that newcomers run first, from its files to its saved model.

use std::path::{Path, PathBuf};

use crate::harness::{Home, Ran, files, sha256};

fn commonsense() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/commonsense.rhai")
}

/// Eight rounds of four steps: one evaluation of the validation set.
fn boosted(home: &Home, out: &str, more: &[&str]) -> Ran {
    let arguments =
        [&["-p", "rounds=8", "-p", "steps=4", "-p", "layers=2", "-p", "lr=0.02"], more].concat();
    home.file(&commonsense(), out, &arguments).good()
}

#[test]
fn it_leaves_a_whole_run_whose_model_loads_again() {
    let home = Home::new();
    let run = boosted(&home, "run", &[]);
    let boosters = (0..8).map(|round| format!("boosters/{round:04}.safetensors"));
    assert_eq!(
        files(&run.out),
        boosters
            .chain(
                [
                    "boosters/ensemble.json",
                    "journal.jsonl",
                    "metrics.jsonl",
                    "model/config.json",
                    "model/model.safetensors",
                    "model/template.json",
                    "model/tokenizer.json",
                    "model/tokenizer_config.json",
                    "recipe.rhai",
                    "report.html",
                    "run.json",
                    "summary.json"
                ]
                .map(str::to_owned)
            )
            .collect::<Vec<_>>()
    );
    let manifest = run.json("run.json");
    assert_eq!(manifest["parameters"]["rounds"], 8);
    assert_eq!(
        manifest["digests"]["data/test.json"],
        sha256(&std::fs::read(home.path().join("data/test.json")).unwrap())
    );

    let metrics = run.metrics();
    let steps: Vec<_> = metrics.iter().filter(|line| line.get("step").is_some()).collect();
    assert_eq!(steps.len(), 32);
    for (i, line) in steps.iter().enumerate() {
        assert_eq!(
            (line["round"].as_u64(), line["step"].as_u64()),
            (Some(i as u64 / 4), Some(i as u64 + 1))
        );
        assert_eq!(line["layers"].as_array().unwrap().len(), 2);
    }
    let evaluations: Vec<_> = metrics
        .iter()
        .filter(|line| line.get("split").is_some())
        .map(|line| (&line["split"], &line["round"]))
        .collect();
    let wanted = [("test", 0), ("validation", 8), ("test", 8)]
        .map(|(split, round)| (split.into(), round.into()));
    assert_eq!(
        evaluations,
        wanted
            .iter()
            .map(|(s, r): &(serde_json::Value, serde_json::Value)| (s, r))
            .collect::<Vec<_>>()
    );

    let summary = run.json("summary.json");
    assert_eq!(
        (&summary["base"]["items"], &summary["tuned"]["items"], &summary["best_round"]),
        (&6.into(), &6.into(), &8.into())
    );
    // Two layers of q, k, v, o, gate, up and down at rank 1.
    let one = 2 * ((16 + 16) + (16 + 8) + (16 + 8) + (16 + 16) + 3 * (16 + 24));
    assert_eq!(
        (&summary["trainable_now"], &summary["trained_in_total"]),
        (&one.into(), &(8 * one).into())
    );

    // The saved folder is a model: it loads, measures the same, and is saved to the same bytes.
    let model = run.out.join("model").display().to_string();
    let body = "let task = data::load(p.data, #{ template: `cloze` }); \
                let m = model.evaluate(task.test); print(m.to_json()); model.save(\"again\");";
    let again = home.recipe(body, "again", &["-p", &format!("model={model}")]).good();
    let measured: serde_json::Value = serde_json::from_str(again.said.trim()).unwrap();
    let mut tuned = summary["tuned"].clone();
    // The summary names the task beside the metrics.
    assert_eq!(tuned.as_object_mut().unwrap().remove("task"), Some("data".into()));
    assert_eq!(measured, tuned);
    assert_eq!(again.bytes("again/model.safetensors"), run.bytes("model/model.safetensors"));
    assert_eq!(again.json("summary.json")["weights_digest"], summary["weights_digest"]);
    assert_eq!(again.json("again/config.json"), run.json("model/config.json"));
}

#[test]
fn the_loss_falls() {
    let home = Home::new();
    let losses = home
        .file(
            &commonsense(),
            "run",
            &["-p", "rounds=24", "-p", "steps=8", "-p", "layers=2", "-p", "lr=0.05"],
        )
        .good()
        .losses();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&losses[..8]), mean(&losses[losses.len() - 8..]));
    assert!(last < 0.7 * first, "from {first} to {last}");
}

#[test]
fn the_seed_decides_every_byte() {
    let home = Home::new();
    for (name, threads) in [("two", "2"), ("one", "1")] {
        let (a, b) = (format!("{name}-a"), format!("{name}-b"));
        let first = boosted(&home, &a, &["--seed", "5", "--threads", threads]).fingerprint();
        assert_eq!(
            first,
            boosted(&home, &b, &["--seed", "5", "--threads", threads]).fingerprint(),
            "{threads} threads"
        );
    }
    let layers = |out: &str, seed: &str| -> Vec<_> {
        let run = boosted(&home, out, &["--seed", seed]);
        run.metrics().iter().filter_map(|line| line.get("layers").cloned()).collect()
    };
    assert_ne!(layers("other", "6"), layers("same", "5"));
}

/// A mistake that only the run could show, after the training.
#[test]
fn a_corrected_recipe_goes_on_from_where_it_failed() {
    let home = Home::new();
    let body = |last: &str| {
        format!(
            "let b = model.booster(#{{ layers: [0] }});
             b.fit(task.train, #{{ steps: 3, optimizer: adamw(#{{ lr: 0.03 }}) }});
             model.merge(b);
             {last}
             model.save(\"model\");"
        )
    };
    let failed =
        home.recipe(&body("let few = #{ itms: 3 }; model.evaluate(task.test, few);"), "run", &[]);
    assert_eq!(failed.code, Some(2));
    let told = failed.said.lines().last().unwrap();
    assert!(told.contains("correct `run/recipe.rhai`, and `xgbrun --resume run`"), "{told}");
    let recipe = failed.out.join("recipe.rhai");
    let text = std::fs::read_to_string(&recipe).unwrap();
    std::fs::write(&recipe, text.replace("itms", "items")).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xgbrun"));
    let output = command.current_dir(home.path()).args(["--resume", "run"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    home.recipe(&body("let few = #{ items: 3 }; model.evaluate(task.test, few);"), "right", &[])
        .good();
    let digest =
        |name: &str| std::fs::read(home.path().join(name).join("model/model.safetensors")).unwrap();
    assert_eq!(digest("run"), digest("right"));
    // Where nothing was trained there is nothing to go on from.
    let early =
        home.recipe("let few = #{ itms: 3 }; model.evaluate(task.test, few);", "early", &[]);
    assert!(!early.said.contains("--resume"), "{}", early.said);
}
