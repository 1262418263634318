//! A task: items in splits for training, for choosing among rounds, and for the result.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::bail_data;
use crate::data::formats;
use crate::data::item::Item;
use crate::error::{Error, nearest};
use crate::seed::Stream;
use crate::source::DataFiles;

/// Items held out of train where there is no validation file: the field's norm for the commonsense
/// sets (NVlabs/DoRA), but never more than a tenth of train.
const HELD_OUT: usize = 120;

/// What items are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Train,
    Validation,
    Test,
}

impl Split {
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }

    /// By the names that data sets use; `valid`, `val` and `dev` are validation.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "train" => Some(Split::Train),
            "validation" | "valid" | "val" | "dev" => Some(Split::Validation),
            "test" => Some(Split::Test),
            _ => None,
        }
    }
}

/// A data set with its splits; a split that is there has at least one item.
#[derive(Clone, Debug)]
pub struct Task {
    pub name: String,
    pub train: Option<Vec<Item>>,
    pub validation: Option<Vec<Item>>,
    pub test: Option<Vec<Item>>,
}

impl Task {
    /// Reads the files of a data set called `name`. Errors (class data): those of [`Self::from_files`], and a folder of
    /// several tasks.
    pub fn open(name: &str, files: &DataFiles, seed: u64) -> Result<Self> {
        match files {
            DataFiles::File(file) => Self::from_file(file, seed),
            DataFiles::Folder(files) => {
                let folder = Path::new(name).file_name().map_or_else(|| "data".into(), |n| n.to_string_lossy().into_owned());
                Self::from_files(&folder, files, seed)
            }
            DataFiles::Tasks(tasks) => {
                let names: Vec<&str> = tasks.keys().map(String::as_str).collect();
                Err(Error::data(format!("`{name}` holds several tasks: {}", names.join(", ")))
                    .hint("give the folder of one of them")
                    .into())
            }
        }
    }

    /// Reads a file per split, by split name. Errors of class data for a name that is no split, two
    /// files for one, no file, and what the files hold.
    pub fn from_files(name: &str, files: &BTreeMap<String, PathBuf>, seed: u64) -> Result<Self> {
        let mut found: Vec<(Split, &Path)> = Vec::new();
        for (key, path) in files {
            let Some(split) = Split::parse(key) else {
                let near = nearest(key, ["train", "validation", "test"]).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
                let message = format!("`{}` is for no split that is known{near}", path.display());
                return Err(Error::data(message).hint("splits are `train`, `validation` and `test`").into());
            };
            if let Some((_, other)) = found.iter().find(|(seen, _)| *seen == split) {
                bail_data!("`{}` and `{}` are both for the split `{}`", other.display(), path.display(), split.name());
            }
            found.push((split, path));
        }
        let read = |split| found.iter().find(|(s, _)| *s == split).map(|(_, path)| formats::read(path)).transpose();
        Self::from_items(name, read(Split::Train)?, read(Split::Validation)?, read(Split::Test)?, seed)
    }

    /// Reads a single file. Its stem says the split (`test.json`); any other stem is train.
    pub fn from_file(path: &Path, seed: u64) -> Result<Self> {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let split = Split::parse(&stem).unwrap_or(Split::Train);
        Self::from_files(&stem, &BTreeMap::from([(split.name().to_owned(), path.to_owned())]), seed)
    }

    /// A task of items that are there already. Without validation items, 120 of train are taken out
    /// for it, drawn from `seed`, but at most a tenth of train: with fewer than ten items, none.
    pub fn from_items(
        name: &str,
        mut train: Option<Vec<Item>>,
        mut validation: Option<Vec<Item>>,
        test: Option<Vec<Item>>,
        seed: u64,
    ) -> Result<Self> {
        for split in [&mut train, &mut validation] {
            split.take_if(|items| items.is_empty());
        }
        let test = test.filter(|items| !items.is_empty());
        if train.is_none() && validation.is_none() && test.is_none() {
            bail_data!("the task `{name}` has no items in any split");
        }
        if validation.is_none() {
            validation = train.as_mut().map(|train| hold_out(train, seed)).filter(|items| !items.is_empty());
        }
        Ok(Self { name: name.to_owned(), train, validation, test })
    }

    /// The items of a split, or an error of class data that says which splits there are.
    pub fn items(&self, split: Split) -> Result<&[Item]> {
        let of = |split| match split {
            Split::Train => self.train.as_deref(),
            Split::Validation => self.validation.as_deref(),
            Split::Test => self.test.as_deref(),
        };
        of(split).ok_or_else(|| {
            let all = [Split::Train, Split::Validation, Split::Test];
            let there: Vec<_> = all.into_iter().filter(|&s| of(s).is_some()).map(|s| format!("`{}`", s.name())).collect();
            let message = format!("the task `{}` has no split `{}`; it has {}", self.name, split.name(), there.join(", "));
            let error = Error::data(message);
            match (split, self.train.as_ref()) {
                (Split::Validation, Some(train)) => {
                    error.hint(format!("one is held out of every ten of train, which has {}; add a validation file", train.len()))
                }
                _ => error,
            }
            .into()
        })
    }
}

/// Takes the validation items out of `train`; both keep the order of the file.
fn hold_out(train: &mut Vec<Item>, seed: u64) -> Vec<Item> {
    let mut out = vec![false; train.len()];
    for i in Stream::new(seed, "validation").choose(train.len(), HELD_OUT.min(train.len() / 10)) {
        out[i] = true;
    }
    let mut held = Vec::new();
    let mut kept = Vec::with_capacity(train.len());
    for (item, out) in std::mem::take(train).into_iter().zip(out) {
        if out { held.push(item) } else { kept.push(item) }
    }
    *train = kept;
    held
}
