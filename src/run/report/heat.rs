//! The heat map: which layers were trained in which round, and what the round's booster gained.

use std::collections::BTreeMap;

use super::line::{segment, text};
use super::markup::{Element, el};
use super::read::Recorded;
use super::scale::{number, round_up};

/// The most columns; of a longer run, several rounds share one.
const MOST_COLUMNS: usize = 256;
/// Colours on either side of zero; the border of the outermost is half the scale, that of each
/// other one half the next.
const LEVELS: i32 = 4;
const LEFT: f64 = 46.0;
const TOP: f64 = 28.0;

/// Cells by (column, layer); `None` where nobody measured a gain.
#[derive(Debug)]
pub struct Heat {
    cells: BTreeMap<(usize, usize), Option<f64>>,
    columns: usize,
    layers: usize,
    /// Rounds in a column.
    pub each: usize,
}

impl Heat {
    /// The heat map of a run; `None` if it trained no layer.
    pub fn of(run: &Recorded) -> Option<Self> {
        let merged = run.merges.iter().flat_map(|m| m.layers.iter().map(|l| (m.round, *l, m.gain)));
        let trained = run
            .trained
            .iter()
            .flat_map(|(round, layers)| layers.iter().map(|l| (*round, *l, None)));
        let all: Vec<(usize, usize, Option<f64>)> = merged.chain(trained).collect();
        let last = all.iter().map(|a| a.0).max()?;
        let each = (last / MOST_COLUMNS).saturating_add(1);
        let mut gains: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
        for (round, layer, gain) in &all {
            gains.entry((round / each, *layer)).or_default().extend(*gain);
        }
        let mean = |gains: Vec<f64>| {
            (!gains.is_empty()).then(|| gains.iter().sum::<f64>() / gains.len() as f64)
        };
        let layers = all.iter().map(|a| a.1).max()? + 1;
        let cells = gains.into_iter().map(|(place, gains)| (place, mean(gains))).collect();
        Some(Self { cells, columns: last / each + 1, layers, each })
    }

    /// The largest gain or loss, rounded up: the end of the colour scale.
    pub fn limit(&self) -> Option<f64> {
        let largest = self.cells.values().flatten().map(|g| g.abs()).fold(0.0, f64::max);
        (largest > 0.0).then(|| round_up(largest))
    }

    /// Whether cells are there whose gain nobody measured.
    pub fn has_unmeasured(&self) -> bool {
        self.cells.values().any(Option::is_none)
    }

    pub fn svg(&self, limit: f64, label: &str) -> Element {
        let (w, h) =
            ((1000 / self.columns).clamp(4, 34) as f64, (400 / self.layers).clamp(5, 20) as f64);
        let (right, bottom) = (LEFT + w * self.columns as f64, TOP + h * self.layers as f64);
        let (width, height) = ((right + 14.0).max(340.0), bottom + 44.0);
        let mut svg = el("svg").class("heat").attr("viewBox", format!("0 0 {width} {height}"));
        svg = svg
            .attr("width", width)
            .attr("height", height)
            .attr("role", "img")
            .attr("aria-label", label);
        svg = svg.child(text("axis", 4.0, TOP - 13.0, "layer (0 at the input)"));
        let row = |layer: usize| bottom - h * (layer + 1) as f64;
        let ground = el("rect").class("ground").attr("x", LEFT).attr("y", TOP);
        svg = svg.child(ground.attr("width", right - LEFT).attr("height", bottom - TOP));
        for layer in (0..self.layers).step_by(apart(16.0 / h)) {
            svg = svg.child(text(
                "tick end",
                LEFT - 8.0,
                row(layer) + h / 2.0 + 4.0,
                &layer.to_string(),
            ));
        }
        for column in (0..self.columns).step_by(apart(34.0 / w)) {
            let round = (column * self.each).to_string();
            svg = svg.child(text(
                "tick mid",
                LEFT + w * (column as f64 + 0.5),
                bottom + 16.0,
                &round,
            ));
        }
        svg = svg.child(text("axis", LEFT, bottom + 37.0, "round (boosters merged before it)"));
        for ((column, layer), gain) in &self.cells {
            svg = svg.child(self.cell(
                *column,
                *layer,
                *gain,
                limit,
                (LEFT + w * *column as f64, row(*layer), w, h),
            ));
        }
        svg
    }

