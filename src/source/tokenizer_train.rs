//! A new tokenizer, trained on texts.

use anyhow::Result;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, PreTokenizerWrapper, Tokenizer};

use crate::error::{bail, error};

/// The token that ends a text.
pub(super) const END: &str = "<|endoftext|>";

/// Byte-level BPE with at most `size` tokens, digits one by one (as SmolLM2), and [`END`] as token
/// 0.
///
/// Errors: a size below the 256 bytes and the end (class data).
pub(super) fn train(texts: impl Iterator<Item = String> + Send, size: usize) -> Result<Tokenizer> {
    if size < 257 {
        bail!(Data, "a byte-level vocabulary has 257 tokens or more, not {size}");
    }
    let failed = |e: tokenizers::Error| error!(Run, "cannot train a tokenizer: {e}");
    let bytes = ByteLevel::new(false, true, true);
    let parts: Vec<PreTokenizerWrapper> = vec![Digits::new(true).into(), bytes.into()];
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer
        .with_pre_tokenizer(Some(Sequence::new(parts)))
        .with_decoder(Some(ByteLevel::default()));
    let mut trainer: TrainerWrapper = BpeTrainer::builder()
        .vocab_size(size)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(vec![AddedToken::from(END, true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build()
        .into();
    tokenizer.train(&mut trainer, texts).map_err(failed)?;
    Ok(tokenizer)
}
