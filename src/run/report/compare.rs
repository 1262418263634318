//! The report of several runs beside each other.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::curves::{losses, measured, norms, short, sure, titled};
use super::heat::Heat;
use super::line::{Chart, ChartLine, LineForm, Panel, sample};
use super::markup::{Element, el};
use super::page::{
    ABSENT, Size, TableCell, card, figure, header, heads, missing, numeral, numeral_or_absent,
    page, table,
};
use super::read::Recorded;
use super::series::{smoothed, thinned};
use super::single::{base_and_tuned, layers_by_round, value_text};
use crate::run::{duration, grouped};

/// The most points of a run's curve.
const MOST_POINTS: usize = 200;

/// Runs by the names they are called.
pub type NamedRun = (String, Recorded);

pub fn html(runs: &[NamedRun]) -> String {
    let metric = runs.iter().find_map(|(_, run)| run.metric());
    let notices: Vec<String> = runs
        .iter()
        .flat_map(|(name, run)| run.notices.iter().map(move |n| format!("{name}: {n}")))
        .collect();
    let lead = match differing(runs).keys().cloned().collect::<Vec<_>>() {
        none if none.is_empty() => "They differ in no parameter.".to_owned(),
        some => format!("They differ in {}.", some.join(", ")),
    };
    let title = format!("{} runs compared", runs.len());
    let mut cards = vec![overview(runs, metric), loss(runs)];
    cards.extend(qualities(runs, metric));
    cards.push(updates(runs));
    cards.extend(heats(runs));
    page(
        &format!("{title}: xgbrun report"),
        header("xgbrun: report of several runs", &title, &lead, &notices),
        cards,
    )
}

/// Parameters, and what else decides a run's bytes, whose values are not the same in all runs: by
/// name, a value a run.
fn differing(runs: &[NamedRun]) -> BTreeMap<String, Vec<Option<Value>>> {
    const DECISIVE: [&str; 8] =
        ["recipe", "recipe_sha256", "engine", "seed", "device", "dtype", "threads", "kernels"];
    let all: Vec<Map<String, Value>> =
        runs.iter().map(|(_, run)| settings(run, &DECISIVE)).collect();
    let names = all.iter().flat_map(|settings| settings.keys().cloned());
    let columns: BTreeMap<String, Vec<Option<Value>>> = names
        .map(|name| {
            (name.clone(), all.iter().map(|settings| settings.get(&name).cloned()).collect())
        })
        .collect();
    columns
        .into_iter()
        .filter(|(_, values)| values.iter().any(|value| *value != values[0]))
        .collect()
}

/// A run's parameters, and what of its manifest is in `decisive` under a name that no parameter
/// has.
fn settings(run: &Recorded, decisive: &[&str]) -> Map<String, Value> {
    let mut out = run.parameters();
    for key in decisive {
        if let Some(value) = run.manifest.get(*key) {
            let name = if out.contains_key(*key) {
                format!("{key} of the run")
            } else {
                (*key).to_owned()
            };
            out.insert(name, value.clone());
        }
    }
    out
}

/// A row a run.
fn overview(runs: &[NamedRun], metric: Option<&str>) -> Element {
    let differing = differing(runs);
    let mut heads = vec!["run".to_owned()];
    heads.extend(differing.keys().cloned());
    let metric = metric.unwrap_or("accuracy");
    heads.extend(
        [
            "base",
            "tuned",
            "best round",
            "merged",
            "trained in total",
            "time",
            "tokens/s",
            "peak MiB",
        ]
        .map(str::to_owned),
    );
    let rows =
        runs.iter().enumerate().map(|(i, (name, run))| {
            let mut cells = vec![TableCell::Drawn(sample(i, LineForm::Line), name.clone())];
            cells.extend(differing.values().map(|values| {
                TableCell::Text(values[i].as_ref().map_or(ABSENT.into(), value_text))
            }));
            let (base, tuned) = base_and_tuned(run, metric);
            let count = |n: Option<u64>| TableCell::Number(n.map_or(ABSENT.into(), grouped));
            let shown = |value: Option<f64>| {
                TableCell::Number(value.map_or(ABSENT.into(), |v| format!("{v:.4}")))
            };
            cells.extend([
                shown(base),
                shown(tuned),
                count(run.best_round().map(|n| n as u64)),
                count(Some(run.rounds() as u64)),
            ]);
            cells.push(count(run.trained_in_total()));
            let timing = |value: Option<String>| TableCell::Timing(value.unwrap_or(ABSENT.into()));
            cells.push(timing(run.timing("seconds").map(duration)));
            cells.extend(
                ["tokens_per_second", "peak_rss_mib"]
                    .map(|key| timing(run.timing(key).map(|v| format!("{v:.0}")))),
            );
            cells
        });
    let said = format!(
        "Base and tuned: {} of the test split before the first booster and when last measured.",
        short(metric)
    );
    card(Size::Whole, "Runs", [el("p").class("said").text(said), table("runs", &heads, rows)])
}

