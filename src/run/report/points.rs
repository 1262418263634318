//! A sweep: a curve and a result of each of its points, and the tables that the recipe made.

use serde_json::Value;

use super::bundle::Bundle;
use super::line::{Chart, ChartLine, LineForm, Panel, sample};
use super::markup::{Element, el};
use super::page::{
    ABSENT, Size, TableCell, card, figure, heads, missing, numeral, numeral_or_absent, table,
    value_text,
};
use super::read::{Recorded, finite};
use super::series::{best_first, sure_line};
use crate::run::sweep::{PointGroup, labels};

/// The most points that charts show, and rows that a table lists.
const MOST_CURVES: usize = 16;
const MOST_ROWS: usize = 500;
const MOST_POINTS: usize = 200;

/// The cards of a run's sweep; none without one.
pub fn cards(run: &Recorded) -> Vec<Element> {
    let groups = run.sweep.groups();
    let mut cards = vec![];
    if !groups.is_empty() {
        let shown = best_first(&groups, run.sweep.smaller_is_better(), MOST_CURVES);
        cards.extend([overview(&groups), losses(run, &groups, &shown), results(&groups, &shown)]);
    }
    if !run.sweep.rows.is_empty() {
        cards.push(rows(&run.sweep.rows));
    }
    cards
}

/// The best point in a sentence.
pub fn best(run: &Recorded) -> Option<String> {
    let groups = run.sweep.groups();
    let best = groups.iter().position(|group| group.best)?;
    let (n, label, mean) = (groups.len(), &labels(&groups)[best], groups[best].mean?);
    Some(format!("Best of {n} points: {label}, with {mean:.4}."))
}

/// What the curves are called; points are numbered as in the table.
fn names(groups: &[PointGroup]) -> Vec<String> {
    let name = |(i, (group, label)): (usize, (&PointGroup, String))| {
        let best = if group.best { " (best)" } else { "" };
        format!("{}: {label}{best}", i + 1)
    };
    groups.iter().zip(labels(groups)).enumerate().map(name).collect()
}

fn overview(groups: &[PointGroup]) -> Element {
    let repeated = groups.iter().any(|group| group.members.len() > 1);
    let mut keys: Vec<&String> = vec![];
    for key in groups.iter().flat_map(|group| group.settings.keys()) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let behind: &[&str] = if repeated { &["mean", "deviation", "runs"] } else { &["result"] };
    let heads = std::iter::once("point").chain(behind.iter().copied()).map(str::to_owned);
    let heads: Vec<String> = heads.chain(keys.iter().map(|key| (*key).clone())).collect();
    let rows = groups.iter().enumerate().take(MOST_ROWS).map(|(i, group)| {
        let best = if group.best { " (best)" } else { "" };
        let name = format!("{}{best}", i + 1);
        let mut cells = vec![TableCell::Drawn(sample(i, LineForm::Marked), name)];
        let mean = group.mean.and_then(finite);
        let other = group.results.first().map_or(ABSENT.into(), value_text);
        cells.push(mean.map_or(TableCell::Text(other), numeral));
        if repeated {
            cells.push(numeral_or_absent(group.deviation.and_then(finite)));
            cells.push(numeral(group.members.len() as f64));
        }
        let setting = |key: &&String| group.settings.get(*key).map_or(ABSENT.into(), value_text);
        cells.extend(keys.iter().map(|key| TableCell::Text(setting(key))));
        cells
    });
    let mut said = "The same with several settings, and what came of each.".to_owned();
    if repeated {
        said += " Points that differ in a seed alone are one: their mean, and the standard \
                 deviation of the sample.";
    }
    if groups.len() > MOST_ROWS {
        said += &format!(" Listed are the first {MOST_ROWS} of {}.", groups.len());
    }
    let content = [el("p").class("said").text(said), table("points", &heads, rows)];
    card(Size::Whole, "Points of the sweep", content)
}

