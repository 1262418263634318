//! A model as the sum of its boosters: taken back, left out, weighed, taken over, written for other
//! programs.

use std::process::Command;

use candle_core::{DType, Device};
use xgbrun::boost::adapter;
use xgbrun::model::load::open;
use xgbrun::source::Grants;

use crate::harness::Home;

/// Four boosters; the digest after each is printed.
const BOOST: &str = "
fn boost(model, task, layer) {
    let b = model.booster(#{ layers: [layer, 2], rank: 2, alpha: 3.0 });
    b.fit(task.train, #{ steps: 4, optimizer: adamw(#{ lr: 0.05 }) });
    model.merge(b, if layer == 1 { 0.5 } else { 1.0 });
    print(model.digest());
}
print(model.digest());
for round in 0..4 { boost(model, task, round % 2); }
";

#[test]
fn boosters_are_as_similar_as_their_updates() {
    let home = Home::new();
    let body = format!(
        "{BOOST}
        let own = model.similarity(1, 1); print(own.all); print(own.targets.q_proj);
        let both = model.similarity(0, 1); print(both.all == model.similarity(1, 0).all);
        print(both.all > -1.0 && both.all < 1.0); print(both.targets.len() == model.targets.len());
        try {{ model.similarity(0, 4); }} catch (e) {{ print(e.message); }}
        try {{ model.similarity(-1, 0); }} catch (e) {{ print(e.message); }}"
    );
    let lines = home.printed(&body, "f32", &["--dtype", "f32"]);
    let found: Vec<&str> = lines[5..].iter().map(String::as_str).collect();
    let near = |text: &str| (text.parse::<f64>().unwrap() - 1.0).abs() < 1e-12;
    assert!(near(found[0]) && near(found[1]), "{found:?}");
    let none = "there is no booster 4; the model has 4";
    let below = "boosters are numbered from 0, found -1";
    assert_eq!(found[2..], ["true", "true", "true", none, below]);
}

#[test]
fn taking_back_gives_the_very_weights() {
    let home = Home::new();
    for dtype in ["f32", "bf16", "f16"] {
        let body = format!(
            "{BOOST}
            model.truncate(4); print(model.digest());
            let whole = model.snapshot(); print(whole.round);
            model.replay(); print(model.digest());
            model.truncate(2); print(model.digest()); print(model.round);
            boost(model, task, 1); print(model.round);
            model.drop(2); print(model.digest());
            model.scale(1, 0.0); model.drop(0); print(model.round);
            model.truncate(0); print(model.digest());
            model.restore(whole); print(model.digest()); print(model.round);"
        );
        let lines = home.printed(&body, dtype, &["--dtype", dtype]);
        let [
            base,
            _,
            second,
            _,
            fourth,
            same,
            four,
            again,
            back,
            two,
            other,
            three,
            left,
            one,
            none,
            restored,
            all,
        ] = &lines[..]
        else {
            panic!("{lines:?}")
        };
        assert_eq!(
            (same, again, back, left, none, restored),
            (fourth, fourth, second, second, base, fourth),
            "{dtype}"
        );
        assert_eq!([four, two, three, one, all], ["4", "2", "3", "1", "4"]);
        assert!(other != second && other != fourth);
    }
}

#[test]
fn an_earlier_run_is_gone_on_with() {
    let home = Home::new();
    let first = home.printed(BOOST, "first", &[]);
    let body = "let m = model::from_run(p.adapter); print(m.digest()); print(m.round); \
                let b = m.booster(#{ layers: [0] }); b.fit(task.train, \
                #{ steps: 2, optimizer: adamw(#{ lr: 0.05 }) }); m.merge(b); \
                m.truncate(4); print(m.digest()); m.truncate(1); print(m.digest());";
    let lines = home.printed(body, "second", &["-p", "adapter=first"]);
    assert_eq!(
        [&lines[0], &lines[1], &lines[2], &lines[3]],
        [&first[4], "4", &first[4], &first[1]]
    );
    let other = home.recipe(body, "third", &["-p", "adapter=first", "--dtype", "bf16"]);
    assert_eq!(
        (other.code, other.said.contains("the run kept its weights in `f32`")),
        (Some(2), true),
        "{}",
        other.said
    );
}

#[test]
fn what_there_is_not_is_refused() {
    let home = Home::new();
    for (number, (call, want)) in [
        ("model.truncate(5)", "no boosters 0 to 5: the model is the sum of 4"),
        ("model.truncate(-1)", "boosters are numbered from 0, found -1"),
        ("model.drop(4)", "no booster 4: the model is the sum of 4"),
        ("model.scale(0, 0.0/0.0)", "must be a finite number"),
        ("model.slice(3, 2)", "no boosters 3 to 2"),
        ("model.restore(model::load(p.model).snapshot())", "the snapshot is of another model"),
        ("model.best_round()", "no round is best: `validation` was never evaluated"),
        ("model.best_round(#{ direction: \"up\" })", "\"max\" or \"min\""),
    ]
    .into_iter()
    .enumerate()
    {
        let said = home.printed(
            &format!(
                "{BOOST} try {{ {call}; }} catch (e) {{ print(`${{e.message}}`); }} \
                 print(model.digest());"
            ),
            &format!("run-{number}"),
            &[],
        );
        assert!(said[5].contains(want), "{call}: {said:?}");
        assert_eq!(said[4], said[6], "{call} changed the weights");
    }
    // A damaged booster of an earlier run is named.
    let body = "let other = model::from_run(p.adapter);";
    home.printed(BOOST, "kept", &[]);
    let path = home.path().join("kept/boosters/0002.safetensors");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    let run = home.recipe(body, "damaged", &["-p", "adapter=kept"]);
    assert_eq!((run.code, run.said.contains("0002.safetensors")), (Some(3), true), "{}", run.said);
}

#[test]
fn the_best_round_is_by_the_metric_asked_for() {
    let home = Home::new();
    let body = "for round in 0..3 { \
                    let b = model.booster(#{ layers: [0] }); \
                    b.fit(task.train, #{ steps: 3, optimizer: adamw(#{ lr: 0.02 }) }); \
                    model.merge(b); print(model.evaluate(task.validation).nll); } \
                print(model.best_round(#{ metric: \"nll\", direction: \"min\" }));";
    let run = home.recipe(body, "run", &["-p", "data=text"]).good();
    let lines: Vec<&str> = run.said.lines().collect();
    let losses: Vec<f64> = lines[..3].iter().map(|l| l.parse().unwrap()).collect();
    let best = (0..3).min_by(|a, b| losses[*a].total_cmp(&losses[*b])).unwrap() + 1;
    assert_eq!(lines[3], best.to_string());
    assert_eq!(run.json("summary.json")["best_round"], best);
}

#[test]
fn exports_are_the_runs_model() {
    let home = Home::new();
    let run = home.recipe(BOOST, "run", &[]).good();
    let digests: Vec<&str> = run.said.lines().collect();
    let export = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
        let output = command
            .current_dir(home.path())
            .args(["export", "run", "--device", "cpu"])
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let load = |folder: &str| {
        let path = home.path().join(folder);
        open(path.to_str().unwrap(), &Grants::everything(), &Device::Cpu, DType::F32).unwrap().model
    };
    for (round, digest) in [("4", digests[4]), ("2", digests[2]), ("0", digests[0])] {
        let folder = format!("merged-{round}");
        assert_eq!(export(&["--merged", &folder, "--round", round]), (Some(0), String::new()));
        assert_eq!(load(&folder).digest().unwrap(), digest);
    }
    assert_eq!(export(&["--peft", "adapter"]).0, Some(0));
    let mut base = load("model");
    let stacked =
        adapter::load(&home.path().join("adapter"), &base, adapter::Weights::Base).unwrap().booster;
    base.merge(&stacked.adapter, 1.0).unwrap();
    for ((name, a), (_, b)) in base.params().zip(load("merged-4").params()) {
        let apart: f32 = (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap();
        assert!(apart < 1e-6, "{name}: {apart:e}");
    }
    for (arguments, code, want) in [
        (&["--peft", "adapter"][..], 2, "it exists already"),
        (&["--peft", "b", "--merged", "c"], 2, "cannot be used with"),
        (&[], 2, "required"),
        (
            &["--merged", "c", "--round", "5"],
            2,
            "the run has no round 5: its model is the sum of 4 boosters",
        ),
        (&["--peft", "c", "--round", "0"], 2, "an adapter of no boosters has no factors"),
    ] {
        let (found, said) = export(arguments);
        assert!(found == Some(code) && said.contains(want), "{arguments:?}: {found:?} {said}");
    }
}

#[test]
fn boosters_are_held_against_data_that_they_did_not_see() {
    let home = Home::new();
    let body = "import \"std/boost\" as boost;
        fn fitted(model, task) {
            let b = model.booster(#{ layers: [0, 1] });
            b.fit(task.train, #{ steps: 6, optimizer: adamw(#{ lr: 0.03 }) });
            b
        }
        let b = fitted(model, task);
        let losses = [0.0, 0.5, 1.0, 3.0].map(|eta| boost::loss(model, b, task.test, eta));
        print(losses[0] == model.evaluate(task.test, #{ protocol: \"perplexity\" }).nll);
        let laid = #{ protocol: \"perplexity\", booster: b };
        print(losses[2] == model.evaluate(task.test, laid).nll);
        let best = 0;
        for i in 1..4 { if losses[i] < losses[best] { best = i; } }
        let found = boost::line_search(model, b, task.test, [0.5, 1.0, 3.0]);
        print(found == [0.0, 0.5, 1.0, 3.0][best]);
        print(boost::line_search(model, b, task.test, [-1.0]));
        print(boost::accept(model, b, task.test, 100.0)); print(model.round);
        print(boost::accept(model, b, task.test, -100.0)); print(model.round);
        let d = model.booster(#{ kind: \"dense\", layers: [0] });
        try { boost::loss(model, d, task.test, 0.5); } catch (e) { print(e.message); }
        try { model.evaluate(task.test, #{ eta: 0.5 }); } catch (e) { print(e.message); }";
    let lines = home.printed(body, "run", &[]);
    assert_eq!(lines[..8], ["true", "true", "true", "0.0", "false", "0", "true", "1"]);
    assert_eq!(lines[8], "a dense booster is measured as it is; leave out `eta`");
    assert!(
        lines[9].starts_with("option `eta` of `evaluate` must be left out where no `booster`"),
        "{}",
        lines[9]
    );
}
