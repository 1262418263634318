//! The report of several runs beside each other.

use std::collections::BTreeSet;

use super::by_task::base_and_tuned;
use super::curves::{norms, short, titled};
use super::heat::{Heat, Ranks};
use super::layers::layers_by_round;
use super::line::{Chart, ChartLine, LineForm, Panel, sample};
use super::markup::{Element, el};
use super::page::{
    ABSENT, Size, TableCell, card, figure, header, heads, missing, numeral, numeral_or_absent,
    page, table, value_text,
};
use super::read::Recorded;
use super::seeds::{Differing, Group, NamedRun, bundles, differing};
use super::series::sure_line;
use crate::run::sweep;
use crate::run::{duration, grouped};

/// The most points of a run's curve.
const MOST_POINTS: usize = 200;

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
    let groups = bundles(runs);
    let mut cards = vec![overview(runs, &groups, metric), loss(&groups)];
    cards.extend(qualities(&groups, metric));
    cards.push(updates(&groups));
    cards.extend(heats(runs));
    page(
        &format!("{title}: xgbrun report"),
        header("xgbrun: report of several runs", &title, &lead, &notices),
        cards,
    )
}

/// A row a run, and a row for runs that differ in a seed alone.
fn overview(runs: &[NamedRun], groups: &[Group], metric: Option<&str>) -> Element {
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
    let rows = groups.iter().enumerate().flat_map(|(look, group)| {
        let own = Some(look).filter(|_| group.members.len() == 1);
        let row = |i: &usize| run_row(*i, own, &runs[*i], &differing, metric);
        let mut rows: Vec<Vec<TableCell>> = group.members.iter().map(row).collect();
        if group.members.len() > 1 {
            rows.push(mean_row(runs, group, look, &differing, metric));
        }
        rows
    });
    let mut said = format!(
        "Base and tuned: {} of the test split before the first booster and when last measured.",
        short(metric)
    );
    if groups.len() < runs.len() {
        said += " Runs that differ in a seed alone have a row with their mean and the standard \
                 deviation of the sample, and one curve.";
    }
    card(Size::Whole, "Runs", [el("p").class("said").text(said), table("runs", &heads, rows)])
}

fn run_row(
    i: usize,
    look: Option<usize>,
    (name, run): &NamedRun,
    differing: &Differing,
    metric: &str,
) -> Vec<TableCell> {
    let mut cells = vec![match look {
        Some(look) => TableCell::Drawn(sample(look, LineForm::Line), name.clone()),
        None => TableCell::Text(name.clone()),
    }];
    cells.extend(
        differing
            .values()
            .map(|values| TableCell::Text(values[i].as_ref().map_or(ABSENT.into(), value_text))),
    );
    let (base, tuned) = base_and_tuned(run, metric);
    let count = |n: Option<u64>| TableCell::Number(n.map_or(ABSENT.into(), grouped));
    let shown =
        |value: Option<f64>| TableCell::Number(value.map_or(ABSENT.into(), |v| format!("{v:.4}")));
    cells.extend([
        shown(base),
        shown(tuned),
        count(run.best_round().map(|n| n as u64)),
        count(Some(run.rounds() as u64)),
        count(run.trained_in_total()),
    ]);
    let timing = |value: Option<String>| TableCell::Timing(value.unwrap_or(ABSENT.into()));
    cells.push(timing(run.timing("seconds").map(duration)));
    cells.extend(
        ["tokens_per_second", "peak_rss_mib"]
            .map(|key| timing(run.timing(key).map(|v| format!("{v:.0}")))),
    );
    cells
}

/// The row of runs that differ in a seed alone: mean and deviation where they have some.
fn mean_row(
    runs: &[NamedRun],
    group: &Group,
    look: usize,
    differing: &Differing,
    metric: &str,
) -> Vec<TableCell> {
    let name = group.bundle.name.clone();
    let mut cells = vec![TableCell::Drawn(sample(look, LineForm::Line), name)];
    cells.extend(differing.values().map(|values| {
        let own: Vec<_> = group.members.iter().map(|i| &values[*i]).collect();
        let same = own.iter().all(|value| *value == own[0]);
        TableCell::Text(own[0].as_ref().filter(|_| same).map_or(String::new(), value_text))
    }));
    let shown = |spread: (Option<f64>, Option<f64>)| {
        let deviation = spread.1.map_or(String::new(), |d| format!(" ± {d:.4}"));
        TableCell::Number(spread.0.map_or(ABSENT.into(), |mean| format!("{mean:.4}{deviation}")))
    };
    cells.push(shown(group.spread(runs, |run| base_and_tuned(run, metric).0)));
    cells.push(shown(group.spread(runs, |run| base_and_tuned(run, metric).1)));
    cells.extend(std::iter::repeat_n(TableCell::Text(String::new()), 6));
    cells
}

