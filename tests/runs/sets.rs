//! Sets that a recipe makes: several tasks, mixtures, parts, rows on disk, a template of its own,
//! and a look at them.

use std::fs;

use serde_json::json;

use crate::common::tiny;
use crate::harness::Home;

/// Two tasks of unlike size in `tasks/`, and a table in `table/`.
fn home() -> Home {
    let home = Home::new();
    let at = |name: &str| home.path().join(name);
    tiny::write_task(&at("tasks/one"));
    tiny::write_task(&at("tasks/two"));
    fs::remove_file(at("tasks/two/train.json")).unwrap();
    fs::create_dir_all(at("table")).unwrap();
    let row = |i: usize| {
        format!("{i}\tthe number {i} is even\t{}\n", if i.is_multiple_of(2) { "yes" } else { "no" })
    };
    let rows = |range: std::ops::Range<usize>| {
        format!("index\tsentence\tlabel\n{}", range.map(row).collect::<String>())
    };
    fs::write(at("table/train.tsv"), rows(0..40)).unwrap();
    fs::write(at("table/dev.tsv"), rows(40..52)).unwrap();
    home
}

const TABLE: &str = r#"let options = #{ splits: #{ train: "train.tsv", test: "dev.tsv" },
    template: #{
        prompt: "{{ sentence }}. True?", label: "label", choices: #{ yes: " yes", no: " no" },
    } };
"#;

