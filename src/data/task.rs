//! A task: items in splits for training, for choosing among rounds, and for the result.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::data::formats::{self, FileRead, Layout, Unused};
use crate::data::item::{Item, ItemPlace};
use crate::error::{Error, bail, did_you_mean, error};
use crate::seed::Stream;
use crate::source::{DataFiles, Embedded, SHOTS, SPLIT_NAMES, split_of, stem_of, without_shard};

/// Items held out of train where there is no validation file: the field's norm for the commonsense
/// sets (NVlabs/DoRA), but never more than a tenth of train.
const HELD_OUT: usize = 120;

/// The random stream that draws them.
const VALIDATION: &str = "validation";

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

    /// By the names that data sets use; `valid`, `val`, `dev` and `trial` are validation.
    pub fn parse(name: &str) -> Option<Self> {
        let split = split_of(name)?;
        [Split::Train, Split::Validation, Split::Test]
            .into_iter()
            .find(|known| known.name() == split)
    }
}

/// Makes of an item what is learnt from, as a recipe's template does of rows; `&Ok` leaves items as
/// they are. Its errors need not name the item's place.
pub type Convert<'a> = &'a dyn Fn(Item) -> Result<Item>;

/// A data set with its splits; a split that is there has at least one item.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub name: String,
    pub train: Option<Vec<Item>>,
    pub validation: Option<Vec<Item>>,
    pub test: Option<Vec<Item>>,
    /// What is there to be shown solved before questions, and for nothing else.
    pub shots: Option<Vec<Item>>,
    /// The SHA-256 in hexadecimal of each file that was read.
    pub digests: Vec<(PathBuf, String)>,
    /// What a person should know of how the files were read.
    pub notes: Vec<String>,
    /// Keys of its files that nothing is made of.
    pub unused: Unused,
}

impl Dataset {
    /// Without any item.
    pub fn bare(name: &str) -> Self {
        let (train, validation, test, shots) = Default::default();
        let (digests, notes, unused) = Default::default();
        Self { name: name.to_owned(), train, validation, test, shots, digests, notes, unused }
    }

    /// Train, validation, test and what is there to be shown.
    pub(super) fn parts(&mut self) -> [&mut Option<Vec<Item>>; 4] {
        [&mut self.train, &mut self.validation, &mut self.test, &mut self.shots]
    }

    /// Reads the files of a data set called `name`. Errors: those of [`Self::from_files`]; a folder
    /// of several tasks (class data).
    pub fn open(
        name: &str,
        files: &DataFiles,
        seed: u64,
        layout: &Layout,
        convert: Convert,
    ) -> Result<Self> {
        match files {
            DataFiles::File(file) => Self::from_file(file, seed, layout, convert),
            DataFiles::Folder(files) => {
                let folder = Path::new(name)
                    .file_name()
                    .map_or_else(|| "data".into(), |n| n.to_string_lossy().into_owned());
                Self::from_files(&folder, files, seed, layout, convert)
            }
            DataFiles::Embedded(tasks) if tasks.len() == 1 => {
                Self::embedded(&tasks[0], seed, layout, convert)
            }
            DataFiles::Embedded(tasks) => {
                let names = tasks.iter().map(|task| task.name.as_str());
                Err(several(name, names).hint("add `/` and the name of one").into())
            }
            DataFiles::Tasks(tasks) => {
                let names = tasks.keys().map(String::as_str);
                Err(several(name, names).hint("give the folder of one of them").into())
            }
        }
    }

    /// Reads all tasks of a data set called `name`: one, or those of a folder of tasks, which have
    /// their folders' names. Each of several holds out validation items by a random stream of its
    /// own. Errors: those of [`Self::from_files`].
    pub fn open_all(
        name: &str,
        files: &DataFiles,
        seed: u64,
        layout: &Layout,
        convert: Convert,
    ) -> Result<Vec<Self>> {
        let tasks = match files {
            DataFiles::Tasks(tasks) => tasks,
            DataFiles::Embedded(tasks) => {
                return tasks
                    .iter()
                    .map(|task| Self::embedded(task, seed, layout, convert))
                    .collect();
            }
            files => return Ok(vec![Self::open(name, files, seed, layout, convert)?]),
        };
        let mut read = Vec::new();
        for (task, files) in tasks {
            let held_out = Stream::new(seed, &format!("{VALIDATION}/{task}"));
            match files {
                DataFiles::Folder(files) => {
                    read.push(Self::read(task, files, held_out, layout, convert)?)
                }
                _ => bail!(Data, "`{name}` holds `{task}`, which is no folder of a task"),
            }
        }
        Ok(read)
    }