    fn cell(
        &self,
        column: usize,
        layer: usize,
        gain: Option<f64>,
        limit: f64,
        (x, y, w, h): (f64, f64, f64, f64),
    ) -> Element {
        let first = column * self.each;
        let rounds = if self.each == 1 {
            format!("round {first}")
        } else {
            format!("rounds {first} to {}", first + self.each - 1)
        };
        let said = gain.map_or("no gain measured".into(), |gain| {
            format!("gain {} nats a token", number(gain))
        });
        let title = el("title").text(format_args!("{rounds}, layer {layer}: {said}"));
        square(gain.map(|gain| level(gain, limit)), x, y, w, h).child(title)
    }
}

/// A coloured square, or a hatched one. A gap of half a unit parts it from its neighbours.
fn square(level: Option<i32>, x: f64, y: f64, w: f64, h: f64) -> Element {
    let (x, y, w, h) = (x + 0.5, y + 0.5, w - 1.0, h - 1.0);
    let rect = el("rect").attr("x", format!("{x:.1}")).attr("y", format!("{y:.1}"));
    let rect = rect.attr("width", format!("{w:.1}")).attr("height", format!("{h:.1}"));
    match level {
        Some(level) => el("g").child(rect.class(class(level))),
        None => el("g").child(rect.class("none")).child(segment("hatch", x, y + h, x + w, y)),
    }
}

/// From −4, where the loss rose most, over 0 to 4, where it fell most.
fn level(gain: f64, limit: f64) -> i32 {
    let size = gain.abs() / limit;
    let level = (1..=LEVELS).rev().find(|l| size > 0.5f64.powi(LEVELS + 1 - l)).unwrap_or(0);
    if gain < 0.0 { -level } else { level }
}

fn class(level: i32) -> String {
    match level {
        0 => "g0".into(),
        level if level < 0 => format!("n{}", -level),
        level => format!("p{level}"),
    }
}

/// Every how many labels one is written, where `least` fit into the room of one: 1, 2, 5, 10 …
fn apart(least: f64) -> usize {
    let steps = (0..).flat_map(|power| [1, 2, 5].map(|n| n * 10usize.pow(power)));
    steps.take(12).find(|s| *s as f64 >= least).unwrap_or(1)
}

/// The colour scale, with numbers at the borders.
pub fn legend(limit: f64) -> Element {
    const WIDTH: f64 = 68.0;
    let borders: Vec<f64> = (0..=LEVELS).map(|l| limit * 0.5f64.powi(LEVELS - l)).collect();
    let edges = borders.iter().rev().map(|b| -b).chain(borders.iter().copied());
    let width = WIDTH * f64::from(2 * LEVELS + 2);
    let mut svg = el("svg")
        .class("heat")
        .attr("viewBox", format!("0 0 {width} 52"))
        .attr("width", width)
        .attr("height", 52);
    svg = svg.attr("role", "img").attr(
        "aria-label",
        format!("colour scale of gains from {} to {}", number(-limit), number(limit)),
    );
    for level in -LEVELS..=LEVELS {
        let x = WIDTH * (f64::from(level + LEVELS) + 0.5);
        svg = svg.child(square(Some(level), x, 18.0, WIDTH, 14.0));
    }
    for (i, edge) in edges.enumerate() {
        svg = svg.child(text("tick mid", WIDTH * (i as f64 + 0.5), 48.0, &number(edge)));
    }
    svg.child(text(
        "axis",
        WIDTH / 2.0,
        12.0,
        "gain in nats a token: below zero the loss rose, above it fell",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_halve_towards_zero() {
        let got = [0.0, 0.0625, 0.07, 0.2, 0.3, 0.51, 1.0, -0.07, -1.0]
            .map(|gain| class(level(gain, 1.0)));
        assert_eq!(got, ["g0", "g0", "p1", "p2", "p3", "p4", "p4", "n1", "n4"]);
    }

    #[test]
    fn rounds_share_columns_in_a_long_run() {
        let mut run = Recorded::default();
        run.trained.insert(0, [1].into());
        run.trained.insert(1023, [0].into());
        let heat = Heat::of(&run).unwrap();
        assert_eq!((heat.each, heat.columns, heat.layers), (4, 256, 2));
        run.trained.insert(usize::MAX, [0].into());
        assert!(Heat::of(&run).unwrap().columns <= MOST_COLUMNS);
        assert!(Heat::of(&Recorded::default()).is_none());
    }

    #[test]
    fn labels_have_room() {
        assert_eq!([0.4, 1.0, 1.1, 3.0, 7.0, 11.0].map(apart), [1, 1, 2, 5, 10, 20]);
    }
}
