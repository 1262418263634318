//! The report of one run.

use serde_json::Value;

use super::by_task::before_and_after;
use super::curves::{capital, losses, measured, rates, short, sure, titled};
use super::heat::{Heat, Ranks};
use super::layers::{layers_by_round, updates};
use super::line::{Chart, ChartLine, LineForm, Panel};
use super::markup::{Element, el};
use super::page::{
    ABSENT, Size, TableCell, card, figure, header, heads, missing, numeral, numeral_or_absent,
    page, scrolling, table, timing, value_text,
};
use super::read::{Recorded, metric};
use super::scale::number;
use super::series::{smoothed, thinned};
use crate::run::{Evaluation, Tested, duration, grouped};

/// The most points of a curve.
const MOST_POINTS: usize = 400;

pub fn html(run: &Recorded) -> String {
    let name = run.name();
    let header =
        header("xgbrun: report of a run", &name, &lead(run), &run.notices).child(tiles(run));
    let gains = Heat::of(run).map_or_else(
        || missing(Size::Whole, "Layers by round", "No layer has been trained."),
        |heat| layers_by_round(run, &heat, "Layers by round", &Ranks::of(heat.gains()), true),
    );
    let mut cards = super::points::cards(run);
    cards.extend([loss(run), quality(run), gains, updates(run), super::by_task::tasks(run)]);
    cards.extend(super::texts::samples(run));
    cards.extend([parameters(run), environment(run), recipe(run)]);
    page(&format!("{name}: xgbrun report"), header, cards)
}

/// What came of the run, in a sentence.
fn lead(run: &Recorded) -> String {
    let rounds = match run.rounds() {
        0 => String::new(),
        1 => " after 1 round".into(),
        n => format!(" after {} rounds", grouped(n as u64)),
    };
    let best = super::points::best(run).map_or(String::new(), |best| format!("{best} "));
    let Some(name) = run.metric() else { return format!("{best}Nothing was evaluated{rounds}.") };
    let tests = run.trace.evaluations.tests();
    let one = |test: &Tested| match before_and_after(test, name) {
        (Some(base), Some(tuned)) => format!("from {base:.4} to {tuned:.4}"),
        (_, tuned) => tuned.map_or(ABSENT.into(), |tuned| format!("{tuned:.4}")),
    };
    match &tests[..] {
        [] => format!("{best}The test split was not evaluated{rounds}."),
        [test] => format!("{best}Test {} {}{rounds}.", short(name), one(test)),
        several => {
            let some = several.iter().take(4);
            let some = some.map(|test| format!("{} {}", test.tuned.label(), one(test)));
            let some: Vec<String> = some.collect();
            let more = if several.len() > 4 { ", …" } else { "" };
            format!("{best}Test {}{rounds}: {}{more}.", short(name), some.join(", "))
        }
    }
}

fn tiles(run: &Recorded) -> Element {
    let tile = |name: &str, big: Element, small: Element| {
        let (big, small) = (el("dd").class("big").child(big), el("dd").class("small").child(small));
        el("div").child(el("dt").text(name)).child(big).child(small)
    };
    let said = |text: String| el("span").text(text);
    let mut list = el("dl").class("tiles");
    list = list.children(run.metric().and_then(|name| {
        let shown = |value: Option<f64>| value.map_or(ABSENT.into(), |v| format!("{v:.4}"));
        let tests = run.trace.evaluations.tests();
        match &tests[..] {
            [] => None,
            [test] => {
                let big = match before_and_after(test, name) {
                    (Some(base), tuned) => format!("{base:.4} → {}", shown(tuned)),
                    (None, tuned) => shown(tuned),
                };
                let heading = format!("Test {}", short(name));
                Some(tile(&heading, said(big), said(beside(test.tuned))))
            }
            several => {
                let values = several.iter().filter_map(|test| before_and_after(test, name).1);
                let (low, high) = values
                    .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
                let heading = format!("Test {} of {} sets", short(name), several.len());
                let small = said("each of them below, under test by task".into());
                Some(tile(&heading, said(format!("{low:.4} to {high:.4}")), small))
            }
        }
    }));
    let best = run.best_round().map_or(String::new(), |best| format!("best on validation: {best}"));
    list = list.child(tile("Rounds", said(grouped(run.rounds() as u64)), said(best)));
    let count = |n: Option<u64>| n.map_or(ABSENT.into(), grouped);
    let total = said(format!("{} in total", count(run.trained_in_total())));
    list = list.child(tile("Parameters at a time", said(count(run.trainable_now())), total));
    if let Some(seconds) = run.timing("seconds") {
        let speed = run
            .timing("tokens_per_second")
            .map_or(said(String::new()), |s| timing(format_args!("{s:.0} tokens/s in training")));
        list = list.child(tile("Time", timing(duration(seconds)), speed));
    }
    if let Some(peak) = run.timing("peak_rss_mib") {
        let predicted = run.timing("predicted_peak_mib");
        let predicted = predicted.map_or(said(String::new()), |mib| {
            timing(format_args!("the plan predicted {mib:.0} MiB"))
        });
        list = list.child(tile("Peak memory", timing(format_args!("{peak:.0} MiB")), predicted));
    }
    list
}