#[test]
fn several_tasks_are_one_set_and_their_average() {
    let home = home();
    let body = r#"print(task.tasks); print(task.train.len); print(task.test.len);
let m = model.evaluate(task.test);
print(m.tasks.one.accuracy); print(m.tasks.two.accuracy); print(m.accuracy); print(m.items);
model.booster(#{ layers: [1] }).fit(task.train, #{ steps: 1, optimizer: sgd(#{ lr: 0.0 }) });"#;
    let lines = home.printed(body, "run", &["-p", "data=tasks"]);
    // Three of thirty are held out; only one task has something to train on.
    assert_eq!(lines[..3], ["[\"one\", \"two\"]", "27", "12"]);
    let number = |i: usize| lines[i].parse::<f64>().unwrap();
    assert_eq!((number(3) + number(4)) / 2.0, number(5));
    assert_eq!(lines[6], "12");
}

#[test]
fn parts_are_seeded_and_mixtures_keep_their_shares() {
    let home = home();
    let body = r#"let a = task.train.sample(5); let b = task.train.take(4);
print(a.len); print(b.len); print(task.train.shuffle().len);
a.show(model, 0);
let mixed = data::mix([a, b], [3, 1]);
let booster = model.booster(#{ layers: [1] });
let r = booster.fit(mixed, #{ steps: 2, batch: 4, optimizer: sgd(#{ lr: 0.0 }) });
print(r.first_loss);"#;
    let [first, again, other] = [("a", "7"), ("b", "7"), ("c", "8")]
        .map(|(out, seed)| home.printed(body, out, &["-p", "data=data", "--seed", seed]));
    assert_eq!(first[..3], ["5", "4", "27"]);
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[test]
fn a_recipes_own_template_words_rows_and_is_saved() {
    let home = home();
    let body = format!(
        r#"{TABLE}let task = data::load(p.data, options);
task.train.show(model, 1);
let m = model.evaluate(task.test);
print(`${{m.template}} ${{m.items}} ${{m.majority}}`);
model.booster(#{{ layers: [1] }}).fit(task.train, #{{ steps: 1, optimizer: sgd(#{{ lr: 0.0 }}) }});
model.save("saved");"#
    );
    let recipe = home.path().join("own.rhai");
    fs::write(
        &recipe,
        format!(
            "let p = params(#{{ model: \"\", data: \"\" }});\n\
             let model = model::load(p.model);\n{body}"
        ),
    )
    .unwrap();
    let run = home.file(&recipe, "own", &["-p", "data=table"]).good();
    for part in ["`table/train.tsv` line ", "True?", "⟦", "✓ \""] {
        assert!(run.said.contains(part), "{part} in {}", run.said);
    }
    assert!(run.said.ends_with("recipe 12 0.5\n"), "{}", run.said);
    let kept = run.json("saved/template.json");
    assert_eq!(kept["name"], json!("recipe"));
    assert_eq!(
        kept["text"],
        json!({
            "prompt": "{{ sentence }}. True?", "choices.no": " no", "choices.yes": " yes",
            "label": "label",
        })
    );
}

#[test]
fn templates_of_a_mixture_are_all_saved() {
    let home = home();
    let body = r#"let a = data::load(p.data, #{ template: "alpaca" }).train;
let b = data::load(p.data, #{ template: "none" }).train;
let mixed = data::mix([a, b], [1, 1]);
let booster = model.booster(#{ layers: [1] });
booster.fit(mixed, #{ steps: 1, optimizer: sgd(#{ lr: 0.0 }) }); model.save("two");
booster.fit(a, #{ steps: 1, optimizer: sgd(#{ lr: 0.0 }) }); model.save("one");"#;
    let run = home.recipe(body, "run", &["-p", "data=data"]).good();
    assert_eq!(run.json("one/template.json")["name"], json!("alpaca"));
    let names: Vec<_> = run.json("two/template.json")["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["name"].clone())
        .collect();
    assert_eq!(names, ["alpaca", "none"]);
}

#[test]
fn a_measure_of_rows_on_disk_reads_only_what_is_asked_for() {
    let home = home();
    let rows: String =
        (0..20).map(|i| format!("{{\"text\": \"the number {i} is here\"}}\n")).collect();
    fs::write(home.path().join("lines.jsonl"), rows + "broken\n").unwrap();
    let body = r#"let s = data::load(p.data, #{ stream: true }).train; print(s.len);
print(model.evaluate(s, #{ items: 3 }).tokens); print(model.evaluate(s.take(3)).tokens);
model.evaluate(s);"#;
    let recipe = home.path().join("part.rhai");
    fs::write(
        &recipe,
        format!(
            "let p = params(#{{ model: \"\", data: \"\" }}); \
             let model = model::load(p.model);\n{body}"
        ),
    )
    .unwrap();
    let run = home.file(&recipe, "part", &["-p", "data=lines.jsonl"]);
    let lines: Vec<&str> = run.said.lines().collect();
    assert_eq!((lines[0], lines[1] == lines[2], run.code), ("21", true, Some(3)), "{}", run.said);
    assert!(
        lines[3].starts_with("error: `lines.jsonl` line 21 column 1: not valid JSON"),
        "{}",
        run.said
    );
}

/// Each set of the recipe, from its own files, on the tiny model.
#[test]
fn the_recipes_read_their_sets() {
    let home = home();
    let recipe =
        |name: &str| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(name);
    for (set, folder, metric) in [
        ("sst2", "SST-2", "f1"),
        ("rte", "RTE", "matthews"),
        ("sick", "SICK", "accuracy"),
        ("sick_relatedness", "SICK", "pearson"),
    ] {
        let Some(data) = crate::common::shared(&format!("data/glue/{folder}")) else { return };
        let (set, data) = (format!("set={set}"), format!("data={}", data.display()));
        let some = [
            "-p", &set, "-p", &data, "-p", "rounds=1", "-p", "steps=1", "-p", "layers=1", "-p",
            "items=12", "-p", "rows=40",
        ];
        let summary = home.file(&recipe("classify.rhai"), &set, &some).good().json("summary.json");
        assert!(
            summary["tuned"][metric].is_number() && summary["base"][metric].is_number(),
            "{set}: {summary}"
        );
        assert_eq!(summary["tuned"]["template"], json!("recipe"));
    }
    let some =
        ["-p", "data=text", "-p", "rounds=2", "-p", "steps=1", "-p", "layers=1", "-p", "length=32"];
    let run = home.file(&recipe("language_model.rhai"), "text-run", &some).good();
    let measured: Vec<_> =
        run.metrics().into_iter().filter(|line| line.get("split").is_some()).collect();
    assert_eq!(measured.len(), 2);
    assert!(
        measured.iter().all(|m| m["metrics"]["protocol"] == json!("perplexity")),
        "{measured:?}"
    );
    assert!(run.said.contains("before: ") && run.said.contains("after: "), "{}", run.said);
}

#[test]
fn rows_on_disk_train_as_rows_in_memory() {
    let home = home();
    // The same rows, no validation held out of either.
    fs::copy(home.path().join("table/dev.tsv"), home.path().join("table/validation.tsv")).unwrap();
    let body = |stream: bool| {
        format!(
            r#"{TABLE}options.splits.validation = "validation.tsv"; options.stream = {stream};
let p = params(#{{ model: "", data: "" }});
let model = model::load(p.model); let task = data::load(p.data, options);
print(task.train.len);
let booster = model.booster(#{{ layers: [1] }});
let r = booster.fit(task.train, #{{ steps: 9, batch: 7, optimizer: adamw(#{{ lr: 0.01 }}) }});
print(r.last_loss); print(model.evaluate(task.test).accuracy); print(task.train.sample(3).len);"#
        )
    };
    let lines = [false, true].map(|stream| {
        let recipe = home.path().join(format!("{stream}.rhai"));
        fs::write(&recipe, body(stream)).unwrap();
        home.file(&recipe, &format!("out-{stream}"), &["-p", "data=table"]).lines()
    });
    assert_eq!(lines[0], lines[1]);
    assert_eq!((lines[0][0].as_str(), lines[0][3].as_str()), ("40", "3"));
    let digests = ["false", "true"].map(|out| {
        let manifest: serde_json::Value = serde_json::from_slice(
            &fs::read(home.path().join(format!("out-{out}/run.json"))).unwrap(),
        )
        .unwrap();
        manifest["digests"].clone()
    });
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn figures_count_labels_and_duplicates() {
    let home = home();
    let text = fs::read_to_string(home.path().join("table/train.tsv")).unwrap();
    let dev = fs::read_to_string(home.path().join("table/dev.tsv")).unwrap();
    // A row of train stands in dev too, and one of train twice.
    fs::write(home.path().join("table/dev.tsv"), format!("{dev}99\tthe number 3 is even\tno\n"))
        .unwrap();
    fs::write(
        home.path().join("table/train.tsv"),
        format!("{text}98\tthe number 4 is even\tyes\n"),
    )
    .unwrap();
    let recipe = home.path().join("stats.rhai");
    let body = format!(
        "{TABLE}let p = params(#{{ model: \"\", data: \"\" }}); let model = model::load(p.model);\n\
         options.splits.validation = \"dev.tsv\"; options.splits.remove(\"test\");\n\
         let s = data::load(p.data, options).stats(model);\n\
         print(\"---\"); print(s.table.train.labels.to_json()); \
         print(s.table.validation.duplicates.to_json()); print(s.table.train.duplicates.within);"
    );
    fs::write(&recipe, body).unwrap();
    let said = home.file(&recipe, "stats", &["-p", "data=table"]).good().said;
    let (_, lines) = said.split_once("---\n").unwrap();
    assert_eq!(
        lines.lines().collect::<Vec<_>>(),
        ["{\"no\":20,\"yes\":21}", "{\"in\":{\"train\":1},\"within\":0}", "1"],
        "{said}"
    );
}

#[test]
fn what_is_asked_of_sets_wrongly_is_told() {
    let home = home();
    for (i, (body, wanted)) in [
        ("task.train.take(0);", "error: a number of items is 1 or more, found 0\n"),
        (
            "task.train.show(model, 999);",
            "error: there is no item 999; the set has 27, from 0 on\n",
        ),
        (
            "data::mix([task.train], [0]);",
            "error: `data::mix` needs a weight above 0 for each of its sets: 1 sets, 0 such \
             weights\n",
        ),
        (
            "data::mix([1], [1]);",
            "error: `data::mix` mixes sets, such as `task.train`; element 0 of its list is none\n",
        ),
        (
            "data::load(p.data, #{ format: \"cvs\" });",
            "error: unknown format `cvs`; did you mean `csv`?\n",
        ),
        (
            "data::load(p.data, #{ template: #{ prompt: \"{{ a\", answer: \"b\" } });",
            "error: option `prompt` of `template`, line 1: syntax error",
        ),
        (
            "data::load(p.data, #{ template: #{ promt: \"a\" } });",
            "error: unknown option `promt` of `template`; did you mean `prompt`?\n",
        ),
        (
            "data::load(p.data, #{ splits: #{ train: 3 } });",
            "error: option `splits.train` of `data::load` must be a string, found 3 (int)\n",
        ),
        (
            "data::load(p.data, #{ splits: #{ train: \"../x.json\" } });",
            "error: `splits` names `../x.json` for `train`; expected the name of a file below the \
             data folder\n",
        ),
        (
            "model.evaluate(task.test, #{ protocol: \"llm_adapters\" });",
            "error: unknown protocol `llm_adapters`; did you mean `llm-adapters`?\n",
        ),
        ("model.generate(\"a\", #{ beams: 2, temperature: 1.0 });", "error: `beams` above 1"),
    ]
    .into_iter()
    .enumerate()
    {
        let run = home.recipe(body, &format!("wrong-{i}"), &["-p", "data=data"]);
        assert!(matches!(run.code, Some(2 | 3)), "{body}: {:?} {}", run.code, run.said);
        assert!(run.said.starts_with(wanted), "{body}: {}", run.said);
    }
}
