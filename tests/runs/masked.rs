//! A head of masked tokens: learnt from texts, measured alike by everyone, saved and read again.

use serde_json::Value;

use crate::common::tiny_bert;
use crate::harness::Home;

const BODY: &str = r#"
model.head(#{ kind: "masked_lm" });
let text = data::load(p.data, #{ max_length: 40 });
print(model.evaluate(text.train).nll);
let head = model.booster(#{ kind: "dense", head: true, embedding: true });
head.fit(text.train, #{ steps: 30, batch: 8, optimizer: adamw(#{ lr: 0.004 }) });
model.merge(head);
let b = model.booster(#{ layers: [0, 1], rank: 1, head: true });
b.fit(text.train, #{ steps: 30, batch: 8, optimizer: adamw(#{ lr: 0.004 }) });
model.merge(b);
let m = model.evaluate(text.train);
print(m.nll);
print(model.evaluate(text.test).nll);
print(m.protocol);
model.save("tuned");
"#;

fn home() -> Home {
    let home = Home::new();
    tiny_bert::write(&home.path().join("bert"));
    home
}

fn numbers(lines: &[String]) -> Vec<f64> {
    lines.iter().filter_map(|line| line.parse().ok()).collect()
}

#[test]
fn masked_tokens_are_learnt_from_texts() {
    let home = home();
    let lines = home.printed(BODY, "run", &["-p", "model=bert", "-p", "data=text"]);
    let nll = numbers(&lines);
    assert!(nll[1] < nll[0] - 1.0, "{lines:?}");
    assert_eq!(lines[3], "perplexity");
    // Another seed masks other tokens in training; what is measured stays the same.
    let again = "print(model.evaluate(data::load(p.data, #{ max_length: 40 }).test).nll);";
    for seed in ["3", "4"] {
        let model = ["-p", "model=run/tuned", "-p", "data=text", "--seed", seed];
        let measured = numbers(&home.printed(again, &format!("seed{seed}"), &model));
        assert_eq!(measured, nll[2..]);
    }
    // The pooler, which this head does not read, is where it was.
    let mut saved = std::fs::read(home.path().join("run/tuned/model.safetensors")).unwrap();
    saved.truncate(1 << 16);
    assert!(String::from_utf8_lossy(&saved).contains("bert.pooler.dense.weight"));
    let config = std::fs::read(home.path().join("run/tuned/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["architectures"], serde_json::json!(["BertForMaskedLM"]));
}

#[test]
fn what_a_masked_head_cannot_do_is_refused() {
    let home = home();
    for (data, body, want) in [
        (
            "data",
            "model.evaluate(task.test);",
            "is no plain text, of which a head of masked tokens learns",
        ),
        (
            "text",
            r#"model.evaluate(data::load(p.data, #{}).test, #{ protocol: "lm-eval" });"#,
            "is not for a head of masked tokens, which is measured by `perplexity`",
        ),
        ("text", r#"model.generate("a", #{ max_tokens: 2 });"#, "needs a language model"),
        (
            "text",
            "model.evaluate(data::load(p.data, #{ max_length: 2 }).test);",
            "leaves no room beside 2 special ones",
        ),
    ] {
        let ran = home.recipe(
            &format!("model.head(#{{ kind: \"masked_lm\" }});\n{body}"),
            "refused",
            &["-p", "model=bert", "-p", &format!("data={data}")],
        );
        assert!(ran.code == Some(2) || ran.code == Some(3), "{:?} {}", ran.code, ran.said);
        assert!(ran.said.contains(want), "{}", ran.said);
        std::fs::remove_dir_all(&ran.out).unwrap();
    }
}
