//! The tokenizer that transformers 5 builds of a SentencePiece model (`convert_slow_tokenizer.py`):
//! its base class follows the model's own settings, the class of Llama takes pieces and their order
//! alone.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::charsmap;
use super::sentencepiece::{ModelType, Piece, PieceKind, SentencePiece};
use super::tokenizer_class::TokenizerClass;
use super::tokenizer_pipeline::{Pipeline, SPACE, metaspace, replace, spaces, split, strip};
use super::tokenizer_tokens::Token;
use crate::error::{Error, bail, error};

/// Bytes of the longest piece from which merges are derived.
const LONGEST: usize = 1024;

/// A tokenizer.json's text, and tokens that the model marks, with roles that it gives.
pub(super) struct TokenizerOfPieces {
    pub json: Value,
    pub marked: Vec<Token>,
    pub roles: Vec<(&'static str, String)>,
    pub notes: Vec<String>,
}

/// Builds it. `names` are the tokens that tokenizer_config.json or added_tokens.json put at ids of
/// the vocabulary.
///
/// Errors (class data): a class that makes nothing of such a model.
pub(super) fn build(
    model: &SentencePiece,
    class: TokenizerClass,
    settings: &Value,
    names: &BTreeMap<u64, String>,
) -> Result<TokenizerOfPieces> {
    match class {
        TokenizerClass::File => base(model, settings, names),
        TokenizerClass::Llama | TokenizerClass::CodeLlama if model.kind == ModelType::Bpe => {
            llama(model, class, settings)
        }
        _ => Err(not_read(model.kind, class).into()),
    }
}

/// As the base class builds it: by the model's own settings.
fn base(
    model: &SentencePiece,
    settings: &Value,
    names: &BTreeMap<u64, String>,
) -> Result<TokenizerOfPieces> {
    let legacy = settings["legacy"].as_bool().unwrap_or(settings.get("legacy").is_none());
    let role = |name, id: i32, piece: &String| (id >= 0).then(|| (name, piece.clone()));
    let roles = [
        role("bos_token", model.bos, &model.bos_piece),
        role("eos_token", model.eos, &model.eos_piece),
        role("unk_token", model.unk, &model.unk_piece),
    ];
    Ok(TokenizerOfPieces {
        json: by_settings(model, legacy, names)?,
        marked: marked(model).filter(|token| token.special).collect(),
        roles: roles.into_iter().flatten().collect(),
        notes: vec![],
    })
}

/// As the class of Llama builds it: of the pieces and their order.
fn llama(
    model: &SentencePiece,
    class: TokenizerClass,
    settings: &Value,
) -> Result<TokenizerOfPieces> {
    let vocab: Map<String, Value> = model
        .pieces
        .iter()
        .enumerate()
        .map(|(id, piece)| (piece.text.clone(), json!(id)))
        .collect();
    let ranks: BTreeMap<&str, f64> =
        vocab.iter().map(|(text, id)| (text.as_str(), -id.as_f64().unwrap_or_default())).collect();
    let merges: Vec<Value> =
        merges(&ranks)?.into_iter().map(|(_, left, right)| json!([left, right])).collect();
    let json = class
        .rebuilt(Value::Object(vocab), merges.into(), Value::Null, settings)?
        .unwrap_or_default();
    let notes = passed_over(model, class).into_iter().collect();
    Ok(TokenizerOfPieces { json, marked: marked(model).collect(), roles: vec![], notes })
}

/// Tokens that the model marks: control pieces, which are special, and those of a person's own.
fn marked(model: &SentencePiece) -> impl Iterator<Item = Token> {
    model
        .pieces
        .iter()
        .filter(|piece| matches!(piece.kind, PieceKind::Control | PieceKind::UserDefined))
        .map(|piece| Token::new(&piece.text, piece.kind == PieceKind::Control, Some(false)))
}

/// What the model asks for and the class of Llama does not follow, for a note.
fn passed_over(model: &SentencePiece, class: TokenizerClass) -> Option<String> {
    let asked = [
        ("precompiled_charsmap", !model.charsmap.is_empty()),
        ("remove_extra_whitespaces", model.remove_extra_whitespaces),
    ];
    let asked: Vec<&str> = asked.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect();
    (!asked.is_empty()).then(|| {
        format!(
            "tokenizer.model asks for {}, which the class {} does not follow, as in transformers 5",
            asked.join(" and "),
            class.name()
        )
    })
}

/// The error for a class that makes nothing of a model of that kind.
fn not_read(kind: ModelType, class: TokenizerClass) -> Error {
    let kind = match kind {
        ModelType::Bpe => "BPE",
        ModelType::Unigram => "Unigram",
    };
    error!(
        Data,
        "tokenizer.model is a SentencePiece model of the kind {kind}, which the class {} does not \
         read",
        class.name();
        hint: "set `tokenizer_class` to `PreTrainedTokenizerFast` in tokenizer_config.json to read \
               it by its own settings"
    )
}

/// All pairs of pieces whose join is a piece: the best join first, then the shorter left piece.
fn merges<'a>(ranks: &BTreeMap<&'a str, f64>) -> Result<Vec<(f64, &'a str, &'a str)>> {
    let mut out = vec![];
    for (text, rank) in ranks {
        if text.len() > LONGEST {
            bail!(
                Data,
                "a piece of tokenizer.model has {} bytes; at most {LONGEST} are possible",
                text.len()
            );
        }
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if ranks.contains_key(left) && ranks.contains_key(right) {
                out.push((*rank, left, right));
            }
        }
    }
    out.sort_by(|a, b| {
        b.0.total_cmp(&a.0).then_with(|| a.1.chars().count().cmp(&b.1.chars().count()))
    });
    Ok(out)
}

