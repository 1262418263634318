//! Which files of a folder are for which split, by their names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use crate::bail_data;

/// Paths by name.
pub(super) type Named = BTreeMap<String, PathBuf>;
/// The files of each split, in order.
pub(super) type Splits = BTreeMap<String, Vec<PathBuf>>;

/// What splits are called here.
pub const SPLIT_NAMES: [&str; 3] = ["train", "validation", "test"];

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

/// A stem without the number of its shard: `train` of `train-00000-of-00002`.
pub fn without_shard(stem: &str) -> &str {
    shard(stem).map_or(stem, |shard| shard.base)
}

/// A stem that numbers a part of a split, as the Hugging Face hub does: `train-00000-of-00002`, or with a hash behind it.
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

/// A file belongs to the split that its stem names (`train.json`, `dev.tsv`) or, where no stem does, whose word ends its
/// stem or is its ending (`in_domain_train.tsv`, `stsa.binary.train`). Shards of a split are taken together, in order.
///
/// Errors (class data), naming `folder`: two files for a split that are no shards, a shard that is missing.
pub(super) fn by_name(folder: &str, files: &Named) -> Result<Splits> {
    let exact = pick(folder, files, |name| split_of(without_shard(name.split('.').next()?)))?;
    if !exact.is_empty() {
        return Ok(exact);
    }
    pick(folder, files, |name| {
        let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
        split_of(ending).or_else(|| split_of(without_shard(stem).rsplit(['_', '-', '.']).next()?))
    })
}

fn pick(folder: &str, files: &Named, split: impl Fn(&str) -> Option<&'static str>) -> Result<Splits> {
    let mut found: BTreeMap<&str, Vec<(&str, &PathBuf)>> = BTreeMap::new();
    for (name, path) in files {
        if let Some(split) = split(name) {
            found.entry(split).or_default().push((name, path));
        }
    }
    found.into_iter().map(|(split, files)| Ok((split.to_owned(), ordered(folder, split, files)?))).collect()
}

/// The one file of a split, or all its shards.
fn ordered(folder: &str, split: &str, files: Vec<(&str, &PathBuf)>) -> Result<Vec<PathBuf>> {
    let key = |name: &str| {
        let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
        shard(stem).map(|shard| (shard.base.to_owned(), ending.to_owned(), shard.count, shard.index))
    };
    let mut shards: Vec<_> = files.iter().filter_map(|(name, path)| Some((key(name)?, *name, *path))).collect();
    if shards.is_empty() && files.len() == 1 {
        return Ok(vec![files[0].1.clone()]);
    }
    shards.sort_by(|a, b| a.0.cmp(&b.0));
    let two =
        |a: &str, b: &str| -> Result<Vec<PathBuf>> { bail_data!("data folder `{folder}` has two files for {split}: `{a}` and `{b}`") };
    if shards.len() < files.len() {
        return two(files[0].0, files[1].0);
    }
    if let Some(pair) = shards.windows(2).find(|pair| {
        let ((a, b, c, i), (x, y, z, j)) = (&pair[0].0, &pair[1].0);
        (a, b, c) != (x, y, z) || i == j
    }) {
        return two(pair[0].1, pair[1].1);
    }
    let count = shards[0].0.2;
    if let Some(missing) = (0..count).find(|i| shards.get(*i).is_none_or(|shard| shard.0.3 != *i)) {
        let first = shards[0].1;
        bail_data!("data folder `{folder}` has shards of {split} (`{first}`), but lacks number {missing} of {count}, counted from 0");
    }
    if shards.len() > count {
        bail_data!("data folder `{folder}` has a shard too many of {split}: `{}`", shards[count].1);
    }
    Ok(shards.into_iter().map(|(_, _, path)| path.clone()).collect())
}
