//! What a GGUF file's metadata may say of its tokenizer: read, known to say nothing, or refused.
//!
//! Keys: `Keys.Tokenizer` of gguf-py.

use anyhow::Result;

use super::gguf::Gguf;
use super::gguf_value::GgufValue;
use crate::error::{Error, bail, error, nearest};

const NAMESPACE: &str = "tokenizer.";

/// Keys that are read, or that say nothing of how a text becomes ids: other roles, templates by
/// name, a copy of the tokenizer's own file.
const KNOWN: [&str; 35] = [
    "tokenizer.ggml.model",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.token_type_count",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.merges",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.seperator_token_id",
    "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.cls_token_id",
    "tokenizer.ggml.mask_token_id",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_eos_token",
    "tokenizer.ggml.add_sep_token",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.remove_extra_whitespaces",
    "tokenizer.ggml.precompiled_charsmap",
    "tokenizer.ggml.fim_pre_token_id",
    "tokenizer.ggml.fim_suf_token_id",
    "tokenizer.ggml.fim_mid_token_id",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
    "tokenizer.ggml.prefix_token_id",
    "tokenizer.ggml.suffix_token_id",
    "tokenizer.ggml.middle_token_id",
    "tokenizer.huggingface.json",
    "tokenizer.rwkv.world",
    "tokenizer.chat_template",
    "tokenizer.chat_templates",
];

/// Checks what the metadata say of a tokenizer of that `kind`; what is passed over goes into
/// `notes`.
///
/// Errors (class data), without the file's name: a kind that is not read, a rule that is not
/// followed here.
pub(super) fn check(gguf: &Gguf, kind: &str, notes: &mut Vec<String>) -> Result<()> {
    if !matches!(kind, "gpt2" | "llama") {
        return Err(other_kind(kind).into());
    }
    if on(gguf, "add_eos_token")? {
        notes.push(
            "its `tokenizer.ggml.add_eos_token` is true; a text ends with EOS only where its \
             template or data set says so"
                .into(),
        );
    }
    if on(gguf, "add_sep_token")? {
        bail!(
            Data,
            "its `tokenizer.ggml.add_sep_token` is true: a separator behind each text, as encoders \
             want it, is not known here"
        );
    }
    if kind == "llama" {
        check_sentence_piece(gguf)?;
    } else if on(gguf, "add_space_prefix")? {
        notes.push(
            "its `tokenizer.ggml.add_space_prefix` is true; no space is put before a text, as \
             llama.cpp puts none in byte-level BPE"
                .into(),
        );
    }
    notes.extend(unknown(gguf));
    Ok(())
}

/// Whether the file says yes to a key.
fn on(gguf: &Gguf, key: &str) -> Result<bool> {
    Ok(gguf.optional(&format!("tokenizer.ggml.{key}"), GgufValue::as_bool)?.unwrap_or(false))
}

/// Errors (class data): SentencePiece's rewriting of a text before it is split.
fn check_sentence_piece(gguf: &Gguf) -> Result<()> {
    if on(gguf, "remove_extra_whitespaces")? {
        bail!(
            Data,
            "its `tokenizer.ggml.remove_extra_whitespaces` is true: a tokenizer that drops spaces \
             is not read"
        );
    }
    let charsmap = gguf.get("tokenizer.ggml.precompiled_charsmap").and_then(GgufValue::as_integers);
    if charsmap.is_some_and(|map| !map.is_empty()) {
        bail!(
            Data,
            "it has a `tokenizer.ggml.precompiled_charsmap`: a tokenizer that rewrites characters \
             first is not read"
        );
    }
    Ok(())
}

/// Notes of the keys that are not known.
fn unknown(gguf: &Gguf) -> impl Iterator<Item = String> {
    let is_unknown = |key: &&str| {
        key.starts_with(NAMESPACE)
            && !KNOWN.contains(key)
            && !key.starts_with("tokenizer.chat_template.")
    };
    gguf.keys().filter(is_unknown).map(|key| {
        let near =
            nearest(key, KNOWN).map_or(String::new(), |near| format!("; is `{near}` meant?"));
        format!("its metadata `{key}` is not known and was passed over{near}")
    })
}

fn other_kind(kind: &str) -> Error {
    let what = match kind {
        "bert" => " (WordPiece)",
        "t5" => " (SentencePiece Unigram)",
        "rwkv" => " (RWKV's world)",
        "plamo2" => " (PLaMo's)",
        "gemma4" => " (BPE on characters)",
        "none" | "no_vocab" => ", a file without a vocabulary,",
        _ => "",
    };
    error!(
        Data,
        "its kind `{kind}`{what} is not read; `gpt2` (byte-level BPE) and `llama` (SentencePiece \
         BPE) are"
    )
}
