//! What a run keeps of what it measured: each number with its task, points of a sweep, predictions
//! item by item, texts on the way, and a word when training diverges.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Home, Ran, copy};

/// The objects of a file, one a line.
fn lines(text: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A recipe of this repository on what is embedded.
fn embedded(home: &Home, name: &str, out: &str, parameters: &[&str]) -> Ran {
    let recipe = format!("{}/recipes/{name}.rhai", env!("CARGO_MANIFEST_DIR"));
    let given = parameters.iter().flat_map(|parameter| ["-p", parameter]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
    command.current_dir(home.path()).args([recipe.as_str(), "--out", out]).args(given);
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    Ran { code: output.status.code(), said, out: home.path().join(out) }.good()
}

#[test]
fn each_number_has_its_task_where_sets_are_measured_in_a_loop() {
    let home = Home::new();
    copy(&home.path().join("data"), &home.path().join("other"));
    let body = "for name in [p.data, p.adapter] { \
                let task = data::load(name); \
                model.evaluate(task.test, #{ items: if name == p.data { 3 } else { 2 } }); }";
    let run = home.recipe(body, "run", &["-p", "adapter=other"]).good();
    let summary = run.json("summary.json");
    let told: Vec<(&str, u64)> = summary["tests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| (t["task"].as_str().unwrap(), t["tuned"]["items"].as_u64().unwrap()))
        .collect();
    assert_eq!(told, [("data", 3), ("other", 2)]);
    assert_eq!(summary["tuned"]["task"], "other");
    // One set is no list of sets, and has its name all the same.
    let one = home.recipe("model.evaluate(task.test);", "one", &[]).good().json("summary.json");
    assert_eq!((one.get("tests"), &one["tuned"]["task"]), (None, &json!("data")));
}

#[test]
fn predictions_are_those_that_the_metrics_are_of() {
    let home = Home::new();
    let body = "let b = model.booster(#{ layers: [0] }); \
                b.fit(task.train, #{ steps: 2, optimizer: adamw(#{ lr: 0.03 }) }); \
                model.evaluate(task.test, #{ predictions: true }); model.merge(b); \
                model.evaluate(task.test); \
                model.evaluate(task.test, #{ predictions: true }); \
                model.evaluate(task.test, #{ protocol: \"perplexity\", predictions: true }); \
                model.evaluate(task.test, #{ protocol: \"llm-adapters\", predictions: true });";
    let run = home.recipe(body, "run", &[]).good();
    let all = lines(&run.bytes("predictions.jsonl"));
    let measured: Vec<Value> =
        run.metrics().into_iter().filter(|line| line.get("split").is_some()).collect();
    let items = measured[0]["metrics"]["items"].as_u64().unwrap() as usize;
    assert_eq!(all.len(), 4 * items);
    for (i, evaluation) in [0, 2, 4].into_iter().enumerate() {
        // The perplexity of the third stands between.
        let from = if i == 2 { 3 * items } else { i * items };
        let own = &all[from..from + items];
        let right = own.iter().filter(|line| line["correct"] == json!(true)).count();
        let metrics = &measured[evaluation]["metrics"];
        let accuracy = metrics["accuracy"].as_f64().unwrap();
        assert!((accuracy - right as f64 / items as f64).abs() < 1e-12, "{own:?}");
        for line in own {
            assert_eq!((&line["split"], &line["task"]), (&json!("test"), &json!("data")));
            assert_eq!(line["round"], measured[evaluation]["round"]);
            let choices = line["choices"].as_array().unwrap();
            assert!(choices.contains(&line["answer"]) && line["prompt"].is_string());
            if i < 2 {
                let scores: Vec<f64> = line["loglikelihoods"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|score| score.as_f64().unwrap())
                    .collect();
                let top =
                    (0..scores.len()).reduce(|a, b| if scores[b] > scores[a] { b } else { a });
                assert_eq!(choices[top.unwrap()], line["prediction"]);
            } else {
                assert!(line["text"].is_string(), "{line}");
            }
        }
    }
    // Means of items are the mean of the set.
    let nll = &all[2 * items..3 * items];
    let (sum, tokens) = nll.iter().fold((0.0, 0.0), |(sum, tokens), line| {
        let n = line["tokens"].as_f64().unwrap();
        (sum + line["nll"].as_f64().unwrap() * n, tokens + n)
    });
    assert!((sum / tokens - measured[3]["metrics"]["nll"].as_f64().unwrap()).abs() < 1e-9);

    // `eval` writes the same of the saved model.
    let eval = |file: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xgbrun"));
        let arguments = ["eval", "model", "--data", "data", "--predictions", file];
        command.current_dir(home.path()).args(arguments).output().unwrap()
    };
    assert_eq!(eval("said.jsonl").status.code(), Some(0));
    let said = lines(&fs::read(home.path().join("said.jsonl")).unwrap());
    assert_eq!(said.len(), items);
    for (said, kept) in said.iter().zip(&all) {
        for key in ["task", "item", "choices", "prompt", "answer"] {
            assert_eq!(said[key], kept[key]);
        }
    }
    for (file, wanted) in [("data", "it is a folder"), ("no/x", "there is no folder `no`")] {
        let output = eval(file);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.contains(wanted)), (Some(2), true), "{error}");
    }
    let refused = "let b = model.booster(#{ layers: [0] }); \
                   model.evaluate(task.test, #{ booster: b, predictions: true });";
    let refused = home.recipe(refused, "refused", &[]);
    let wanted = "option `predictions` of `evaluate` must be left out where a `booster` is laid";
    assert_eq!((refused.code, refused.said.contains(wanted)), (Some(2), true), "{}", refused.said);
}

