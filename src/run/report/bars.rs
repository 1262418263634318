//! A bar a layer.

use std::collections::BTreeMap;

use super::line::{segment, text};
use super::markup::{Element, el};
use super::scale::{Scale, number};

const WIDTH: f64 = 520.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 250.0;

/// A bar chart of values by layer.
pub fn svg(values: &BTreeMap<usize, f64>, title: &str, label: &str) -> Element {
    let ys = Scale::round(values.values().copied().chain([0.0]), (BOTTOM, TOP), 5);
    let mut svg =
        el("svg").class("chart").attr("viewBox", format!("0 0 {WIDTH} {}", BOTTOM + 46.0));
    svg = svg.attr("role", "img").attr("aria-label", label).child(text(
        "axis",
        4.0,
        TOP - 13.0,
        title,
    ));
    for &tick in &ys.ticks {
        svg = svg.child(segment("grid", LEFT, ys.at(tick), WIDTH - RIGHT, ys.at(tick)));
        svg = svg.child(text("tick end", LEFT - 8.0, ys.at(tick) + 4.0, &number(tick)));
    }
    let layers = values.keys().max().map_or(1, |last| last + 1);
    let slot = (WIDTH - RIGHT - LEFT) / layers as f64;
    for (layer, value) in values {
        let (x, y) = (LEFT + slot * (*layer as f64 + 0.15), ys.at(*value));
        let bar = el("rect").class("f0").attr("x", format!("{x:.1}")).attr("y", format!("{y:.1}"));
        let bar = bar
            .attr("width", format!("{:.1}", slot * 0.7))
            .attr("height", format!("{:.1}", BOTTOM - y));
        svg = svg
            .child(bar.child(el("title").text(format_args!("layer {layer}: {}", number(*value)))));
    }
    let each = layers.div_ceil(16);
    for layer in (0..layers).step_by(each) {
        svg = svg.child(text(
            "tick mid",
            LEFT + slot * (layer as f64 + 0.5),
            BOTTOM + 17.0,
            &layer.to_string(),
        ));
    }
    svg.child(text(
        "axis mid",
        (LEFT + WIDTH - RIGHT) / 2.0,
        BOTTOM + 38.0,
        "layer (0 at the input)",
    ))
}