fn loss(groups: &[Group]) -> Element {
    let line = |(look, group): (usize, &Group)| {
        let points = group.bundle.losses(MOST_POINTS);
        (!points.is_empty())
            .then(|| sure_line(group.bundle.name.clone(), look, LineForm::Line, &points))
    };
    let lines: Vec<ChartLine> = groups.iter().enumerate().filter_map(line).collect();
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
fn updates(groups: &[Group]) -> Element {
    let line = |(look, group): (usize, &Group)| {
        let norms: Vec<_> = group.bundle.traces.iter().map(|trace| norms(trace)).collect();
        let layers: BTreeSet<usize> =
            norms.iter().flat_map(|norms| norms.keys().copied()).collect();
        let point = |layer: &usize| {
            let values: Vec<f64> =
                norms.iter().map(|norms| norms.get(layer).copied().unwrap_or(0.0)).collect();
            Some((*layer as f64, sweep::mean(&values)?, sweep::deviation(&values)))
        };
        let points: Vec<_> = layers.iter().filter_map(point).collect();
        (!points.is_empty()).then(|| ChartLine {
            name: group.bundle.name.clone(),
            look,
            form: LineForm::Marked,
            points,
        })
    };
    let lines: Vec<ChartLine> = groups.iter().enumerate().filter_map(line).collect();
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
fn qualities(groups: &[Group], metric: Option<&str>) -> Vec<Element> {
    let Some(metric) = metric else {
        return vec![missing(Size::Half, "Evaluation", "No run has evaluated anything.")];
    };
    let mut splits: Vec<(String, Vec<ChartLine>)> = vec![];
    for (look, Group { bundle, .. }) in groups.iter().enumerate() {
        for (split, points) in bundle.measured(metric) {
            let line =
                ChartLine { name: bundle.name.clone(), look, form: LineForm::Marked, points };
            match splits.iter_mut().find(|(known, _)| *known == split) {
                Some((_, lines)) => lines.push(line),
                None => splits.push((split, vec![line])),
            }
        }
    }
    let seeds = groups.iter().any(|group| group.members.len() > 1);
    let alone = groups.iter().any(|group| group.members.len() == 1);
    let bars = match (seeds, alone && metric == "accuracy") {
        (true, true) => "; bars: one standard deviation over seeds, or one standard error.",
        (true, false) => "; bars reach one standard deviation over seeds up and down.",
        (false, true) => "; bars reach one standard error up and down.",
        (false, false) => ".",
    };
    let card = |(split, lines): (String, Vec<ChartLine>)| {
        let without: Vec<&str> = groups
            .iter()
            .map(|group| group.bundle.name.as_str())
            .filter(|n| !lines.iter().any(|l| l.name == *n))
            .collect();
        let mut explained = format!("Evaluations of {split}{bars}");
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
    let numbers = table(heading, &heads(["run", x, y, "±"]), rows);
    let label = format!("{heading} of {} runs.", lines.len());
    let panel = Panel { title: y.into(), height: 230.0, lines, level: None };
    let chart = Chart { label, x: x.into(), place: None, panels: vec![panel] };
    figure(Size::Half, heading, explained, [chart.legend(), chart.svg()], numbers)
}

/// A heat map a run, all in the colours of one scale.
fn heats(runs: &[NamedRun]) -> Vec<Element> {
    let maps: Vec<_> = runs.iter().map(|(name, run)| (name, run, Heat::of(run))).collect();
    let gains = maps.iter().filter_map(|(.., heat)| Some(heat.as_ref()?.gains())).flatten();
    let ranks = Ranks::of(gains);
    let card = |(i, (name, run, heat)): (usize, &(&String, &Recorded, Option<Heat>))| {
        let heading = format!("Layers by round: {name}");
        match heat {
            Some(heat) => layers_by_round(run, heat, &heading, &ranks, i == 0),
            None => missing(Size::Whole, &heading, "No layer has been trained."),
        }
    };
    maps.iter().enumerate().map(card).collect()
}
