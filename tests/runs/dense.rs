//! Dense boosters in recipes: what LISA does, full fine-tuning, and what is refused.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::SafeTensors;

use crate::common::tiny::Tiny;
use crate::harness::{HEAD, Home, Ran, number};

/// LISA's way: embedding, norms and head always, one layer in turn.
const LISA: &str = "
print(model.evaluate(task.test).nll);
for round in 0..3 {
    let b = model.booster(#{ kind: \"dense\", layers: [1], embedding: true, norms: true HEAD });
    print(b.layers); print(b.parameters);
    let optimizer = adamw(#{ lr: 0.01, weight_decay: 0.01 });
    b.fit(task.train, #{ steps: 4, batch: 4, optimizer: optimizer, clip: 1.0 });
    print(model.evaluate(task.test, #{ booster: b }).nll);
    model.merge(b);
    print(model.evaluate(task.test).nll);
}
model.save(\"model\");
";

fn tensors(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    file.tensors().into_iter().map(|(name, t)| (name, t.data().to_vec())).collect()
}

#[test]
fn lisa_learns_and_leaves_other_layers_alone() {
    for (tied, head) in [(true, ""), (false, ", head: true")] {
        for more in [&["-p", "data=text"][..], &["-p", "data=text", "--dtype", "bf16"]] {
            let home = Home::with(&Tiny { tied, ..Tiny::default() });
            let run = home.recipe(&LISA.replace("HEAD", head), "run", more).good();
            let lines: Vec<&str> = run.said.lines().collect();
            assert_eq!(lines.len(), 1 + 3 * 4, "{}", run.said);
            for round in lines[1..].chunks(4) {
                assert_eq!(round[0], "[1]");
                // A merge adds what the booster's file holds, so in f32 each weight is that of the
                // booster to within a rounding; in 16 bits the sum is rounded, where the booster
                // computes with its own f32 numbers.
                let (over, merged) = (number(round[2]), number(round[3]));
                assert!(
                    (over - merged).abs() < if more.len() == 2 { 1e-5 } else { 0.02 },
                    "{over} {merged}"
                );
            }
            assert!(number(lines[12]) < number(lines[0]) - 0.3, "{}", run.said);
            if more.len() > 2 {
                continue;
            }
            let (before, after) = (
                std::fs::read(home.path().join("model/model.safetensors")).unwrap(),
                run.bytes("model/model.safetensors"),
            );
            let after = tensors(&after);
            for (name, bytes) in tensors(&before) {
                let untouched =
                    name.starts_with("model.layers.0.") || name.starts_with("model.layers.2.");
                assert_eq!(after[&name] == bytes, untouched, "{name}");
            }
        }
    }
}

/// All of the network, by boosters of accumulated batches, twice: the same bytes.
#[test]
fn full_fine_tuning_is_reproducible() {
    let home = Home::new();
    let body = "let b = model.booster(#{ kind: \"dense\", layers: model.layers, \
                    embedding: true, norms: true, head: true }); \
                print(b.parameters == model.parameters); \
                let fit = b.fit(task.train, \
                #{ steps: 6, batch: 2, accumulate: 2, optimizer: adamw(#{ lr: 0.01 }) }); \
                print(fit.last_loss < fit.first_loss); model.merge(b); model.save(\"model\");";
    let run =
        |out: &str| -> Ran { home.file(Path::new("full.rhai"), out, &["-p", "data=text"]).good() };
    std::fs::write(home.path().join("full.rhai"), format!("{HEAD}{body}")).unwrap();
    let (one, two) = (run("one"), run("two"));
    assert_eq!(one.said, "true\ntrue\n");
    assert_eq!(one.fingerprint(), two.fingerprint());
    let changed = tensors(&one.bytes("model/model.safetensors"));
    let before = std::fs::read(home.path().join("model/model.safetensors")).unwrap();
    assert!(
        tensors(&before).iter().all(|(name, bytes)| changed[name] != *bytes),
        "every tensor moved"
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    let home = Home::with(&Tiny { tied: true, ..Tiny::default() });
    for (name, body, message, hint) in [
        (
            "rank",
            "model.booster(#{ kind: \"dense\", layers: [0], rank: 1 })",
            "option `rank` is not for boosters of kind `dense`",
            "a dense booster has no factors",
        ),
        (
            "init",
            "model.booster(#{ kind: \"dense\", layers: [0], init: \"gaussian\" })",
            "option `init` is not for boosters of kind `dense`",
            "no factors",
        ),
        (
            "norms",
            "model.booster(#{ layers: [0], norms: true })",
            "option `norms` is not for boosters of kind `low_rank`",
            "add `kind: \"dense\"`",
        ),
        (
            "kind",
            "model.booster(#{ layers: [0], kind: \"dens\" })",
            "unknown kind `dens`; did you mean `dense`?",
            "one of low_rank, dense",
        ),
        (
            "head",
            "model.booster(#{ kind: \"dense\", head: true })",
            "the model has no head of its own: its embedding serves as head",
            "`embedding: true`",
        ),
        (
            "nothing",
            "model.booster(#{ kind: \"dense\" })",
            "a dense booster has nothing to train",
            "name `layers`",
        ),
        (
            "save",
            "model.booster(#{ kind: \"dense\", layers: [0] }).save(\"a\")",
            "a dense booster is no adapter; save the model after merging",
            "model.merge(booster)",
        ),
    ] {
        let run = home.recipe(&format!("{body};"), name, &[]);
        assert_eq!(run.code, Some(2), "{name}: {}", run.said);
        assert_eq!(run.said.lines().next(), Some(format!("error: {message}").as_str()), "{name}");
        assert!(run.said.contains(hint), "{name}: {}", run.said);
    }
}