/// The smoothed loss of each point that is shown.
fn losses(run: &Recorded, groups: &[PointGroup], shown: &[usize]) -> Element {
    let heading = "Training loss by point";
    let names = names(groups);
    let line = |i: &usize| {
        let traces = groups[*i].members.iter().map(|member| &run.points[*member]).collect();
        let bundle = Bundle { name: names[*i].clone(), traces };
        let points = bundle.losses(MOST_POINTS);
        (!points.is_empty()).then(|| sure_line(bundle.name, *i, LineForm::Line, &points))
    };
    let lines: Vec<ChartLine> = shown.iter().filter_map(line).collect();
    if lines.is_empty() {
        return missing(Size::Half, heading, "No point has recorded a training step.");
    }
    let mut explained = "Mean of each step with its neighbours, a twentieth of a point\u{2019}s \
                         steps together."
        .to_owned();
    if shown.len() < groups.len() {
        explained += &format!(" Shown are the best {} of {}.", shown.len(), groups.len());
    }
    by_point(heading, &explained, "step of the point", "loss (nats a token)", lines)
}

/// The result of each point that is shown.
fn results(groups: &[PointGroup], shown: &[usize]) -> Element {
    let heading = "Result by point";
    let names = names(groups);
    let line = |i: &usize| {
        let group = &groups[*i];
        let points = vec![((*i + 1) as f64, group.mean.and_then(finite)?, group.deviation)];
        Some(ChartLine { name: names[*i].clone(), look: *i, form: LineForm::Marked, points })
    };
    let lines: Vec<ChartLine> = shown.iter().filter_map(line).collect();
    if lines.is_empty() {
        return missing(Size::Half, heading, "No point has ended with a number.");
    }
    let explained = match groups.iter().any(|group| group.deviation.is_some()) {
        true => "What each point ended with; bars reach one standard deviation up and down.",
        false => "What each point ended with.",
    };
    by_point(heading, explained, "point (its number in the table)", "result", lines)
}

fn by_point(heading: &str, explained: &str, x: &str, y: &str, lines: Vec<ChartLine>) -> Element {
    let rows: Vec<Vec<TableCell>> = lines
        .iter()
        .flat_map(|line| {
            line.points.iter().map(|(x, y, error)| {
                let name = TableCell::Text(line.name.clone());
                vec![name, numeral(*x), numeral(*y), numeral_or_absent(*error)]
            })
        })
        .collect();
    let numbers = table(heading, &heads(["point", x, y, "deviation"]), rows);
    let label = format!("{heading}: {} points.", lines.len());
    let panel = Panel { title: y.into(), height: 230.0, lines, level: None };
    let chart = Chart { label, x: x.into(), place: None, panels: vec![panel] };
    figure(Size::Half, heading, explained, [chart.legend(), chart.svg()], numbers)
}

/// Rows of the recipe's own tables, under all columns that any of them has.
fn rows(rows: &[serde_json::Map<String, Value>]) -> Element {
    let mut keys: Vec<&String> = vec![];
    for key in rows.iter().flat_map(|row| row.keys()) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let heads: Vec<String> = keys.iter().map(|key| (*key).clone()).collect();
    let cell = |value: Option<&Value>| match value {
        Some(Value::Number(n)) if n.is_f64() => numeral_or_absent(n.as_f64().and_then(finite)),
        Some(Value::Number(n)) => TableCell::Number(n.to_string()),
        Some(value) => TableCell::Text(value_text(value)),
        None => TableCell::Text(ABSENT.into()),
    };
    let cells = rows
        .iter()
        .take(MOST_ROWS)
        .map(|row| keys.iter().map(|key| cell(row.get(*key))).collect::<Vec<_>>());
    let mut said = "Rows of the tables that the recipe made.".to_owned();
    if rows.len() > MOST_ROWS {
        said += &format!(" Listed are the first {MOST_ROWS} of {}.", rows.len());
    }
    let content = [el("p").class("said").text(said), table("results", &heads, cells)];
    card(Size::Whole, "Results", content)
}
