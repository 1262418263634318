//! Which layers were trained in which rounds, and how far they moved.

use super::bars;
use super::curves::norms;
use super::heat::{self, Heat, Ranks};
use super::markup::{Element, el};
use super::page::{
    Size, TableCell, figure, heads, missing, numeral, numeral_or_absent, scrolling, table,
};
use super::plain;
use super::read::Recorded;
use super::scale::number;
use crate::run::grouped;

/// The most merges that a table lists.
const MOST_MERGES: usize = 1000;

/// How a heat map is read.
const EXPLAINED: &str = "A cell is a layer that was trained in a round; its colour says by how \
                         much the round's booster lowered the loss on the last batch that it saw, \
                         measured before it was trained on that batch. Each colour is for as many \
                         cells as the others. Layers that were not trained in a round are empty.";

/// The heat map in the colours of `ranks`; their scale stands above it with `scale`.
pub fn layers_by_round(
    run: &Recorded,
    heat: &Heat,
    heading: &str,
    ranks: &Ranks,
    scale: bool,
) -> Element {
    let mut explained = match (ranks.is_empty(), scale) {
        (true, _) => "A cell is a layer that was trained in a round.",
        (_, true) => EXPLAINED,
        (_, false) => "In the colours of the scale above.",
    }
    .to_owned();
    explained += &run.shown_point();
    if heat.has_unmeasured() {
        explained += " A hatched cell was trained, but no gain was measured.";
    }
    if heat.each > 1 {
        explained += &format!(" A column is {} rounds, its colour their mean gain.", heat.each);
    }
    let trained: usize = run.trace.trained.len().max(run.trace.merges.len());
    let label = format!(
        "Layers trained in each of {trained} rounds, coloured by the gain of the round's booster."
    );
    let mut drawn = vec![];
    if scale && !ranks.is_empty() {
        drawn.push(scrolling("colour scale", heat::legend(ranks)));
    }
    drawn.push(scrolling("heat map of layers by round", heat.svg(ranks, &label)));
    if run.trace.merges.is_empty() {
        let rows =
            run.trace.trained.iter().take(MOST_MERGES).map(|(round, layers)| {
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
    let rounded = run.trace.merges.iter().any(|m| m.captured.is_some());
    let mut names =
        vec!["round", "layers", "parameters", "steps", "η", "gain", "update norms by layer"];
    names.extend(rounded.then_some("captured"));
    let heads: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let rows = run.trace.merges.iter().take(MOST_MERGES).map(|m| {
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
    if run.trace.merges.len() > MOST_MERGES {
        let said = format!(
            "The table lists the first {MOST_MERGES} merges of {}; metrics.jsonl has them all.",
            run.trace.merges.len()
        );
        drawn.push(el("p").class("said").text(said));
    }
    figure(Size::Whole, heading, &explained, drawn, table("merges", &heads, rows))
}

pub fn updates(run: &Recorded) -> Element {
    let norms = norms(&run.trace);
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
