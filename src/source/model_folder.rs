//! A folder in the Hugging Face layout, or one with a GGUF file: the files in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use super::file_names::{
    ADDED_TOKENS, CONFIG, INDEX, OTHERS, SPECIAL_TOKENS_MAP, TOKENIZER, WEIGHTS,
};
use super::gguf_split::is_later_part;
use super::{text_file, tokenizer_files};
use crate::error::{Error, bail, error};

/// Those that a tokenizer.json takes the place of, when it is written.
const WRITTEN_ANEW: [&str; 2] = [SPECIAL_TOKENS_MAP, ADDED_TOKENS];

/// What a model folder must hold, for messages.
pub(super) const LAYOUT: &str = "a model folder holds config.json, tokenizer.json and \
                                 model.safetensors, or model.safetensors.index.json with the \
                                 shards it names";

/// A folder in the Hugging Face layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFolder {
    pub root: PathBuf,
    pub config: PathBuf,
    /// `model.safetensors`, or the shards of its index, sorted.
    pub weights: Vec<PathBuf>,
    /// `tokenizer.json`, `tokenizer.model`, or `vocab.json` with `merges.txt` beside it.
    pub tokenizer: PathBuf,
    /// Those that exist of the files that a model may do without.
    pub others: Vec<PathBuf>,
}

/// Finds the files of a local model folder.
pub(super) fn folder(root: &Path) -> Result<ModelFolder> {
    let file = |name: &str| Some(root.join(name)).filter(|path| path.is_file());
    let config = file(CONFIG).ok_or_else(|| lacks(root, CONFIG))?;
    let weights = match (file(WEIGHTS), file(INDEX)) {
        (Some(weights), _) => vec![weights],
        (None, Some(index)) => {
            let shard = |name: String| {
                file(&name).ok_or_else(|| lacks(root, &format!("{name}, which its {INDEX} names")))
            };
            shards(&index)?.into_iter().map(shard).collect::<Result<_, _>>()?
        }
        (None, None) if file("pytorch_model.bin").is_some() => {
            let what = format!("{WEIGHTS}, only pytorch_model.bin: pickled weights are not read");
            return Err(lacks(root, &what).into());
        }
        (None, None) => return Err(lacks(root, WEIGHTS).into()),
    };
    let tokenizer = tokenizer_files::find(root)?;
    let kept = |name: &&str| tokenizer.ends_with(TOKENIZER) || !WRITTEN_ANEW.contains(name);
    let others = OTHERS.into_iter().filter(kept).filter_map(file).collect();
    Ok(ModelFolder { root: root.to_owned(), config, weights, tokenizer, others })
}

/// The error for a model folder without a file that must be there.
fn lacks(root: &Path, what: &str) -> Error {
    let hint = gguf_files(root).first().map_or(LAYOUT.to_owned(), |file| {
        format!("{LAYOUT}; there is the GGUF file `{}`", file.display())
    });
    error!(Data, "model folder `{}` has no {what}", root.display()).hint(hint)
}

/// Whether a path ends as one of a GGUF file does.
pub(super) fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
}

/// The GGUF files of a folder, sorted, but for later parts of split ones.
pub(super) fn gguf_files(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| is_gguf(path) && path.is_file() && !is_later_part(path))
        .collect();
    files.sort();
    files
}

/// Which file holds which tensor, where the weights of a folder are several and an index says so;
/// else nothing.
pub fn weight_map(folder: &ModelFolder) -> Result<BTreeMap<String, String>> {
    if folder.weights == [folder.root.join(WEIGHTS)] {
        Ok(BTreeMap::new())
    } else {
        places(&folder.root.join(INDEX))
    }
}

/// The shards that an index names: plain file names, sorted, each once.
pub(super) fn shards(index: &Path) -> Result<BTreeSet<String>> {
    Ok(places(index)?.into_values().collect())
}

/// The plain file name of each tensor that an index names.
fn places(index: &Path) -> Result<BTreeMap<String, String>> {
    let shown = index.display();
    let json = text_file::json(index)?;
    let Some(map) = json.get("weight_map").and_then(Value::as_object).filter(|map| !map.is_empty())
    else {
        bail!(Data, "`{shown}` has no `weight_map` that names the shards");
    };
    let mut names = BTreeMap::new();
    for (tensor, name) in map {
        let Some(name) = name.as_str() else {
            bail!(Data, "`{shown}`: tensor `{tensor}` lies in {name}, which is no file name");
        };
        if name.starts_with('.')
            || name.contains(['/', '\\', ':', '\0'])
            || !name.ends_with(".safetensors")
        {
            bail!(
                Data,
                "`{shown}`: tensor `{tensor}` lies in `{name}`; only plain names of .safetensors \
                 files are allowed"
            );
        }
        names.insert(tensor.clone(), name.to_owned());
    }
    Ok(names)
}
