//! `tokenizer.json`: checked before the library builds of it.

use anyhow::Result;
use serde_json::Value;

use crate::error::{bail, error, nearest};

/// The kinds that the library knows, by the part of a `tokenizer.json`.
const KINDS: [(&str, &[&str]); 5] = [
    (
        "normalizer",
        &[
            "Sequence",
            "BertNormalizer",
            "Strip",
            "StripAccents",
            "NFC",
            "NFD",
            "NFKC",
            "NFKD",
            "Lowercase",
            "Nmt",
            "Precompiled",
            "Replace",
            "Prepend",
            "ByteLevel",
        ],
    ),
    (
        "pre_tokenizer",
        &[
            "Sequence",
            "BertPreTokenizer",
            "ByteLevel",
            "CharDelimiterSplit",
            "Delimiter",
            "Metaspace",
            "Whitespace",
            "Split",
            "Punctuation",
            "WhitespaceSplit",
            "Digits",
            "UnicodeScripts",
            "FixedLength",
        ],
    ),
    ("model", &["BPE", "WordPiece", "WordLevel", "Unigram"]),
    (
        "post_processor",
        &["Sequence", "RobertaProcessing", "BertProcessing", "ByteLevel", "TemplateProcessing"],
    ),
    (
        "decoder",
        &[
            "Sequence",
            "BPEDecoder",
            "ByteLevel",
            "WordPiece",
            "Metaspace",
            "CTC",
            "Replace",
            "Fuse",
            "Strip",
            "ByteFallback",
        ],
    ),
];

/// The text of a `tokenizer.json` as JSON, checked as far as the library does not do it in words.
///
/// Errors (class data), without the file's name: no JSON, a part of an unknown kind, merges that
/// give no token, dropout.
pub(super) fn checked(bytes: &[u8]) -> Result<Value> {
    let json: Value =
        serde_json::from_slice(bytes).map_err(|e| error!(Data, "it is not valid JSON: {e}"))?;
    for (part, known) in KINDS {
        check_kind(part, &json[part], known, part)?;
    }
    check_merges(&json["model"])?;
    if let Some(dropout) = json["model"]["dropout"].as_f64().filter(|dropout| *dropout > 0.0) {
        bail!(
            Data,
            "its model has `dropout` {dropout}, which splits the same text in another way each \
             time";
            hint: "set `dropout` to null in tokenizer.json: it is of use while a tokenizer's \
                   merges are learnt from"
        );
    }
    Ok(json)
}

/// Builds what a checked `tokenizer.json` describes, without the truncation and padding that it
/// asks for.
pub(super) fn built(bytes: &[u8]) -> Result<tokenizers::Tokenizer> {
    let mut inner =
        tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| error!(Data, "it is damaged: {e}"))?;
    inner.with_truncation(None).map_err(|e| error!(Data, "{e}"))?;
    inner.with_padding(None);
    Ok(inner)
}

/// Refuses a part, or a step of it, that a later version of the library writes.
fn check_kind(part: &str, value: &Value, known: &[&str], place: &str) -> Result<()> {
    if let Some(kind) = value["type"].as_str()
        && !known.contains(&kind)
    {
        let near = nearest(kind, known.iter().copied())
            .map_or(String::new(), |near| format!("; nearest is `{near}`"));
        bail!(
            Data,
            "its `{place}` is of the kind `{kind}`, which is newer than this program knows{near}";
            hint: "known are {}; update the program, or take a tokenizer without it",
            known.join(", ")
        );
    }
    let steps = match part {
        "normalizer" => "normalizers",
        "pre_tokenizer" => "pretokenizers",
        "post_processor" => "processors",
        _ => "decoders",
    };
    for (i, step) in value[steps].as_array().into_iter().flatten().enumerate() {
        check_kind(part, step, known, &format!("{place}.{steps}[{i}]"))?;
    }
    Ok(())
}

/// Refuses BPE merges that name no token: the library's builder would panic on some of them.
fn check_merges(model: &Value) -> Result<()> {
    let (Some(vocab), Some(merges)) = (model["vocab"].as_object(), model["merges"].as_array())
    else {
        return Ok(());
    };
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default();
    for (row, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Value::String(text) => text.split_once(' '),
            Value::Array(pair) => {
                pair.first().and_then(Value::as_str).zip(pair.get(1).and_then(Value::as_str))
            }
            _ => None,
        };
        let joined =
            pair.and_then(|(left, right)| Some(format!("{left}{}", right.strip_prefix(prefix)?)));
        if !joined.is_some_and(|joined| vocab.contains_key(&joined)) {
            bail!(Data, "merge {row} ({merge}) does not give a token of the vocabulary");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of};

    fn refused(json: &str) -> String {
        let error = checked(json.as_bytes()).unwrap_err();
        assert_eq!(class_of(&error), Class::Data);
        format!("{error:#}")
    }

    #[test]
    fn newer_kinds_are_named_with_their_place() {
        for (json, want) in [
            (
                r#"{"normalizer": {"type": "FancyNew"}}"#,
                "its `normalizer` is of the kind `FancyNew`, which is newer than",
            ),
            (
                r#"{"pre_tokenizer": {
                    "type": "Sequence",
                    "pretokenizers": [{"type": "Digits"}, {"type": "RegexSplit"}]
                }}"#,
                "its `pre_tokenizer.pretokenizers[1]` is of the kind `RegexSplit`",
            ),
            (
                r#"{"decoder": {"type": "Sequence", "decoders": [{"type": "Fused"}]}}"#,
                "its `decoder.decoders[0]` is of the kind `Fused`",
            ),
            (
                r#"{"post_processor": {"type": "Sequence", "processors": [{"type": "X"}]}}"#,
                "its `post_processor.processors[0]`",
            ),
            (r#"{"model": {"type": "FancyNew"}}"#, "its `model` is of the kind `FancyNew`"),
            (r#"{"model": {"type": "BPE", "dropout": 0.1}}"#, "its model has `dropout` 0.1"),
        ] {
            assert!(refused(json).contains(want), "{}", refused(json));
        }
    }

    #[test]
    fn known_kinds_pass() {
        let plain = br#"{
            "normalizer": null, "model": {"type": "Unigram"},
            "decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}]}
        }"#;
        checked(plain).unwrap();
    }
}