    fn embedded(task: &Embedded, seed: u64, layout: &Layout, convert: Convert) -> Result<Self> {
        let mut digests = vec![];
        let mut read = |split: Split| {
            let Some((file, bytes)) = task.splits.get(split.name()) else { return Ok(None) };
            digests.push((file.clone(), formats::digest(bytes)));
            formats::parse(file, bytes, layout)?
                .into_iter()
                .map(convert)
                .collect::<Result<Vec<_>>>()
                .map(Some)
        };
        let (train, validation, test) =
            (read(Split::Train)?, read(Split::Validation)?, read(Split::Test)?);
        let held_out = Stream::new(seed, &format!("{VALIDATION}/{}", task.name));
        Ok(Self { digests, ..Self::from_splits(&task.name, train, validation, test, held_out)? })
    }

    /// Reads the files of each split, by split name, one after the other. Errors of class data for
    /// a name that is no split, two names for one, no file, items of different kinds in one split,
    /// and what the files hold; of class usage for a layout that does not fit.
    pub fn from_files(
        name: &str,
        files: &BTreeMap<String, Vec<PathBuf>>,
        seed: u64,
        layout: &Layout,
        convert: Convert,
    ) -> Result<Self> {
        Self::read(name, files, Stream::new(seed, VALIDATION), layout, convert)
    }

    fn read(
        name: &str,
        files: &BTreeMap<String, Vec<PathBuf>>,
        held_out: Stream,
        layout: &Layout,
        convert: Convert,
    ) -> Result<Self> {
        let found = by_split(files)?;
        let mut beside = FileNotes::default();
        let shots = files.get(SHOTS).map(|files| items_of(files, layout, convert, &mut beside));
        let shots = shots.transpose()?;
        let mut read = |split| {
            let files = found.iter().find(|(s, _)| *s == split).map(|(_, files)| files);
            files.map(|files| items_of(files, layout, convert, &mut beside)).transpose()
        };
        let (train, validation, test) =
            (read(Split::Train)?, read(Split::Validation)?, read(Split::Test)?);
        let FileNotes { digests, notes, unused } = beside;
        Ok(Self {
            digests,
            notes,
            unused,
            shots,
            ..Self::from_splits(name, train, validation, test, held_out)?
        })
    }

    /// Reads a single file. Its stem says the split (`test.json`); any other stem is train.
    pub fn from_file(path: &Path, seed: u64, layout: &Layout, convert: Convert) -> Result<Self> {
        let stem = stem_of(path);
        let split = Split::parse(without_shard(&stem)).unwrap_or(Split::Train);
        Self::from_files(
            &stem,
            &BTreeMap::from([(split.name().to_owned(), vec![path.to_owned()])]),
            seed,
            layout,
            convert,
        )
    }

    /// A task of items that are there already. Without validation items, 120 of train are taken out
    /// for it, drawn from `seed`, but at most a tenth of train: with fewer than ten items, none.
    pub fn from_items(
        name: &str,
        train: Option<Vec<Item>>,
        validation: Option<Vec<Item>>,
        test: Option<Vec<Item>>,
        seed: u64,
    ) -> Result<Self> {
        Self::from_splits(name, train, validation, test, Stream::new(seed, VALIDATION))
    }

