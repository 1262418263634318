//! The files of a data set: one file, a folder with a file for each split, or a folder of such folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::name::Name;
use crate::bail_data;
use crate::error::Error;

/// Where a data set's parts lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataFiles {
    File(PathBuf),
    /// By split: `train`, `validation`, `test`.
    Folder(BTreeMap<String, PathBuf>),
    /// Several tasks, by the name of their folder; each is a `Folder`.
    Tasks(BTreeMap<String, DataFiles>),
}

impl DataFiles {
    /// All files.
    pub fn paths(&self) -> Vec<&Path> {
        match self {
            Self::File(path) => vec![path],
            Self::Folder(splits) => splits.values().map(PathBuf::as_path).collect(),
            Self::Tasks(tasks) => tasks.values().flat_map(Self::paths).collect(),
        }
    }
}

/// Words in file names, and the split they stand for.
const SPLITS: [(&str, &str); 6] = [
    ("train", "train"),
    ("validation", "validation"),
    ("dev", "validation"),
    ("valid", "validation"),
    ("val", "validation"),
    ("test", "test"),
];

/// Finds the files of a data set.
///
/// A file belongs to the split that its stem names (`train.json`, `dev.tsv`) or, where no stem does, whose word
/// ends its stem or is its ending (`in_domain_train.tsv`, `stsa.binary.train`). Hidden files are passed over.
///
/// Errors (class data): nothing is there, a folder without split files, two files for one split, a link out of the folder.
pub fn data(name: &Name) -> Result<DataFiles> {
    let path = match name {
        Name::Builtin(builtin) => bail_data!("unknown builtin `{builtin}`: this version embeds none; pass a file or a folder"),
        Name::Hub { .. } => bail_data!("`{name}` is a hub id; data are read from local files: pass a file or a folder"),
        Name::Path(path) => path,
    };
    if path.is_file() {
        return Ok(DataFiles::File(path.clone()));
    }
    let root = path.canonicalize().map_err(|e| Error::data(format!("cannot read `{}`: {e}", path.display())))?;
    let (files, folders) = list(path, &root)?;
    let splits = splits(path, &files)?;
    if !splits.is_empty() {
        return Ok(DataFiles::Folder(splits));
    }
    let mut tasks = BTreeMap::new();
    for (task, folder) in folders {
        let splits = self::splits(&folder, &list(&folder, &root)?.0)?;
        if splits.is_empty() {
            return Err(without_splits(&folder).into());
        }
        tasks.insert(task, DataFiles::Folder(splits));
    }
    if tasks.is_empty() {
        return Err(without_splits(path).into());
    }
    Ok(DataFiles::Tasks(tasks))
}

fn without_splits(folder: &Path) -> Error {
    let what = match std::fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(true) => "is empty",
        _ => "has no file of a split",
    };
    Error::data(format!("data folder `{}` {what}", folder.display()))
        .hint("a data folder holds files named train, validation (or dev, valid, val) and test, or folders of such files, one a task")
}

/// Paths by name.
type Named = BTreeMap<String, PathBuf>;

/// The files and the folders in `folder`, hidden ones left out. None may lead out of `root`.
fn list(folder: &Path, root: &Path) -> Result<(Named, Named)> {
    let problem = |e: std::io::Error| Error::data(format!("cannot read data folder `{}`: {e}", folder.display()));
    let (mut files, mut folders) = (BTreeMap::new(), BTreeMap::new());
    for entry in std::fs::read_dir(folder).map_err(problem)? {
        let entry = entry.map_err(problem)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let path = entry.path();
        let real = path.canonicalize().map_err(|e| Error::data(format!("cannot read `{}`: {e}", path.display())))?;
        if !real.starts_with(root) {
            bail_data!("`{}` is a link that leads out of the data folder `{}`", path.display(), root.display());
        }
        if real.is_dir() {
            folders.insert(name, path)
        } else {
            files.insert(name, path)
        };
    }
    Ok((files, folders))
}

/// The files of each split.
fn splits(folder: &Path, files: &Named) -> Result<BTreeMap<String, PathBuf>> {
    let exact = pick(folder, files, |name| split_of(name.split('.').next()?))?;
    if !exact.is_empty() {
        return Ok(exact);
    }
    pick(folder, files, |name| {
        let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
        split_of(ending).or_else(|| split_of(stem.rsplit(['_', '-', '.']).next()?))
    })
}

