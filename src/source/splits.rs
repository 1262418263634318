//! Which files of a folder are for which split, by their names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::error::{bail, error};

/// Paths by name.
pub(super) type FilesByName = BTreeMap<String, PathBuf>;
/// The files of each split, in order.
pub(super) type Splits = BTreeMap<String, Vec<PathBuf>>;

/// The files of a folder, and of each folder in it.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub files: FilesByName,
    pub folders: BTreeMap<String, FilesByName>,
}

/// Endings of data files.
const ENDINGS: [&str; 7] = ["json", "jsonl", "ndjson", "csv", "tsv", "parquet", "txt"];

/// Endings that a compressed file has behind its own.
const PACKED: [&str; 4] = ["gz", "gzip", "zst", "zstd"];

/// What splits are called here.
pub const SPLIT_NAMES: [&str; 3] = ["train", "validation", "test"];

/// What files are called that hold examples to be shown solved before questions, and nothing else:
/// `dev` of MMLU, which has `val` for validation.
pub const SHOTS: &str = "shots";

/// Words in file names, and the split they stand for.
const WORDS: [(&str, &str); 7] = [
    ("train", "train"),
    ("validation", "validation"),
    ("dev", "validation"),
    ("valid", "validation"),
    ("val", "validation"),
    ("trial", "validation"),
    ("test", "test"),
];

/// The split that a word stands for, whatever its case.
pub fn split_of(word: &str) -> Option<&'static str> {
    WORDS.iter().find(|(known, _)| word.eq_ignore_ascii_case(known)).map(|(_, split)| *split)
}

/// A file's name without the ending of a compressed one.
pub fn without_packing(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((rest, ending))
            if !rest.is_empty()
                && PACKED.iter().any(|packed| ending.eq_ignore_ascii_case(packed)) =>
        {
            rest
        }
        _ => name,
    }
}

/// The stem of a file's name, also of a compressed one: `train` of `train.jsonl.gz`.
pub fn stem_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parted(&name).0.to_owned()
}

/// A name's stem and ending, that of a compressed file aside.
fn parted(name: &str) -> (&str, &str) {
    let name = without_packing(name);
    name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).unwrap_or((name, ""))
}

/// Whether a name is that of a data file.
pub(super) fn is_data(name: &str) -> bool {
    let ending = parted(name).1.to_ascii_lowercase();
    !name.starts_with('.') && ENDINGS.contains(&ending.as_str())
}

/// A stem without the number of its shard: `train` of `train-00000-of-00002`.
pub fn without_shard(stem: &str) -> &str {
    shard(stem).map_or(stem, |shard| shard.base)
}

/// A stem that numbers a part of a split, as the Hugging Face hub does: `train-00000-of-00002`, or
/// with a hash behind it.
struct Shard<'a> {
    base: &'a str,
    index: usize,
    count: usize,
}

fn shard(stem: &str) -> Option<Shard<'_>> {
    let (before, after) = stem.split_once("-of-")?;
    let (base, index) = before.rsplit_once('-')?;
    let count = after.split('-').next()?;
    Some(Shard { base, index: index.parse().ok()?, count: count.parse().ok()? })
}

/// The files of tasks that lie together in folders for splits, each called by its task and its
/// split (`dev/anatomy_dev.csv`, `val/anatomy_val.csv`, `test/anatomy_test.csv`), as in MMLU. Where
/// there are both, `dev` is for examples to be shown. None: the folders hold other files, or those
/// of one task.
pub(super) fn tasks_in_splits(folders: &BTreeMap<String, FilesByName>) -> BTreeMap<String, Splits> {
    let words: Vec<&str> = folders.keys().map(String::as_str).collect();
    let has = |split: &str| words.iter().any(|word| word.eq_ignore_ascii_case(split));
    let both = has("dev") && (has("val") || has("valid") || has("validation"));
    let mut tasks: BTreeMap<String, Splits> = BTreeMap::new();
    for (word, files) in folders {
        let Some(split) = split_of(word) else { continue };
        let split = if both && word.eq_ignore_ascii_case("dev") { SHOTS } else { split };
        for (name, path) in files.iter().filter(|(name, _)| is_data(name)) {
            let stem = parted(name).0;
            match stem.rsplit_once('_') {
                Some((task, own)) if !task.is_empty() && own.eq_ignore_ascii_case(word) => {
                    let task = tasks.entry(task.to_owned()).or_default();
                    task.entry(split.to_owned()).or_default().push(path.clone());
                }
                _ => return BTreeMap::new(),
            }
        }
    }
    if tasks.len() > 1 || both { tasks } else { BTreeMap::new() }
}