    fn from_splits(
        name: &str,
        mut train: Option<Vec<Item>>,
        mut validation: Option<Vec<Item>>,
        test: Option<Vec<Item>>,
        held_out: Stream,
    ) -> Result<Self> {
        for split in [&mut train, &mut validation] {
            split.take_if(|items| items.is_empty());
        }
        let test = test.filter(|items| !items.is_empty());
        if train.is_none() && validation.is_none() && test.is_none() {
            bail!(Data, "the task `{name}` has no items in any split");
        }
        if validation.is_none() {
            validation = train
                .as_mut()
                .map(|train| hold_out(train, held_out))
                .filter(|items| !items.is_empty());
        }
        Ok(Self { train, validation, test, ..Self::bare(name) })
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
            let there: Vec<_> = all
                .into_iter()
                .filter(|&s| of(s).is_some())
                .map(|s| format!("`{}`", s.name()))
                .collect();
            let error = error!(
                Data,
                "the task `{}` has no split `{}`; it has {}",
                self.name,
                split.name(),
                there.join(", ")
            );
            match (split, self.train.as_ref()) {
                (Split::Validation, Some(train)) => error.hint(format!(
                    "one is held out of every ten of train, which has {}; add a validation file",
                    train.len()
                )),
                _ => error,
            }
            .into()
        })
    }
}

fn several<'a>(name: &str, tasks: impl Iterator<Item = &'a str>) -> Error {
    let tasks = tasks.collect::<Vec<_>>().join(", ");
    error!(Data, "`{name}` holds several tasks: {tasks}")
}

/// The files of each split. Errors (class data): a name that is no split, two names for one.
fn by_split(files: &BTreeMap<String, Vec<PathBuf>>) -> Result<Vec<(Split, &[PathBuf])>> {
    let mut found: Vec<(Split, &[PathBuf])> = Vec::new();
    for (key, paths) in files.iter().filter(|(key, _)| *key != SHOTS) {
        let Some(first) = paths.first() else { continue };
        let Some(split) = Split::parse(key) else {
            let near = did_you_mean(key, SPLIT_NAMES);
            bail!(
                Data,
                "`{}` is for no split that is known{near}",
                first.display();
                hint: "splits are `train`, `validation` and `test`"
            );
        };
        if let Some((_, other)) = found.iter().find(|(seen, _)| *seen == split) {
            bail!(
                Data,
                "`{}` and `{}` are both for the split `{}`",
                other[0].display(),
                first.display(),
                split.name()
            );
        }
        found.push((split, paths));
    }
    Ok(found)
}

/// What is told of files beside their items.
#[derive(Default)]
struct FileNotes {
    digests: Vec<(PathBuf, String)>,
    notes: Vec<String>,
    unused: Unused,
}

/// The items of a split's files, converted.
fn items_of(
    files: &[PathBuf],
    layout: &Layout,
    convert: Convert,
    beside: &mut FileNotes,
) -> Result<Vec<Item>> {
    let mut all: Vec<Item> = Vec::new();
    for path in files {
        let FileRead { items, digest, notes, unused } = formats::read_noted(path, layout)?;
        beside.digests.push((path.clone(), digest));
        beside.notes.extend(notes);
        beside.unused.add(&unused);
        for item in items {
            let place = item.place().clone();
            let item = convert(item).map_err(|error| placed(&place, error))?;
            if let Some(first) =
                all.first().filter(|first| discriminant(*first) != discriminant(&item))
            {
                let before = first.place().file.display();
                bail!(
                    Data,
                    "{place} is {}, but `{before}`, which is of the same split, holds {}",
                    what(&item),
                    what(first)
                );
            }
            all.push(item);
        }
    }
    Ok(all)
}

/// Items converted, with their place in errors.
pub fn converted(items: Vec<Item>, convert: Convert) -> Result<Vec<Item>> {
    let one = |item: Item| {
        let place = item.place().clone();
        convert(item).map_err(|error| placed(&place, error).into())
    };
    items.into_iter().map(one).collect()
}

/// An error with the place of its item in front.
fn placed(place: &ItemPlace, error: anyhow::Error) -> Error {
    let message = format!("{error:#}");
    let message =
        if message.contains(&place.to_string()) { message } else { format!("{place}: {message}") };
    Error { message, ..Error::from(&error) }
}

fn what(item: &Item) -> &'static str {
    match item {
        Item::Instruction(_) => "an instruction",
        Item::Chat(_) => "a conversation",
        Item::Row(_) => "a row",
        Item::Tokens(_) => "token ids",
        Item::Text(_) => "a text",
    }
}

/// Takes the validation items out of `train`; both keep the order of the file.
fn hold_out(train: &mut Vec<Item>, mut stream: Stream) -> Vec<Item> {
    let mut out = vec![false; train.len()];
    for i in stream.choose(train.len(), HELD_OUT.min(train.len() / 10)) {
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
