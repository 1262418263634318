//! Line charts: panels one below the other over a common x axis.

use super::markup::{Element, el};
use super::scale::{Scale, number};

/// The drawing's width, in units that are pixels where there is room.
const WIDTH: f64 = 520.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
/// Above a panel: its title.
const TOP: f64 = 38.0;
/// Below the last panel: ticks and the title of the x axis.
const BOTTOM: f64 = 46.0;
/// Colours and dash patterns of the style sheet.
const COLOURS: usize = 8;
const DASHES: usize = 5;

/// A point, and a distance up and down where it is not sure.
pub type ChartPoint = (f64, f64, Option<f64>);

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LineForm {
    /// Pale dots: the noise behind a line.
    Dots,
    Line,
    /// A line whose points are marked.
    Marked,
}

#[derive(Clone, Debug)]
pub struct ChartLine {
    pub name: String,
    /// Which colour, dash pattern and mark.
    pub look: usize,
    pub form: LineForm,
    pub points: Vec<ChartPoint>,
}

#[derive(Clone, Debug)]
pub struct Panel {
    /// What is up, with its unit.
    pub title: String,
    pub height: f64,
    pub lines: Vec<ChartLine>,
    /// A level to compare with, and its name.
    pub level: Option<(String, f64)>,
}

#[derive(Clone, Debug)]
pub struct Chart {
    /// What is seen, for those who cannot see it.
    pub label: String,
    /// What goes to the right, with its unit.
    pub x: String,
    /// A place to be marked, and its name.
    pub place: Option<(String, f64)>,
    pub panels: Vec<Panel>,
}

impl Chart {
    pub fn svg(&self) -> Element {
        let xs = self.panels.iter().flat_map(|p| &p.lines).flat_map(|l| &l.points).map(|p| p.0);
        let xs = Scale::counts(xs.chain(self.place.iter().map(|p| p.1)), (LEFT, WIDTH - RIGHT), 8);
        let height = self.panels.iter().map(|p| TOP + p.height).sum::<f64>() + BOTTOM;
        let mut svg = el("svg").class("chart").attr("viewBox", format!("0 0 {WIDTH} {height}"));
        svg = svg.attr("role", "img").attr("aria-label", &self.label);
        let mut bottom = 0.0;
        for panel in &self.panels {
            let top = bottom + TOP;
            bottom = top + panel.height;
            svg = svg.child(panel.draw(&xs, top, bottom, self.place.as_ref().map(|p| p.1)));
        }
        for &tick in &xs.ticks {
            svg = svg.child(text("tick mid", xs.at(tick), bottom + 17.0, &number(tick)));
        }
        svg.child(text("axis mid", (LEFT + WIDTH - RIGHT) / 2.0, bottom + 38.0, &self.x))
    }

    /// What each look stands for; those of the first panel.
    pub fn legend(&self) -> Element {
        let mut list = el("ul").class("legend");
        let Some(panel) = self.panels.first() else { return list };
        for line in &panel.lines {
            list = list.child(el("li").child(sample(line.look, line.form)).text(&line.name));
        }
        if let Some((name, _)) = &panel.level {
            let drawn = blank().child(segment("level", 2.0, 7.0, 32.0, 7.0));
            list = list.child(el("li").child(drawn).text(name));
        }
        if let Some((name, _)) = &self.place {
            let drawn = blank().child(segment("place", 17.0, 0.0, 17.0, 14.0));
            list = list.child(el("li").child(drawn).text(name));
        }
        list
    }
}

/// Room for a sample in a legend.
fn blank() -> Element {
    el("svg").class("sample").attr("viewBox", "0 0 34 14").attr("aria-hidden", "true")
}

/// A short piece of a line, for legends.
pub fn sample(look: usize, form: LineForm) -> Element {
    let across = |places: &[f64]| places.iter().map(|x| (*x, 7.0, None)).collect::<Vec<_>>();
    match form {
        LineForm::Dots => blank().child(dots(look, &across(&[5.0, 13.0, 21.0, 29.0]))),
        LineForm::Line => blank().child(stroke(look, &across(&[2.0, 32.0]))),
        LineForm::Marked => {
            blank().child(stroke(look, &across(&[2.0, 32.0]))).child(mark(look, 17.0, 7.0))
        }
    }
}

