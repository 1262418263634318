//! The tokenizer that transformers 5 builds of a SentencePiece model (`convert_slow_tokenizer.py`):
//! its base class follows the model's own settings, the class of Llama takes pieces and their order
//! alone.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::charsmap;
use super::sentencepiece::{Kind, PieceKind, SentencePiece};
use super::tokenizer_class::Class;
use super::tokenizer_tokens::Token;
use crate::bail_data;
use crate::error::Error;

/// Bytes of the longest piece from which merges are derived.
const LONGEST: usize = 1024;

/// A tokenizer.json's text, and tokens that the model marks, with roles that it gives.
pub(super) struct Built {
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
    class: Class,
    settings: &Value,
    names: &BTreeMap<u64, String>,
) -> Result<Built> {
    let marked: Vec<Token> = model
        .pieces
        .iter()
        .filter(|piece| matches!(piece.kind, PieceKind::Control | PieceKind::UserDefined))
        .map(|piece| Token::new(&piece.text, piece.kind == PieceKind::Control, Some(false)))
        .collect();
    match class {
        Class::File => {
            let own = model.pieces.iter().any(|piece| piece.kind == PieceKind::UserDefined);
            let marked = marked.into_iter().filter(|token| !own || token.special).collect();
            let role = |name, id: i32, piece: &String| (id >= 0).then(|| (name, piece.clone()));
            let roles = [
                role("bos_token", model.bos, &model.bos_piece),
                role("eos_token", model.eos, &model.eos_piece),
                role("unk_token", model.unk, &model.unk_piece),
            ];
            let legacy = settings["legacy"].as_bool().unwrap_or(settings.get("legacy").is_none());
            Ok(Built {
                json: by_settings(model, legacy, names)?,
                marked,
                roles: roles.into_iter().flatten().collect(),
                notes: vec![],
            })
        }
        Class::Llama | Class::CodeLlama if model.kind == Kind::Bpe => {
            let vocab: Map<String, Value> = model
                .pieces
                .iter()
                .enumerate()
                .map(|(id, piece)| (piece.text.clone(), json!(id)))
                .collect();
            let ids: BTreeMap<&str, f64> = vocab
                .iter()
                .map(|(text, id)| (text.as_str(), -id.as_f64().unwrap_or_default()))
                .collect();
            let merges: Vec<Value> =
                merges(&ids)?.into_iter().map(|(_, left, right)| json!([left, right])).collect();
            let json = class
                .rebuilt(Value::Object(vocab), merges.into(), Value::Null, settings)?
                .unwrap_or_default();
            let mut passed = vec![];
            if !model.charsmap.is_empty() {
                passed.push("precompiled_charsmap");
            }
            if model.remove_extra_whitespaces {
                passed.push("remove_extra_whitespaces");
            }
            let notes = match passed.is_empty() {
                true => vec![],
                false => vec![format!(
                    "tokenizer.model asks for {}, which the class {} does not follow, as in \
                     transformers 5",
                    passed.join(" and "),
                    class.name()
                )],
            };
            Ok(Built { json, marked, roles: vec![], notes })
        }
        _ => Err(Error::data(format!(
            "tokenizer.model is a SentencePiece model of the kind {}, which the class {} does not \
             read",
            match model.kind {
                Kind::Bpe => "BPE",
                Kind::Unigram => "Unigram",
            },
            class.name()
        ))
        .hint(
            "set `tokenizer_class` to `PreTrainedTokenizerFast` in tokenizer_config.json to read \
             it by its own settings",
        )
        .into()),
    }
}

