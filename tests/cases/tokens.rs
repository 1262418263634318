//! Prompt and answer as one text: training and scoring under tokenizers that treat spaces in
//! several ways.

use std::path::Path;

use serde_json::Value;

use crate::harness::{case, eval, made, recipe};

const ONE_TEXT: &str = "prompt and answer tokenised as one text: ";

fn accuracies(answer: &Value) -> [f64; 2] {
    ["accuracy", "accuracy_norm"].map(|name| answer["metrics"][name].as_f64().unwrap())
}

#[test]
fn a_choice_follows_its_prompt_under_sentence_piece() {
    let Some(folder) = case("silent-sentencepiece-continuation") else { return };
    let ran =
        eval(&folder, "model", "items.json", &["--template", "cloze", "--protocol", "lm-eval"]);
    assert_eq!(accuracies(&ran.json())[1], 0.2);
    ran.says(&[&format!("{ONE_TEXT}80")]);
    let ran = eval(&folder, "model", "pc.jsonl", &["--template", "none"]);
    ran.has_nll(6.27971);
    assert_eq!(ran.json()["metrics"]["tokens"], 10);
    ran.says(&[&format!("{ONE_TEXT}3")]);
}

#[test]
fn choices_and_answers_follow_their_prompts_under_every_tokenizer() {
    let Some((home, expected)) = made("tokens.py") else { return };
    for model in ["legacy", "first", "bytes"] {
        let want = &expected[model];
        for template in ["cloze", "alpaca", "llm-adapters"] {
            let ran = eval(
                home.path(),
                model,
                "items.json",
                &["--template", template, "--protocol", "lm-eval", "--max-length", "512"],
            );
            assert_eq!(
                serde_json::json!(accuracies(&ran.json())),
                want[template],
                "{model} {template}"
            );
        }
        assert_eq!(own_template(home.path(), model), want["own"], "{model}");
        let training = ["--protocol", "perplexity", "--max-length", "512"];
        for (data, template, name) in
            [("pairs.jsonl", "none", "pairs"), ("items.json", "alpaca", "trained")]
        {
            let ran = eval(
                home.path(),
                model,
                data,
                &[&training[..], &["--template", template]].concat(),
            );
            ran.has_nll(want[name][0].as_f64().unwrap());
            assert_eq!(ran.json()["metrics"]["tokens"], want[name][1], "{model} {name}");
            // The byte-level tokenizer makes the same of both apart, but for three that join over
            // the border.
            let joined = match (model, name) {
                ("bytes", "pairs") => {
                    Some("3; trailing spaces of the prompt count with the answer: 2")
                }
                ("bytes", _) => None,
                ("first", "pairs") => Some("6; trailing spaces"),
                (_, "pairs") => Some("8; trailing spaces"),
                _ => Some("16"),
            };
            match joined {
                Some(words) => drop(ran.says(&[&format!("{ONE_TEXT}{words}")])),
                None => assert!(!ran.stderr.contains(ONE_TEXT), "{}", ran.stderr),
            }
        }
    }
}

/// Accuracies under a template of the recipe's own.
fn own_template(home: &Path, model: &str) -> Value {
    let script = r#"
        let p = params(#{ model: "", data: "" });
        let choices = #{ "0": "{{ a }}", "1": "{{ b }}" };
        let template = #{ prompt: "{{ q }}", label: "label", choices: choices };
        let model = model::load(p.model);
        let task = data::load(p.data, #{ template: template });
        for again in 0..2 {
            let found = model.evaluate(task.test);
            print(`FOUND[${found.accuracy},${found.accuracy_norm}]`);
        }
    "#;
    let data = home.join(format!("data-{model}"));
    std::fs::create_dir(&data).unwrap();
    std::fs::copy(home.join("own.jsonl"), data.join("test.jsonl")).unwrap();
    std::fs::copy(home.join("own.jsonl"), data.join("train.jsonl")).unwrap();
    let path = home.join("own.rhai");
    std::fs::write(&path, script).unwrap();
    let (model, data) = (home.join(model), data.to_str().unwrap().to_owned());
    let ran = recipe(&path, &[("model", model.to_str().unwrap()), ("data", &data)], &[]);
    let found = ran.stderr.split("FOUND").nth(1).unwrap_or_else(|| panic!("{}", ran.stderr));
    assert_eq!(ran.stderr.matches(ONE_TEXT).count(), 1, "it is said once: {}", ran.stderr);
    serde_json::from_str(found.split_inclusive(']').next().unwrap()).unwrap()
}
