//! How data were worded travels with a model: `eval` words them as the run did.

use std::process::Command;

use serde_json::Value;

use crate::harness::Home;

fn measured(home: &Home, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
    command.current_dir(home.path()).args(["eval", "--json", "--device", "cpu"]);
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn body(options: &str) -> String {
    format!(
        "let task = data::load(p.adapter, #{{ {options} }});
         let b = model.booster(#{{ layers: [0, 1], rank: 2 }});
         b.fit(task.train, #{{ steps: 6, optimizer: adamw(#{{ lr: 0.05 }}) }});
         model.merge(b);
         print(model.evaluate(task.test));
         model.save(\"tuned\");"
    )
}

#[test]
fn a_model_is_measured_as_it_was_trained() {
    let home = Home::new();
    let rows: String = (0..20)
        .map(|n| format!("what is {n},{}\n", if n % 2 == 0 { "snow" } else { "fire" }))
        .collect();
    std::fs::create_dir(home.path().join("rows")).unwrap();
    for split in ["train", "test"] {
        let file = home.path().join(format!("rows/{split}.csv"));
        std::fs::write(file, format!("ask,say\n{rows}")).unwrap();
    }
    let own = r#"template: #{
        prompt: "{{ ask }}? ", label: "say", choices: #{ snow: "snow", fire: "fire" },
    }"#;
    for (name, options, data) in [
        ("cloze", "template: \"cloze\"", "adapter=data"),
        ("none", "template: \"none\"", "adapter=data"),
        ("recipe", own, "adapter=rows"),
    ] {
        let run = home.recipe(&body(options), name, &["-p", data]).good();
        let tuned = run.json("summary.json")["tuned"].clone();
        let data = data.trim_start_matches("adapter=");
        let saved = format!("{name}/tuned");
        for model in [saved.as_str(), name] {
            let answer = measured(&home, &[model, "--data", data]);
            assert_eq!(answer["template"], name, "{answer}");
            for metric in ["accuracy", "accuracy_norm"] {
                assert_eq!(answer["metrics"][metric], tuned[metric], "{model}: {answer}");
            }
            let from = answer["template_from"].as_str().unwrap();
            assert!(from.contains(name) && from.ends_with(".json"), "{from}");
        }
        if data == "data" {
            let other = measured(&home, &[&saved, "--data", data, "--template", "alpaca"]);
            assert_eq!(
                (&other["template"], &other["template_from"]),
                (&"alpaca".into(), &Value::Null)
            );
        }
    }
}
