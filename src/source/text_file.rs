//! Text files of a model, JSON most of them.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::lfs;
use crate::error::{bail, error};

/// Errors (class data) where the text of a model's file begins with a byte order mark: transformers
/// reads none such.
fn without_mark(path: &Path, text: &str) -> Result<()> {
    if text.starts_with('\u{feff}') {
        bail!(
            Data,
            "`{}` begins with a byte order mark, which no JSON does; transformers refuses it too",
            path.display();
            hint: "save it as UTF-8 without that mark"
        );
    }
    Ok(())
}

/// Reads a text file.
pub(super) fn text(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| error!(Data, "cannot read `{}`: {e}", path.display()))?;
    if lfs::is_pointer(text.as_bytes()) {
        return Err(lfs::pointer_error(path).into());
    }
    Ok(text)
}

/// Reads the text of a JSON file.
pub fn json_text(path: &Path) -> Result<String> {
    let text = text(path)?;
    without_mark(path, &text)?;
    Ok(text)
}

/// Reads a JSON file.
pub(super) fn json(path: &Path) -> Result<Value> {
    let text = json_text(path)?;
    serde_json::from_str(&text)
        .map_err(|e| error!(Data, "it is not valid JSON: {e}"))
        .with_context(|| format!("`{}`", path.display()))
}
