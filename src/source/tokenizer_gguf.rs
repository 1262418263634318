//! The tokenizer inside a GGUF file, built from its tokens, merges, scores and token types.
//!
//! Pre-tokenizers by name: `llama_vocab_pre_type` of ggml-org/llama.cpp; their rules as the published
//! tokenizer.json files state them. Merges from scores: `generate_merges` of huggingface/transformers.

use std::collections::BTreeMap;

use anyhow::Result;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{NFC, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use super::gguf::{Gguf, Value};
use super::tokenizer::Special;
use crate::bail_data;
use crate::error::{Error, nearest};

/// SentencePiece writes a space as this.
const SPACE: &str = "▁";

/// Bytes of the longest token from which merges are derived; the longest ones known have some hundred.
const LONGEST: usize = 1024;

/// Token types of `tokenizer.ggml.token_type`.
pub(super) const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
pub(super) const CONTROL: i64 = 3;
pub(super) const USER_DEFINED: i64 = 4;
pub(super) const UNUSED: i64 = 5;

const KNOWN_PRE: [&str; 10] =
    ["default", "gpt-2", "gpt2", "smollm", "starcoder", "llama-bpe", "llama3", "llama-v3", "qwen2", "deepseek-r1-qwen"];

pub(super) const LLAMA3: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
pub(super) const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A tokenizer and what the file says beside it.
pub(super) struct Built {
    pub inner: tokenizers::Tokenizer,
    pub special: Special,
    pub chat_template: Option<String>,
    pub add_bos: bool,
}

/// The vocabulary of the file.
struct Vocabulary<'a> {
    tokens: &'a [String],
    types: Option<&'a [i64]>,
    ids: BTreeMap<&'a str, u32>,
}

impl<'a> Vocabulary<'a> {
    fn read(gguf: &'a Gguf) -> Result<Self> {
        let tokens = gguf.required("tokenizer.ggml.tokens", Value::as_strings)?;
        let types = gguf.optional("tokenizer.ggml.token_type", Value::as_integers)?;
        if let Some(types) = types
            && types.len() != tokens.len()
        {
            bail_data!("there are {} tokens but {} token types", tokens.len(), types.len());
        }
        let mut ids = BTreeMap::new();
        for (id, token) in tokens.iter().enumerate() {
            // Where a token is there twice, the first one counts.
            ids.entry(token.as_str()).or_insert(id as u32);
        }
        Ok(Self { tokens, types, ids })
    }

    fn kind(&self, id: usize) -> i64 {
        self.types.map_or(NORMAL, |types| types[id])
    }

    fn owned(&self) -> Vec<(String, u32)> {
        self.ids.iter().map(|(token, id)| ((*token).to_owned(), *id)).collect()
    }

    /// The token that metadata `key` gives the id of.
    fn role(&self, gguf: &Gguf, key: &str) -> Result<Option<u32>> {
        match gguf.optional(key, Value::as_u64)? {
            Some(id) if id >= self.tokens.len() as u64 => bail_data!("`{key}` is {id}, and there are {} tokens", self.tokens.len()),
            id => Ok(id.map(|id| id as u32)),
        }
    }

    /// Tokens that are recognised in a text before it is split.
    fn added(&self, unknown_too: bool) -> Vec<AddedToken> {
        let added = |(id, token): (usize, &String)| match self.kind(id) {
            CONTROL => Some(AddedToken::from(token.clone(), true)),
            UNKNOWN if unknown_too => Some(AddedToken::from(token.clone(), true)),
            USER_DEFINED => Some(AddedToken::from(token.clone(), false).normalized(false)),
            _ => None,
        };
        self.tokens.iter().enumerate().filter(|(_, token)| !token.is_empty()).filter_map(added).collect()
    }
}

/// Builds the tokenizer.
///
/// Errors (class data), without the file's name.
pub(super) fn build(gguf: &Gguf) -> Result<Built> {
    let vocabulary = Vocabulary::read(gguf)?;
    let special = Special {
        bos: vocabulary.role(gguf, "tokenizer.ggml.bos_token_id")?,
        eos: vocabulary.role(gguf, "tokenizer.ggml.eos_token_id")?,
        unk: vocabulary.role(gguf, "tokenizer.ggml.unknown_token_id")?,
        pad: vocabulary.role(gguf, "tokenizer.ggml.padding_token_id")?,
    };
    let flag = |key: &str| gguf.optional(key, Value::as_bool);
    let stated = flag("tokenizer.ggml.add_bos_token")?;
    // What llama.cpp assumes where the file does not say.
    let (mut inner, add_bos) = match gguf.required("tokenizer.ggml.model", Value::as_str)? {
        "gpt2" => {
            let pre = gguf.optional("tokenizer.ggml.pre", Value::as_str)?.unwrap_or("default");
            (byte_level(gguf, &vocabulary, pre)?, matches!(pre, "llama-bpe" | "llama3" | "llama-v3"))
        }
        "llama" => {
            let prefix = flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
            (sentence_piece(gguf, &vocabulary, special.unk, prefix)?, true)
        }
        other => bail_data!("its kind `{other}` is not read; `gpt2` (byte-level BPE) and `llama` (SentencePiece BPE) are"),
    };
    let add_bos = stated.unwrap_or(add_bos) && special.bos.is_some();
    if add_bos
        && let Some(bos) = special.bos
        && let Some(template) = begin(&vocabulary.tokens[bos as usize], bos)
    {
        inner.with_post_processor(Some(template));
    }
    let chat_template = gguf.optional("tokenizer.chat_template", Value::as_str)?.map(str::to_owned);
    Ok(Built { inner, special, chat_template, add_bos })
}