/// The files of each split: by their names, else by the names of the folders they lie in
/// (`train/0000.parquet`). Files that have numbers for names and lie in no such folder
/// (`0000.parquet`, as the hub converts data without splits) are train.
///
/// Errors (class data): those of [`by_name`].
pub(super) fn splits(folder: &str, listing: &Listing) -> Result<Splits> {
    let named = by_name(folder, &listing.files)?;
    if !named.is_empty() {
        return Ok(named);
    }
    let mut found = by_folder(folder, &listing.folders)?;
    if found.is_empty() {
        let numbered: FilesByName = listing
            .files
            .iter()
            .filter(|(name, _)| number(name).is_some())
            .map(|(n, p)| (n.clone(), p.clone()))
            .collect();
        if !numbered.is_empty() {
            found.insert("train".into(), parts(folder, "train", &numbered)?);
        }
    }
    Ok(found)
}

/// A file belongs to the split that its folder is named for.
fn by_folder(folder: &str, folders: &BTreeMap<String, FilesByName>) -> Result<Splits> {
    let mut found = Splits::new();
    for (name, files) in folders {
        let Some(split) = split_of(name).filter(|_| files.keys().any(|file| is_data(file))) else {
            continue;
        };
        let files = parts(&format!("{folder}/{name}"), split, files)?;
        if found.insert(split.to_owned(), files).is_some() {
            bail!(Data, "data folder `{folder}` has two folders for {split}, one of them `{name}`");
        }
    }
    Ok(found)
}

/// The number that a data file has for a name.
fn number(name: &str) -> Option<usize> {
    let stem = parted(name).0;
    stem.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| stem.parse().ok())
        .flatten()
        .filter(|_| is_data(name))
}

/// All data files of a folder that belongs to one split, by name: parts with numbers have to be
/// there without gaps.
fn parts(folder: &str, split: &str, files: &FilesByName) -> Result<Vec<PathBuf>> {
    let files: Vec<(&str, &PathBuf)> = files
        .iter()
        .filter(|(name, _)| is_data(name))
        .map(|(name, path)| (name.as_str(), path))
        .collect();
    if files.iter().all(|(name, _)| shard(parted(name).0).is_some()) {
        return ordered(folder, split, files);
    }
    if let Some(pair) = files.windows(2).find(|pair| parted(pair[0].0).1 != parted(pair[1].0).1) {
        bail!(
            Data,
            "data folder `{folder}` has files of several formats: `{}` and `{}`",
            pair[0].0,
            pair[1].0
        );
    }
    numbered(folder, &files)
}

/// Files by the numbers that are their names, which have to begin at 0 and leave none out; in the
/// order of their names where one has no number.
fn numbered(folder: &str, files: &[(&str, &PathBuf)]) -> Result<Vec<PathBuf>> {
    let mut numbers: Vec<_> =
        files.iter().filter_map(|(name, path)| Some((number(name)?, *path))).collect();
    if numbers.len() < files.len() {
        return Ok(files.iter().map(|(_, path)| (*path).clone()).collect());
    }
    numbers.sort();
    if let Some((i, _)) = numbers.iter().enumerate().find(|(i, (number, _))| i != number) {
        bail!(
            Data,
            "data folder `{folder}` has numbered files (`{}`), but lacks number {i}, counted from \
             0",
            files[0].0
        );
    }
    Ok(numbers.into_iter().map(|(_, path)| path.clone()).collect())
}

/// A file belongs to the split that its stem names (`train.json`, `dev.tsv`) or, where no stem
/// does, whose word ends its stem or is its ending (`in_domain_train.tsv`, `stsa.binary.train`).
/// Shards of a split are taken together, in order.
///
/// Errors (class data), naming `folder`: two files for a split that are no shards, a shard that is
/// missing.
pub(super) fn by_name(folder: &str, files: &FilesByName) -> Result<Splits> {
    let exact = pick(folder, files, |name| split_of(without_shard(name.split('.').next()?)))?;
    if !exact.is_empty() {
        return Ok(exact);
    }
    pick(folder, files, |name| {
        let (stem, ending) = parted(name);
        split_of(ending).or_else(|| split_of(without_shard(stem).rsplit(['_', '-', '.']).next()?))
    })
}

fn pick(
    folder: &str,
    files: &FilesByName,
    split: impl Fn(&str) -> Option<&'static str>,
) -> Result<Splits> {
    let mut found: BTreeMap<&str, Vec<(&str, &PathBuf)>> = BTreeMap::new();
    for (name, path) in files {
        if let Some(split) = split(name) {
            found.entry(split).or_default().push((name, path));
        }
    }
    found
        .into_iter()
        .map(|(split, files)| Ok((split.to_owned(), ordered(folder, split, files)?)))
        .collect()
}