fn split_of(word: &str) -> Option<&'static str> {
    SPLITS.iter().find(|(known, _)| word.eq_ignore_ascii_case(known)).map(|(_, split)| *split)
}

fn pick(folder: &Path, files: &Named, split: impl Fn(&str) -> Option<&'static str>) -> Result<BTreeMap<String, PathBuf>> {
    let mut picked: BTreeMap<String, PathBuf> = BTreeMap::new();
    for (name, path) in files {
        let Some(split) = split(name) else { continue };
        if let Some(first) = picked.insert(split.to_owned(), path.clone()) {
            let first = first.file_name().unwrap_or_default().to_string_lossy().into_owned();
            bail_data!("data folder `{}` has two files for {split}: `{first}` and `{name}`", folder.display());
        }
    }
    Ok(picked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of};

    fn made(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            if file.ends_with('/') {
                std::fs::create_dir_all(path).unwrap();
                continue;
            }
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        root
    }

    fn found(files: &[&str]) -> Result<DataFiles> {
        let root = made(files);
        data(&Name::Path(root.path().into()))
    }

    fn names(files: &[&str]) -> Vec<(String, String)> {
        match found(files).unwrap() {
            DataFiles::Folder(splits) => {
                splits.into_iter().map(|(split, path)| (split, path.file_name().unwrap().to_string_lossy().into_owned())).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn refused(files: &[&str]) -> String {
        let error = found(files).unwrap_err();
        assert_eq!(class_of(&error), Class::Data);
        error.to_string()
    }

    #[test]
    fn splits_by_stem() {
        let pair = |split: &str, name: &str| (split.to_owned(), name.to_owned());
        assert_eq!(
            names(&["train.json", "dev.json", "test.json", "README.md", ".hidden"]),
            [pair("test", "test.json"), pair("train", "train.json"), pair("validation", "dev.json")]
        );
        assert_eq!(names(&["valid.txt"]), [pair("validation", "valid.txt")]);
        assert_eq!(
            names(&["stsa.binary.train", "stsa.binary.dev"]),
            [pair("train", "stsa.binary.train"), pair("validation", "stsa.binary.dev")]
        );
        assert_eq!(names(&["SICK_train.txt", "train.tsv", "SICK_test.txt"]), [pair("train", "train.tsv")]);
        assert_eq!(names(&["a_train.tsv", "latest.tsv"]), [pair("train", "a_train.tsv")]);
    }

    #[test]
    fn folders_are_tasks() {
        let DataFiles::Tasks(tasks) = found(&["boolq/train.json", "boolq/test.json", "piqa/test.json", "README.md"]).unwrap() else {
            panic!()
        };
        assert_eq!(tasks.keys().collect::<Vec<_>>(), ["boolq", "piqa"]);
        assert!(matches!(&tasks["boolq"], DataFiles::Folder(splits) if splits.len() == 2));
    }

    #[test]
    fn a_file_is_a_file() {
        let root = made(&["x.jsonl"]);
        let path = root.path().join("x.jsonl");
        assert_eq!(data(&Name::Path(path.clone())).unwrap(), DataFiles::File(path));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refused(&[]).ends_with("is empty"));
        assert!(refused(&["empty/"]).ends_with("/empty` is empty"));
        assert!(refused(&["notes.md"]).ends_with("has no file of a split"));
        assert!(refused(&["a/train.json", "b/notes.md"]).ends_with("/b` has no file of a split"));
        assert!(refused(&["dev.json", "val.json"]).ends_with("has two files for validation: `dev.json` and `val.json`"));
        let absent = data(&Name::Path("/no/such/place".into())).unwrap_err();
        assert!(absent.to_string().starts_with("cannot read `/no/such/place`"));
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_inside() {
        let outside = made(&["secret.json"]);
        let root = made(&["sub/real.json"]);
        std::os::unix::fs::symlink(root.path().join("sub/real.json"), root.path().join("train.json")).unwrap();
        assert!(data(&Name::Path(root.path().into())).is_ok());
        std::os::unix::fs::symlink(outside.path().join("secret.json"), root.path().join("test.json")).unwrap();
        let error = data(&Name::Path(root.path().into())).unwrap_err();
        assert_eq!(class_of(&error), Class::Data);
        assert!(error.to_string().contains("leads out of the data folder"), "{error}");
    }
}
