//! `boosters/ensemble.json`: which of the kept boosters a model is the sum of, in which order and
//! with which weight.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::error::{bail, error};
use crate::io::atomic;

/// The list's name, beside the boosters.
const NAME: &str = "ensemble.json";
const VERSION: u32 = 1;

/// A booster of the sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its file, in the folder of the list.
    pub file: String,
    /// What its update is multiplied by; 1 for what the merge added.
    pub weight: f64,
}

/// Boosters in the order in which they are added to the base.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ensemble(Vec<Member>);

/// The list as it is written.
#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    members: Vec<Member>,
}

impl Ensemble {
    pub fn new(members: Vec<Member>) -> Self {
        Self(members)
    }

    pub fn members(&self) -> &[Member] {
        &self.0
    }

    pub fn rounds(&self) -> usize {
        self.0.len()
    }

    /// The list in `folder`; `None` where there is none.
    ///
    /// Errors (class data): a list that cannot be read, of a later version, or with names that lead
    /// out of the folder; a booster that is missing.
    pub fn load(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(NAME);
        let shown = path.display();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => bail!(Data, "cannot read `{shown}`: {e}"),
        };
        let file: File = serde_json::from_str(&text)
            .map_err(|e| error!(Data, "`{shown}` is no list of boosters: {e}"))?;
        if file.version != VERSION {
            bail!(
                Data,
                "`{shown}` is of version {}; this program reads version {VERSION}",
                file.version
            );
        }
        for member in &file.members {
            if Path::new(&member.file).file_name().is_none_or(|name| name != member.file.as_str()) {
                bail!(
                    Data,
                    "`{shown}` names a booster `{}`, which is no file beside it",
                    member.file
                );
            }
            if !member.weight.is_finite() {
                bail!(Data, "`{shown}`: the weight of `{}` is no finite number", member.file);
            }
            if !folder.join(&member.file).is_file() {
                bail!(
                    Data,
                    "the run's booster `{}` is missing",
                    folder.join(&member.file).display()
                );
            }
        }
        Ok(Some(Self(file.members)))
    }

    /// Writes the list into `folder`, whole or not at all; the run's journal can give it again.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let mut text =
            serde_json::to_string_pretty(&File { version: VERSION, members: self.0.clone() })?;
        text.push('\n');
        atomic::write_soon(&folder.join(NAME), text.as_bytes())
    }

    /// Files and weights, in order.
    pub fn files(&self, folder: &Path) -> Vec<(PathBuf, f64)> {
        self.0.iter().map(|m| (folder.join(&m.file), m.weight)).collect()
    }

    /// With one more booster at its end.
    pub fn push(&mut self, file: String) {
        self.0.push(Member { file, weight: 1.0 });
    }

    /// The boosters from `start` on, before `end`. Errors (class usage): others than there are.
    pub fn slice(&self, start: usize, end: usize) -> Result<Self> {
        let count = self.rounds();
        if start > end || end > count {
            bail!(
                Usage,
                "no boosters {start} to {end}: the model is the sum of {count}, numbered from 0, \
                 and the end is not included"
            );
        }
        Ok(Self(self.0[start..end].to_vec()))
    }

    /// Without the booster at `index`. Errors (class usage): there is none.
    pub fn without(&self, index: usize) -> Result<Self> {
        let mut members = self.0.clone();
        self.there(index)?;
        members.remove(index);
        Ok(Self(members))
    }

    /// With the booster at `index` multiplied by `weight`. Errors (class usage): there is none, or
    /// the weight is no finite number.
    pub fn scaled(&self, index: usize, weight: f64) -> Result<Self> {
        if !weight.is_finite() {
            bail!(Usage, "the weight of a booster must be a finite number, found {weight}");
        }
        self.there(index)?;
        let mut members = self.0.clone();
        members[index].weight = weight;
        Ok(Self(members))
    }

    fn there(&self, index: usize) -> Result<()> {
        match self.rounds() {
            0 => bail!(Usage, "no booster {index}: none is merged"),
            count if index >= count => {
                bail!(Usage, "no booster {index}: the model is the sum of {count}, numbered from 0")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of};

    fn three() -> Ensemble {
        let mut all = Ensemble::default();
        ["0000", "0001", "0004"]
            .into_iter()
            .for_each(|name| all.push(format!("{name}.safetensors")));
        all
    }

    #[test]
    fn parts_and_weights() -> Result<()> {
        let all = three();
        assert_eq!(all.slice(0, 3)?, all);
        assert_eq!(all.slice(1, 2)?.members()[0].file, "0001.safetensors");
        assert_eq!(all.without(1)?.members()[1].file, "0004.safetensors");
        let halved = all.scaled(2, 0.5)?;
        assert_eq!((halved.members()[2].weight, halved.rounds()), (0.5, 3));
        for refused in [
            all.slice(2, 1),
            all.slice(0, 4),
            all.without(3),
            all.scaled(3, 1.0),
            all.scaled(0, f64::NAN),
            Ensemble::default().without(0),
        ] {
            assert_eq!(class_of(&refused.unwrap_err()), Class::Usage);
        }
        Ok(())
    }

    #[test]
    fn what_is_written_is_read_and_what_is_wrong_is_named() -> Result<()> {
        let home = tempfile::tempdir()?;
        assert_eq!(Ensemble::load(home.path())?, None);
        let all = three().scaled(1, 0.1)?;
        for member in all.members() {
            std::fs::write(home.path().join(&member.file), "")?;
        }
        all.save(home.path())?;
        assert_eq!(Ensemble::load(home.path())?, Some(all));
        let said = |text: &str| {
            std::fs::write(home.path().join(NAME), text).unwrap();
            let error = Ensemble::load(home.path()).unwrap_err();
            assert_eq!(class_of(&error), Class::Data);
            format!("{error:#}")
        };
        for (text, want) in [
            ("[", "is no list of boosters"),
            (r#"{"version": 2, "members": []}"#, "is of version 2"),
            (
                r#"{"version": 1, "members": [{"file": "../x", "weight": 1}]}"#,
                "which is no file beside it",
            ),
            (
                r#"{"version": 1, "members": [{"file": "0009.safetensors", "weight": 1}]}"#,
                "0009.safetensors` is missing",
            ),
        ] {
            assert!(said(text).contains(want), "{text}: {}", said(text));
        }
        Ok(())
    }
}