/// All pairs of pieces whose join is a piece: the best join first, then the shorter left piece.
fn merges<'a>(ranks: &BTreeMap<&'a str, f64>) -> Result<Vec<(f64, &'a str, &'a str)>> {
    let mut out = vec![];
    for (text, rank) in ranks {
        if text.len() > LONGEST {
            bail_data!(
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
        Kind::Unigram => {
            let tokens: Vec<String> = model.pieces.iter().map(|piece| piece.text.clone()).collect();
            let vocab: Vec<Value> = model
                .pieces
                .iter()
                .map(|piece| json!([piece.text, f64::from(piece.score)]))
                .collect();
            let unk = usize::try_from(model.unk).ok();
            (
                json!({
                    "type": "Unigram", "unk_id": unk, "vocab": vocab,
                    "byte_fallback": model.byte_fallback,
                }),
                tokens,
            )
        }
        Kind::Bpe => bpe(model, names)?,
    };
    let mut own: Vec<&String> = model
        .pieces
        .iter()
        .zip(&tokens)
        .filter(|(piece, _)| piece.kind == PieceKind::UserDefined)
        .map(|(_, token)| token)
        .collect();
    // The longest first: the first that fits is taken.
    own.sort_by_key(|token| std::cmp::Reverse(token.chars().count()));
    let pattern = own.iter().map(|token| regex::escape(token)).collect::<Vec<_>>().join("|");

    let replace = |pattern: Value, content: &str| {
        json!({
            "type": "Replace",
            "pattern": pattern,
            "content": content,
        })
    };
    let mut normalizers = vec![];
    if !model.charsmap.is_empty() {
        normalizers.push(json!({
            "type": "Precompiled", "precompiled_charsmap": charsmap::to_base64(&model.charsmap),
        }));
    }
    if model.remove_extra_whitespaces {
        normalizers.push(replace(json!({"Regex": r"\A +| +\z"}), ""));
        normalizers.push(replace(json!({"Regex": " {2,}"}), " "));
    }
    if model.escape_whitespaces {
        normalizers.push(replace(json!({"String": " "}), "▁"));
    }
    if model.add_dummy_prefix && legacy {
        normalizers.push(replace(json!({"Regex": r"\A▁"}), "▁▁"));
    }
    let mut splits = vec![];
    if model.add_dummy_prefix {
        let scheme = if legacy { "always" } else { "first" };
        splits.push(json!({
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false,
        }));
    }
    if !own.is_empty() {
        splits.push(json!({
            "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false,
        }));
    }
    let mut decoders = vec![replace(json!({"String": "▁"}), " ")];
    if model.byte_fallback {
        decoders.push(json!({"type": "ByteFallback"}));
    }
    if model.add_dummy_prefix {
        decoders.extend([
            json!({"type": "Fuse"}),
            json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}),
        ]);
    } else if model.byte_fallback {
        decoders.push(json!({"type": "Fuse"}));
    }
    let pre_tokenizer = if splits.is_empty() {
        Value::Null
    } else {
        json!({"type": "Sequence", "pretokenizers": splits})
    };
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": pre_tokenizer, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": decoders}, "model": vocabulary,
    }))
}

/// BPE with merges ranked by the scores of normal pieces, and the token of each piece.
fn bpe(model: &SentencePiece, names: &BTreeMap<u64, String>) -> Result<(Value, Vec<String>)> {
    // A piece that is there twice counts at its last place.
    let ids: BTreeMap<&str, usize> =
        model.pieces.iter().enumerate().map(|(id, piece)| (piece.text.as_str(), id)).collect();
    let kept: BTreeSet<&str> = ids
        .iter()
        .filter(|(_, id)| !names.contains_key(&(**id as u64)))
        .map(|(text, _)| *text)
        .collect();
    let mut tokens: Vec<String> = vec![];
    let mut vocab = Map::new();
    let (mut ranks, mut at) = (BTreeMap::new(), BTreeMap::new());
    for (id, piece) in model.pieces.iter().enumerate() {
        let name = names.get(&(id as u64)).filter(|name| !kept.contains(name.as_str()));
        tokens.push(name.unwrap_or(&piece.text).clone());
    }
    for (id, piece) in
        model.pieces.iter().enumerate().filter(|(id, piece)| ids[piece.text.as_str()] == *id)
    {
        vocab.insert(tokens[id].clone(), json!(id));
        if piece.kind == PieceKind::Normal {
            // Zero has one sign in comparisons.
            ranks.insert(tokens[id].as_str(), f64::from(piece.score) + 0.0);
            at.insert(tokens[id].as_str(), id);
        }
    }
    let mut pairs: Vec<(f64, usize, &str, &str)> = vec![];
    for (rank, left, right) in merges(&ranks)? {
        pairs.push((-rank, at[format!("{left}{right}").as_str()], left, right));
    }
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| (a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
    let own = model.pieces.iter().any(|piece| piece.kind == PieceKind::UserDefined);
    let merges: Vec<Value> =
        pairs.into_iter().map(|(_, _, left, right)| json!([left, right])).collect();
    let json = json!({
        "type": "BPE", "unk_token": model.unk_piece, "fuse_unk": true,
        "byte_fallback": model.byte_fallback, "ignore_merges": own, "vocab": vocab,
        "merges": merges,
    });
    Ok((json, tokens))
}
