//! A finished run, read from its folder.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Manifest;
use super::folder::booster_name;
use crate::error::Error;
use crate::{bail_data, bail_usage};

/// What a run has left of its model.
#[derive(Clone, Debug)]
pub struct Kept {
    pub manifest: Manifest,
    /// Files of the boosters that were merged into the run's own model, in that order.
    pub boosters: Vec<PathBuf>,
}

impl Kept {
    /// Errors: a folder that is no run's, or of a run that has not ended (class usage); a damaged `run.json`, a booster that
    /// is missing (class data).
    pub fn open(folder: &Path) -> Result<Self> {
        let shown = folder.display();
        let path = folder.join("run.json");
        let text = std::fs::read_to_string(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                Error::usage(format!("`{shown}` is no run folder: there is no `run.json`"))
                    .hint("a run writes its folder below `runs`, or to `--out`")
            }
            _ => Error::data(format!("cannot read `{}`: {e}", path.display())),
        })?;
        let manifest: Manifest =
            serde_json::from_str(&text).map_err(|e| Error::data(format!("`{}` does not describe a run: {e}", path.display())))?;
        if !folder.join("summary.json").is_file() {
            bail_usage!("the run in `{shown}` has not ended: there is no `summary.json`");
        }
        Ok(Self { manifest, boosters: boosters(&folder.join("boosters"))? })
    }

    /// The name of the run's own model. Errors (class usage) where it loaded none.
    pub fn model(&self) -> Result<&str> {
        match self.manifest.models.first() {
            Some(name) => Ok(name),
            None => bail_usage!("the run's `run.json` names no model"),
        }
    }
}

/// Files 0000, 0001, … of a folder, which may be missing.
fn boosters(folder: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(vec![]) };
    let number = |name: &str| name.strip_suffix(".safetensors")?.parse::<usize>().ok();
    let mut numbers: Vec<usize> = entries.flatten().filter_map(|e| number(e.file_name().to_str()?)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if let Some(missing) = numbers.iter().enumerate().find(|(i, n)| i != *n).map(|(i, _)| i) {
        bail_data!("the run's booster `{}` is missing", folder.join(booster_name(missing)).display());
    }
    Ok(numbers.into_iter().map(|n| folder.join(booster_name(n))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of};

    #[test]
    fn gaps_between_boosters_are_found() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(boosters(&home.path().join("none")).unwrap(), Vec::<PathBuf>::new());
        for n in [0, 1, 3] {
            std::fs::write(home.path().join(booster_name(n)), "").unwrap();
        }
        std::fs::write(home.path().join("0002.partial"), "").unwrap();
        let error = boosters(home.path()).unwrap_err();
        assert!(error.to_string().contains("0002.safetensors` is missing"), "{error}");
        assert_eq!(class_of(&error), Class::Data);
        std::fs::write(home.path().join(booster_name(2)), "").unwrap();
        assert_eq!(boosters(home.path()).unwrap().len(), 4);
    }
}
