//! A finished run, read from its folder.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::folder::booster_name;
use super::manifest::CREATED;
use super::{Ensemble, Manifest};
use crate::error::bail;

/// What a run has left of its model.
#[derive(Clone, Debug)]
pub struct FinishedRun {
    pub manifest: Manifest,
    /// Where its boosters lie.
    folder: PathBuf,
    /// The boosters that the run's own model is the sum of, besides its base.
    pub ensemble: Ensemble,
    /// SHA-256 of the weights that the run ended with, as its summary says.
    pub weights_digest: Option<String>,
}

impl FinishedRun {
    /// Errors: a folder that is no run's, or of a run that has not ended (class usage); a damaged
    /// `run.json`, a booster that is missing (class data).
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest = Manifest::read(folder)?;
        if !folder.join("summary.json").is_file() {
            let shown = folder.display();
            bail!(
                Usage,
                "the run in `{shown}` has not ended: there is no `summary.json`; `xgbrun --resume \
                 {shown}` goes on with it"
            );
        }
        let summary: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("summary.json"))?)
                .unwrap_or_default();
        let weights_digest =
            summary.get("weights_digest").and_then(|digest| digest.as_str()).map(str::to_owned);
        let folder = folder.join("boosters");
        let ensemble = match Ensemble::load(&folder)? {
            Some(ensemble) => ensemble,
            None => unlisted(&folder)?,
        };
        Ok(Self { manifest, folder, ensemble, weights_digest })
    }

    /// Files of the model's boosters and what each is multiplied by, in order.
    pub fn boosters(&self) -> Vec<(PathBuf, f64)> {
        self.ensemble.files(&self.folder)
    }

    /// The name of the run's own model. Errors (class usage) where it loaded none: it has none, or
    /// made it.
    pub fn model(&self) -> Result<&str> {
        match self.manifest.models.first() {
            Some(name) if name == CREATED => {
                bail!(
                    Usage,
                    "the run's model was made by `model::create`, so there is no base to add its \
                     boosters to; its recipe saves it with `model.save`"
                )
            }
            Some(name) => Ok(name),
            None => bail!(Usage, "the run's `run.json` names no model"),
        }
    }
}

/// Files 0000, 0001, … of a folder, which may be missing: the boosters of a run that wrote no list
/// of them.
fn unlisted(folder: &Path) -> Result<Ensemble> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Ensemble::default()) };
    let number = |name: &str| name.strip_suffix(".safetensors")?.parse::<usize>().ok();
    let mut numbers: Vec<usize> =
        entries.flatten().filter_map(|e| number(e.file_name().to_str()?)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if let Some(missing) = numbers.iter().enumerate().find(|(i, n)| i != *n).map(|(i, _)| i) {
        bail!(
            Data,
            "the run's booster `{}` is missing",
            folder.join(booster_name(missing)).display()
        );
    }
    let mut all = Ensemble::default();
    numbers.into_iter().for_each(|n| all.push(booster_name(n)));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of};

    #[test]
    fn gaps_between_boosters_are_found() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(unlisted(&home.path().join("none")).unwrap(), Ensemble::default());
        for n in [0, 1, 3] {
            std::fs::write(home.path().join(booster_name(n)), "").unwrap();
        }
        std::fs::write(home.path().join("0002.partial"), "").unwrap();
        let error = unlisted(home.path()).unwrap_err();
        assert!(error.to_string().contains("0002.safetensors` is missing"), "{error}");
        assert_eq!(class_of(&error), Class::Data);
        std::fs::write(home.path().join(booster_name(2)), "").unwrap();
        assert_eq!(unlisted(home.path()).unwrap().rounds(), 4);
    }

    #[test]
    fn a_model_that_was_made_is_no_base() {
        let manifest = Manifest { models: vec![CREATED.into()], ..Manifest::default() };
        let error = FinishedRun {
            manifest,
            folder: PathBuf::new(),
            ensemble: Ensemble::default(),
            weights_digest: None,
        }
        .model()
        .unwrap_err();
        assert!(error.to_string().contains("made by `model::create`"), "{error}");
    }
}
