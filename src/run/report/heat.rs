//! The heat map: which layers were trained in which round, and what the round's booster gained.

use std::collections::BTreeMap;

use super::line::{segment, text};
use super::markup::{Element, el};
use super::read::Recorded;
use super::scale::number;

/// The most columns; of a longer run, several rounds share one.
const MOST_COLUMNS: usize = 256;
/// Colours on either side of zero, each for as many of the gains as the others.
const LEVELS: usize = 4;
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
        let merged =
            run.trace.merges.iter().flat_map(|m| m.layers.iter().map(|l| (m.round, *l, m.gain)));
        let trained = run
            .trace
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

    /// The gains of all cells.
    pub fn gains(&self) -> impl Iterator<Item = f64> + '_ {
        self.cells.values().flatten().copied()
    }

    /// Whether cells are there whose gain nobody measured.
    pub fn has_unmeasured(&self) -> bool {
        self.cells.values().any(Option::is_none)
    }

    pub fn svg(&self, ranks: &Ranks, label: &str) -> Element {
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
                ranks,
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
        ranks: &Ranks,
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
        square(gain.map(|gain| class(ranks.level(gain))), x, y, w, h).child(title)
    }
}

/// A coloured square, or a hatched one. A gap of half a unit parts it from its neighbours.
fn square(class: Option<String>, x: f64, y: f64, w: f64, h: f64) -> Element {
    let (x, y, w, h) = (x + 0.5, y + 0.5, w - 1.0, h - 1.0);
    let rect = el("rect").attr("x", format!("{x:.1}")).attr("y", format!("{y:.1}"));
    let rect = rect.attr("width", format!("{w:.1}")).attr("height", format!("{h:.1}"));
    match class {
        Some(class) => el("g").child(rect.class(class)),
        None => el("g").child(rect.class("none")).child(segment("hatch", x, y + h, x + w, y)),
    }
}

/// How gains are coloured: by where their size stands among all, so that the first boosters, which
/// gain most, leave colours for the others. The sign tells the hue.
#[derive(Clone, Debug, Default)]
pub struct Ranks {
    /// Sizes of all gains but zero, ascending.
    sizes: Vec<f64>,
    /// Whether some are below zero, and some above.
    signs: (bool, bool),
}

impl Ranks {
    /// Of all `gains` that are shown together.
    pub fn of(gains: impl Iterator<Item = f64>) -> Self {
        let mut ranks = Self::default();
        for gain in gains.filter(|gain| *gain != 0.0) {
            ranks.sizes.push(gain.abs());
            ranks.signs = (ranks.signs.0 || gain < 0.0, ranks.signs.1 || gain > 0.0);
        }
        ranks.sizes.sort_by(f64::total_cmp);
        ranks
    }

    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// From −4, where the loss rose most, to 4, where it fell most; 0 of a gain of 0.
    fn level(&self, gain: f64) -> i32 {
        if gain == 0.0 {
            return 0;
        }
        let last = self.sizes.len().saturating_sub(1);
        let rank = self.sizes.partition_point(|size| *size < gain.abs());
        let level = (rank * LEVELS).checked_div(last).map_or(LEVELS, |part| (part + 1).min(LEVELS));
        let level = level as i32;
        if gain < 0.0 { -level } else { level }
    }

    /// The least and the largest size of a level; `None` where it has none.
    fn range(&self, level: usize) -> Option<(f64, f64)> {
        let mut here = self.sizes.iter().filter(|size| self.level(**size) == level as i32);
        let first = here.next()?;
        Some((*first, *here.next_back().unwrap_or(first)))
    }
}

