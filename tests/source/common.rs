//! Where test data lie, and the writer of small GGUF files.

use std::path::{Path, PathBuf};

#[path = "../common/gguf.rs"]
mod writer;

pub use writer::{Meta, gguf};

/// The folder of shared data, if it is there; else the reason is printed and the test passes over.
pub fn shared() -> Option<PathBuf> {
    let path = std::env::var_os("XGBRUN_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    present(path, "XGBRUN_SHARED")
}

/// A file or folder of the folder of models, if it is there.
pub fn models(name: &str) -> Option<PathBuf> {
    let home = || std::env::home_dir().unwrap_or_default().join(".cache/xgbrun");
    present(
        std::env::var_os("XGBRUN_MODELS").map_or_else(home, PathBuf::from).join(name),
        "XGBRUN_MODELS",
    )
}

fn present(path: PathBuf, variable: &str) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var_os("XGBRUN_CI").is_none(),
        "`{}` is not there (set {variable}), and XGBRUN_CI forbids to skip",
        path.display()
    );
    println!("skipped: no `{}` (set {variable})", path.display());
    None
}
