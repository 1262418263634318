//! HTML and SVG by elements: what is opened is closed, and every text and attribute is escaped on
//! its way in.

use std::fmt::{self, Display, Write};

/// Elements without content, closed where they are opened; in HTML only those that are void there.
const EMPTY: [&str; 7] = ["meta", "br", "path", "line", "rect", "circle", "polygon"];
/// Elements after which a line ends, so that the file can be read.
const BLOCKS: [&str; 17] = [
    "head",
    "meta",
    "title",
    "style",
    "header",
    "section",
    "figure",
    "figcaption",
    "details",
    "table",
    "tr",
    "div",
    "p",
    "li",
    "svg",
    "g",
    "pre",
];

/// An element under construction.
#[derive(Clone, Debug)]
pub struct Element {
    name: &'static str,
    attributes: String,
    body: String,
}

/// An element without attributes and content.
pub fn el(name: &'static str) -> Element {
    Element { name, attributes: String::new(), body: String::new() }
}

impl Element {
    pub fn attr(mut self, name: &'static str, value: impl Display) -> Self {
        self.attributes.push(' ');
        self.attributes.push_str(name);
        self.attributes.push_str("=\"");
        add(&mut Escaped(&mut self.attributes), value);
        self.attributes.push('"');
        self
    }

    pub fn class(self, value: impl Display) -> Self {
        self.attr("class", value)
    }

    pub fn text(mut self, value: impl Display) -> Self {
        add(&mut Escaped(&mut self.body), value);
        self
    }

    pub fn child(mut self, child: Element) -> Self {
        add(&mut self.body, child);
        self
    }

    pub fn children(self, children: impl IntoIterator<Item = Element>) -> Self {
        children.into_iter().fold(self, Element::child)
    }

    /// A style sheet of this program, as it is.
    pub fn css(mut self, sheet: &'static str) -> Self {
        self.body.push_str(sheet);
        self
    }
}

impl Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, attributes, body } = self;
        if EMPTY.contains(name) && body.is_empty() {
            write!(f, "<{name}{attributes} />")?;
        } else {
            write!(f, "<{name}{attributes}>{body}</{name}>")?;
        }
        if BLOCKS.contains(name) { f.write_char('\n') } else { Ok(()) }
    }
}

/// Appends `value`; a string takes whatever is written to it.
fn add(to: &mut impl Write, value: impl Display) {
    let _ = write!(to, "{value}");
}

/// Writes text so that it is nothing but text. Control characters, which no HTML may hold, become
/// U+FFFD, and so do those that turn the direction of what follows.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(c),
                '\r' => {}
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => {
                    self.0.push('\u{fffd}')
                }
                c if c.is_control() => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_attributes_stay_what_they_are() {
        let hostile = "<script>alert('&\"')</script>\u{0}\u{202e}\r\n";
        let built = el("span").attr("title", hostile).text(hostile).child(el("br")).to_string();
        let escaped = "&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;\u{fffd}\u{fffd}\n";
        assert_eq!(built, format!("<span title=\"{escaped}\">{escaped}<br /></span>"));
    }
}