/// The one file of a split, or all its shards.
fn ordered(folder: &str, split: &str, files: Vec<(&str, &PathBuf)>) -> Result<Vec<PathBuf>> {
    let mut shards: Vec<_> = files.iter().filter_map(|(name, path)| part(name, path)).collect();
    if shards.is_empty() && files.len() == 1 {
        return Ok(vec![files[0].1.clone()]);
    }
    shards.sort_by_key(|part| (part.set, part.index));
    let two = |a: &str, b: &str| -> Result<Vec<PathBuf>> {
        Err(error!(
            Data,
            "data folder `{folder}` has two files for {split}: `{a}` and `{b}`";
            hint: "one of them by itself is `{folder}/{a}`; a recipe names files for each split \
                   (`splits: #{{ {split}: \"{a}\" }}`); several tasks have a folder each"
        )
        .into())
    };
    if shards.len() < files.len() {
        return two(files[0].0, files[1].0);
    }
    let apart = |a: &ShardFile, b: &ShardFile| a.set != b.set || a.index == b.index;
    if let Some(pair) = shards.windows(2).find(|pair| apart(&pair[0], &pair[1])) {
        return two(pair[0].name, pair[1].name);
    }
    check_whole(folder, split, &shards)?;
    Ok(shards.into_iter().map(|part| part.path.clone()).collect())
}

/// A file that is a shard.
struct ShardFile<'a> {
    /// What shards of one set have in common: base, ending and count.
    set: (&'a str, &'a str, usize),
    index: usize,
    name: &'a str,
    path: &'a PathBuf,
}

fn part<'a>(name: &'a str, path: &'a PathBuf) -> Option<ShardFile<'a>> {
    let (stem, ending) = parted(name);
    let Shard { base, index, count } = shard(stem)?;
    Some(ShardFile { set: (base, ending, count), index, name, path })
}

/// Errors (class data): shards of one set, sorted, that lack one or have one too many.
fn check_whole(folder: &str, split: &str, shards: &[ShardFile]) -> Result<()> {
    let (first, (_, _, count)) = (shards[0].name, shards[0].set);
    let lacks = |index: &usize| shards.get(*index).is_none_or(|part| part.index != *index);
    if let Some(missing) = (0..count).find(lacks) {
        bail!(
            Data,
            "data folder `{folder}` has shards of {split} (`{first}`), but lacks number {missing} \
             of {count}, counted from 0"
        );
    }
    if shards.len() > count {
        let beyond = shards[count].name;
        bail!(Data, "data folder `{folder}` has a shard too many of {split}: `{beyond}`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(paths: &[&str]) -> Result<Vec<String>> {
        let mut listing = Listing::default();
        for path in paths {
            match path.split_once('/') {
                None => listing.files.insert((*path).into(), path.into()),
                Some((folder, name)) => listing
                    .folders
                    .entry(folder.into())
                    .or_default()
                    .insert(name.into(), path.into()),
            };
        }
        let files = |(split, files): (String, Vec<PathBuf>)| {
            files
                .into_iter()
                .map(move |file| format!("{split} {}", file.display()))
                .collect::<Vec<_>>()
        };
        Ok(splits("F", &listing)?.into_iter().flat_map(files).collect())
    }

    #[test]
    fn names_of_folders_say_the_split() {
        let hub = [
            "train/0000.parquet",
            "train/0001.parquet",
            "test/0000.parquet",
            "README.md",
            "images/1.png",
        ];
        assert_eq!(
            found(&hub).unwrap(),
            ["test test/0000.parquet", "train train/0000.parquet", "train train/0001.parquet"]
        );
        assert_eq!(
            found(&["1.jsonl.gz", "0.jsonl.gz"]).unwrap(),
            ["train 0.jsonl.gz", "train 1.jsonl.gz"]
        );
        assert_eq!(
            found(&["dev/b.csv", "dev/a.csv", "dev/notes.md"]).unwrap(),
            ["validation dev/a.csv", "validation dev/b.csv"]
        );
        assert_eq!(found(&["train.json.gz", "train/0.json"]).unwrap(), ["train train.json.gz"]);
        let shards = ["train-00001-of-00002.jsonl.zst", "train-00000-of-00002.jsonl.zst"];
        assert_eq!(
            found(&shards).unwrap(),
            [format!("train {}", shards[1]), format!("train {}", shards[0])]
        );
        assert_eq!(found(&["notes.txt", "images/0.png"]).unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_not_whole_is_named() {
        for (paths, message) in [
            (
                &["train/0000.parquet", "train/0002.parquet"][..],
                "data folder `F/train` has numbered files (`0000.parquet`), but lacks number 1",
            ),
            (
                &["0001.parquet"],
                "data folder `F` has numbered files (`0001.parquet`), but lacks number 0, counted \
                 from 0",
            ),
            (
                &["train/a.csv", "train/b.json"],
                "data folder `F/train` has files of several formats: `a.csv` and `b.json`",
            ),
            (
                &["dev/a.csv", "val/a.csv"],
                "data folder `F` has two folders for validation, one of them `val`",
            ),
            (
                &["train/x-00000-of-00002.csv"],
                "data folder `F/train` has shards of train (`x-00000-of-00002.csv`), but lacks \
                 number 1 of 2",
            ),
        ] {
            let error = found(paths).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn stems_are_those_of_what_is_packed() {
        for (name, stem) in [
            ("a/train.jsonl.gz", "train"),
            ("train.ZST", "train"),
            ("x.csv", "x"),
            ("x", "x"),
            (".gz", ".gz"),
        ] {
            assert_eq!(stem_of(Path::new(name)), stem);
        }
    }
}