/// What stands below the test metric: how sure it is, of how many, and what costs nothing to reach.
fn beside(tuned: &Evaluation) -> String {
    let mut said = vec![];
    said.extend(metric(tuned, "standard_error").map(|e| format!("± {e:.4} standard error")));
    said.extend(metric(tuned, "accuracy_norm").map(|a| format!("accuracy_norm {a:.4}")));
    said.extend(
        tuned.metrics.get("items").and_then(Value::as_u64).map(|n| format!("{} items", grouped(n))),
    );
    said.extend(metric(tuned, "majority").map(|m| format!("majority class {m:.4}")));
    said.extend(metric(tuned, "perplexity").map(|p| format!("perplexity {p:.4}")));
    said.join(", ")
}

fn loss(run: &Recorded) -> Element {
    let losses = losses(&run.trace);
    if losses.is_empty() {
        return missing(Size::Half, "Training loss", "No training step has been recorded.");
    }
    let (points, each) = thinned(&losses, MOST_POINTS);
    let (smooth, over) = smoothed(&losses);
    let (smooth, _) = thinned(&smooth, MOST_POINTS);
    let (rates, _) = thinned(&rates(&run.trace), MOST_POINTS);
    let line = |name: String, look, form, points: &[(f64, f64)]| ChartLine {
        name,
        look,
        form,
        points: sure(points),
    };
    let uneven = !losses.len().is_multiple_of(points.len());
    let dots = match each {
        1 => "a step".into(),
        n if uneven => format!("mean of {} or {n} steps", n - 1),
        n => format!("mean of {n} steps"),
    };
    let lines = vec![
        line(dots, 0, LineForm::Dots, &points),
        line(format!("mean over {over} steps"), 0, LineForm::Line, &smooth),
    ];
    let panel =
        |title: &str, height, lines| Panel { title: title.into(), height, lines, level: None };
    let mut panels = vec![panel("loss (nats a token)", 190.0, lines)];
    if !rates.is_empty() {
        panels.push(panel(
            "learning rate",
            50.0,
            vec![line("learning rate".into(), 5, LineForm::Line, &rates)],
        ));
    }
    let (first, last) = (smooth[0].1, smooth[smooth.len() - 1].1);
    let label = format!(
        "Training loss over {} steps, from {} to {}, and the learning rate.",
        run.trace.steps.len(),
        number(first),
        number(last)
    );
    let mut explained = "Mean loss of each training batch, before the step that was made of it; \
                         below it the learning rate."
        .to_owned();
    explained += &run.shown_point();
    if losses.len() < run.trace.steps.len() {
        explained += &format!(
            " {} steps had a loss that is no number and are not shown.",
            run.trace.steps.len() - losses.len()
        );
    }
    let rate =
        |i: usize| if rates.len() == points.len() { rates.get(i).map(|r| r.1) } else { None };
    let row = |(i, (x, y)): (usize, &(f64, f64))| {
        vec![
            numeral(*x),
            numeral(*y),
            numeral_or_absent(smooth.get(i).map(|s| s.1)),
            numeral_or_absent(rate(i)),
        ]
    };
    let numbers = table(
        "training loss by step",
        &heads(["step", "loss", "mean", "learning rate"]),
        points.iter().enumerate().map(row),
    );
    let chart = Chart { label, x: "step".into(), place: None, panels };
    figure(Size::Half, "Training loss", &explained, [chart.legend(), chart.svg()], numbers)
}