impl Panel {
    fn draw(&self, xs: &Scale, top: f64, bottom: f64, place: Option<f64>) -> Element {
        let low_and_high =
            |(_, y, error): &ChartPoint| [y - error.unwrap_or(0.0), y + error.unwrap_or(0.0)];
        let values = self
            .lines
            .iter()
            .flat_map(|l| &l.points)
            .flat_map(low_and_high)
            .chain(self.level.iter().map(|l| l.1));
        let ys = Scale::round(values, (bottom, top), if self.height < 100.0 { 2 } else { 5 });
        let mut group = el("g").child(text("axis", 4.0, top - 16.0, &self.title));
        for &tick in &ys.ticks {
            group = group.child(segment("grid", LEFT, ys.at(tick), WIDTH - RIGHT, ys.at(tick)));
            group = group.child(text("tick end", LEFT - 8.0, ys.at(tick) + 4.0, &number(tick)));
        }
        if let Some((_, level)) = self.level {
            group = group.child(segment("level", LEFT, ys.at(level), WIDTH - RIGHT, ys.at(level)));
        }
        if let Some(place) = place {
            group = group.child(segment("place", xs.at(place), top, xs.at(place), bottom));
        }
        let placed = |(x, y, error): &ChartPoint| {
            (xs.at(*x), ys.at(*y), error.map(|e| (ys.at(y - e), ys.at(y + e))))
        };
        for line in &self.lines {
            let points: Vec<_> = line.points.iter().map(placed).collect();
            group = group.child(line.draw(&points));
        }
        group
    }
}

/// A place on the drawing, and the ends of its error bar.
type Placed = (f64, f64, Option<(f64, f64)>);

impl ChartLine {
    fn draw(&self, points: &[Placed]) -> Element {
        let group = el("g");
        match self.form {
            LineForm::Dots => group.child(dots(self.look, points)),
            LineForm::Line => group.child(stroke(self.look, points)),
            LineForm::Marked => {
                let bars = points.iter().filter_map(|p| Some(bar(self.look, p.0, p.2?)));
                let told = points.iter().zip(&self.points);
                let marks = told.map(|(p, (x, y, error))| {
                    let error = error.map_or(String::new(), |e| format!(" ± {}", number(e)));
                    mark(self.look, p.0, p.1).child(el("title").text(format_args!(
                        "{}, {}: {}{error}",
                        self.name,
                        number(*x),
                        number(*y)
                    )))
                });
                group.children(bars).child(stroke(self.look, points)).children(marks)
            }
        }
    }
}

/// Class names of a look; no two looks below forty are the same.
fn look(look: usize) -> String {
    format!("c{} d{}", look % COLOURS, (look + look / COLOURS) % DASHES)
}

fn stroke(line: usize, points: &[Placed]) -> Element {
    let mut path = String::new();
    for (i, (x, y, _)) in points.iter().enumerate() {
        path += &format!("{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
    }
    el("path").class(format!("line {}", look(line))).attr("d", path)
}

/// Lines of no length, whose round ends are dots.
fn dots(line: usize, points: &[Placed]) -> Element {
    let path: Vec<String> = points.iter().map(|(x, y, _)| format!("M{x:.1} {y:.1}h0")).collect();
    el("path").class(format!("dots c{}", line % COLOURS)).attr("d", path.concat())
}

/// A circle, a square, a diamond or a triangle.
fn mark(line: usize, x: f64, y: f64) -> Element {
    let class = format!("mark f{}", line % COLOURS);
    let corners = |offsets: &[(f64, f64)]| {
        let places: Vec<String> =
            offsets.iter().map(|(a, b)| format!("{:.1},{:.1}", x + a, y + b)).collect();
        el("polygon").attr("points", places.join(" "))
    };
    let shape = match line % 4 {
        0 => {
            el("circle").attr("cx", format!("{x:.1}")).attr("cy", format!("{y:.1}")).attr("r", 3.6)
        }
        1 => corners(&[(-3.3, -3.3), (3.3, -3.3), (3.3, 3.3), (-3.3, 3.3)]),
        2 => corners(&[(0.0, -4.6), (4.6, 0.0), (0.0, 4.6), (-4.6, 0.0)]),
        _ => corners(&[(0.0, -4.4), (4.2, 3.2), (-4.2, 3.2)]),
    };
    shape.class(class)
}

/// An error bar with its caps.
fn bar(line: usize, x: f64, (low, high): (f64, f64)) -> Element {
    let (left, right) = (x - 3.0, x + 3.0);
    let path = format!(
        "M{x:.1} {low:.1}V{high:.1}M{left:.1} {low:.1}H{right:.1}M{left:.1} {high:.1}H{right:.1}"
    );
    el("path").class(format!("bar c{}", line % COLOURS)).attr("d", path)
}

pub fn segment(class: &str, x1: f64, y1: f64, x2: f64, y2: f64) -> Element {
    let at = |place: f64| format!("{place:.1}");
    el("line")
        .class(class)
        .attr("x1", at(x1))
        .attr("y1", at(y1))
        .attr("x2", at(x2))
        .attr("y2", at(y2))
}

pub fn text(class: &str, x: f64, y: f64, text: &str) -> Element {
    el("text").class(class).attr("x", format!("{x:.1}")).attr("y", format!("{y:.1}")).text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forty_looks_differ() {
        let looks: std::collections::BTreeSet<String> = (0..40).map(look).collect();
        assert_eq!(looks.len(), 40);
    }
}
