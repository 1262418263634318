//! The heat map of a run: layers against rounds, by what each booster gained. Lines are a pure
//! function of what is known.

use super::color::Colors;
use super::rounds::Rounds;
use crate::run::{Evaluation, Merge};
use crate::session::TrainingStep;

/// Rows of the map at most: more layers than that share rows.
const ROWS: usize = 16;
/// Columns that a map needs.
const NARROWEST: usize = 60;
/// What stands around the map: heading, axis, figures, progress, and a line free.
const AROUND: usize = 6;
/// How much of a smoothed figure each step replaces.
const FRESH: f64 = 0.1;

/// Cells by where their gain stands among all, least first, where there is no colour.
const SHADES: [char; 4] = ['░', '▒', '▓', '█'];
/// The same in colour: viridis (matplotlib), and its nearest colours of 256.
const COLORS: [(u8, u8, u8); 8] = [
    (68, 1, 84),
    (70, 50, 126),
    (54, 92, 141),
    (39, 127, 142),
    (31, 161, 135),
    (74, 193, 109),
    (160, 218, 57),
    (253, 231, 37),
];
const PALETTE: [u8; 8] = [53, 60, 24, 30, 36, 71, 149, 220];

/// How cells are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Characters,
    /// 256 colours.
    Palette,
    /// 24-bit colours.
    True,
}

impl Paint {
    /// What a terminal claims in `COLORTERM` and `TERM`, as far as colours are wanted.
    pub fn of(colors: Colors, colorterm: &str, term: &str) -> Self {
        match () {
            () if colors == Colors::None => Self::Characters,
            () if ["truecolor", "24bit"].contains(&colorterm) => Self::True,
            () if term.contains("256color") || colors == Colors::Asked => Self::Palette,
            () => Self::Characters,
        }
    }

    /// `n` columns of a cell, where `gains` are those of all boosters, ascending.
    fn cell(self, cell: Cell, gains: &[f64], n: usize) -> String {
        match (self, cell) {
            (Self::Characters, Cell::Untrained) => format!("{:<n$}", '·'),
            (_, Cell::Untrained) => format!("\x1b[2m{:<n$}\x1b[0m", '·'),
            (_, Cell::Unmeasured) => "+".repeat(n),
            (_, Cell::Gain(gain)) => self.shade(self.level(gain, gains), n),
        }
    }

    /// Where a gain stands among all, from 0 for the least to the last level for the largest.
    fn level(self, gain: f64, gains: &[f64]) -> usize {
        let (rank, steps) = (gains.partition_point(|g| *g < gain), gains.len().saturating_sub(1));
        let top = self.levels() - 1;
        if steps == 0 { top } else { ((2 * rank * top + steps) / (2 * steps)).min(top) }
    }

    /// `n` columns of a level.
    fn shade(self, level: usize, n: usize) -> String {
        match self {
            Self::Characters => String::from_iter(vec![SHADES[level]; n]),
            Self::Palette => format!("\x1b[48;5;{}m{:n$}\x1b[0m", PALETTE[level], ""),
            Self::True => {
                let (r, g, b) = COLORS[level];
                format!("\x1b[48;2;{r};{g};{b}m{:n$}\x1b[0m", "")
            }
        }
    }

    fn levels(self) -> usize {
        if self == Self::Characters { SHADES.len() } else { COLORS.len() }
    }
}

/// What happened to some layers in some rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    Untrained,
    /// Trained, but what it gained is not known.
    Unmeasured,
    /// The mean gain of its boosters.
    Gain(f64),
}

/// A figure as a mean that forgets.
#[derive(Clone, Copy, Debug, Default)]
struct Smooth {
    sum: f64,
    weight: f64,
}

impl Smooth {
    fn add(&mut self, value: f64) {
        self.sum += FRESH * (value - self.sum);
        self.weight += FRESH * (1.0 - self.weight);
    }

