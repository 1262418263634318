//! Where a run speaks while it goes on; the command line decides how it looks.

use crate::run::Merge;

/// How far a long native has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// What is being done: `round 3: fit`.
    pub what: String,
    pub done: u64,
    pub total: u64,
    /// Figures worth seeing: `loss 1.23, 410 tokens/s`.
    pub detail: String,
}

/// Takes what a run says to the person who started it.
pub trait Console: Send + Sync {
    /// A line that the recipe printed; it holds no control characters.
    fn print(&self, line: &str);
    /// A line about what was done: a measurement, what was left out of the data.
    fn note(&self, line: &str);
    /// A step of a long native.
    fn progress(&self, progress: &Progress);
    /// A booster was merged into a model of `layers` layers.
    fn merged(&self, merge: &Merge, layers: usize);
}

/// Takes nothing: where a recipe is looked at and not run.
pub(super) struct Silent;

impl Console for Silent {
    fn print(&self, _: &str) {}

    fn note(&self, _: &str) {}

    fn progress(&self, _: &Progress) {}

    fn merged(&self, _: &Merge, _: usize) {}
}

/// `text` without what could steer a terminal: control characters become `\u{..}`, but line feeds
/// stay and tabs become four spaces.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            '\t' => out.push_str("    "),
            c if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c) => {
                out.extend(c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn terminals_cannot_be_steered() {
        assert_eq!(plain("a\tb\n\u{1b}[31mred\r\u{202e}"), "a    b\n\\u{1b}[31mred\\u{d}\\u{202e}");
    }
}
