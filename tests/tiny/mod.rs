//! A Llama small enough to be made anew for a test: 2 layers of width 16, a byte-level tokenizer of
//! 257 tokens.

use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::{Map, Value, json};
use xgbrun::model::arch;
use xgbrun::seed::Stream;

/// Writes the model as a Hugging Face folder.
pub fn write(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let config = json!({
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 257,
        "max_position_embeddings": 512, "tie_word_embeddings": true, "eos_token_id": 256,
    });
    let mut stream = Stream::new(1, "tiny");
    let params = arch::params(&*arch::from_json(&config, &mut vec![]).unwrap()).unwrap();
    let tensors = params.ids().map(|id| {
        let middle = if id.name.contains("norm") { 1.0 } else { 0.0 };
        let values: Vec<f32> = (0..id.shape.iter().product())
            .map(|_| (middle + 0.3 * stream.normal()) as f32)
            .collect();
        let tensor = Tensor::from_vec(values, id.shape.as_slice(), &Device::Cpu).unwrap();
        (id.name.clone(), tensor)
    });
    candle_core::safetensors::save(&tensors.collect(), folder.join("model.safetensors")).unwrap();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer().to_string()).unwrap();
}

/// Every byte is a token, written as GPT-2 does: printable ones as themselves, the others from
/// U+0100 on.
fn tokenizer() -> Value {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut others = 0x100..;
    let mut vocabulary = Map::new();
    for byte in 0..=255u8 {
        let c = if printable(byte) {
            char::from(byte)
        } else {
            others.next().and_then(char::from_u32).unwrap()
        };
        vocabulary.insert(c.to_string(), byte.into());
    }
    vocabulary.insert("<end>".into(), 256.into());
    let bytes = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "added_tokens": [{
            "id": 256, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }],
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": vocabulary, "merges": [],
        },
    })
}