/// The tokenizer.json of transformers' `build_tokenizer_from_spm_proto`.
fn by_settings(
    model: &SentencePiece,
    legacy: bool,
    names: &BTreeMap<u64, String>,
) -> Result<Value> {
    let (vocabulary, tokens) = match model.kind {
        ModelType::Unigram => unigram(model),
        ModelType::Bpe => bpe(model, names)?,
    };
    let pipeline = Pipeline {
        normalizer: normalizer(model, legacy),
        pre_tokenizer: pre_tokenizer(model, legacy, &tokens),
        model: vocabulary,
        post_processor: Value::Null,
        decoder: decoder(model),
    };
    Ok(pipeline.file())
}

fn normalizer(model: &SentencePiece, legacy: bool) -> Value {
    let mut steps = vec![];
    if !model.charsmap.is_empty() {
        let map = charsmap::to_base64(&model.charsmap);
        steps.push(json!({"type": "Precompiled", "precompiled_charsmap": map}));
    }
    if model.remove_extra_whitespaces {
        steps.push(replace(json!({"Regex": r"\A +| +\z"}), ""));
        steps.push(replace(json!({"Regex": " {2,}"}), " "));
    }
    if model.escape_whitespaces {
        steps.push(replace(json!({"String": " "}), SPACE));
    }
    if model.add_dummy_prefix && legacy {
        steps.push(replace(json!({"Regex": r"\A▁"}), "▁▁"));
    }
    json!({"type": "Sequence", "normalizers": steps})
}

fn pre_tokenizer(model: &SentencePiece, legacy: bool, tokens: &[String]) -> Value {
    let mut steps = vec![];
    if model.add_dummy_prefix {
        steps.push(metaspace(if legacy { "always" } else { "first" }));
    }
    let mut own: Vec<&String> = model
        .pieces
        .iter()
        .zip(tokens)
        .filter(|(piece, _)| piece.kind == PieceKind::UserDefined)
        .map(|(_, token)| token)
        .collect();
    if !own.is_empty() {
        // The longest first: the first that fits is taken.
        own.sort_by_key(|token| std::cmp::Reverse(token.chars().count()));
        let own: Vec<String> = own.into_iter().map(|token| regex::escape(token)).collect();
        steps.push(split(&own.join("|")));
    }
    match steps[..] {
        [] => Value::Null,
        _ => json!({"type": "Sequence", "pretokenizers": steps}),
    }
}

