//! Where a run speaks while it goes on; the command line decides how it looks.

use crate::run::{Evaluation, Merge};

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

/// One step of a booster's training.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingStep<'a> {
    /// Boosters merged before.
    pub round: usize,
    /// Layers that the booster trains.
    pub layers: &'a [usize],
    /// From 1, of the `steps` of this fit.
    pub step: usize,
    pub steps: usize,
    /// Mean negative log-likelihood of the supervised tokens, in nats.
    pub loss: f64,
    pub tokens: usize,
    pub seconds: f64,
}

impl TrainingStep<'_> {
    /// The step as that of any long native.
    pub fn progress(&self) -> Progress {
        Progress {
            what: format!("round {}, layers {:?}: step", self.round, self.layers),
            done: self.step as u64,
            total: self.steps as u64,
            detail: format!(
                "loss {:.4}, {:.0} tokens/s",
                self.loss,
                self.tokens as f64 / self.seconds
            ),
        }
    }
}

/// Takes what a run says to the person who started it.
pub trait Console: Send + Sync {
    /// A line that the recipe printed; it holds no control characters.
    fn print(&self, line: &str);
    /// A line about what was done: a measurement, what was left out of the data.
    fn note(&self, line: &str);
    /// A line that says more of what was noted, for who asks for it.
    fn detail(&self, _line: &str) {}
    /// A step of a long native.
    fn progress(&self, progress: &Progress);
    /// A training step was done.
    fn step(&self, step: &TrainingStep) {
        self.progress(&step.progress());
    }
    /// The recipe's parameter `rounds`, where it has one.
    fn rounds(&self, _total: usize) {}
    /// A measurement was recorded.
    fn evaluated(&self, _evaluation: &Evaluation) {}
    /// Puts a question to the person, if somebody is there to answer; true is a yes.
    fn allows(&self, _question: &str) -> bool {
        false
    }
    /// Nothing more is done: what is shown stays as it is, what is said comes below.
    fn finish(&self) {}
    /// A booster was merged into a model of `layers` layers.
    fn merged(&self, merge: &Merge, layers: usize);
    /// A merge that an earlier process made was taken over.
    fn recalled(&self, merge: &Merge, layers: usize) {
        self.merged(merge, layers);
    }
}

/// Says nothing.
pub struct Silent;

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
            c if c.is_control()
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c) =>
            {
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