fn quality(run: &Recorded) -> Element {
    let Some(name) = run.metric() else {
        return missing(Size::Half, "Evaluation", "The recipe has evaluated nothing.");
    };
    let splits = measured(&run.trace, name);
    let levels = run
        .trace
        .evaluations
        .tuned()
        .and_then(|e| metric(e, "majority"))
        .filter(|_| name == "accuracy");
    let level = levels.map(|m| ("majority class of test".to_owned(), m));
    let place = run.best_round().map(|best| ("best round of validation".to_owned(), best as f64));
    let lines = splits.iter().enumerate();
    let lines = lines.map(|(look, (name, points))| ChartLine {
        name: name.clone(),
        look,
        form: LineForm::Marked,
        points: points.clone(),
    });
    let panel = Panel { title: titled(name), height: 278.0, lines: lines.collect(), level };
    let last = |points: &Vec<super::line::ChartPoint>| {
        points.last().map_or(String::new(), |p| format!("{} at round {}", number(p.1), p.0))
    };
    let said: Vec<String> = splits
        .iter()
        .map(|(split, points)| format!("{split} ends with {}", last(points)))
        .collect();
    let label = format!("{} by round and split: {}.", capital(name), said.join(", "));
    let explained = match name {
        "accuracy" => {
            "Each evaluation that the recipe made, by split; bars reach one standard error up and \
             down."
        }
        _ => "Each evaluation that the recipe made, by split.",
    };
    let rows = splits.iter().flat_map(|(split, points)| {
        points.iter().map(move |(round, value, error)| {
            vec![
                TableCell::Text(split.clone()),
                numeral(*round),
                numeral(*value),
                numeral_or_absent(*error),
            ]
        })
    });
    let numbers = table(
        "evaluations by split and round",
        &heads(["split", "round", name, "standard error"]),
        rows,
    );
    let chart = Chart { label, x: "round (boosters merged)".into(), place, panels: vec![panel] };
    let heading = capital(if name == "nll" { "negative log-likelihood" } else { name });
    figure(
        Size::Half,
        &format!("{heading} by round"),
        explained,
        [chart.legend(), chart.svg()],
        numbers,
    )
}

fn parameters(run: &Recorded) -> Element {
    let parameters = run.parameters();
    if parameters.is_empty() {
        return missing(Size::Half, "Parameters", "The recipe declares none.");
    }
    let rows = parameters.iter().map(|(name, value)| {
        vec![TableCell::Text(name.clone()), TableCell::Long(value_text(value))]
    });
    card(Size::Half, "Parameters", [table("parameters", &heads(["name", "value"]), rows)])
}

fn recipe(run: &Recorded) -> Element {
    let Some(text) = &run.recipe else {
        return missing(Size::Whole, "Recipe", "There is no recipe.rhai that could be read.");
    };
    let text = el("pre").child(el("code").text(text));
    card(Size::Whole, "Recipe", [scrolling("the recipe's text", text)])
}

/// What `run.json` says of where the run took place; what it read comes after.
fn environment(run: &Recorded) -> Element {
    let shown = [
        ("engine", "version of xgbrun"),
        ("recipe", "recipe"),
        ("recipe_sha256", "SHA-256 of the recipe"),
        ("seed", "seed"),
        ("device", "device"),
        ("dtype", "storage type of weights"),
        ("threads", "threads"),
        ("kernels", "CPU kernels"),
    ];
    let line = |name: String, value: &Value| {
        vec![TableCell::Text(name), TableCell::Long(value_text(value))]
    };
    let mut rows: Vec<_> = shown
        .iter()
        .filter_map(|(key, name)| Some(line((*name).into(), run.manifest.get(*key)?)))
        .collect();
    let digests = run.manifest.get("digests").and_then(Value::as_object);
    rows.extend(
        digests
            .into_iter()
            .flatten()
            .map(|(name, value)| line(format!("SHA-256 of {name}"), value)),
    );
    let weights =
        run.summary.as_ref().and_then(|s| s.get("weights_digest")).filter(|v| !v.is_null());
    rows.extend(weights.map(|value| line("SHA-256 of the weights at the end".into(), value)));
    let captured = run.summary.as_ref().and_then(|s| s.get("captured")).filter(|v| !v.is_null());
    rows.extend(captured.map(|share| {
        line("share of the boosters' sum that the rounded weights show".into(), share)
    }));
    let said =
        "The same values of all these, with the same parameters, give the same run, bit by bit.";
    card(
        Size::Half,
        "Environment",
        [el("p").class("said").text(said), table("environment", &heads(["what", "value"]), rows)],
    )
}
