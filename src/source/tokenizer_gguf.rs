//! The tokenizer inside a GGUF file, built from its tokens, merges, scores and token types.
//!
//! Merges from scores: `generate_merges` of huggingface/transformers.

use std::collections::BTreeMap;

use anyhow::Result;
use tokenizers::AddedToken;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;

use super::gguf::Gguf;
use super::gguf_value::GgufValue;
use super::pre_found::{self, Found, Undecided, VocabularyClues};
use super::pre_tokenizer::{self, PreTokenizerRule};
use super::tokenizer_keys;
use super::tokenizer_pipeline::SPACE;
use super::tokenizer_special::Special;
use crate::error::{Error, bail, error};

/// Bytes of the longest token from which merges are derived; the longest ones known have some
/// hundred.
const LONGEST: usize = 1024;

/// Token types of `tokenizer.ggml.token_type`.
pub(super) const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
pub(super) const CONTROL: i64 = 3;
pub(super) const USER_DEFINED: i64 = 4;
pub(super) const UNUSED: i64 = 5;

/// A tokenizer and what the file says beside it.
pub(super) struct GgufTokenizer {
    pub inner: tokenizers::Tokenizer,
    pub special: Special,
    pub chat_template: Option<String>,
    pub add_bos: bool,
    /// The other ways to split a text that the file leaves.
    pub undecided: Undecided,
    /// What a person should know of it.
    pub notes: Vec<String>,
}

/// A tokenizer, whether a text begins with BOS where the file does not say, and what is not
/// decided.
struct Made {
    inner: tokenizers::Tokenizer,
    add_bos: bool,
    undecided: Undecided,
}

/// The vocabulary of the file.
struct Vocabulary<'a> {
    tokens: &'a [String],
    types: Option<&'a [i64]>,
    ids: BTreeMap<&'a str, u32>,
}