/// A post-processor that puts the token before each text, for those who load the saved tokenizer.
fn begin(token: &str, id: u32) -> Option<TemplateProcessing> {
    TemplateProcessing::builder()
        .try_single(vec![token.to_owned(), "$A".to_owned()])
        .ok()?
        .try_pair(vec![token.to_owned(), "$A".to_owned(), format!("{token}:1"), "$B:1".to_owned()])
        .ok()?
        .special_tokens(vec![(token.to_owned(), id)])
        .build()
        .ok()
}

fn library(error: impl std::fmt::Display) -> Error {
    Error::data(format!("the tokenizer cannot be built: {error}"))
}

/// Byte-level BPE with the file's own merges.
fn byte_level(gguf: &Gguf, vocabulary: &Vocabulary, pre: &str) -> Result<tokenizers::Tokenizer> {
    let mut merges = Vec::new();
    for (row, merge) in gguf.required("tokenizer.ggml.merges", Value::as_strings)?.iter().enumerate() {
        // The library's builder panics on a merge whose result is longer than every token.
        match merge.split_once(' ') {
            Some((left, right)) if vocabulary.ids.contains_key(format!("{left}{right}").as_str()) => {
                merges.push((left.to_owned(), right.to_owned()));
            }
            _ => bail_data!("merge {row} (`{merge}`) does not give a token of the vocabulary"),
        }
    }
    let llama3 = matches!(pre, "llama-bpe" | "llama3" | "llama-v3");
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary.owned().into_iter().collect::<tokenizers::models::bpe::Vocab>(), merges)
        .ignore_merges(llama3)
        .build()
        .map_err(library)?;
    let mut inner = tokenizers::Tokenizer::new(bpe);
    let bytes = |regex: bool| ByteLevel::new(false, true, regex);
    let split =
        |pattern: &str| Split::new(SplitPattern::Regex(pattern.to_owned()), SplitDelimiterBehavior::Isolated, false).map_err(library);
    match pre {
        "default" | "gpt-2" | "gpt2" => inner.with_pre_tokenizer(Some(bytes(true))),
        "smollm" | "starcoder" => inner.with_pre_tokenizer(Some(PreTokenizers::new(vec![Digits::new(true).into(), bytes(true).into()]))),
        "qwen2" | "deepseek-r1-qwen" => {
            inner.with_normalizer(Some(NFC)).map_err(library)?;
            inner.with_pre_tokenizer(Some(PreTokenizers::new(vec![split(QWEN2)?.into(), bytes(false).into()])))
        }
        _ if llama3 => inner.with_pre_tokenizer(Some(PreTokenizers::new(vec![split(LLAMA3)?.into(), bytes(false).into()]))),
        other => {
            let near = nearest(other, KNOWN_PRE).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            bail_data!("its pre-tokenizer `{other}` is not known, only {}{near}", KNOWN_PRE.join(", "));
        }
    };
    inner.with_decoder(Some(ByteLevel::default()));
    inner.add_tokens(vocabulary.added(false)).map_err(library)?;
    Ok(inner)
}

/// SentencePiece BPE: merges ranked by the score of their result, unknown characters as bytes.
fn sentence_piece(gguf: &Gguf, vocabulary: &Vocabulary, unk: Option<u32>, prefix: bool) -> Result<tokenizers::Tokenizer> {
    let scores = gguf.required("tokenizer.ggml.scores", Value::as_floats)?;
    if scores.len() != vocabulary.tokens.len() {
        bail_data!("there are {} tokens but {} scores", vocabulary.tokens.len(), scores.len());
    }
    let mut builder = BPE::builder()
        .vocab_and_merges(vocabulary.owned().into_iter().collect::<tokenizers::models::bpe::Vocab>(), merges(vocabulary, scores)?)
        .byte_fallback(true)
        .fuse_unk(true);
    if let Some(unk) = unk.or_else(|| (0..vocabulary.tokens.len()).find(|id| vocabulary.kind(*id) == UNKNOWN).map(|id| id as u32)) {
        builder = builder.unk_token(vocabulary.tokens[unk as usize].clone());
    }
    let mut inner = tokenizers::Tokenizer::new(builder.build().map_err(library)?);

    let spaces = Replace::new(" ", SPACE).map_err(library)?;
    let mut decoders = vec![Replace::new(SPACE, " ").map_err(library)?.into(), ByteFallback::new().into(), Fuse::new().into()];
    let normalizers = if prefix {
        decoders.push(Strip::new(' ', 1, 0).into());
        vec![Prepend::new(SPACE.into()).into(), spaces.into()]
    } else {
        vec![spaces.into()]
    };
    inner.with_normalizer(Some(Normalizers::new(normalizers))).map_err(library)?;
    inner.with_decoder(Some(Decoders::new(decoders)));
    inner.add_tokens(vocabulary.added(true)).map_err(library)?;
    Ok(inner)
}

/// All pairs of tokens whose join is a token, best score of the join first.
fn merges(vocabulary: &Vocabulary, scores: &[f64]) -> Result<Vec<(String, String)>> {
    let mergeable =
        |piece: &str| vocabulary.ids.get(piece).is_some_and(|id| matches!(vocabulary.kind(*id as usize), NORMAL | USER_DEFINED));
    let mut pairs = Vec::new();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        if !mergeable(token) {
            continue;
        }
        if token.len() > LONGEST {
            bail_data!("token {id} has {} bytes; at most {LONGEST} are possible", token.len());
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if mergeable(left) && mergeable(right) {
                pairs.push((scores[id], left, right));
            }
        }
    }
    // Ties as transformers breaks them: the longer left piece first. The sort is stable.
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| b.1.chars().count().cmp(&a.1.chars().count())));
    Ok(pairs.into_iter().map(|(_, left, right)| (left.to_owned(), right.to_owned())).collect())
}