#[test]
fn a_head_tells_its_logits_and_probabilities() {
    let home = Home::new();
    let body = "let m = model::load(\"builtin:micro\"); \
                m.head(#{ labels: [\"no\", \"yes\"] }); \
                let rows = data::load(p.adapter, #{ template: \
                #{ prompt: \"{{ text }}\", label: \"label\", choices: [\"no\", \"yes\"] } }); \
                m.evaluate(rows.test, #{ predictions: true });";
    fs::create_dir_all(home.path().join("rows")).unwrap();
    let row = |text: &str, label: &str| format!("{}\n", json!({ "text": text, "label": label }));
    let rows = [row("the owl eats", "yes"), row("the cat sleeps", "no")].concat();
    for split in ["train", "test"] {
        fs::write(home.path().join(format!("rows/{split}.jsonl")), &rows).unwrap();
    }
    let run = home.recipe(body, "run", &["-p", "adapter=rows"]).good();
    let all = lines(&run.bytes("predictions.jsonl"));
    assert_eq!(all.len(), 2);
    for (line, answer) in all.iter().zip(["yes", "no"]) {
        let shares = line["probabilities"].as_array().unwrap();
        let sum: f64 = shares.iter().map(|share| share.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-12 && line["logits"].as_array().unwrap().len() == 2);
        assert_eq!((&line["answer"], &line["choices"]), (&json!(answer), &json!(["no", "yes"])));
    }
}

#[test]
fn points_of_a_sweep_and_texts_on_the_way_are_kept() {
    let home = Home::new();
    let body = r#"
        import "std/grid" as grid;
        let rows = grid::sweep(#{ lr: [1, 2], seed: [0, 1] }, |point| {
            model.evaluate(task.validation);
            point.lr + point.seed * 0.5
        }, #{ direction: "min" });
        grid::table([#{ way: "a", score: 1 }], ["way", "score"]);
        let texts = model.sample(["a b"], #{ max_tokens: 3 });
        print(texts[0] == model.generate("a b", #{ max_tokens: 3 }));
    "#;
    let run = home.recipe(body, "run", &[]).good();
    let summary = run.json("summary.json");
    let deviation = 0.125f64.sqrt();
    let group = |lr: u64, results: [f64; 2], mean: f64| {
        json!({
            "settings": { "lr": lr }, "results": results, "mean": mean, "deviation": deviation,
        })
    };
    let mut points = [group(1, [1.0, 1.5], 1.25), group(2, [2.0, 2.5], 2.25)];
    points[0]["best"] = json!(true);
    assert_eq!(summary["points"], json!(points));
    assert_eq!(summary["rows"], json!([{ "score": 1, "way": "a" }]));
    let samples: Vec<Value> =
        run.metrics().into_iter().filter(|line| line.get("sample").is_some()).collect();
    // What `generate` gives is the recipe's own.
    assert_eq!(samples.len(), 1);
    assert_eq!(samples[0]["sample"]["prompt"], "a b");
    assert!(samples[0]["sample"]["text"].is_string() && run.said.ends_with("true\n"));
    let report = String::from_utf8(run.bytes("report.html")).unwrap();
    for heading in ["Points of the sweep", "Result by point", "Results", "Samples"] {
        assert!(report.contains(&format!("<h2>{heading}</h2>")), "{heading}");
    }
    let wrong = "import \"std/grid\" as grid; \
                 grid::sweep(#{ a: [1] }, |point| 1, #{ direction: \"down\" });";
    let wrong = home.recipe(wrong, "wrong", &[]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.said);
    assert!(wrong.said.contains("option `direction` of `sweep::begin` must be"), "{}", wrong.said);
}

#[test]
fn a_run_that_diverges_says_so_and_a_good_one_does_not() {
    let home = Home::new();
    let short = ["rounds=6", "items=5"];
    let wild = embedded(&home, "commonsense", "wild", &[&short[..], &["lr=5"]].concat());
    let said = "training diverges in round 0: the loss was";
    // When it is seen; the result says it again, on standard output.
    assert_eq!(wild.said.matches(said).count(), 1, "{}", wild.said);
    let warnings = wild.json("summary.json")["warnings"].clone();
    assert!(warnings[0].as_str().unwrap().starts_with(said), "{warnings}");
    let report = String::from_utf8(wild.bytes("report.html")).unwrap();
    assert!(report.contains("<p class=\"notice\">training diverges in round 0"));
    let good = embedded(&home, "commonsense", "good", &short);
    assert_eq!(good.json("summary.json").get("warnings"), None);
    assert!(!good.said.contains("diverges") && !good.said.contains("in a row"), "{}", good.said);
}
