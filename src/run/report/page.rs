//! What all reports are made of: the page around them, cards, figures, tables.

use serde_json::Value;

use super::markup::{Element, el};

/// No script, no image, nothing from anywhere else: what a recipe smuggled into the page would
/// still do nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// A whole page. `header` lies above the cards.
pub fn page(title: &str, header: Element, cards: Vec<Element>) -> String {
    let meta = |name, content| el("meta").attr("name", name).attr("content", content);
    let head = el("head")
        .child(el("meta").attr("charset", "utf-8"))
        .child(el("meta").attr("http-equiv", "Content-Security-Policy").attr("content", POLICY))
        .child(meta("viewport", "width=device-width, initial-scale=1"))
        .child(meta("color-scheme", "light dark"))
        .child(el("title").text(title))
        .child(el("style").css(include_str!("style.css")));
    let main = el("main").child(header).child(el("div").class("cards").children(cards));
    let html = el("html").attr("lang", "en").child(head).child(el("body").child(main));
    format!("<!DOCTYPE html>\n{html}\n")
}

/// What stands above the cards: a small line, the title, a sentence, and what is not as it should
/// be.
pub fn header(above: &str, title: &str, lead: &str, notices: &[String]) -> Element {
    let header = el("header")
        .child(el("p").class("above").text(above))
        .child(el("h1").text(title))
        .child(el("p").class("lead").text(lead));
    header.children(notices.iter().map(|notice| el("p").class("notice").text(notice)))
}

/// How much room a card takes where there is room for two beside each other.
#[derive(Clone, Copy, Debug)]
pub enum Size {
    Half,
    Whole,
}

impl Size {
    fn class(self) -> &'static str {
        match self {
            Size::Half => "card",
            Size::Whole => "card whole",
        }
    }
}

/// A card with a heading.
pub fn card(size: Size, heading: &str, content: impl IntoIterator<Item = Element>) -> Element {
    el("section").class(size.class()).child(el("h2").text(heading)).children(content)
}

/// A picture with its heading, how it is read, and its numbers.
pub fn figure(
    size: Size,
    heading: &str,
    explained: &str,
    drawn: impl IntoIterator<Item = Element>,
    numbers: Element,
) -> Element {
    let caption = el("figcaption").child(el("h2").text(heading)).child(el("p").text(explained));
    let details = el("details")
        .child(el("summary").text(format_args!("{heading}: the numbers")))
        .child(numbers);
    el("figure").class(size.class()).child(caption).children(drawn).child(details)
}

/// A card that says why there is no picture.
pub fn missing(size: Size, heading: &str, why: &str) -> Element {
    card(size, heading, [el("p").class("missing").text(why)])
}

/// What is wider or higher than its place scrolls inside it, by keyboard too.
pub fn scrolling(label: &str, content: Element) -> Element {
    el("div")
        .class("scroll")
        .attr("tabindex", "0")
        .attr("role", "group")
        .attr("aria-label", label)
        .child(content)
}

/// A cell of a table.
#[derive(Clone, Debug)]
pub enum TableCell {
    Text(String),
    /// A text that is broken where it must, in the middle of a word too.
    Long(String),
    Number(String),
    /// What a clock or the operating system measured: it may differ between two runs that are
    /// otherwise the same.
    Timing(String),
    /// A text with the sample of a line before it.
    Drawn(Element, String),
}

/// A number to six digits.
pub fn numeral(value: f64) -> TableCell {
    TableCell::Number(super::scale::number(value))
}

/// What stands for a value that is not there.
pub const ABSENT: &str = "–";

/// A number, or that there is none.
pub fn numeral_or_absent(value: Option<f64>) -> TableCell {
    value.map_or(TableCell::Number(ABSENT.into()), numeral)
}

/// Something measured by the clock or the operating system.
pub fn timing(text: impl std::fmt::Display) -> Element {
    el("span").class("timing").text(text)
}

/// A table whose rows begin with their name; it scrolls in its own box.
pub fn table(
    label: &str,
    heads: &[String],
    rows: impl IntoIterator<Item = Vec<TableCell>>,
) -> Element {
    let head = el("tr").children(heads.iter().map(|head| el("th").attr("scope", "col").text(head)));
    let body = rows.into_iter().map(|cells| {
        el("tr").children(cells.into_iter().enumerate().map(|(i, cell)| one(i == 0, cell)))
    });
    let table = el("table").child(el("thead").child(head)).child(el("tbody").children(body));
    scrolling(label, table)
}

fn one(first: bool, cell: TableCell) -> Element {
    let element = if first { el("th").attr("scope", "row") } else { el("td") };
    match cell {
        TableCell::Text(text) => element.text(text),
        TableCell::Long(text) => element.class("long").text(text),
        TableCell::Number(text) => element.class("number").text(text),
        TableCell::Timing(text) => element.class("number").child(timing(text)),
        TableCell::Drawn(drawn, text) => element.child(drawn).text(text),
    }
}

/// Heads of a table.
pub fn heads<const N: usize>(heads: [&str; N]) -> Vec<String> {
    heads.map(str::to_owned).to_vec()
}

/// A JSON value for people: texts without quotes.
pub fn value_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
