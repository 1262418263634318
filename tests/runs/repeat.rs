//! What the same seed repeats to the bit, and what options must not change.

use crate::{Home, digest};

/// Three rounds on drawn layers.
const BOOST: &str = r#"
    let s = sampler("layers");
    for round in 0..6 {
        let b = model.booster(#{ layers: s.choose(model.layers, 1) });
        b.fit(task.train, #{ steps: 2, batch: 3, optimizer: adamw(#{ lr: 1e-2 }) });
        model.merge(b);
    }
    model.evaluate(task.test);
    model.save("model");
"#;

#[test]
fn the_same_seed_gives_the_same_bits_and_another_other_layers() {
    let home = Home::make();
    let layers = |out: &str| home.metrics(out).iter().map(|l| l["layers"].to_string()).collect::<Vec<_>>();
    for (out, more) in [("a", &["--seed", "1"]), ("b", &["--seed", "1"]), ("c", &["--seed", "2"])] {
        home.good(BOOST, out, more);
    }
    assert_eq!(home.metrics("a"), home.metrics("b"));
    assert_eq!(home.summary("a"), home.summary("b"));
    let weights = |out: &str| digest(&home.at(out).join("model/model.safetensors"));
    assert_eq!(weights("a"), weights("b"));
    assert_ne!(layers("a"), layers("c"));
    assert_ne!(weights("a"), weights("c"));
    assert_ne!(home.summary("a")["weights_digest"], home.summary("c")["weights_digest"]);
}

#[test]
fn boosting_lowers_the_loss() {
    let home = Home::make();
    let body = r#"
        for round in 0..12 {
            let b = model.booster(#{ layers: [0, 1] });
            b.fit(task.train, #{ steps: 4, optimizer: adamw(#{ lr: 2e-2 }) });
            model.merge(b);
        }
    "#;
    home.good(body, "o", &[]);
    let losses = home.losses("o");
    assert!(losses[47] < 0.7 * losses[0], "{losses:?}");
}

/// One booster, fitted as `fit` says.
fn losses(home: &Home, out: &str, fit: &str) -> Vec<f64> {
    home.good(&format!("let b = model.booster(#{{ layers: [0, 1], rank: 2 }});\n{fit}"), out, &[]);
    home.losses(out)
}

fn close(a: &[f64], b: &[f64], bound: f64) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= bound * b.abs())
}

#[test]
fn options_do_what_they_say() {
    let home = Home::make();
    let plain = losses(&home, "plain", "b.fit(task.train, #{ steps: 6, batch: 4, optimizer: adamw(#{ lr: 1e-2 }) });");
    let fit = |out: &str, options: &str| losses(&home, out, &format!("b.fit(task.train, #{{ {options} }});"));
    // Recomputing changes no bit; accumulation only the order of sums.
    assert_eq!(plain, fit("recompute", "steps: 6, batch: 4, optimizer: adamw(#{ lr: 1e-2 }), recompute: `on`"));
    assert!(close(&plain, &fit("accumulate", "steps: 6, batch: 2, accumulate: 2, optimizer: adamw(#{ lr: 1e-2 })"), 1e-4));
    // What changes the step changes the losses from the second on.
    for (out, options) in [
        ("lr", "steps: 6, batch: 4, optimizer: adamw(#{ lr: [1e-2, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3] })"),
        ("l2", "steps: 6, batch: 4, optimizer: adamw(#{ lr: 1e-2 }), l2: 1.0"),
        ("decay", "steps: 6, batch: 4, optimizer: adamw(#{ lr: 1e-2, weight_decay: 5.0 })"),
        ("sgd", "steps: 6, batch: 4, optimizer: sgd(#{ lr: 0.1, momentum: 0.9 })"),
    ] {
        let other = fit(out, options);
        assert_eq!(other[0], plain[0], "{out}");
        assert_ne!(other[2..], plain[2..], "{out}");
    }
    // SGD follows the gradient's length, which clipping bounds.
    let free = fit("free", "steps: 3, batch: 4, optimizer: sgd(#{ lr: 0.1 })");
    let clipped = fit("clip", "steps: 3, batch: 4, optimizer: sgd(#{ lr: 0.1 }), clip: 1e-3");
    assert_eq!(free[0], clipped[0]);
    assert!(free[1] != clipped[1] && home.metrics("clip")[0]["gradient_norm"].as_f64().unwrap() > 1e-3);
}

#[test]
fn the_data_go_on_from_booster_to_booster() {
    let home = Home::make();
    // A rate of 0 leaves the model as it is, so that the losses tell which examples were fed.
    let fit = |steps: usize| format!("b.fit(task.train, #{{ steps: {steps}, batch: 2, optimizer: sgd(#{{ lr: 0 }}) }});");
    let whole = losses(&home, "whole", &fit(6));
    let halves = losses(&home, "halves", &format!("{0}\nb = model.booster(#{{ layers: [0] }});\n{0}", fit(3)));
    assert!(close(&whole, &halves, 1e-6), "{whole:?} and {halves:?}");
    assert_ne!(whole[..3], whole[3..]);
}

#[test]
fn bf16_storage_trains_and_repeats() {
    let home = Home::make();
    for out in ["a", "b"] {
        home.good(BOOST, out, &["--dtype", "bf16"]);
    }
    home.good(BOOST, "f32", &[]);
    assert_eq!(home.metrics("a"), home.metrics("b"));
    let (single, half) = (home.losses("f32"), home.losses("a"));
    assert!(close(&single, &half, 0.05) && single != half, "{single:?} and {half:?}");
}
