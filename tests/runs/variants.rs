//! Models of the other architectures and storage types: they load, learn, and are saved as what
//! they are.

use safetensors::tensor::Dtype;
use serde_json::json;

use crate::common::tiny::{self, Tiny};
use crate::harness::{Home, Ran, number};

/// Every variant by name.
pub fn all() -> Vec<(&'static str, Tiny)> {
    let tiny = Tiny::default;
    vec![
        ("llama", tiny()),
        ("sharded", Tiny { sharded: true, ..tiny() }),
        ("tied", Tiny { tied: true, ..tiny() }),
        ("f16", Tiny { dtype: Dtype::F16, ..tiny() }),
        ("bf16", Tiny { dtype: Dtype::BF16, ..tiny() }),
        ("llama3 rope", Tiny { config: tiny::llama3_rope(), ..tiny() }),
        (
            "linear rope",
            Tiny {
                config: json!({ "rope_scaling": { "rope_type": "linear", "factor": 4.0 } }),
                ..tiny()
            },
        ),
        (
            "mistral",
            Tiny { model_type: "mistral", config: json!({ "sliding_window": 8 }), ..tiny() },
        ),
        ("qwen2", Tiny { model_type: "qwen2", tied: true, ..tiny() }),
        ("qwen3", Tiny { model_type: "qwen3", layers: 2, ..tiny() }),
    ]
}

/// Trains a little; prints the likelihood before, the first and the last loss, the likelihood
/// after.
pub const BOOST: &str = "
print(model.evaluate(task.test).nll);
let b = model.booster(#{ layers: model.layers });
let fit = b.fit(task.train, #{ steps: 12, optimizer: adamw(#{ lr: 0.03 }) });
print(fit.first_loss); print(fit.last_loss);
model.merge(b);
print(model.evaluate(task.test).nll);
model.save(\"model\");
";

/// Boosts the model of `home`, checks that it learnt, and that its saved folder measures the same.
pub fn boost(home: &Home, more: &[&str]) -> (Ran, Vec<f64>) {
    let run = home.recipe(BOOST, "run", &[&["-p", "data=text"], more].concat()).good();
    let printed: Vec<f64> = run.said.lines().map(number).collect();
    let [before, first, last, after] = printed[..] else { panic!("{}", run.said) };
    assert!(last < first - 0.1 && after < before, "{printed:?}");
    let saved = [&["-p", "data=text", "-p", "model=run/model"], more].concat();
    let again = home.printed("print(model.evaluate(task.test).nll);", "again", &saved);
    assert_eq!(number(&again[0]), after);
    (run, printed)
}

#[test]
fn all_load_learn_and_are_saved() {
    let mut found: Vec<(&str, f64)> = vec![];
    for (name, tiny) in all() {
        let home = Home::with(&tiny);
        let (run, printed) = boost(&home, &[]);
        found.push((name, printed[0]));
        let (config, wanted) = (run.json("model/config.json"), tiny.config());
        for key in wanted.as_object().unwrap().keys().filter(|key| *key != "torch_dtype") {
            assert_eq!(config[key], wanted[key], "{name}: {key}");
        }
        assert_eq!(config["torch_dtype"], "float32", "{name}");
    }
    let nll = |name: &str| found.iter().find(|(n, _)| *n == name).unwrap().1;
    assert_eq!(nll("sharded"), nll("llama"));
    for near in ["f16", "bf16"] {
        assert!(
            nll(near) != nll("llama") && (nll(near) - nll("llama")).abs() < 0.05,
            "{near}: {}",
            nll(near)
        );
    }
    for other in ["tied", "llama3 rope", "linear rope", "mistral", "qwen2", "qwen3"] {
        assert!(
            (nll(other) - nll("llama")).abs() > 1e-4,
            "{other} measures as plain Llama: {}",
            nll(other)
        );
    }
}

#[test]
fn weights_kept_in_16_bits_learn_and_are_saved_so() {
    for (dtype, kept, name) in [
        (Dtype::F32, "bf16", "bfloat16"),
        (Dtype::BF16, "bf16", "bfloat16"),
        (Dtype::F16, "f16", "float16"),
    ] {
        let home = Home::with(&Tiny { dtype, ..Tiny::default() });
        let (run, printed) = boost(&home, &["--dtype", kept]);
        assert!(printed.iter().all(|x| x.is_finite()));
        assert_eq!(run.json("model/config.json")["torch_dtype"], name);
        let bytes = run.bytes("model/model.safetensors");
        let saved = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert!(
            saved.tensors().iter().all(|(_, tensor)| tensor.dtype()
                == if kept == "f16" { Dtype::F16 } else { Dtype::BF16 })
        );
        assert_eq!(run.json("run.json")["dtype"], kept);
    }
}