impl Ranks {
    /// The gains at the borders of the colours of `levels`, ascending.
    fn edges(&self, levels: &[(i32, (f64, f64))]) -> Vec<f64> {
        let lows = levels.iter().map(|(_, (low, _))| *low);
        let high = levels.last().map(|(_, (_, high))| *high);
        let sizes: Vec<f64> = lows.chain(high).collect();
        match self.signs {
            (true, true) => {
                let outer = sizes.iter().skip(1);
                outer.clone().rev().map(|size| -size).chain([0.0]).chain(outer.copied()).collect()
            }
            (true, false) => sizes.iter().rev().map(|size| -size).collect(),
            _ => sizes,
        }
    }
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

/// The colour scale, with the gains at the borders of its colours.
pub fn legend(ranks: &Ranks) -> Element {
    const WIDTH: f64 = 76.0;
    let levels = (1..=LEVELS).filter_map(|level| Some((level as i32, ranks.range(level)?)));
    let levels: Vec<(i32, (f64, f64))> = levels.collect();
    let colours = |sign: i32| levels.iter().map(move |(level, _)| sign * level);
    let (below, above) = ranks.signs;
    let shown: Vec<i32> =
        colours(-1).rev().filter(|_| below).chain(colours(1).filter(|_| above)).collect();
    let edges = ranks.edges(&levels);
    let width = (WIDTH * (shown.len() + 1) as f64).max(440.0);
    let mut svg = el("svg")
        .class("heat")
        .attr("viewBox", format!("0 0 {width} 52"))
        .attr("width", width)
        .attr("height", 52);
    let [least, most] = [edges.first(), edges.last()].map(|edge| short(*edge.unwrap_or(&0.0)));
    svg = svg
        .attr("role", "img")
        .attr("aria-label", format!("colour scale of gains from {least} to {most}"));
    for (i, level) in shown.into_iter().enumerate() {
        let x = WIDTH * (i as f64 + 0.5);
        svg = svg.child(square(Some(class(level)), x, 18.0, WIDTH, 14.0));
    }
    for (i, edge) in edges.into_iter().enumerate() {
        svg = svg.child(text("tick mid", WIDTH * (i as f64 + 0.5), 48.0, &short(edge)));
    }
    let said = "gain in nats a token: below zero the loss rose, above it fell";
    svg.child(text("axis", WIDTH / 2.0, 12.0, said))
}

/// A number in two digits, which has room below a colour.
fn short(value: f64) -> String {
    let power = 10f64.powi(1 - value.abs().max(1e-99).log10().floor() as i32);
    number((value * power).round() / power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_colour_is_for_as_many_gains_whatever_the_first_gained() {
        let gains = [50.0, 0.8, 0.4, 0.2, 0.1, -0.05, 0.02, -0.01, 0.0];
        let ranks = Ranks::of(gains.into_iter());
        let got = gains.map(|gain| class(ranks.level(gain)));
        assert_eq!(got, ["p4", "p4", "p3", "p3", "p2", "n2", "p1", "n1", "g0"]);
        assert_eq!(ranks.range(4), Some((0.8, 50.0)));
        let legend = legend(&ranks).to_string();
        let ticks: Vec<&str> = legend
            .split("tick mid")
            .skip(1)
            .filter_map(|tick| tick.split_once('>')?.1.split('<').next())
            .collect();
        let wanted = ["−50", "−0.8", "−0.2", "−0.05", "0", "0.05", "0.2", "0.8", "50"];
        assert_eq!(ticks, wanted);
        // Gains alike are alike; without losses there is no scale of them.
        let alike = Ranks::of([0.5; 3].into_iter());
        assert_eq!((alike.level(0.5), Ranks::of([0.1].into_iter()).level(0.1)), (1, 4));
        assert_eq!(super::legend(&alike).to_string().matches("<rect").count(), 1);
        assert!(Ranks::of([0.0].into_iter()).is_empty());
    }

    #[test]
    fn rounds_share_columns_in_a_long_run() {
        let mut run = Recorded::default();
        run.trace.trained.insert(0, [1].into());
        run.trace.trained.insert(1023, [0].into());
        let heat = Heat::of(&run).unwrap();
        assert_eq!((heat.each, heat.columns, heat.layers), (4, 256, 2));
        run.trace.trained.insert(usize::MAX, [0].into());
        assert!(Heat::of(&run).unwrap().columns <= MOST_COLUMNS);
        assert!(Heat::of(&Recorded::default()).is_none());
    }

    #[test]
    fn labels_have_room() {
        assert_eq!([0.4, 1.0, 1.1, 3.0, 7.0, 11.0].map(apart), [1, 1, 2, 5, 10, 20]);
    }
}