fn loss(runs: &[NamedRun]) -> Element {
    let line = |(look, (name, run)): (usize, &NamedRun)| {
        let (points, _) = thinned(&smoothed(&losses(run)).0, MOST_POINTS);
        (!points.is_empty()).then(|| ChartLine {
            name: name.clone(),
            look,
            form: LineForm::Line,
            points: sure(&points),
        })
    };
    let lines: Vec<ChartLine> = runs.iter().enumerate().filter_map(line).collect();
    let explained = "Mean of each step with its neighbours, a twentieth of a run's steps together.";
    chart(
        "Training loss",
        explained,
        "step",
        "loss (nats a token)",
        lines,
        "No run has recorded a training step.",
    )
}

/// How far each run has moved each layer.
fn updates(runs: &[NamedRun]) -> Element {
    let line = |(look, (name, run)): (usize, &NamedRun)| {
        let points: Vec<_> =
            norms(run).into_iter().map(|(layer, norm)| (layer as f64, norm, None)).collect();
        (!points.is_empty()).then(|| ChartLine {
            name: name.clone(),
            look,
            form: LineForm::Marked,
            points,
        })
    };
    let lines: Vec<ChartLine> = runs.iter().enumerate().filter_map(line).collect();
    let explained = "The root of the sum over rounds of the squared Frobenius norms of what was \
                     added to a layer.";
    let nothing =
        "No merge has been recorded, so nothing is known of how far each layer has moved.";
    chart(
        "Update by layer",
        explained,
        "layer (0 at the input)",
        "norm of updates (units of the weights)",
        lines,
        nothing,
    )
}

/// A card for each split that a run has measured.
fn qualities(runs: &[NamedRun], metric: Option<&str>) -> Vec<Element> {
    let Some(metric) = metric else {
        return vec![missing(Size::Half, "Evaluation", "No run has evaluated anything.")];
    };
    let mut splits: Vec<(String, Vec<ChartLine>)> = vec![];
    for (look, (name, run)) in runs.iter().enumerate() {
        for (split, points) in measured(run, metric) {
            let line = ChartLine { name: name.clone(), look, form: LineForm::Marked, points };
            match splits.iter_mut().find(|(known, _)| *known == split) {
                Some((_, lines)) => lines.push(line),
                None => splits.push((split, vec![line])),
            }
        }
    }
    let card = |(split, lines): (String, Vec<ChartLine>)| {
        let without: Vec<&str> = runs
            .iter()
            .map(|(n, _)| n.as_str())
            .filter(|n| !lines.iter().any(|l| l.name == *n))
            .collect();
        let mut explained = match metric {
            "accuracy" => {
                format!("Evaluations of {split}; bars reach one standard error up and down.")
            }
            _ => format!("Evaluations of {split}."),
        };
        if !without.is_empty() {
            explained += &format!(" Not measured in {}.", without.join(", "));
        }
        chart(
            &format!("{split}: {}", short(metric)),
            &explained,
            "round (boosters merged)",
            &titled(metric),
            lines,
            "",
        )
    };
    splits.into_iter().map(card).collect()
}

/// Lines of several runs with their legend and numbers.
fn chart(
    heading: &str,
    explained: &str,
    x: &str,
    y: &str,
    lines: Vec<ChartLine>,
    nothing: &str,
) -> Element {
    if lines.is_empty() {
        return missing(Size::Half, heading, nothing);
    }
    let rows: Vec<Vec<TableCell>> = lines
        .iter()
        .flat_map(|line| {
            let row = |(x, y, error): &super::line::ChartPoint| {
                vec![
                    TableCell::Text(line.name.clone()),
                    numeral(*x),
                    numeral(*y),
                    numeral_or_absent(*error),
                ]
            };
            line.points.iter().map(row).collect::<Vec<_>>()
        })
        .collect();
    let numbers = table(heading, &heads(["run", x, y, "standard error"]), rows);
    let label = format!("{heading} of {} runs.", lines.len());
    let panel = Panel { title: y.into(), height: 230.0, lines, level: None };
    let chart = Chart { label, x: x.into(), place: None, panels: vec![panel] };
    figure(Size::Half, heading, explained, [chart.legend(), chart.svg()], numbers)
}

/// A heat map a run, all in the colours of one scale.
fn heats(runs: &[NamedRun]) -> Vec<Element> {
    let maps: Vec<_> = runs.iter().map(|(name, run)| (name, run, Heat::of(run))).collect();
    let limit = maps.iter().filter_map(|(.., heat)| heat.as_ref()?.limit()).fold(0.0, f64::max);
    let card = |(i, (name, run, heat)): (usize, &(&String, &Recorded, Option<Heat>))| {
        let heading = format!("Layers by round: {name}");
        match heat {
            Some(heat) => {
                layers_by_round(run, heat, &heading, (limit > 0.0).then_some(limit), i == 0)
            }
            None => missing(Size::Whole, &heading, "No layer has been trained."),
        }
    };
    maps.iter().enumerate().map(card).collect()
}
