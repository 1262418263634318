//! How the data were worded that a model was trained on: it travels with the model, in
//! `template.json` of its folder or in the run that made it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::error::{bail, error};
use crate::host::template_of;
use crate::run::Manifest;
use crate::session::DataOptions;
use crate::source;

/// The file beside a model.
const FILE: &str = "template.json";

/// A wording, and where it is from.
pub struct Taught {
    pub options: DataOptions,
    pub from: String,
}

/// Whether `model` names a run's folder.
pub fn is_run(model: &str) -> bool {
    source::expanded(model).join("run.json").is_file()
}

/// The wording that came with `model`, for data called `data`; `None` where none did. Errors (class
/// data): a file that says nothing that is known; (class usage): several wordings, none of them
/// that of `data`.
pub fn of(model: &str, data: &str) -> Result<Option<Taught>> {
    let folder = source::expanded(model);
    if !is_run(model) {
        return in_folder(&folder, data);
    }
    match Manifest::read(&folder)?.template.as_deref() {
        // The recipe's own: the texts are beside what the run saved.
        Some("recipe") => match saved(&folder)? {
            Some(saved) => in_folder(&saved, data),
            None => bail!(
                Usage,
                "the run in `{}` was trained with its recipe's own template, of which it saved \
                 nothing",
                folder.display();
                hint: "give it as a file: `--template FILE`"
            ),
        },
        Some(name) => {
            let from = format!("{}/run.json", folder.display());
            Ok(Some(Taught { options: DataOptions::worded(name)?, from }))
        }
        None => Ok(None),
    }
}

/// The first folder below a run's, by name, that has a template.
fn saved(run: &Path) -> Result<Option<PathBuf>> {
    let entries = std::fs::read_dir(run).with_context(|| format!("`{}`", run.display()))?;
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.retain(|folder| folder.join(FILE).is_file());
    folders.sort();
    Ok(folders.into_iter().next())
}

fn in_folder(folder: &Path, data: &str) -> Result<Option<Taught>> {
    let path = folder.join(FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let from = path.display().to_string();
    let told: Value = serde_json::from_str(&std::fs::read_to_string(&path)?)
        .map_err(|e| error!(Data, "`{from}` is no JSON: {e}"))?;
    let own = match told["tasks"].as_array() {
        None => &told,
        Some(tasks) => {
            let name = source::stem_of(Path::new(data));
            let names: Vec<&str> = tasks.iter().filter_map(|task| task["task"].as_str()).collect();
            match tasks.iter().find(|task| task["task"] == name.as_str()) {
                Some(task) => task,
                None => bail!(
                    Usage,
                    "the model was trained on {}, each worded otherwise, and `{data}` is none of \
                     them",
                    names.join(", ");
                    hint: "say how it is worded: `--template NAME`"
                ),
            }
        }
    };
    let options = template_of(own).with_context(|| format!("`{from}`"))?;
    Ok(Some(Taught { options, from }))
}
