//! The special tokens of a tokenizer, by their role.

/// The ids of the tokens that have a role.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Special {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unk: Option<u32>,
    pub pad: Option<u32>,
}
