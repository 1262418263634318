//! What the options of a fit do, how the data go on, and boosters as files.

use crate::harness::{Home, close, files, number};

/// Losses of one booster on layers 0 and 2, fitted with `options` beside `steps: 6`.
fn losses(home: &Home, out: &str, options: &str) -> Vec<f64> {
    fitted(home, out, options).losses()
}

fn fitted(home: &Home, out: &str, options: &str) -> crate::harness::Ran {
    let body = format!(
        "let b = model.booster(#{{ layers: [0, 2], rank: 2 }}); \
         b.fit(task.train, #{{ steps: 6, {options} }});"
    );
    home.recipe(&body, out, &["-p", "data=text"]).good()
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn every_option_changes_what_happens_but_not_the_first_loss() {
    let home = Home::new();
    let mut all =
        vec![("base", losses(&home, "base", "batch: 4, optimizer: adamw(#{ lr: 0.05 })"))];
    for (name, options) in [
        ("lr", "batch: 4, optimizer: adamw(#{ lr: 0.06 })"),
        (
            "lr-per-step",
            "batch: 4, optimizer: adamw(#{ lr: [0.05, 0.05, 0.05, 0.05, 0.01, 0.05] })",
        ),
        ("beta1", "batch: 4, optimizer: adamw(#{ lr: 0.05, beta1: 0.5 })"),
        ("beta2", "batch: 4, optimizer: adamw(#{ lr: 0.05, beta2: 0.9 })"),
        ("eps", "batch: 4, optimizer: adamw(#{ lr: 0.05, eps: 1e-3 })"),
        ("decay", "batch: 4, optimizer: adamw(#{ lr: 0.05, weight_decay: 1.0 })"),
        ("l2", "batch: 4, l2: 0.1, optimizer: adamw(#{ lr: 0.05 })"),
        ("sgd", "batch: 4, optimizer: sgd(#{ lr: 1.0 })"),
        ("momentum", "batch: 4, optimizer: sgd(#{ lr: 1.0, momentum: 0.9 })"),
        ("sgd-decay", "batch: 4, optimizer: sgd(#{ lr: 1.0, weight_decay: 0.1 })"),
        ("lion", "batch: 4, optimizer: lion(#{ lr: 0.01 })"),
        ("lion-beta1", "batch: 4, optimizer: lion(#{ lr: 0.01, beta1: 0.5 })"),
        ("lion-beta2", "batch: 4, optimizer: lion(#{ lr: 0.01, beta2: 0.5 })"),
        ("lion-decay", "batch: 4, optimizer: lion(#{ lr: 0.01, weight_decay: 1.0 })"),
        ("sgd-clip", "batch: 4, clip: 0.01, optimizer: sgd(#{ lr: 1.0 })"),
    ] {
        let found = losses(&home, name, options);
        assert_eq!(found[0], all[0].1[0], "{name}: the first loss is before any step");
        for (other, theirs) in &all {
            assert!(apart(&found, theirs) > 1e-5, "{name} does as {other}");
        }
        all.push((name, found));
    }
    for (name, options) in [("batch", "batch: 5"), ("accumulate", "batch: 4, accumulate: 2")] {
        let found = losses(&home, name, &format!("{options}, optimizer: adamw(#{{ lr: 0.05 }})"));
        assert!(apart(&found, &all[0].1) > 1e-5, "{name} does nothing");
    }
}

#[test]
fn muon_trains_matrices_by_its_options() {
    let home = Home::new();
    let mut all: Vec<(&str, Vec<f64>)> = vec![];
    for (name, options) in [
        ("base", "lr: 0.01"),
        ("momentum", "lr: 0.01, momentum: 0.5"),
        ("plain", "lr: 0.01, nesterov: false"),
        ("steps", "lr: 0.01, ns_steps: 1"),
        ("decay", "lr: 0.01, weight_decay: 1.0"),
    ] {
        let body = format!(
            "let b = model.booster(#{{ kind: \"dense\", layers: [0, 2] }}); \
             b.fit(task.train, #{{ steps: 6, batch: 4, optimizer: muon(#{{ {options} }}) }});"
        );
        let found = home.recipe(&body, name, &["-p", "data=text"]).good().losses();
        for (other, theirs) in &all {
            assert_eq!(found[0], theirs[0], "{name}: the first loss is before any step");
            assert!(apart(&found, theirs) > 1e-5, "{name} does as {other}");
        }
        all.push((name, found));
    }
    let base = &all[0].1;
    assert!(base[5] < base[0], "{base:?}");
}

#[test]
fn two_batches_of_four_are_one_of_eight() {
    let home = Home::new();
    let one = losses(&home, "one", "batch: 8, optimizer: sgd(#{ lr: 1.0 })");
    let two = losses(&home, "two", "batch: 4, accumulate: 2, optimizer: sgd(#{ lr: 1.0 })");
    assert!(apart(&one, &two) < 1e-5, "{one:?} {two:?}");
}

#[test]
fn clipping_scales_the_step_to_the_norm_given() {
    let home = Home::new();
    let clipped = fitted(&home, "clipped", "clip: 0.02, optimizer: sgd(#{ lr: 2.0 })");
    let norms: Vec<f64> =
        clipped.metrics().iter().map(|line| line["gradient_norm"].as_f64().unwrap()).collect();
    assert!(norms.iter().all(|&norm| norm > 0.04), "{norms:?}");
    let rates: Vec<f64> = norms.iter().map(|norm| 2.0 * 0.02 / (norm + 1e-6)).collect();
    let scaled = losses(&home, "scaled", &format!("optimizer: sgd(#{{ lr: {rates:?} }})"));
    assert!(apart(&clipped.losses(), &scaled) < 1e-5, "{:?} {scaled:?}", clipped.losses());
}

#[test]
fn the_penalty_is_the_decay_of_plain_descent() {
    let home = Home::new();
    let penalty = losses(&home, "penalty", "l2: 0.2, optimizer: sgd(#{ lr: 1.0 })");
    let decay = losses(&home, "decay", "optimizer: sgd(#{ lr: 1.0, weight_decay: 0.2 })");
    assert!(apart(&penalty, &decay) < 1e-6, "{penalty:?} {decay:?}");
}

#[test]
fn recomputing_changes_no_bit() {
    let home = Home::new();
    let run = |how: &str| {
        fitted(&home, how, &format!("recompute: \"{how}\", optimizer: adamw(#{{ lr: 0.05 }})"))
            .metrics()
    };
    let off = run("off");
    assert_eq!(off, run("on"));
    assert_eq!(off, run("auto"));
}

/// At learning rate 0 a loss tells which examples a step saw: the second booster sees what the
/// second half of a longer fit sees, also where an evaluation lies between.
#[test]
fn the_data_go_on_from_booster_to_booster() {
    let home = Home::new();
    let fit = |steps| {
        format!(
            "model.booster(#{{ layers: [1] }}).fit(task.train, #{{ \
             steps: {steps}, batch: 3, optimizer: sgd(#{{ lr: 0.0 }}) }});"
        )
    };
    let run = |out, body: String| home.recipe(&body, out, &["-p", "data=text"]).good().losses();
    let long = run("long", fit(12));
    assert!(apart(&long[..6], &long[6..]) > 1e-3, "the two halves cannot be told apart: {long:?}");
    assert_eq!(run("halves", format!("{} model.evaluate(task.test); {}", fit(6), fit(6))), long);
}

#[test]
fn a_loss_that_is_no_number_ends_the_run() {
    let home = Home::new();
    let fit = "b.fit(task.train, #{ steps: 6, optimizer: sgd(#{ lr: 1e30 }) });";
    let run = home.recipe(
        &format!("let b = model.booster(#{{ layers: [0, 2] }}); {fit}"),
        "run",
        &["-p", "data=text"],
    );
    assert_eq!(run.code, Some(1), "{}", run.said);
    let first = run.said.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("error: the loss became ")
            && first.ends_with(" of a booster on layers {0, 2}"),
        "{}",
        run.said
    );
    assert!(first.contains(" at step 2 ") || first.contains(" at step 3 "), "{first}");
    assert!(!run.out.join("summary.json").exists(), "a run that failed has no summary");
}

