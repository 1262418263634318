//! What is learnt from: tokens with those that count in the loss, or sequences with what a head
//! should say of them.

/// A sequence to train on.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    pub ids: Vec<u32>,
    /// Token i counts in the loss, predicted from the tokens before it; never so for i = 0.
    pub supervised: Vec<bool>,
    /// For a head that says something of whole sequences; no token counts then.
    pub labelled: Option<Labelled>,
}

impl Example {
    /// Of tokens that are learnt where they are marked.
    pub fn new(ids: Vec<u32>, supervised: Vec<bool>) -> Self {
        Self { ids, supervised, labelled: None }
    }
}

/// What is wanted of a head.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    Class(u32),
    /// Of each row the token that stands there.
    Tokens(Vec<u32>),
    Number(f64),
    /// Which choice, from 0.
    Choice(u32),
}

/// What a head learns from an example.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// `token_type_ids`; empty where all are 0.
    pub types: Vec<u32>,
    /// Where each sequence begins, and the end of the last: one, or one of each choice.
    pub starts: Vec<usize>,
    /// The token of each sequence that the head reads, or those that are masked.
    pub rows: Vec<usize>,
    pub wanted: Wanted,
}
