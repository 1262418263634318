//! The report of one run.

use serde_json::{Map, Value};

use super::curves::{losses, measured, norms, rates, short, sure, titled};
use super::heat::{self, Heat};
use super::line::{Chart, ChartLine, LineForm, Panel};
use super::markup::{Element, el};
use super::page::{
    ABSENT, Size, TableCell, card, figure, header, heads, missing, numeral, numeral_or_absent,
    page, scrolling, table, timing,
};
use super::read::{Recorded, metric};
use super::scale::number;
use super::series::{smoothed, thinned};
use super::{bars, plain};
use crate::run::{Evaluation, duration, grouped};

/// The most points of a curve.
const MOST_POINTS: usize = 400;
/// The most merges that a table lists.
const MOST_MERGES: usize = 1000;

pub fn html(run: &Recorded) -> String {
    let name = run.name();
    let header =
        header("xgbrun: report of a run", &name, &lead(run), &run.notices).child(tiles(run));
    let gains = Heat::of(run).map_or_else(
        || missing(Size::Whole, "Layers by round", "No layer has been trained."),
        |heat| layers_by_round(run, &heat, "Layers by round", heat.limit(), true),
    );
    let cards = vec![
        loss(run),
        quality(run),
        gains,
        updates(run),
        tasks(run),
        parameters(run),
        environment(run),
        recipe(run),
    ];
    page(&format!("{name}: xgbrun report"), header, cards)
}

/// What came of the run, in a sentence.
fn lead(run: &Recorded) -> String {
    let rounds = match run.rounds() {
        0 => String::new(),
        1 => " after 1 round".into(),
        n => format!(" after {} rounds", grouped(n as u64)),
    };
    let Some(name) = run.metric() else { return format!("Nothing was evaluated{rounds}.") };
    match base_and_tuned(run, name) {
        (Some(base), Some(tuned)) => {
            format!("Test {} from {base:.4} to {tuned:.4}{rounds}.", short(name))
        }
        (None, Some(tuned)) => format!("Test {} {tuned:.4}{rounds}.", short(name)),
        _ => format!("The test split was not evaluated{rounds}."),
    }
}

/// The metric at first, if it was measured before any booster was merged and again later, and at
/// last.
pub fn base_and_tuned(run: &Recorded, name: &str) -> (Option<f64>, Option<f64>) {
    let tuned = run.evaluations.tuned();
    let base =
        run.evaluations.base().filter(|base| tuned.is_none_or(|tuned| tuned.round != base.round));
    (base.and_then(|e| metric(e, name)), tuned.and_then(|e| metric(e, name)))
}

fn tiles(run: &Recorded) -> Element {
    let tile = |name: &str, big: Element, small: Element| {
        let (big, small) = (el("dd").class("big").child(big), el("dd").class("small").child(small));
        el("div").child(el("dt").text(name)).child(big).child(small)
    };
    let said = |text: String| el("span").text(text);
    let mut list = el("dl").class("tiles");
    if let (Some(name), Some(tuned)) = (run.metric(), run.evaluations.tuned()) {
        let shown = |value: Option<f64>| value.map_or(ABSENT.into(), |v| format!("{v:.4}"));
        let big = match base_and_tuned(run, name) {
            (Some(base), tuned) => format!("{base:.4} → {}", shown(tuned)),
            (None, tuned) => shown(tuned),
        };
        list = list.child(tile(&format!("Test {}", short(name)), said(big), said(beside(tuned))));
    }
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
    said.extend(
        tuned.metrics.get("items").and_then(Value::as_u64).map(|n| format!("{} items", grouped(n))),
    );
    said.extend(metric(tuned, "majority").map(|m| format!("majority class {m:.4}")));
    said.extend(metric(tuned, "perplexity").map(|p| format!("perplexity {p:.4}")));
    said.join(", ")
}