/// The last step of a fit is seen by no later loss, but by what measures the model.
#[test]
fn a_model_that_measures_no_number_is_not_passed_on() {
    let home = Home::new();
    let body = "let b = model.booster(#{ layers: [0, 2] }); b.fit(task.train, \
        #{ steps: 1, optimizer: sgd(#{ lr: 1e30 }) }); \
                model.merge(b); model.evaluate(task.test); model.save(\"model\");";
    for data in ["text", "data"] {
        let run = home.recipe(body, &format!("run-{data}"), &["-p", &format!("data={data}")]);
        assert_eq!(run.code, Some(1), "{data}: {}", run.said);
        assert!(
            run.said.starts_with("error: the model's likelihood is NaN"),
            "{data}: {}",
            run.said
        );
        assert_eq!(
            files(&run.out),
            [
                "boosters/0000.safetensors",
                "boosters/ensemble.json",
                "journal.jsonl",
                "metrics.jsonl",
                "recipe.rhai",
                "run.json"
            ]
        );
    }
}

/// The booster laid over the model, its file laid over the model in another run, and both merged in
/// part.
#[test]
fn a_booster_saved_is_the_booster() {
    let home = Home::new();
    let measure = "print(model.evaluate(task.test).nll); \
                   print(model.evaluate(task.test, #{ booster: b }).nll); model.merge(b, 0.5); \
                   print(model.evaluate(task.test).nll);";
    let made = "let targets = [\"q_proj\", \"down_proj\"]; \
                let b = model.booster(#{ layers: [0, 2], targets: targets, rank: 2, alpha: 3.0 }); \
                b.fit(task.train, #{ steps: 8, optimizer: adamw(#{ lr: 0.05 }) }); \
                b.save(\"adapter\");";
    let first = home.printed(&format!("{made} {measure}"), "first", &["-p", "data=text"]);
    let loaded = "let b = model.load_adapter(p.adapter); print(b.layers);";
    let grant = ["-p", "data=text", "-p", "adapter=first/adapter"];
    let second = home.printed(&format!("{loaded} {measure}"), "second", &grant);
    assert_eq!((second[0].as_str(), &second[1..]), ("[0, 2]", &first[..]));

    let merge = |eta: &str, out: &str| {
        let body = format!(
            "let b = model.load_adapter(p.adapter); model.merge(b, {eta}); \
             print(model.evaluate(task.test).nll);"
        );
        number(&home.printed(&body, out, &grant)[0])
    };
    let (base, laid_over) = (number(&first[0]), number(&first[1]));
    assert!(laid_over < base - 0.01, "the booster learnt nothing: {base} {laid_over}");
    close(merge("1.0", "whole"), laid_over, 1e-5);
    assert_eq!(merge("0.0", "nothing"), base);
    assert!(number(&first[2]) < base && number(&first[2]) != laid_over);
}

#[test]
fn a_booster_over_the_model_is_not_recorded_and_not_kept() {
    let home = Home::new();
    let body = "let b = model.booster(#{ layers: [1] }); b.fit(task.train, \
        #{ steps: 4, optimizer: adamw(#{ lr: 0.1 }) }); \
                let before = model.evaluate(task.test).nll; model.evaluate(task.test, \
                #{ booster: b }); \
                print(before == model.evaluate(task.test).nll); print(model.round);";
    let run = home.recipe(body, "run", &["-p", "data=text"]).good();
    assert_eq!(run.said, "true\n0\n");
    assert_eq!(run.metrics().iter().filter(|line| line.get("split").is_some()).count(), 2);
}
