//! What became of conversations under the model's chat template, in numbers.

use crate::data::turns::{How, Worded};

/// Conversations that are not plainly worded, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Talks {
    /// Rendered once and the turns found in the text, since the template rewrites earlier turns.
    pub found: usize,
    /// An example for each turn of the assistant, behind the prompt that the template makes of what
    /// came before.
    pub each: usize,
    /// An example for the last turn of the assistant alone.
    pub last: usize,
    /// The template leaves out a part of an answer.
    pub altered: usize,
    /// The template does not word the `name` of a message.
    pub unnamed: usize,
    /// The template does not write the token that begins other texts.
    pub unbegun: usize,
}

impl Talks {
    /// What each number counts, in words.
    pub fn counts(&self) -> [(&'static str, usize); 6] {
        [
            (
                "conversations rendered once and their turns found in them, since the chat \
                 template rewrites earlier turns",
                self.found,
            ),
            (
                "conversations that gave an example a turn, since the chat template rewrites what \
                 stands before",
                self.each,
            ),
            (
                "conversations whose last turn alone is learnt, since the chat template rewrites \
                 what stands before",
                self.last,
            ),
            ("conversations of whose answers the chat template leaves out a part", self.altered),
            ("conversations with a `name` that the chat template does not word", self.unnamed),
            (
                "conversations without the beginning-of-sequence token of other texts, which the \
                 chat template does not write",
                self.unbegun,
            ),
        ]
    }

    /// Adds those of another item.
    pub fn add(&mut self, other: &Self) {
        self.found += other.found;
        self.each += other.each;
        self.last += other.last;
        self.altered += other.altered;
        self.unnamed += other.unnamed;
        self.unbegun += other.unbegun;
    }

    pub(super) fn count(&mut self, worded: &Worded) {
        match worded.how {
            How::Stable => {}
            How::Found => self.found += 1,
            How::Each => self.each += 1,
            How::Last => self.last += 1,
        }
        self.altered += usize::from(worded.altered);
        self.unnamed += usize::from(worded.unnamed);
    }
}
