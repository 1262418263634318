//! A byte-level BPE tokenizer as the metadata of a GGUF file.

use anyhow::Result;
use candle_core::quantized::gguf_file::Value as Written;
use serde_json::Value;

use super::pre_tokenizer::PreTokenizerRule;
use super::tokenizer::Tokenizer;
use super::tokenizer_gguf::{CONTROL, NORMAL, UNUSED, USER_DEFINED};
use crate::error::error;

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
        let rule = rule(&told)?;
        self.check_begin()?;
        let merges = merges(&told["model"])?;
        let (tokens, types) = self.vocabulary(rows, &told["added_tokens"]);
        let text = |text: &str| Written::String(text.to_owned());
        let texts =
            |texts: Vec<String>| Written::Array(texts.into_iter().map(Written::String).collect());
        let types = types.into_iter().map(|kind| Written::I32(kind as i32)).collect();
        let mut out: Entries = vec![
            ("tokenizer.ggml.model".into(), text("gpt2")),
            ("tokenizer.ggml.pre".into(), text(rule.name())),
            ("tokenizer.ggml.tokens".into(), texts(tokens)),
            ("tokenizer.ggml.token_type".into(), Written::Array(types)),
            ("tokenizer.ggml.merges".into(), texts(merges)),
            ("tokenizer.ggml.add_bos_token".into(), Written::Bool(self.add_bos())),
        ];
        out.extend(self.special_ids(rows));
        out.extend(
            self.chat_template().map(|template| ("tokenizer.chat_template".into(), text(template))),
        );
        Ok(out)
    }

    /// Errors (class usage): tokens before a text that GGUF has no word for.
    fn check_begin(&self) -> Result<()> {
        if self.begin().is_empty() || self.add_bos() {
            return Ok(());
        }
        Err(error!(
            Usage,
            "the tokenizer puts other tokens before a text than its begin token, which GGUF has no \
             word for";
            hint: "export with `--merged DIR`"
        )
        .into())
    }

    /// The token and the token type of each row; `added` are the added tokens of tokenizer.json.
    fn vocabulary(&self, rows: usize, added: &Value) -> (Vec<String>, Vec<i64>) {
        let mut types = vec![UNUSED; rows];
        let mut tokens: Vec<String> = (0..rows).map(|id| format!("[PAD{id}]")).collect();
        for id in 0..rows.min(self.vocab_size()) {
            if let Some(token) = self.token(id as u32) {
                (tokens[id], types[id]) = (token, NORMAL);
            }
        }
        for added in added.as_array().into_iter().flatten() {
            let id = added["id"].as_u64().and_then(|id| usize::try_from(id).ok());
            if let Some(kind) = id.and_then(|id| types.get_mut(id)) {
                let special = added["special"].as_bool().unwrap_or(false);
                *kind = if special { CONTROL } else { USER_DEFINED };
            }
        }
        (tokens, types)
    }

    /// The ids of tokens with a role that have a row.
    fn special_ids(&self, rows: usize) -> impl Iterator<Item = (String, Written)> {
        let ids = [
            ("bos", self.special.bos),
            ("eos", self.special.eos),
            ("unknown", self.special.unk),
            ("padding", self.special.pad),
        ];
        let entry = move |(role, id): (&str, Option<u32>)| {
            let id = id.filter(|id| (*id as usize) < rows)?;
            Some((format!("tokenizer.ggml.{role}_token_id"), Written::U32(id)))
        };
        ids.into_iter().filter_map(entry)
    }
}

/// The rule by which a tokenizer.json splits texts.
///
/// Errors (class usage): a tokenizer of another kind, or a way that has no name in GGUF.
fn rule(told: &Value) -> Result<&'static PreTokenizerRule> {
    let kind = told["model"]["type"].as_str().unwrap_or("BPE");
    let fallback = told["model"]["byte_fallback"].as_bool().unwrap_or(false);
    PreTokenizerRule::of_json(told).filter(|_| kind == "BPE" && !fallback).ok_or_else(|| {
        error!(
            Usage,
            "only byte-level BPE tokenizers that split texts in a way that GGUF has a name for are \
             written to it";
            hint: "export with `--merged DIR`, and convert the folder by llama.cpp's \
                   `convert_hf_to_gguf.py`"
        )
        .into()
    })
}

/// The merges of a model, each as a text.
fn merges(model: &Value) -> Result<Vec<String>> {
    let merge = |merge: &Value| match (merge.as_str(), merge.as_array()) {
        (Some(text), _) => Some(text.to_owned()),
        (_, Some(pair)) => Some(format!("{} {}", pair.first()?.as_str()?, pair.get(1)?.as_str()?)),
        _ => None,
    };
    let merges: Option<_> = model["merges"].as_array().into_iter().flatten().map(merge).collect();
    merges.ok_or_else(|| error!(Data, "the tokenizer has merges that cannot be read").into())
}
