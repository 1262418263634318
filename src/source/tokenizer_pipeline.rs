//! A `tokenizer.json` put together: its parts, and the steps that several tokenizers have in them.

use serde_json::{Value, json};

/// SentencePiece writes a space as this.
pub(super) const SPACE: &str = "▁";

/// What a text goes through on its way to tokens, and tokens on their way back.
pub(super) struct Pipeline {
    pub normalizer: Value,
    pub pre_tokenizer: Value,
    pub model: Value,
    pub post_processor: Value,
    pub decoder: Value,
}

impl Pipeline {
    /// The `tokenizer.json`, without added tokens.
    pub fn file(self) -> Value {
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": self.normalizer, "pre_tokenizer": self.pre_tokenizer,
            "post_processor": self.post_processor, "decoder": self.decoder, "model": self.model,
        })
    }
}

/// Bytes in place of characters, in GPT-2's letters; `words` splits into GPT-2's words first.
pub(super) fn byte_level(prefix: bool, words: bool) -> Value {
    json!({
        "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": words,
    })
}

/// Spaces in SentencePiece's writing, with one before the text as `scheme` says.
pub(super) fn metaspace(scheme: &str) -> Value {
    json!({
        "type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": false,
    })
}

/// What the regular expression matches and what lies between.
pub(super) fn split(regex: &str) -> Value {
    json!({
        "type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false,
    })
}

/// One text in place of another, or of what a regular expression matches.
pub(super) fn replace(pattern: Value, content: &str) -> Value {
    json!({"type": "Replace", "pattern": pattern, "content": content})
}

/// A decoder's spaces out of SentencePiece's writing.
pub(super) fn spaces() -> Value {
    replace(json!({"String": SPACE}), " ")
}

/// A decoder that takes away the space before the text.
pub(super) fn strip() -> Value {
    json!({"type": "Strip", "content": " ", "start": 1, "stop": 0})
}