fn decoder(model: &SentencePiece) -> Value {
    let mut steps = vec![spaces()];
    if model.byte_fallback {
        steps.push(json!({"type": "ByteFallback"}));
    }
    if model.add_dummy_prefix || model.byte_fallback {
        steps.push(json!({"type": "Fuse"}));
    }
    if model.add_dummy_prefix {
        steps.push(strip());
    }
    json!({"type": "Sequence", "decoders": steps})
}

/// A Unigram vocabulary, and the token of each piece.
fn unigram(model: &SentencePiece) -> (Value, Vec<String>) {
    let vocab: Vec<Value> =
        model.pieces.iter().map(|piece| json!([piece.text, f64::from(piece.score)])).collect();
    let json = json!({
        "type": "Unigram", "unk_id": usize::try_from(model.unk).ok(), "vocab": vocab,
        "byte_fallback": model.byte_fallback,
    });
    (json, model.pieces.iter().map(|piece| piece.text.clone()).collect())
}

/// BPE with merges ranked by the scores of normal pieces, and the token of each piece.
fn bpe(model: &SentencePiece, names: &BTreeMap<u64, String>) -> Result<(Value, Vec<String>)> {
    // A piece that is there twice counts at its last place.
    let ids: BTreeMap<&str, usize> =
        model.pieces.iter().enumerate().map(|(id, piece)| (piece.text.as_str(), id)).collect();
    let tokens = renamed(model, &ids, names);
    let mut vocab = Map::new();
    let mut normal = BTreeMap::new();
    for (id, piece) in
        model.pieces.iter().enumerate().filter(|(id, piece)| ids[piece.text.as_str()] == *id)
    {
        vocab.insert(tokens[id].clone(), json!(id));
        if piece.kind == PieceKind::Normal {
            // Zero has one sign in comparisons.
            normal.insert(tokens[id].as_str(), (f64::from(piece.score) + 0.0, id));
        }
    }
    let own = model.pieces.iter().any(|piece| piece.kind == PieceKind::UserDefined);
    let json = json!({
        "type": "BPE", "unk_token": model.unk_piece, "fuse_unk": true,
        "byte_fallback": model.byte_fallback, "ignore_merges": own, "vocab": vocab,
        "merges": by_score(&normal)?,
    });
    Ok((json, tokens))
}

/// The token of each piece: the name at its id, unless that is a piece without one.
fn renamed(
    model: &SentencePiece,
    ids: &BTreeMap<&str, usize>,
    names: &BTreeMap<u64, String>,
) -> Vec<String> {
    let kept: BTreeSet<&str> = ids
        .iter()
        .filter(|(_, id)| !names.contains_key(&(**id as u64)))
        .map(|(text, _)| *text)
        .collect();
    let token = |(id, piece): (usize, &Piece)| {
        let name = names.get(&(id as u64)).filter(|name| !kept.contains(name.as_str()));
        name.unwrap_or(&piece.text).clone()
    };
    model.pieces.iter().enumerate().map(token).collect()
}

/// The merges of pieces with these scores and ids: the best score first, then the lowest id.
fn by_score(pieces: &BTreeMap<&str, (f64, usize)>) -> Result<Vec<Value>> {
    let ranks = pieces.iter().map(|(text, (score, _))| (*text, *score)).collect();
    let mut pairs: Vec<(f64, usize, &str, &str)> = vec![];
    for (rank, left, right) in merges(&ranks)? {
        pairs.push((-rank, pieces[format!("{left}{right}").as_str()].1, left, right));
    }
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| (a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
    Ok(pairs.into_iter().map(|(_, _, left, right)| json!([left, right])).collect())
}
