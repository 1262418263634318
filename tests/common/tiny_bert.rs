//! A tiny BERT, written as files: two layers, words by WordPiece.

use std::fs;
use std::path::Path;

use safetensors::tensor::Dtype;
use serde_json::{Map, Value, json};

use super::tiny::{Numbers, Tensor, write_safetensors};

const WIDTH: usize = 16;
const FF: usize = 24;
const LAYERS: usize = 2;

/// The special tokens, letters that begin and go on, and some words.
pub fn tokens() -> Vec<String> {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let letters = || ('a'..='z').chain('0'..='9');
    let words = ["document", "number", "letter", "is", "about", "the", "and", "of", ".", ",", ":"];
    special
        .into_iter()
        .chain(letters().map(String::from))
        .chain(letters().map(|letter| format!("##{letter}")))
        .chain(words.map(str::to_owned))
        .collect()
}

fn tokenizer() -> Value {
    let vocab: Map<String, Value> =
        tokens().into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
    let added = tokens().into_iter().take(5).enumerate().map(|(id, content)| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    });
    let special = |id: &str, kind| json!({ "SpecialToken": { "id": id, "type_id": kind } });
    let text = |id: &str, kind| json!({ "Sequence": { "id": id, "type_id": kind } });
    let single = [special("[CLS]", 0), text("A", 0), special("[SEP]", 0)];
    let pair = [&single[..], &[text("B", 1), special("[SEP]", 1)]].concat();
    let token = |id: &str, number: u32| json!({ "id": id, "ids": [number], "tokens": [id] });
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true,
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing", "single": single, "pair": pair,
            "special_tokens": { "[CLS]": token("[CLS]", 2), "[SEP]": token("[SEP]", 3) },
        },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab,
        },
    })
}

/// Every tensor of the encoder with its pooler, by its published name.
fn tensors() -> Vec<Tensor> {
    let mut shapes: Vec<(String, Vec<usize>)> = vec![];
    let mut add = |name: String, shape: &[usize]| shapes.push((name, shape.to_vec()));
    for (table, rows) in [("word", tokens().len()), ("position", 64), ("token_type", 2)] {
        add(format!("bert.embeddings.{table}_embeddings.weight"), &[rows, WIDTH]);
    }
    let mut module = |name: String, shape: &[usize]| {
        add(format!("{name}.weight"), shape);
        add(format!("{name}.bias"), &shape[..1]);
    };
    module("bert.embeddings.LayerNorm".into(), &[WIDTH]);
    for layer in 0..LAYERS {
        let mut own = |name: &str, shape: &[usize]| {
            module(format!("bert.encoder.layer.{layer}.{name}"), shape);
        };
        for name in ["self.query", "self.key", "self.value", "output.dense"] {
            own(&format!("attention.{name}"), &[WIDTH, WIDTH]);
        }
        own("attention.output.LayerNorm", &[WIDTH]);
        own("intermediate.dense", &[FF, WIDTH]);
        own("output.dense", &[WIDTH, FF]);
        own("output.LayerNorm", &[WIDTH]);
    }
    module("bert.pooler.dense".into(), &[WIDTH, WIDTH]);
    let mut numbers = Numbers(1);
    let filled = |(name, shape): (String, Vec<usize>)| {
        let centre = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
        let values = (0..shape.iter().product()).map(|_| centre + 0.4 * numbers.next()).collect();
        (name, shape, values)
    };
    shapes.into_iter().map(filled).collect()
}

/// Writes config.json, the weights and the tokenizer to `folder`.
pub fn write(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let config = json!({
        "architectures": ["BertModel"], "model_type": "bert", "hidden_size": WIDTH,
        "intermediate_size": FF, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
        "vocab_size": tokens().len(), "max_position_embeddings": 64, "type_vocab_size": 2,
        "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    });
    fs::write(folder.join("config.json"), format!("{config:#}\n")).unwrap();
    write_safetensors(&folder.join("model.safetensors"), &tensors(), Dtype::F32);
    fs::write(folder.join("tokenizer.json"), tokenizer().to_string()).unwrap();
    let settings = json!({ "tokenizer_class": "BertTokenizer", "do_lower_case": true });
    fs::write(folder.join("tokenizer_config.json"), format!("{settings:#}\n")).unwrap();
}
