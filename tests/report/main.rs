//! Reports: what they show is what the run folder holds, nothing in a run can write into the page,
//! and whatever is missing or broken is told.

#[path = "../common/mod.rs"]
mod common;

mod browser;
mod fixture;
mod markup;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use fixture::{Fixture, ROUNDS, STEPS, evaluation, gain, layers, loss};
use markup::Node;
use serde_json::{Value, json};

fn report(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xgbrun"))
        .current_dir(home)
        .arg("report")
        .args(arguments)
        .output()
        .unwrap()
}

/// The page of a run that is written anew.
fn page(fixture: &Fixture) -> String {
    let home = tempfile::tempdir().unwrap();
    fixture.write(&home.path().join("r"));
    let output = report(home.path(), &["r"]);
    assert_eq!(
        (output.status.code(), text(&output.stdout), text(&output.stderr)),
        (Some(0), "r/report.html\n", "")
    );
    fs::read_to_string(home.path().join("r/report.html")).unwrap()
}

/// The page that compares the runs, each in a folder of the name beside it.
fn comparison(runs: &[(&str, &Fixture)]) -> String {
    let home = tempfile::tempdir().unwrap();
    for (name, fixture) in runs {
        fixture.write(&home.path().join(name));
    }
    let names: Vec<&str> = runs.iter().map(|(name, _)| *name).collect();
    let output = report(home.path(), &names);
    assert_eq!(
        (output.status.code(), text(&output.stdout), text(&output.stderr)),
        (Some(0), "report.html\n", "")
    );
    fs::read_to_string(home.path().join("report.html")).unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A cell as a number.
fn number(cell: &str) -> f64 {
    cell.replace('−', "-").parse().unwrap_or_else(|_| panic!("`{cell}`"))
}

/// What holds of every report. Answers with the page.
fn sound(page: &str) -> Node {
    let root = markup::read(page);
    let known = [
        "html head meta title style body main header p h1 h2 div dl dt dd span section figure \
         figcaption details summary table thead tbody",
        "tr th td svg g path line rect circle polygon text ul li pre code",
    ];
    for node in root.all("*") {
        assert!(known.iter().any(|k| k.split(' ').any(|k| k == node.name)), "`{}`", node.name);
        for (name, value) in &node.attributes {
            assert!(
                !["src", "href", "style", "srcset", "action"].contains(&name.as_str())
                    && !name.starts_with("on"),
                "{name}={value}"
            );
            assert!(!value.contains("url("), "{name}={value}");
        }
    }
    let style = root.all("style")[0].said();
    assert!(!style.contains("url(") && !style.contains("@import") && !style.contains("http"));
    let count = |name: &str| root.all(name).len();
    assert_eq!(
        (
            count("h1"),
            count("main"),
            count("title") - root.all("svg").iter().flat_map(|s| s.all("title")).count()
        ),
        (1, 1, 1)
    );
    for figure in root.all("figure") {
        let parts: Vec<&Node> = figure.children.iter().filter(|c| !c.name.is_empty()).collect();
        assert_eq!(
            (parts[0].name.as_str(), parts[parts.len() - 1].name.as_str()),
            ("figcaption", "details")
        );
        assert_eq!(parts[parts.len() - 1].all("table").len(), 1);
        let charts: Vec<&Node> =
            figure.all("svg").into_iter().filter(|s| !s.is("sample")).collect();
        assert!(!charts.is_empty());
        for chart in charts {
            assert_eq!(chart.attribute("role"), Some("img"));
            assert!(chart.attribute("aria-label").is_some_and(|l| l.len() > 10));
            let texts = |class: &str| chart.all("text").into_iter().filter(|t| t.is(class)).count();
            assert!(
                texts("axis") >= 1 && texts("tick") >= 2,
                "{:?}",
                chart.attribute("aria-label")
            );
        }
    }
    for sample in root.all("svg").into_iter().filter(|s| s.is("sample")) {
        assert_eq!(sample.attribute("aria-hidden"), Some("true"));
    }
    root
}

#[test]
fn tables_hold_what_the_run_recorded() {
    let root = sound(&page(&Fixture::default()));
    assert_eq!(root.all("h1")[0].said(), "commonsense.rhai");
    assert!(root.said().contains("Test accuracy from 0.2500 to 0.6250 after 16 rounds."));
    let tiles: Vec<String> = root.all("dd").iter().map(|d| d.said()).collect();
    let wanted = [
        "0.2500 → 0.6250",
        "16",
        "best on validation: 16",
        "4 608",
        "73 728 in total",
        "1 min 24 s",
        "322 tokens/s in training",
    ];
    for wanted in wanted.into_iter().chain(["182 MiB", "the plan predicted 171 MiB"]) {
        assert!(tiles.iter().any(|t| t == wanted), "{wanted}: {tiles:?}");
    }

    let losses: Vec<(f64, f64)> = root.card("Training loss").all("table")[0]
        .cells()
        .iter()
        .map(|r| (number(&r[0]), number(&r[1])))
        .collect();
    assert_eq!(
        losses,
        (1..=ROUNDS * STEPS).map(|step| (step as f64, loss(step))).collect::<Vec<_>>()
    );
    let curve: Vec<Vec<String>> = root.card("Accuracy by round").all("table")[0].cells();
    let wanted = [("test", 0, 0.25), ("test", 16, 0.625)]
        .into_iter()
        .chain([4, 8, 12, 16].map(|r| ("validation", r, 0.25 + 0.03125 * r as f64)));
    for (row, (split, round, accuracy)) in curve.iter().zip(wanted) {
        assert_eq!(
            (row[0].as_str(), number(&row[1]), number(&row[2]), number(&row[3])),
            (split, round as f64, accuracy, 0.03125)
        );
    }
    assert_eq!(curve.len(), 6);

    let heat = root.card("Layers by round");
    let merges = heat.all("table")[0].cells();
    assert_eq!(merges.len(), ROUNDS);
    for (round, row) in merges.iter().enumerate() {
        let names: Vec<String> = layers(round).iter().map(usize::to_string).collect();
        assert_eq!(
            (number(&row[0]), &row[1], row[2].as_str(), number(&row[3])),
            (round as f64, &names.join(", "), "4 608", 4.0)
        );
        assert_eq!(gain(round).map_or("–".to_owned(), |g| g.to_string().replace('-', "−")), row[5]);
    }
    // A cell for each layer and round that was trained, hatched where no gain is known, coloured by
    // its sign elsewhere.
    let cells: Vec<&Node> =
        heat.all("g").into_iter().filter(|g| g.all("title").len() == 1).collect();
    assert_eq!(cells.len(), 2 * ROUNDS);
    for cell in &cells {
        let title = cell.said().trim().to_owned();
        let round: usize = title
            .strip_prefix("round ")
            .and_then(|t| t.split(',').next())
            .unwrap()
            .parse()
            .unwrap();
        let class = cell.all("rect")[0].attribute("class").unwrap();
        match gain(round) {
            None => assert!(class == "none" && title.ends_with("no gain measured")),
            Some(gain) => assert_eq!(&class[..1], if gain > 0.0 { "p" } else { "n" }, "{title}"),
        }
    }
    // The scale is by rank: as many cells have each colour.
    let of = |level: &str| {
        let rects = heat.all("g").into_iter().filter(|g| g.all("title").len() == 1);
        rects.filter(|g| g.all("rect")[0].attribute("class").unwrap().ends_with(level)).count()
    };
    assert_eq!(["1", "2", "3", "4"].map(of), [8, 8, 6, 8]);
    assert_eq!(heat.all("line").iter().filter(|l| l.is("hatch")).count(), 2);

    let norms = root.card("Update by layer").all("table")[0].cells();
    for (layer, row) in norms.iter().enumerate() {
        let times = (0..ROUNDS).filter(|r| layers(*r).contains(&layer)).count() as f64;
        assert!(
            (number(&row[1]) - 0.25 * (layer + 1) as f64 * times.sqrt()).abs() < 1e-5,
            "{row:?}"
        );
    }
    assert_eq!(root.card("Update by layer").all("rect").len(), norms.len());
    assert_eq!(root.card("Parameters").all("table")[0].cells()[2], ["lr", "0.001"]);
    assert_eq!(root.card("Recipe").all("code")[0].said(), Fixture::default().recipe);
    let environment = root.card("Environment").all("table")[0].cells();
    for row in [["seed", "7"], ["device", "cpu"], ["threads", "2"], ["CPU kernels", "x86-v4"]] {
        assert!(environment.iter().any(|r| *r == row), "{row:?}");
    }
    assert_eq!(environment.len(), 10);
}

#[test]
fn several_tasks_are_listed_with_their_average() {
    let mut fixture = Fixture::default();
    let tasks = |a: f64, b: f64| {
        json!({
            "ARC-Easy": {
                "accuracy": a, "standard_error": 0.01, "majority": 0.26, "items": 2376,
            },
            "piqa": { "accuracy": b, "items": 9 },
        })
    };
    for (at, (a, b)) in [(0, (0.25, 0.5)), (fixture.lines.len() - 1, (0.5, 0.75))] {
        fixture.lines[at]["metrics"]["tasks"] = tasks(a, b);
    }
    let rows = sound(&page(&fixture)).card("Test by task").all("table")[0].cells();
    let wanted = [
        ["ARC-Easy", "0.2500", "0.5000", "0.0100", "0.2600", "2 376"],
        ["piqa", "0.5000", "0.7500", "–", "–", "9"],
        ["unweighted average", "0.2500", "0.6250", "0.0312", "0.3000", "256"],
    ];
    assert_eq!(rows, wanted);
}

#[test]
fn likelihood_is_shown_where_there_is_no_accuracy() {
    let mut fixture = Fixture::default();
    for line in fixture.lines.iter_mut().filter(|l| l.get("split").is_some()) {
        line["metrics"] =
            json!({ "protocol": "perplexity", "nll": 2.5, "perplexity": 12.1825, "tokens": 100 });
    }
    let root = sound(&page(&fixture));
    assert!(
        root.said().contains("Test NLL (nats a token) from 2.5000 to 2.5000")
            && root.said().contains("perplexity 12.1825")
    );
    assert_eq!(root.card("Negative log-likelihood by round").all("table")[0].cells().len(), 6);
}

#[test]
fn nothing_in_a_run_can_write_into_the_page() {
    let hostile = "</code></pre></title></style><script src=\"http://x\">alert('1')</script><img \
                   src=x onerror=\"a\"> &lt; \u{0}\u{1b}[31m \u{202e}";
    let shown = hostile.replace(['\u{0}', '\u{1b}', '\u{202e}'], "\u{fffd}");
    let mut fixture = Fixture { recipe: hostile.into(), ..Fixture::default() };
    for key in ["engine", "recipe", "device", "dtype", "kernels", "seed"] {
        fixture.manifest[key] = hostile.into();
    }
    fixture.manifest["parameters"] =
        json!({ hostile: hostile, "list": [hostile, { hostile: hostile }] });
    fixture.manifest["digests"] = json!({ hostile: hostile });
    let last = fixture.lines.len() - 1;
    fixture.lines[last]["metrics"]["tasks"] = json!({ hostile: { "accuracy": 0.5 } });
    fixture.lines.push(evaluation(hostile, 3, 0.5));
    fixture.lines.push(json!({ "merge": { "round": 0, "kind": hostile, "layers": [hostile] } }));
    let root = sound(&page(&fixture));
    assert_eq!(root.card("Recipe").all("code")[0].said(), shown);
    for card in ["Parameters", "Environment", "Test by task", "Accuracy by round"] {
        assert!(root.card(card).said().contains(&shown), "{card}");
    }
    // In a comparison also folders have names.
    let folder = "<b onclick='x'>&\"";
    let root = sound(&comparison(&[(folder, &fixture), ("plain", &Fixture::default())]));
    assert!(root.card("Runs").said().contains(folder) && root.card("Runs").said().contains(&shown));
}

#[test]
fn what_is_missing_or_broken_is_told() {
    let tell = |fixture: &Fixture, wanted: &[&str]| {
        let said = sound(&page(fixture)).said();
        wanted.iter().for_each(|w| assert!(said.contains(w), "`{w}` is not in: {said}"));
    };
    let unfinished = Fixture {
        summary: None,
        tail: "{\"round\":16,\"step\":65,\"lo".into(),
        ..Fixture::default()
    };
    tell(
        &unfinished,
        &[
            "it has no summary.json",
            "The last line of metrics.jsonl, line 87, is cut short",
            "73 728 in total",
            "after 16 rounds",
        ],
    );
    let interrupted =
        Fixture { summary: Some(json!({ "interrupted": true })), ..Fixture::default() };
    tell(&interrupted, &["This run was interrupted"]);
    let nothing = Fixture { lines: vec![], ..Fixture::default() };
    let none = [
        "Nothing was evaluated.",
        "No training step has been recorded.",
        "The recipe has evaluated nothing.",
        "No layer has been trained.",
    ];
    tell(&nothing, &none);
    let mut unmerged = Fixture::default();
    unmerged.lines.retain(|line| line.get("merge").is_none() && line["split"] != "test");
    let none = [
        "No merge has been recorded, so no gain is known",
        "so nothing is known of how far",
        "The test split was not evaluated",
    ];
    tell(&unmerged, &none);

    let mut broken = Fixture::default();
    let point = |round: Value, loss: Value, layer: Value| {
        json!({
            "round": round, "step": 70, "loss": loss, "lr": 1e-3, "layers": [layer],
        })
    };
    broken.lines.extend([
        point(json!(16), Value::Null, json!(0)),
        point(json!(16), json!(1e300), json!(0)),
        point(json!(u64::MAX), json!(1.0), json!(0)),
        point(json!(16), json!(1.0), json!(u64::MAX)),
        point(json!(-1), json!(1.0), json!(0)),
        json!({
            "merge": {
                "round": 17, "kind": "low_rank", "layers": [5000], "parameters": 1, "steps": 1,
                "eta": 1, "update_norms": {},
            },
        }),
        json!({ "merge": 3 }),
        json!([1, 2]),
        evaluation("test", usize::MAX, 1e300),
    ]);
    broken.tail = "{\"loss\": 1e999}\nnot json\n".into();
    tell(
        &broken,
        &[
            "line 90 and 6 more could not be understood",
            "2 steps had a loss that is no number",
            "A column is",
        ],
    );
    let nested = Fixture { tail: "[".repeat(100_000) + "\n", ..Fixture::default() };
    tell(&nested, &["Of metrics.jsonl, line 87 could not be understood"]);
    let long = Fixture { tail: " ".repeat((16 << 20) + 1), ..Fixture::default() };
    tell(&long, &["Line 87 of metrics.jsonl is longer than 16 MiB"]);

    let home = tempfile::tempdir().unwrap();
    let run = Fixture::default().write(&home.path().join("r"));
    for file in ["metrics.jsonl", "summary.json", "recipe.rhai"] {
        fs::remove_file(run.join(file)).unwrap();
    }
    assert_eq!(report(home.path(), &["r"]).status.code(), Some(0));
    let said = sound(&fs::read_to_string(run.join("report.html")).unwrap()).said();
    assert!(
        said.contains("There is no metrics.jsonl") && said.contains("There is no recipe.rhai"),
        "{said}"
    );
}

#[test]
fn what_is_no_run_is_refused() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("empty")).unwrap();
    fs::write(home.path().join("file"), "").unwrap();
    Fixture { manifest: json!([]), ..Fixture::default() }.write(&home.path().join("list"));
    Fixture::default().write(&home.path().join("good"));
    for (arguments, code, message) in [
        (&["empty"][..], 2, "error: `empty` is no run folder: it has no `run.json`\n"),
        (&["good", "empty"], 2, "error: `empty` is no run folder: it has no `run.json`\n"),
        (&["nowhere"], 2, "error: `nowhere` is no run folder: there is no such folder\n"),
        (&["file"], 2, "error: `file` is no run folder: it is not a folder\n"),
        (&["list"], 3, "error: `list/run.json` is not a JSON object\n"),
        (
            &["good", "--out", "empty"],
            2,
            "error: cannot write `empty`: it is a folder; name a file in it\n",
        ),
        (&["good", "--out", "no/x.html"], 2, "error: cannot write `no/x.html`: "),
    ] {
        let output = report(home.path(), arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(
            text(&output.stderr).starts_with(message),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
    }
    assert!(
        !home.path().join("good/report.html").exists() && !home.path().join("report.html").exists()
    );
    assert_eq!(report(home.path(), &["good", "--out", "x.html"]).status.code(), Some(0));
    assert!(home.path().join("x.html").exists() && !home.path().join("good/report.html").exists());
}

#[test]
fn the_run_folder_decides_every_byte_and_clocks_only_what_is_marked() {
    let untimed = |page: &str| -> String {
        let mut parts = page.split("<span class=\"timing\">");
        let first = parts.next().unwrap().to_owned();
        parts.fold(first, |all, part| all + part.split_once("</span>").unwrap().1)
    };
    let first = page(&Fixture::default());
    assert_eq!(first, page(&Fixture::default()));
    let mut slower = Fixture::default();
    slower.summary.as_mut().unwrap()["timing"] = json!({
        "seconds": 9.0, "tokens_per_second": 1.0, "peak_rss_mib": 7.0, "predicted_peak_mib": 6.0,
    });
    for line in slower.lines.iter_mut() {
        line["timing"] = json!({ "seconds": 77.0, "step_seconds": 7.0, "tokens_per_second": 7.0 });
    }
    let second = page(&slower);
    assert!(first != second && untimed(&first) == untimed(&second));
    let both = |a| comparison(&[("a", a), ("b", &Fixture::default())]);
    assert_eq!(untimed(&both(&Fixture::default())), untimed(&both(&slower)));
}

#[test]
fn a_comparison_lays_runs_over_each_other() {
    let mut other = Fixture::default();
    other.manifest["parameters"]["lr"] = json!(0.003);
    other.manifest["seed"] = json!(8);
    other.lines.retain(|line| line["split"] != "validation");
    let last = other.lines.len() - 1;
    other.lines[last] = evaluation("test", ROUNDS, 0.75);
    let root = sound(&comparison(&[("one", &Fixture::default()), ("two", &other)]));
    assert!(root.said().contains("They differ in lr, seed."));
    let heads: Vec<String> =
        root.card("Runs").all("thead")[0].all("th").iter().map(|h| h.said()).collect();
    let named = [
        "run",
        "lr",
        "seed",
        "base",
        "tuned",
        "best round",
        "merged",
        "trained in total",
        "time",
        "tokens/s",
        "peak MiB",
    ];
    assert_eq!(heads, named);
    let rows = root.card("Runs").all("table")[0].cells();
    let rest = ["16", "16", "73 728", "1 min 24 s", "322", "182"];
    assert_eq!(rows[0], [&["one", "0.001", "7", "0.2500", "0.6250"][..], &rest].concat());
    assert_eq!(rows[1], [&["two", "0.003", "8", "0.2500", "0.7500"][..], &rest].concat());
    // Each run has a colour and a dash pattern of its own, and its name in the legend.
    let loss = root.card("Training loss");
    let looks: Vec<&str> = loss
        .all("path")
        .iter()
        .filter(|p| p.is("line"))
        .filter_map(|p| p.attribute("class"))
        .collect();
    assert_eq!(looks, ["line c0 d0", "line c1 d1", "line c0 d0", "line c1 d1"]);
    assert_eq!(
        loss.all("li").iter().map(|l| l.said().trim().to_owned()).collect::<Vec<_>>(),
        ["one", "two"]
    );
    assert_eq!(root.card("test: accuracy").all("table")[0].cells().len(), 4);
    assert!(root.card("validation: accuracy").said().contains("Not measured in two."));
    for heading in ["Layers by round: one", "Layers by round: two"] {
        assert_eq!(
            root.card(heading).all("g").iter().filter(|g| g.all("title").len() == 1).count(),
            2 * ROUNDS
        );
    }
    // The same run twice, and many at once.
    let many: Vec<String> = (0..12).map(|i| format!("run-{i}")).collect();
    let root = sound(&comparison(&many.iter().map(|n| (n.as_str(), &other)).collect::<Vec<_>>()));
    assert!(root.said().contains("They differ in no parameter."));
}

/// What a point of a sweep logs: steps whose loss falls to `last`, and a result.
fn point(settings: Value, result: f64, last: f64) -> Vec<Value> {
    let step = |i: usize| {
        json!({
            "round": 0, "step": 100 + i, "loss": last + (8 - i) as f64, "lr": 0.01, "layers": [1],
        })
    };
    let begin = json!({ "point": { "settings": settings, "smaller": true } });
    let merge = json!({
        "merge": {
            "round": 0, "kind": "low_rank", "layers": [1], "parameters": 10, "steps": 8,
            "eta": 1.0, "gain": 0.5, "update_norms": { "1": result },
        },
    });
    let end = [merge, evaluation("validation", 1, result), json!({ "result": result })];
    std::iter::once(begin).chain((1..=8).map(step)).chain(end).collect()
}

#[test]
fn a_sweep_is_a_curve_a_point_with_the_best_marked() {
    let settings = |lr: f64, seed: u64| json!({ "lr": lr, "rank": 1, "seed": seed });
    let lines = [
        point(settings(0.1, 0), 0.25, 1.0),
        point(settings(0.1, 1), 0.75, 3.0),
        point(settings(0.2, 0), 0.25, 1.5),
        point(settings(0.2, 1), 0.25, 1.5),
        vec![json!({ "row": { "way": "a", "score": 0.5 } }), json!({ "row": { "way": "b" } })],
    ];
    let root = sound(&page(&Fixture { lines: lines.concat(), ..Fixture::default() }));
    assert!(root.said().contains("Best of 2 points: lr 0.2, with 0.2500."), "{}", root.said());
    let rows = root.card("Points of the sweep").all("table")[0].cells();
    let wanted =
        [["1", "0.5", "0.353553", "2", "0.1", "1"], ["2 (best)", "0.25", "0", "2", "0.2", "1"]];
    assert_eq!(rows, wanted);
    let loss = root.card("Training loss by point");
    let names = |card: &Node| -> Vec<String> {
        card.all("li").iter().map(|l| l.said().trim().to_owned()).collect()
    };
    assert_eq!(names(loss), ["1: lr 0.1", "2: lr 0.2 (best)"]);
    // The mean of both seeds, from the first step of the point on; five steps are smoothed.
    let cells = loss.all("table")[0].cells();
    assert_eq!((cells.len(), number(&cells[0][1]), number(&cells[0][2])), (16, 1.0, 7.0));
    let results = root.card("Result by point");
    assert_eq!(results.all("path").iter().filter(|p| p.is("bar")).count(), 2);
    assert_eq!(names(results), names(loss));
    assert_eq!(root.card("Results").all("table")[0].cells(), [["a", "0.5"], ["b", "–"]]);
    // Nothing was trained outside: shown is the best point.
    assert!(
        root.card("Training loss").said().contains("Shown is the point lr 0.2, rank 1, seed 0.")
    );
    assert_eq!(root.card("Update by layer").all("table")[0].cells(), [["1", "0.25"]]);
    // What is trained outside of points is the run's own.
    let both = [lines.concat(), fixture::lines()].concat();
    let root = sound(&page(&Fixture { lines: both, ..Fixture::default() }));
    let cells = root.card("Training loss").all("table")[0].cells();
    assert_eq!((cells.len(), cells[0][0].as_str()), (ROUNDS * STEPS, "1"));
    assert!(root.said().contains("Test accuracy from 0.2500 to 0.6250 after 16 rounds."));
}

#[test]
fn runs_that_differ_in_a_seed_are_one_curve_with_mean_and_deviation() {
    let run = |seed: u64, lr: f64, tuned: f64| {
        let mut fixture = Fixture::default();
        fixture.manifest["seed"] = json!(seed);
        fixture.manifest["parameters"]["lr"] = json!(lr);
        let last = fixture.lines.len() - 1;
        fixture.lines[last] = evaluation("test", ROUNDS, tuned);
        fixture
    };
    let runs = [run(0, 0.001, 0.5), run(1, 0.001, 0.75), run(0, 0.003, 0.625)];
    let root = sound(&comparison(&[("a", &runs[0]), ("b", &runs[1]), ("c", &runs[2])]));
    let rows = root.card("Runs").all("table")[0].cells();
    let told: Vec<&[String]> = rows.iter().map(|row| &row[..5]).collect();
    let wanted = [
        ["a", "0.001", "0", "0.2500", "0.5000"],
        ["b", "0.001", "1", "0.2500", "0.7500"],
        ["mean of 2 seeds, lr 0.001", "0.001", "", "0.2500 ± 0.0000", "0.6250 ± 0.1768"],
        ["c", "0.003", "0", "0.2500", "0.6250"],
    ];
    assert_eq!(told, wanted);
    let test = root.card("test: accuracy");
    let curves: Vec<Vec<String>> = test.all("table")[0].cells();
    let wanted = [
        ["mean of 2 seeds, lr 0.001", "0", "0.25", "0"],
        ["mean of 2 seeds, lr 0.001", "16", "0.625", "0.176777"],
        ["c", "0", "0.25", "0.03125"],
        ["c", "16", "0.625", "0.03125"],
    ];
    assert_eq!(curves, wanted);
    assert!(test.said().contains("one standard deviation over seeds, or one standard error"));
    let loss = root.card("Training loss");
    assert_eq!(loss.all("path").iter().filter(|p| p.is("line")).count(), 4);
}

#[test]
fn sets_that_were_measured_one_by_one_are_named() {
    let of = |task: &str, round: usize, accuracy: f64| {
        let mut line = evaluation("test", round, accuracy);
        line["task"] = json!(task);
        line["metrics"]["accuracy_norm"] = json!(accuracy / 2.0);
        line
    };
    let lines = [("law", 0, 0.25), ("art", 0, 0.5), ("law", 4, 0.375), ("art", 4, 0.75)]
        .map(|(task, round, accuracy)| of(task, round, accuracy));
    let root = sound(&page(&Fixture { lines: lines.to_vec(), ..Fixture::default() }));
    let said = "Test accuracy: law from 0.2500 to 0.3750, art from 0.5000 to 0.7500.";
    assert!(root.said().contains(said), "{}", root.said());
    assert!(root.all("dd").iter().any(|d| d.said() == "0.3750 to 0.7500"));
    let rows = root.card("Test by task").all("table")[0].cells();
    let wanted = [
        ["law", "0.2500", "0.3750", "0.0312", "0.1875", "0.3000", "256"],
        ["art", "0.5000", "0.7500", "0.0312", "0.3750", "0.3000", "256"],
    ];
    assert_eq!(rows, wanted);
    let curves = root.card("Accuracy by round").all("table")[0].cells();
    let names: Vec<&str> = curves.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(names, ["test: law", "test: law", "test: art", "test: art"]);
}

#[test]
fn texts_on_the_way_and_warnings_are_shown() {
    let mut fixture = Fixture::default();
    for (round, text) in [(4, " fish"), (8, " red <b>fish</b>")] {
        for prompt in ["The owl eats", "Snow is"] {
            let sample = json!({ "round": round, "prompt": prompt, "text": text });
            fixture.lines.push(json!({ "sample": sample }));
        }
    }
    fixture.lines.push(json!({ "warning": "training diverges in round 3" }));
    let root = sound(&page(&fixture));
    let wanted = [
        ["The owl eats", "4", "fish"],
        ["The owl eats", "8", "red <b>fish</b>"],
        ["Snow is", "4", "fish"],
        ["Snow is", "8", "red <b>fish</b>"],
    ];
    assert_eq!(root.card("Samples").all("table")[0].cells(), wanted);
    let notices: Vec<String> =
        root.all("p").iter().filter(|p| p.is("notice")).map(|p| p.said()).collect();
    assert_eq!(notices, ["training diverges in round 3."]);
}

#[test]
fn one_wild_batch_at_the_end_is_no_spike() {
    let step = |i: usize| {
        json!({
            "round": 0, "step": i, "loss": if i == 200 { 9.0 } else { 1.0 }, "lr": 1e-3,
            "layers": [0],
        })
    };
    let fixture = Fixture { lines: (1..=200).map(step).collect(), ..Fixture::default() };
    let cells = sound(&page(&fixture)).card("Training loss").all("table")[0].cells();
    let (loss, mean) = (number(&cells[199][1]), number(&cells[199][2]));
    assert!(loss == 9.0 && (mean - (1.0 + 8.0 / 11.0)).abs() < 1e-4, "{loss}, {mean}");
}

#[test]
fn a_long_run_stays_a_page() {
    let lines = (0..20_000).map(|i| {
        json!({
            "round": i / 4, "step": i + 1, "loss": 1.0 / (i + 1) as f64, "lr": 1e-5,
            "layers": [i / 4 % 40],
        })
    });
    let page = page(&Fixture { lines: lines.collect(), ..Fixture::default() });
    let root = sound(&page);
    assert_eq!(root.card("Training loss").all("table")[0].cells().len(), 400);
    assert!(page.len() < 3 << 20, "{} bytes", page.len());
}
