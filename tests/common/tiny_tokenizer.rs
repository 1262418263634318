//! A byte-level BPE of all 256 bytes, a few words of the prompts, and an end-of-sequence token.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

pub const EOS: &str = "<eos>";

/// Words that become one token, as the byte-level alphabet writes them; each grows letter by
/// letter.
const WORDS: [&str; 16] = [
    "Ġis",
    "Ġan",
    "Ġinstruction",
    "Ġthat",
    "Ġdescribes",
    "Ġtask",
    "ĠWrite",
    "Ġresponse",
    "Ġappropriately",
    "Ġcompletes",
    "Ġthe",
    "Ġrequest",
    "Ġcorrect",
    "Ġanswer",
    "Below",
    "###",
];

/// The letter that stands for a byte in GPT-2's byte-level alphabet.
fn letter(byte: u8) -> char {
    let shown = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let hidden = (0..byte).filter(|&b| !shown(b)).count() as u32;
    if shown(byte) { char::from(byte) } else { char::from_u32(256 + hidden).unwrap() }
}

/// Pairs to join, the earliest first.
pub fn merges() -> Vec<(String, String)> {
    let mut merges = vec![];
    for word in WORDS {
        let letters: Vec<String> = word.chars().map(String::from).collect();
        let mut left = letters[0].clone();
        for letter in &letters[1..] {
            let pair = (left.clone(), letter.clone());
            left.push_str(letter);
            if !merges.contains(&pair) {
                merges.push(pair);
            }
        }
    }
    merges
}

/// All tokens by id, the end-of-sequence token last.
pub fn tokens() -> Vec<String> {
    let bytes = (0..=255).map(|byte| letter(byte).to_string());
    bytes
        .chain(merges().into_iter().map(|(left, right)| left + right.as_str()))
        .chain([EOS.to_string()])
        .collect()
}

pub fn size() -> usize {
    tokens().len()
}

pub fn eos() -> usize {
    size() - 1
}

pub fn json() -> Value {
    let tokens = tokens();
    let vocab: Map<String, Value> =
        tokens[..eos()].iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let merges: Vec<[String; 2]> =
        merges().into_iter().map(|(left, right)| [left, right]).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{
            "id": eos(), "content": EOS, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }],
        "normalizer": null,
        "pre_tokenizer": {
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
        },
        "post_processor": null,
        "decoder": {
            "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
        },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocab, "merges": merges,
        },
    })
}

pub fn write(folder: &Path) {
    fs::write(folder.join("tokenizer.json"), json().to_string()).unwrap();
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": EOS,
        "clean_up_tokenization_spaces": false,
    });
    fs::write(folder.join("tokenizer_config.json"), format!("{config:#}\n")).unwrap();
}