    fn get(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

/// What is known of a run.
#[derive(Debug, Default)]
pub struct HeatMap {
    rounds: Rounds,
    layers: usize,
    /// Layers and gain of every booster merged, in order.
    boosters: Vec<(Vec<usize>, Option<f64>)>,
    loss: Smooth,
    tokens: Smooth,
    seconds: Smooth,
    measured: Option<String>,
    /// Nothing more is done, whatever is left.
    ended: bool,
}

impl HeatMap {
    pub fn rounds(&mut self, total: usize) {
        self.rounds.of(total);
    }

    /// A training step, at `now` seconds.
    pub fn step(&mut self, step: &TrainingStep, now: f64) {
        self.rounds.begin(now);
        self.loss.add(step.loss);
        self.tokens.add(step.tokens as f64);
        self.seconds.add(step.seconds);
    }

    pub fn merge(&mut self, merge: &Merge, layers: usize, now: f64) {
        self.add(merge, layers);
        self.rounds.end(now);
    }

    /// A merge that an earlier process made.
    pub fn recall(&mut self, merge: &Merge, layers: usize) {
        self.add(merge, layers);
        self.rounds.recall();
    }

    fn add(&mut self, merge: &Merge, layers: usize) {
        self.layers = self.layers.max(layers);
        self.boosters.push((merge.layers.clone(), merge.gain.filter(|gain| gain.is_finite())));
    }

    pub fn evaluated(&mut self, evaluation: &Evaluation) {
        let metric = ["accuracy", "pearson", "nll"]
            .into_iter()
            .find_map(|m| Some((m, evaluation.metrics.get(m)?.as_f64()?)));
        if let Some((name, value)) = metric {
            self.measured = Some(format!("{} {name} {value:.4}", evaluation.split));
        }
    }

    pub fn end(&mut self) {
        self.ended = true;
    }

    /// The map, if something was merged and there is room, and the figures, for a terminal of
    /// `columns` × `rows` at `now`.
    pub fn lines(&self, columns: usize, rows: usize, paint: Paint, now: f64) -> Vec<String> {
        let mut lines = self.map(columns.saturating_sub(1), rows, paint).unwrap_or_default();
        lines.extend(self.figures(columns.saturating_sub(1), now));
        lines
    }

    fn map(&self, columns: usize, rows: usize, paint: Paint) -> Option<Vec<String>> {
        let most = ROWS.min(rows.saturating_sub(AROUND));
        if self.boosters.is_empty()
            || self.layers == 0
            || columns + 1 < NARROWEST
            || most < 4.min(self.layers)
        {
            return None;
        }
        let share = self.layers.div_ceil(most);
        let ranges: Vec<(usize, usize)> = (0..self.layers)
            .step_by(share)
            .map(|l| (l, (l + share).min(self.layers) - 1))
            .collect();
        let name = |&(low, high): &(usize, usize)| {
            if low == high { low.to_string() } else { format!("{low}-{high}") }
        };
        let margin = ranges.iter().map(|r| name(r).len()).max().unwrap_or(0).max("layer".len());

        let room = columns - margin - 2;
        let done = self.boosters.len();
        let count = self.rounds.total.unwrap_or(0).max(done);
        let (each, wide) = match self.rounds.total {
            Some(_) => (count.div_ceil(room), (room / count).clamp(1, 2)),
            // As the end is not known, columns double what they hold when there is no room for
            // more.
            None => (count.div_ceil(room).next_power_of_two(), 1),
        };
        let mut gains: Vec<f64> = self.boosters.iter().filter_map(|(_, gain)| *gain).collect();
        gains.sort_by(f64::total_cmp);

        let mut lines = vec![self.heading(margin, &gains, paint)];
        for range in ranges.iter().rev() {
            let cells = (0..count.div_ceil(each))
                .map(|column| paint.cell(self.cell(*range, column * each, each), &gains, wide));
            lines.push(format!("{:>margin$}  {}", name(range), cells.collect::<String>()));
        }
        let (last, width) = (count - 1, count.div_ceil(each) * wide);
        let end = if last.to_string().len() + 2 <= width {
            format!("{last:>0$}", width - 1)
        } else {
            String::new()
        };
        lines.push(format!("{:>margin$}  0{end}", "round"));
        Some(lines)
    }

    fn heading(&self, margin: usize, gains: &[f64], paint: Paint) -> String {
        let mut heading = format!("{:>margin$}  ", "layer");
        if let (Some(least), Some(most)) = (gains.first(), gains.last()) {
            let lowest = if least == most { paint.level(*most, gains) } else { 0 };
            let highest = paint.level(*most, gains);
            heading += &(lowest..=highest).map(|level| paint.shade(level, 1)).collect::<String>();
            heading += &if least == most {
                format!(" gain {most:.3}")
            } else {
                format!(" gain {least:.3} to {most:.3}")
            };
        }
        if gains.len() < self.boosters.len() {
            heading += "  + not measured";
        }
        heading.trim_end().to_owned()
    }

    /// What boosters `first` to `first + each` did to the layers of `range`.
    fn cell(&self, (low, high): (usize, usize), first: usize, each: usize) -> Cell {
        let here = self
            .boosters
            .iter()
            .skip(first)
            .take(each)
            .filter(|(layers, _)| layers.iter().any(|l| (low..=high).contains(l)));
        let (mut sum, mut known, mut trained) = (0.0, 0, false);
        for (_, gain) in here {
            trained = true;
            if let Some(gain) = gain {
                sum += gain;
                known += 1;
            }
        }
        match (trained, known) {
            (false, _) => Cell::Untrained,
            (true, 0) => Cell::Unmeasured,
            _ => Cell::Gain(sum / f64::from(known)),
        }
    }

    /// `round 24 of 64 · loss 0.2089 · 495 tokens/s · 3 min left · validation accuracy 0.2833`, as
    /// much of it as fits.
    fn figures(&self, columns: usize, now: f64) -> Option<String> {
        let mut figures = vec![];
        if self.rounds.done > 0 || self.loss.get().is_some() {
            figures.push(self.rounds.shown());
        }
        figures.extend(self.loss.get().map(|loss| format!("loss {loss:.4}")));
        if let (Some(tokens), Some(seconds)) =
            (self.tokens.get(), self.seconds.get().filter(|s| *s > 0.0))
        {
            figures.push(format!("{:.0} tokens/s", tokens / seconds));
        }
        figures.extend(self.rounds.left(now).filter(|_| !self.ended));
        figures.extend(self.measured.clone());
        let mut line = String::new();
        for figure in figures {
            let longer = if line.is_empty() { figure } else { format!("{line} · {figure}") };
            if longer.chars().count() > columns {
                break;
            }
            line = longer;
        }
        (!line.is_empty()).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(layers: &[usize], gain: impl Into<Option<f64>>) -> Merge {
        Merge { layers: layers.into(), gain: gain.into(), ..Merge::default() }
    }

    /// Six boosters on four layers; a round takes ten seconds.
    fn map(total: Option<usize>) -> HeatMap {
        let mut map = HeatMap::default();
        total.into_iter().for_each(|total| map.rounds(total));
        let boosters: [(&[usize], Option<f64>); 6] = [
            (&[0, 3], Some(0.8)),
            (&[1], Some(0.4)),
            (&[1, 2], Some(0.2)),
            (&[3], None),
            (&[0], Some(-0.05)),
            (&[2], Some(0.1)),
        ];
        for (i, (layers, gain)) in boosters.into_iter().enumerate() {
            let step = TrainingStep {
                round: i,
                layers,
                step: 1,
                steps: 1,
                loss: 2.0,
                tokens: 500,
                seconds: 1.0,
            };
            map.step(&step, i as f64 * 10.0);
            map.merge(&merge(layers, gain), 4, (i + 1) as f64 * 10.0);
        }
        let metrics = serde_json::Map::from_iter([("accuracy".to_owned(), 0.25.into())]);
        map.evaluated(&Evaluation {
            split: "validation".into(),
            round: 6,
            metrics,
            ..Default::default()
        });
        map
    }

    #[test]
    fn characters_tell_where_a_gain_stands() {
        let wanted = [
            "layer  ░▒▓█ gain -0.050 to 0.800  + not measured",
            "    3  ██· · ++· · · · · ",
            "    2  · · ▓▓· · ▒▒· · · ",
            "    1  · ▓▓▓▓· · · · · · ",
            "    0  ██· · · ░░· · · · ",
            "round  0                8",
            "round 6 of 9 · loss 2.0000 · 500 tokens/s · 25 s left · validation accuracy 0.2500",
        ];
        assert_eq!(map(Some(9)).lines(90, 24, Paint::Characters, 65.0), wanted);
    }

    #[test]
    fn colours_tell_it_finer() {
        let lines = map(None).lines(90, 24, Paint::True, 65.0);
        assert_eq!(
            lines[1],
            "    3  \x1b[48;2;253;231;37m \
             \x1b[0m\x1b[2m·\x1b[0m\x1b[2m·\x1b[0m+\x1b[2m·\x1b[0m\x1b[2m·\x1b[0m"
        );
        assert_eq!(lines[6], "round 6 · loss 2.0000 · 500 tokens/s · validation accuracy 0.2500");
        let lines = map(None).lines(90, 24, Paint::Palette, 65.0);
        assert_eq!(
            lines[4],
            "    0  \x1b[48;5;220m \
             \x1b[0m\x1b[2m·\x1b[0m\x1b[2m·\x1b[0m\x1b[2m·\x1b[0m\x1b[48;5;53m \
             \x1b[0m\x1b[2m·\x1b[0m"
        );
        for (colors, colorterm, term, paint) in [
            (Colors::Claimed, "truecolor", "xterm", Paint::True),
            (Colors::Claimed, "", "xterm-256color", Paint::Palette),
            (Colors::Claimed, "", "linux", Paint::Characters),
            (Colors::Asked, "", "linux", Paint::Palette),
            (Colors::None, "truecolor", "xterm-256color", Paint::Characters),
        ] {
            assert_eq!(Paint::of(colors, colorterm, term), paint);
        }
    }

    #[test]
    fn many_layers_share_rows_and_many_rounds_columns() {
        let boosted = |total: Option<usize>, rounds: usize| {
            let mut map = HeatMap::default();
            total.into_iter().for_each(|total| map.rounds(total));
            (0..rounds).for_each(|i| map.merge(&merge(&[i % 30], i as f64), 30, i as f64));
            map.lines(70, 30, Paint::Characters, 0.0)
        };
        let lines = boosted(Some(620), 310);
        assert_eq!(lines.len(), 15 + 3);
        assert_eq!((&lines[1][..7], &lines[15][..7]), ("28-29  ", "  0-1  "));
        // 62 columns of ten rounds: thirty rounds, three columns, and a row has its turn again.
        assert_eq!(
            lines[1].trim_start_matches("28-29  "),
            format!("{}{}", "··░··▒··▒··▒··▒··▓··▓··▓··█··█", "·".repeat(32))
        );
        assert_eq!(lines[16], format!("round  0{:>61}", 619));
        // Of an unknown number: a round a column, then two, then four.
        for (rounds, columns) in [(1, 1), (62, 62), (63, 32), (124, 62), (125, 32)] {
            let lines = boosted(None, rounds);
            assert_eq!(lines[1].chars().count(), 7 + columns, "{rounds}");
            assert!(lines.iter().all(|line| line.chars().count() < 70));
        }
        assert_eq!(boosted(None, 1)[16], "round  0");
    }

    #[test]
    fn without_room_or_boosters_only_the_figures_stay() {
        let figures = ["round 6 of 9 · loss 2.0000 · 500 tokens/s · 25 s left"];
        assert_eq!(map(Some(9)).lines(59, 24, Paint::Characters, 65.0), figures);
        assert_eq!(map(Some(9)).lines(60, 9, Paint::Characters, 65.0), figures);
        assert!(HeatMap::default().lines(90, 24, Paint::True, 0.0).is_empty());
        let mut ended = map(Some(9));
        ended.end();
        assert!(!ended.lines(59, 24, Paint::Characters, 65.0).concat().contains("left"));
        // More rounds than were announced, and one booster alone.
        assert_eq!(
            map(Some(2)).lines(90, 24, Paint::Characters, 60.0).last().map(|l| &l[..12]),
            Some("round 6 of 6")
        );
    }
}