fn loss(run: &Recorded) -> Element {
    let losses = losses(run);
    if losses.is_empty() {
        return missing(Size::Half, "Training loss", "No training step has been recorded.");
    }
    let (points, each) = thinned(&losses, MOST_POINTS);
    let (smooth, over) = smoothed(&losses);
    let (smooth, _) = thinned(&smooth, MOST_POINTS);
    let (rates, _) = thinned(&rates(run), MOST_POINTS);
    let line = |name: String, look, form, points: &[(f64, f64)]| ChartLine {
        name,
        look,
        form,
        points: sure(points),
    };
    let dots = if each == 1 { "a step".into() } else { format!("mean of {each} steps") };
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
        run.steps.len(),
        number(first),
        number(last)
    );
    let mut explained = "Mean loss of each training batch, before the step that was made of it; \
                         below it the learning rate."
        .to_owned();
    if losses.len() < run.steps.len() {
        explained += &format!(
            " {} steps had a loss that is no number and are not shown.",
            run.steps.len() - losses.len()
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
    let splits = measured(run, name);
    let levels =
        run.evaluations.tuned().and_then(|e| metric(e, "majority")).filter(|_| name == "accuracy");
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

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// How a heat map is read.
const EXPLAINED: &str = "A cell is a layer that was trained in a round; its colour says by how \
                         much the round's booster lowered the loss on the last batch that it saw, \
                         measured before it was trained on that batch. Layers that were not \
                         trained in a round are empty.";

/// The heat map; `limit` is the end of the colour scale, which stands above it with `scale`.
pub fn layers_by_round(
    run: &Recorded,
    heat: &Heat,
    heading: &str,
    limit: Option<f64>,
    scale: bool,
) -> Element {
    let mut explained = match (limit, scale) {
        (None, _) => "A cell is a layer that was trained in a round.",
        (_, true) => EXPLAINED,
        (_, false) => "In the colours of the scale above.",
    }
    .to_owned();
    if heat.has_unmeasured() {
        explained += " A hatched cell was trained, but no gain was measured.";
    }
    if heat.each > 1 {
        explained += &format!(" A column is {} rounds, its colour their mean gain.", heat.each);
    }
    let trained: usize = run.trained.len().max(run.merges.len());
    let label = format!(
        "Layers trained in each of {trained} rounds, coloured by the gain of the round's booster."
    );
    let mut drawn: Vec<Element> = limit
        .filter(|_| scale)
        .map(|limit| scrolling("colour scale", heat::legend(limit)))
        .into_iter()
        .collect();
    drawn.push(scrolling("heat map of layers by round", heat.svg(limit.unwrap_or(1.0), &label)));
    if run.merges.is_empty() {
        let rows =
            run.trained.iter().take(MOST_MERGES).map(|(round, layers)| {
                vec![numeral(*round as f64), TableCell::Text(plain(layers))]
            });
        drawn.push(el("p").class("said").text(
            "No merge has been recorded, so no gain is known: shown is where layers were trained.",
        ));
        return figure(
            Size::Whole,
            heading,
            &explained,
            drawn,
            table("layers by round", &heads(["round", "layers"]), rows),
        );
    }
    // Only of 16-bit weights is it known, and worth a column.
    let rounded = run.merges.iter().any(|m| m.captured.is_some());
    let mut names =
        vec!["round", "layers", "parameters", "steps", "η", "gain", "update norms by layer"];
    names.extend(rounded.then_some("captured"));
    let heads: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let rows = run.merges.iter().take(MOST_MERGES).map(|m| {
        let norms: Vec<String> = m
            .update_norms
            .iter()
            .map(|(layer, norm)| format!("{layer}: {}", number(*norm)))
            .collect();
        let count = |n: u64| TableCell::Number(grouped(n));
        let (round, layers) = (numeral(m.round as f64), TableCell::Text(plain(&m.layers)));
        let gain = numeral_or_absent(m.gain);
        let mut row = vec![
            round,
            layers,
            count(m.parameters),
            count(m.steps),
            numeral(m.eta),
            gain,
            TableCell::Text(norms.join(", ")),
        ];
        row.extend(rounded.then(|| numeral_or_absent(m.captured)));
        row
    });
    if run.merges.len() > MOST_MERGES {
        let said = format!(
            "The table lists the first {MOST_MERGES} merges of {}; metrics.jsonl has them all.",
            run.merges.len()
        );
        drawn.push(el("p").class("said").text(said));
    }
    figure(Size::Whole, heading, &explained, drawn, table("merges", &heads, rows))
}

fn updates(run: &Recorded) -> Element {
    let norms = norms(run);
    let heading = "Update by layer";
    if norms.is_empty() {
        return missing(
            Size::Half,
            heading,
            "No merge has been recorded, so nothing is known of how far each layer has moved.",
        );
    }
    let largest = norms
        .iter()
        .max_by(|a, b| a.1.total_cmp(b.1))
        .map_or(String::new(), |(l, n)| format!("layer {l} with {}", number(*n)));
    let label = format!("Norm of the updates of each layer; the largest is {largest}.");
    let explained = "How far all boosters together have moved the weights of a layer: the root of \
                     the sum over rounds of the squared Frobenius norms of what was added.";
    let numbers = table(
        "norm by layer",
        &heads(["layer", "norm"]),
        norms.iter().map(|(l, n)| vec![numeral(*l as f64), numeral(*n)]),
    );
    figure(
        Size::Half,
        heading,
        explained,
        [bars::svg(&norms, "norm of updates (units of the weights)", &label)],
        numbers,
    )
}

/// The test metric of each task, before and after.
fn tasks(run: &Recorded) -> Element {
    let heading = "Test by task";
    let (Some(name), Some(tuned)) = (run.metric(), run.evaluations.tuned()) else {
        return missing(Size::Half, heading, "The test split was not evaluated.");
    };
    let base = run.evaluations.base().filter(|base| base.round != tuned.round);
    let of = |metrics: Option<&Map<String, Value>>, key: &str| {
        metrics.and_then(|m| m.get(key)).and_then(Value::as_f64)
    };
    let row = |task: &str, base: Option<&Map<String, Value>>, tuned: &Map<String, Value>| {
        let shown = |value: Option<f64>| {
            TableCell::Number(value.map_or(ABSENT.into(), |v| format!("{v:.4}")))
        };
        let items = TableCell::Number(
            tuned.get("items").and_then(Value::as_u64).map_or(ABSENT.into(), grouped),
        );
        let [tuned_at, majority, error] =
            [name, "majority", "standard_error"].map(|key| shown(of(Some(tuned), key)));
        vec![TableCell::Text(task.into()), shown(of(base, name)), tuned_at, error, majority, items]
    };
    let tasks = |metrics: &Map<String, Value>| {
        metrics.get("tasks").and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let (before, after) =
        (base.map(|b| tasks(&b.metrics)).unwrap_or_default(), tasks(&tuned.metrics));
    let several = after.iter().filter_map(|(task, metrics)| {
        Some(row(task, before.get(task).and_then(Value::as_object), metrics.as_object()?))
    });
    let mut rows: Vec<_> = several.collect();
    let whole = if rows.is_empty() { "all items" } else { "unweighted average" };
    rows.push(row(whole, base.map(|b| &b.metrics), &tuned.metrics));
    let heads = heads(["task", "base", "tuned", "std. error", "majority", "items"]);
    let said = format!(
        "{} of the test split before the first booster (base) and when last measured (tuned).",
        capital(short(name))
    );
    card(
        Size::Half,
        heading,
        [el("p").class("said").text(said), table("test by task", &heads, rows)],
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

/// A JSON value for people: texts without quotes.
pub fn value_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
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
