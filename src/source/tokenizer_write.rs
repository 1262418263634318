//! A byte-level BPE tokenizer as the metadata of a GGUF file.

use anyhow::Result;
use candle_core::quantized::gguf_file::Value as Written;
use serde_json::Value;

use super::pre_tokenizer::Rule;
use super::tokenizer::Tokenizer;
use super::tokenizer_gguf::{CONTROL, NORMAL, UNUSED, USER_DEFINED};
use crate::error::Error;

/// Metadata by key.
pub type Entries = Vec<(String, Written)>;

impl Tokenizer {
    /// All that a GGUF file says of a tokenizer, for an embedding of `rows` rows.
    ///
    /// Errors (class usage): a tokenizer of another kind, or whose way to split a text has no name
    /// in GGUF.
    pub fn gguf(&self, rows: usize) -> Result<Entries> {
        self.decided()?;
        let told: Value = serde_json::from_str(&self.json()?)?;
        let kind = told["model"]["type"].as_str().unwrap_or("BPE");
        let fallback = told["model"]["byte_fallback"].as_bool().unwrap_or(false);
        let Some(rule) = Rule::told(&told).filter(|_| kind == "BPE" && !fallback) else {
            return Err(Error::usage(
                "only byte-level BPE tokenizers that split texts in a way that GGUF has a name for \
                 are written to it",
            )
            .hint(
                "export with `--merged DIR`, and convert the folder by llama.cpp's \
                 `convert_hf_to_gguf.py`",
            )
            .into());
        };
        if !self.begin().is_empty() && !self.add_bos() {
            return Err(Error::usage(
                "the tokenizer puts other tokens before a text than its begin token, which GGUF \
                 has no word for",
            )
            .hint("export with `--merged DIR`")
            .into());
        }
        let merge = |merge: &Value| match (merge.as_str(), merge.as_array()) {
            (Some(text), _) => Some(text.to_owned()),
            (_, Some(pair)) => {
                Some(format!("{} {}", pair.first()?.as_str()?, pair.get(1)?.as_str()?))
            }
            _ => None,
        };
        let merges: Option<Vec<String>> =
            told["model"]["merges"].as_array().into_iter().flatten().map(merge).collect();
        let merges =
            merges.ok_or_else(|| Error::data("the tokenizer has merges that cannot be read"))?;
        let mut kinds = vec![UNUSED; rows];
        let mut tokens: Vec<String> = (0..rows).map(|id| format!("[PAD{id}]")).collect();
        for id in 0..rows.min(self.vocab_size()) {
            if let Some(token) = self.token(id as u32) {
                (tokens[id], kinds[id]) = (token, NORMAL);
            }
        }
        for added in told["added_tokens"].as_array().into_iter().flatten() {
            let id = added["id"].as_u64().and_then(|id| usize::try_from(id).ok());
            if let Some(kind) = id.and_then(|id| kinds.get_mut(id)) {
                *kind = if added["special"].as_bool().unwrap_or(false) {
                    CONTROL
                } else {
                    USER_DEFINED
                };
            }
        }
        let text = |text: &str| Written::String(text.to_owned());
        let texts =
            |texts: Vec<String>| Written::Array(texts.into_iter().map(Written::String).collect());
        let mut out: Entries = vec![
            ("tokenizer.ggml.model".into(), text("gpt2")),
            ("tokenizer.ggml.pre".into(), text(rule.name())),
            ("tokenizer.ggml.tokens".into(), texts(tokens)),
            (
                "tokenizer.ggml.token_type".into(),
                Written::Array(kinds.into_iter().map(|kind| Written::I32(kind as i32)).collect()),
            ),
            ("tokenizer.ggml.merges".into(), texts(merges)),
            ("tokenizer.ggml.add_bos_token".into(), Written::Bool(self.add_bos())),
        ];
        let ids = [
            ("bos", self.special.bos),
            ("eos", self.special.eos),
            ("unknown", self.special.unk),
            ("padding", self.special.pad),
        ];
        let ids = ids.into_iter().filter(|(_, id)| id.is_some_and(|id| (id as usize) < rows));
        out.extend(ids.filter_map(|(role, id)| {
            Some((format!("tokenizer.ggml.{role}_token_id"), Written::U32(id?)))
        }));
        out.extend(
            self.chat_template().map(|template| ("tokenizer.chat_template".into(), text(template))),
        );
        Ok(out)
    }
}
