//! `xgbrun ask`, and what a run keeps for it: merges in metrics.jsonl, boosters as files.

use std::path::Path;
use std::process::Command;

use candle_core::{DType, Device};
use xgbrun::boost::Update;
use xgbrun::model::load::open;
use xgbrun::run::{FinishedRun, Merge};
use xgbrun::source::Grants;

use crate::harness::{Home, Ran, close, number};

/// Four boosters, merged with other step weights.
const BOOST: &str = "
for round in 0..4 {
    let b = model.booster(#{ layers: [round % 3], rank: 2, alpha: 3.0 });
    b.fit(task.train, #{ steps: 12, optimizer: adamw(#{ lr: 0.05 }) });
    model.merge(b, if round == 1 { 0.5 } else { 1.0 });
}
";

/// Exit code, standard output and standard error of `xgbrun ask RUN …`.
fn ask(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_xgbrun"))
        .current_dir(home)
        .arg("ask")
        .args(arguments)
        .args(["--quiet", "--device", "cpu"])
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn merges(run: &Ran) -> Vec<Merge> {
    run.metrics()
        .iter()
        .filter_map(|line| line.get("merge"))
        .map(|merge| serde_json::from_value(merge.clone()).unwrap())
        .collect()
}

const QUESTION: &str = "Which is snow 100? Answer1: snow Answer2: sand";

#[test]
fn a_question_is_answered_before_halfway_and_after() {
    let home = Home::new();
    home.recipe(BOOST, "run", &[]).good();
    let (code, out, err) = ask(home.path(), &["run", QUESTION]);
    assert_eq!(code, Some(0), "{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["base", "round", "2", "round", "4"]
    );
    let shares = |line: &str| -> Vec<f64> {
        line.replace(['*', '%'], "").split_whitespace().skip(1).map(number).collect()
    };
    let (one, two) = (shares(lines[1]), shares(lines[2]));
    for (a, b) in one.iter().zip(&two) {
        close(a + b, 100.0, 0.11);
    }
    assert!((one[0] - one[2]).abs() > 0.3, "boosting changed nothing: {out}");
    assert_eq!(out.matches('*').count(), 3, "{out}");
    assert!(lines[3].starts_with("the answer "), "{out}");

    // Named rounds, each by itself as it is in a table of all.
    let (_, all, _) = ask(home.path(), &["run", QUESTION, "--rounds", "4,0,1,2,3"]);
    let of = |line: &str| shares(line);
    assert_eq!(of(all.lines().nth(1).unwrap()).len(), 5);
    assert_eq!(of(all.lines().nth(1).unwrap())[2], one[1]);
    // Another wording gives other numbers; alpaca is what the run was trained with.
    assert_eq!(ask(home.path(), &["run", QUESTION, "--template", "alpaca"]).1, out);
    assert_ne!(ask(home.path(), &["run", QUESTION, "--template", "none"]).1, out);

    let (code, text, err) =
        ask(home.path(), &["run", "What is snow?", "--max-tokens", "5", "--rounds", "0,4"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(text.starts_with("base\n    ") && text.contains("\nround 4\n    "), "{text}");
}

#[test]
fn kept_boosters_give_the_runs_weights() {
    let home = Home::new();
    let dense = "let d = model.booster(#{ kind: \"dense\", layers: [1], embedding: true }); \
                 d.fit(task.train, #{ steps: 3, optimizer: adamw(#{ lr: 0.01 }) }); model.merge(d, \
                 0.5);";
    for (out, body) in [("low-rank", BOOST.to_string()), ("both", format!("{BOOST}{dense}"))] {
        let run = home.recipe(&body, out, &[]).good();
        let kept = FinishedRun::open(&run.out).unwrap();
        let path = home.path().join(kept.model().unwrap());
        let mut network =
            open(path.to_str().unwrap(), &Grants::everything(), &Device::Cpu, DType::F32)
                .unwrap()
                .model;
        assert_eq!(kept.manifest.digests["model"], network.digest().unwrap());
        let recorded = merges(&run);
        assert_eq!(recorded.len(), kept.ensemble.rounds());
        for (round, ((path, weight), merge)) in kept.boosters().iter().zip(&recorded).enumerate() {
            assert_eq!(*weight, 1.0);
            let update = Update::load(path, &network).unwrap();
            update.add(&mut network).unwrap();
            assert_eq!((update.round, merge.round, update.eta), (round, round, merge.eta));
            assert_eq!(
                (update.kind().name(), update.layers()),
                (merge.kind.as_str(), merge.layers.clone())
            );
            for (layer, norm) in update.norms().unwrap() {
                close(norm / merge.update_norms[&layer], 1.0, 1e-6);
            }
        }
        if out == "low-rank" {
            assert_eq!(run.json("summary.json")["weights_digest"], network.digest().unwrap());
        }
    }
}

/// Where the batches of a step are the whole set, the gain is what the whole fit won: the base's
/// loss is that of the first step.
#[test]
fn a_merge_is_recorded_with_its_gain() {
    let home = Home::new();
    let body = "fn boost(model, task, steps) { let b = model.booster(#{ layers: [0, 2] }); \
                    let fit = b.fit(task.train, #{ \
                        steps: steps, batch: task.train.len / 2, accumulate: 2, \
                        optimizer: adamw(#{ lr: 0.02 }) }); \
                    print(fit.gain); print(fit.first_loss - fit.last_loss); \
                    model.merge(b, 0.25); b } \
                let b = boost(model, task, 6); boost(model, task, 1); print(b.parameters);";
    let run = home.recipe(body, "run", &["-p", "data=text"]).good();
    let lines: Vec<&str> = run.said.lines().collect();
    close(number(lines[0]), number(lines[1]), 1e-5);
    assert!(number(lines[0]) > 0.01, "{}", run.said);
    assert_eq!(lines[2], "", "one step has no gain");
    let [first, second] = &merges(&run)[..] else { panic!("{:?}", merges(&run)) };
    assert_eq!(
        (first.round, first.kind.as_str(), &first.layers[..], first.steps, first.eta),
        (0, "low_rank", &[0, 2][..], 6, 0.25)
    );
    assert_eq!((first.gain, first.parameters as f64), (Some(number(lines[0])), number(lines[4])));
    assert_eq!(first.update_norms.keys().copied().collect::<Vec<_>>(), [0, 2]);
    assert!(first.update_norms.values().all(|norm| *norm > 0.0));
    assert_eq!((second.round, second.steps, second.gain), (1, 1, None));
}

#[test]
fn what_cannot_be_asked_is_told() {
    let home = Home::new();
    home.recipe(BOOST, "run", &[]).good();
    home.recipe("model.evaluate(task.test); throw `no`;", "broken", &[]);
    for (arguments, code, message) in [
        (&["data", QUESTION][..], 2, "error: `data` is no run folder: there is no `run.json`"),
        (&["none", QUESTION], 2, "error: `none` is no run folder"),
        (
            &["broken", QUESTION],
            2,
            "error: the run in `broken` has not ended: there is no `summary.json`",
        ),
        (
            &["run", QUESTION, "--rounds", "0,5"],
            2,
            "error: the run has no round 5: it merged 4 boosters",
        ),
        (
            &["run", QUESTION, "--template", "alpacca"],
            2,
            "error: unknown template `alpacca`; did you mean `alpaca`?",
        ),
        (
            &["run", QUESTION, "--dtype", "bf16"],
            2,
            "error: the run kept its weights in `f32`, not in `bf16`",
        ),
        (&["run", "why?", "--max-tokens", "600"], 2, "error: the question has "),
    ] {
        let (found, _, err) = ask(home.path(), arguments);
        assert!(err.starts_with(message), "{arguments:?}: {err}");
        assert_eq!(found, Some(code), "{arguments:?}");
    }
    std::fs::remove_file(home.path().join("run/boosters/0001.safetensors")).unwrap();
    let (code, _, err) = ask(home.path(), &["run", QUESTION]);
    assert_eq!(
        (code, err.contains("boosters/0001.safetensors` is missing")),
        (Some(3), true),
        "{err}"
    );
    home.recipe(BOOST, "other", &[]).good();
    crate::common::tiny::Tiny { seed: 2, ..crate::common::tiny::Tiny::default() }
        .write(&home.path().join("model"));
    let (code, _, err) = ask(home.path(), &["other", QUESTION]);
    assert_eq!(code, Some(3), "{err}");
    assert!(err.starts_with("error: `model` is not the model that the run began with"), "{err}");
    std::fs::write(home.path().join("other/run.json"), "{}").unwrap();
    let (code, _, err) = ask(home.path(), &["other", QUESTION]);
    assert_eq!((code, err.contains("does not describe a run")), (Some(3), true), "{err}");
}