impl<'a> Vocabulary<'a> {
    fn read(gguf: &'a Gguf) -> Result<Self> {
        let tokens = gguf.required("tokenizer.ggml.tokens", GgufValue::as_strings)?;
        let types = gguf.optional("tokenizer.ggml.token_type", GgufValue::as_integers)?;
        if let Some(types) = types
            && types.len() != tokens.len()
        {
            bail!(Data, "there are {} tokens but {} token types", tokens.len(), types.len());
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

    fn owned(&self) -> Vocab {
        self.ids.iter().map(|(token, id)| ((*token).to_owned(), *id)).collect()
    }

    /// The token that metadata `key` gives the id of.
    fn role(&self, gguf: &Gguf, key: &str) -> Result<Option<u32>> {
        match gguf.optional(key, GgufValue::as_u64)? {
            Some(id) if id >= self.tokens.len() as u64 => {
                bail!(Data, "`{key}` is {id}, and there are {} tokens", self.tokens.len())
            }
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
        self.tokens
            .iter()
            .enumerate()
            .filter(|(_, token)| !token.is_empty())
            .filter_map(added)
            .collect()
    }
}

/// Builds the tokenizer. `pre_tokenizer` names the rule by which texts are split, in place of the
/// file's own.
///
/// Errors (class data), without the file's name; a rule for a tokenizer that has none (class
/// usage).
pub(super) fn build(gguf: &Gguf, pre_tokenizer: Option<&str>) -> Result<GgufTokenizer> {
    let vocabulary = Vocabulary::read(gguf)?;
    let special = special(gguf, &vocabulary)?;
    let kind = gguf.required("tokenizer.ggml.model", GgufValue::as_str)?;
    let mut notes = vec![];
    tokenizer_keys::check(gguf, kind, &mut notes)?;
    let stated = gguf.optional("tokenizer.ggml.add_bos_token", GgufValue::as_bool)?;
    let Made { mut inner, add_bos, undecided } = match kind {
        "gpt2" => {
            let bos_by_rule = stated.is_none() && special.bos.is_some();
            byte_level(gguf, &vocabulary, pre_tokenizer, bos_by_rule, &mut notes)?
        }
        _ if pre_tokenizer.is_some() => bail!(
            Usage,
            "a pre-tokenizer is for byte-level BPE, and the file's vocabulary is SentencePiece's"
        ),
        _ => sentence_piece(gguf, &vocabulary, special.unk)?,
    };
    let bos = special.bos.filter(|_| stated.unwrap_or(add_bos));
    if let Some(bos) = bos
        && let Some(template) = begin(&vocabulary.tokens[bos as usize], bos)
    {
        inner.with_post_processor(Some(template));
    }
    let chat_template =
        gguf.optional("tokenizer.chat_template", GgufValue::as_str)?.map(str::to_owned);
    Ok(GgufTokenizer { inner, special, chat_template, add_bos: bos.is_some(), undecided, notes })
}

/// The tokens that have a role; llama.cpp's of SentencePiece where the file does not say.
fn special(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Special> {
    let sentence_piece =
        gguf.get("tokenizer.ggml.model").and_then(GgufValue::as_str) == Some("llama");
    let role = |key: &str, usual: Option<(u32, i64)>| -> Result<Option<u32>> {
        let usual = usual.filter(|(id, kind)| {
            sentence_piece
                && vocabulary.types.and_then(|types| types.get(*id as usize)) == Some(kind)
        });
        Ok(vocabulary.role(gguf, key)?.or(usual.map(|(id, _)| id)))
    };
    Ok(Special {
        bos: role("tokenizer.ggml.bos_token_id", Some((1, CONTROL)))?,
        eos: role("tokenizer.ggml.eos_token_id", Some((2, CONTROL)))?,
        unk: role("tokenizer.ggml.unknown_token_id", Some((0, UNKNOWN)))?,
        pad: role("tokenizer.ggml.padding_token_id", None)?,
    })
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
    error!(Data, "the tokenizer cannot be built: {error}")
}

/// Byte-level BPE with the file's own merges.
fn byte_level(
    gguf: &Gguf,
    vocabulary: &Vocabulary,
    named: Option<&str>,
    bos_by_rule: bool,
    notes: &mut Vec<String>,
) -> Result<Made> {
    let merges = stated_merges(gguf, vocabulary)?;
    let Found { rules, note } = rules(gguf, vocabulary, &merges, named)?;
    notes.extend(note);
    let add_bos = rules[0].add_bos;
    if bos_by_rule && rules.iter().any(|rule| rule.add_bos != add_bos) {
        return Err(pre_found::undecided_bos().into());
    }
    let mut made = rules
        .into_iter()
        .map(|rule| Ok((rule.name(), split_by(rule, vocabulary, &merges)?)))
        .collect::<Result<Vec<_>>>()?;
    let (rule, inner) = made.remove(0);
    Ok(Made { inner, add_bos, undecided: Undecided { rule, others: made } })
}

/// The merges of the file, in pairs.
fn stated_merges(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Vec<(String, String)>> {
    let mut merges = Vec::new();
    for (row, merge) in
        gguf.required("tokenizer.ggml.merges", GgufValue::as_strings)?.iter().enumerate()
    {
        // The library's builder panics on a merge whose result is longer than every token.
        match merge.split_once(' ') {
            Some((left, right))
                if vocabulary.ids.contains_key(format!("{left}{right}").as_str()) =>
            {
                merges.push((left.to_owned(), right.to_owned()));
            }
            _ => bail!(Data, "merge {row} (`{merge}`) does not give a token of the vocabulary"),
        }
    }
    Ok(merges)
}

/// The rules by which texts may be split: that of the name, or what the file leaves.
fn rules(
    gguf: &Gguf,
    vocabulary: &Vocabulary,
    merges: &[(String, String)],
    named: Option<&str>,
) -> Result<Found> {
    let stated = gguf.optional("tokenizer.ggml.pre", GgufValue::as_str)?;
    let Some(name) = named else {
        let id = |token: &str| vocabulary.ids.get(token).copied();
        return pre_found::find(
            stated,
            &VocabularyClues { tokens: vocabulary.tokens, id: &id, merges },
        );
    };
    match PreTokenizerRule::of(name) {
        Some(rule) => Ok(Found { rules: vec![rule], note: other_rule(stated, rule) }),
        None => bail!(Usage, "{}", pre_tokenizer::unknown("the pre-tokenizer", name)),
    }
}

/// What a person should know where the rule that was named is not the one the file states.
fn other_rule(stated: Option<&str>, rule: &PreTokenizerRule) -> Option<String> {
    let stated = stated.filter(|name| !rule.names.contains(name))?;
    Some(format!(
        "its `tokenizer.ggml.pre` is `{stated}`; texts are split by `{}`, as was asked for",
        rule.name()
    ))
}

fn split_by(
    rule: &PreTokenizerRule,
    vocabulary: &Vocabulary,
    merges: &[(String, String)],
) -> Result<tokenizers::Tokenizer> {
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary.owned(), merges.to_vec())
        .ignore_merges(rule.ignore_merges)
        .build()
        .map_err(library)?;
    let mut inner = tokenizers::Tokenizer::new(bpe);
    rule.apply(&mut inner).map_err(library)?;
    inner.with_decoder(Some(ByteLevel::default()));
    inner.add_tokens(vocabulary.added(false)).map_err(library)?;
    Ok(inner)
}

/// SentencePiece BPE, with what llama.cpp assumes where the file does not say.
fn sentence_piece(gguf: &Gguf, vocabulary: &Vocabulary, unk: Option<u32>) -> Result<Made> {
    let prefix =
        gguf.optional("tokenizer.ggml.add_space_prefix", GgufValue::as_bool)?.unwrap_or(true);
    let mut inner = tokenizers::Tokenizer::new(by_scores(gguf, vocabulary, unk)?);
    let spaces = Replace::new(" ", SPACE).map_err(library)?;
    let mut decoders = vec![
        Replace::new(SPACE, " ").map_err(library)?.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ];
    let normalizers = if prefix {
        decoders.push(Strip::new(' ', 1, 0).into());
        vec![Prepend::new(SPACE.into()).into(), spaces.into()]
    } else {
        vec![spaces.into()]
    };
    inner.with_normalizer(Some(Normalizers::new(normalizers))).map_err(library)?;
    inner.with_decoder(Some(Decoders::new(decoders)));
    inner.add_tokens(vocabulary.added(true)).map_err(library)?;
    Ok(Made { inner, add_bos: true, undecided: Undecided::default() })
}

/// BPE with merges ranked by the score of their result, and unknown characters as bytes.
fn by_scores(gguf: &Gguf, vocabulary: &Vocabulary, unk: Option<u32>) -> Result<BPE> {
    let scores = gguf.required("tokenizer.ggml.scores", GgufValue::as_floats)?;
    if scores.len() != vocabulary.tokens.len() {
        bail!(Data, "there are {} tokens but {} scores", vocabulary.tokens.len(), scores.len());
    }
    let mut builder = BPE::builder()
        .vocab_and_merges(vocabulary.owned(), merges(vocabulary, scores)?)
        .byte_fallback(true)
        .fuse_unk(true);
    let first = || (0..vocabulary.tokens.len()).find(|id| vocabulary.kind(*id) == UNKNOWN);
    if let Some(unk) = unk.map(|id| id as usize).or_else(first) {
        builder = builder.unk_token(vocabulary.tokens[unk].clone());
    }
    Ok(builder.build().map_err(library)?)
}

/// All pairs of tokens whose join is a token, best score of the join first.
fn merges(vocabulary: &Vocabulary, scores: &[f64]) -> Result<Vec<(String, String)>> {
    let mergeable = |piece: &str| {
        vocabulary
            .ids
            .get(piece)
            .is_some_and(|id| matches!(vocabulary.kind(*id as usize), NORMAL | USER_DEFINED))
    };
    let mut pairs = Vec::new();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        if !mergeable(token) {
            continue;
        }
        if token.len() > LONGEST {
            bail!(Data, "token {id} has {} bytes; at most {LONGEST} are possible", token.len());
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if mergeable(left) && mergeable(right) {
                pairs.push((scores[id], left, right));
            }
        }
    }
    // Ties as transformers breaks them: the longer left piece first. The sort is stable.
    pairs.sort_by(|a, b| {
        b.0.total_cmp(&a.0).then_with(|| b.1.chars().count().cmp(&a.1.chars().count()))
    });
    Ok(pairs.into_iter().map(|(_, left, right)| (left.to_owned(), right.to_owned())).collect())
}
