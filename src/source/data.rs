//! The files of a data set: one file, a folder with files for each split, a folder of such folders,
//! or a repository of the hub.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use super::hub::Hub;
use super::links;
use super::name::Name;
use super::splits::{
    FilesByName, Listing, SHOTS, SPLIT_NAMES, Splits, is_data, split_of, splits, tasks_in_splits,
};
use crate::builtin;
use crate::error::{Error, bail, did_you_mean, error, nearest};

/// Where a data set's parts lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataFiles {
    File(PathBuf),
    /// By split (`train`, `validation`, `test`), the files that make it up one after the other; at
    /// least one each.
    Folder(BTreeMap<String, Vec<PathBuf>>),
    /// Tasks that are embedded in the program.
    Embedded(Vec<Embedded>),
    /// Several tasks, by the name of their folder; each is a `Folder`.
    Tasks(BTreeMap<String, DataFiles>),
}

impl DataFiles {
    /// All files, in their order; none of what is embedded.
    pub fn paths(&self) -> Vec<&PathBuf> {
        match self {
            Self::File(file) => vec![file],
            Self::Folder(splits) => splits.values().flatten().collect(),
            Self::Embedded(_) => vec![],
            Self::Tasks(tasks) => tasks.values().flat_map(Self::paths).collect(),
        }
    }
}

/// A task whose files are embedded: by split, the name of the file and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    pub name: String,
    pub splits: BTreeMap<String, (PathBuf, Vec<u8>)>,
}

/// Finds the files of a data set.
///
/// A file belongs to the split that its stem names (`train.json`, `dev.tsv`) or, where no stem
/// does, whose word ends its stem or is its ending (`in_domain_train.tsv`, `stsa.binary.train`).
/// Shards (`train-00000-of-00002.parquet`) are taken together; so are the files of a folder that is
/// named for a split (`train/0000.parquet`). Hidden files are passed over. Of a repository of the
/// hub, the files of splits are fetched.
///
/// Errors (class data): nothing is there, a folder without split files, two files for one split, a
/// link out of the folder.
pub fn data(name: &Name) -> Result<DataFiles> {
    let path = match name {
        Name::Builtin(name) => return embedded(name),
        Name::Hub { id, revision } => {
            return Ok(DataFiles::Folder(Hub::from_env()?.data(id, revision.as_deref())?));
        }
        Name::Path(path) => path,
    };
    if path.is_file() {
        return Ok(DataFiles::File(path.clone()));
    }
    let together = together(path)?;
    if !together.is_empty() {
        return Ok(DataFiles::Tasks(together));
    }
    let found = in_folder(path)?;
    if !found.is_empty() {
        return Ok(DataFiles::Folder(found));
    }
    let mut tasks = BTreeMap::new();
    for (task, folder) in entries(path)?.1 {
        links::inside(&folder, &real(path)?)?;
        let splits = in_folder(&folder)?;
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

/// The files of each split in a local folder; none where it has none.
///
/// Errors (class data): those of [`splits`]; a file that leads out of the folder; a data set in
/// Arrow files.
pub(super) fn in_folder(folder: &Path) -> Result<Splits> {
    let (files, folders) = entries(folder)?;
    if let Some(error) = saved_to_disk(folder, &files) {
        return Err(error.into());
    }
    let folders = folders.into_iter().filter(|(name, _)| split_of(name).is_some());
    let folders =
        folders.map(|(name, path)| Ok((name, entries(&path)?.0))).collect::<Result<_>>()?;
    let found = splits(&folder.display().to_string(), &Listing { files, folders })?;
    let root = real(folder)?;
    found.values().flatten().try_for_each(|file| links::inside(file, &root))?;
    Ok(found)
}

/// The tasks whose files lie together in folders for splits; none of any other folder.
fn together(folder: &Path) -> Result<BTreeMap<String, DataFiles>> {
    let (files, folders) = entries(folder)?;
    if files.keys().any(|name| is_data(name)) {
        return Ok(BTreeMap::new());
    }
    let folders = folders.into_iter().filter(|(name, _)| split_of(name).is_some());
    let folders =
        folders.map(|(name, path)| Ok((name, entries(&path)?.0))).collect::<Result<_>>()?;
    let (tasks, root) = (tasks_in_splits(&folders), real(folder)?);
    for file in tasks.values().flat_map(BTreeMap::values).flatten() {
        links::inside(file, &root)?;
    }
    Ok(tasks.into_iter().map(|(task, splits)| (task, DataFiles::Folder(splits))).collect())
}

/// The error for a folder that `save_to_disk` of datasets wrote.
fn saved_to_disk(folder: &Path, files: &FilesByName) -> Option<Error> {
    let shown = folder.display();
    let (what, line) = if files.contains_key("dataset_dict.json") {
        (
            "a set of splits",
            format!(
                "for name, part in load_from_disk(\"{shown}\").items(): \
                 part.to_parquet(f\"{{name}}.parquet\")"
            ),
        )
    } else if files.contains_key("state.json") && files.keys().any(|name| name.ends_with(".arrow"))
    {
        ("a data set", format!("Dataset.load_from_disk(\"{shown}\").to_parquet(\"train.parquet\")"))
    } else {
        return None;
    };
    let error = error!(
        Data,
        "`{shown}` holds {what} that `save_to_disk` wrote, in Arrow files, which are not read"
    );
    Some(error.hint(format!("datasets converts it: `{line}`")))
}

/// Takes the files of a data set from a recipe: for each split, names of files below the folder (or
/// in the repository of the hub). Without any, as [`data`].
///
/// Errors: a name that is no split, two names of one split (class usage); a file that is not there,
/// that is named twice, or that lies outside the folder (class data).
pub fn data_with(name: &Name, splits: &BTreeMap<String, Vec<String>>) -> Result<DataFiles> {
    if splits.is_empty() {
        return data(name);
    }
    let wanted = wanted(splits)?;
    let path = match name {
        Name::Builtin(name) => {
            bail!(Usage, "`splits` names files below a data folder, and `builtin:{name}` is none")
        }
        Name::Hub { id, revision } => {
            return Ok(DataFiles::Folder(Hub::from_env()?.data_with(
                id,
                revision.as_deref(),
                &wanted,
            )?));
        }
        Name::Path(path) => path,
    };
    if path.is_file() {
        bail!(Data, "`splits` names files below a data folder, and `{}` is a file", path.display());
    }
    let root = real(path)?;
    let files = |(split, names): (&str, Vec<String>)| {
        let paths = names.iter().map(|name| below(path, &root, name)).collect::<Result<_>>()?;
        Ok((split.to_owned(), paths))
    };
    Ok(DataFiles::Folder(wanted.into_iter().map(files).collect::<Result<_>>()?))
}

/// The file of that name in `folder`, whose real path is `root`.
fn below(folder: &Path, root: &Path, name: &str) -> Result<PathBuf> {
    let file = folder.join(name);
    if !file.exists() {
        return Err(no_such_file(folder, name).into());
    }
    links::inside(&file, root)?;
    if !file.is_file() {
        bail!(Data, "`{}` is not a file; `splits` takes names of files", file.display());
    }
    Ok(file)
}

/// The names of files for each split, under the name that the split has here.
pub(super) type WantedFiles = BTreeMap<&'static str, Vec<String>>;

fn wanted(splits: &BTreeMap<String, Vec<String>>) -> Result<WantedFiles> {
    let mut wanted = WantedFiles::new();
    let mut seen: BTreeMap<PathBuf, &str> = BTreeMap::new();
    for (key, names) in splits {
        let own = (key == SHOTS).then_some(SHOTS);
        let split = own.or_else(|| split_of(key)).ok_or_else(|| unknown_split(key))?;
        if names.is_empty() {
            bail!(Usage, "`splits` names no file for `{key}`");
        }
        for name in names {
            if !is_below(name) {
                bail!(
                    Data,
                    "`splits` names `{name}` for `{key}`; expected the name of a file below the \
                     data folder"
                );
            }
            // What is trained on must not be what is measured.
            if let Some(other) = seen.insert(Path::new(name).components().collect(), key) {
                bail!(Data, "`splits` names `{name}` twice, for `{other}` and for `{key}`");
            }
        }
        if wanted.insert(split, names.clone()).is_some() {
            bail!(Usage, "`splits` has two names for the split `{split}`, one of them `{key}`");
        }
    }
    Ok(wanted)
}

/// Whether a text is the name of a file below a folder, on every system.
fn is_below(name: &str) -> bool {
    !name.is_empty()
        && !name.contains(['\\', '\0'])
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

fn unknown_split(key: &str) -> Error {
    let near = did_you_mean(key, SPLIT_NAMES);
    error!(
        Usage,
        "unknown split `{key}` in `splits`{near}";
        hint: "splits are `train`, `validation` and `test`; `shots` names files of solved examples"
    )
}

fn no_such_file(folder: &Path, name: &str) -> Error {
    let parent = Path::new(name).parent().unwrap_or(Path::new(""));
    let beside = std::fs::read_dir(folder.join(parent)).into_iter().flatten().flatten();
    let beside: Vec<String> =
        beside.map(|entry| parent.join(entry.file_name()).to_string_lossy().into_owned()).collect();
    let near = did_you_mean(name, beside.iter().map(String::as_str));
    error!(Data, "data folder `{}` has no file `{name}`{near}", folder.display())
}

/// The data set behind `builtin:`. Errors (class data): another name than those embedded.
fn embedded(name: &str) -> Result<DataFiles> {
    let tasks = builtin::data(name).ok_or_else(|| not_embedded(name))?;
    let task = |task: builtin::BuiltinTask| Embedded {
        name: task.name,
        splits: task
            .splits
            .into_iter()
            .map(|(split, (name, text))| (split, (name.into(), text.into_bytes())))
            .collect(),
    };
    Ok(DataFiles::Embedded(tasks.into_iter().map(task).collect()))
}

fn not_embedded(name: &str) -> Error {
    let known: Vec<String> = builtin::DATA
        .into_iter()
        .map(str::to_owned)
        .chain(builtin::world::TASKS.iter().map(|t| format!("{}/{t}", builtin::DATA[0])))
        .collect();
    // A seed behind `@` is no part of what may be misspelt.
    let plain = name.split('@').next().unwrap_or(name);
    let near = nearest(plain, known.iter().map(String::as_str))
        .map_or(String::new(), |near| format!("; did you mean `builtin:{near}`?"));
    let known: Vec<String> = known.iter().map(|name| format!("`builtin:{name}`")).collect();
    error!(
        Data,
        "there are no embedded data `builtin:{name}`{near}";
        hint: "embedded are {}",
        known.join(", ")
    )
}

fn real(path: &Path) -> Result<PathBuf> {
    Ok(path.canonicalize().map_err(|e| error!(Data, "cannot read `{}`: {e}", path.display()))?)
}

fn without_splits(folder: &Path) -> Error {
    let what = match std::fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(true) => "is empty",
        _ => "has no file of a split",
    };
    error!(
        Data,
        "data folder `{}` {what}",
        folder.display();
        hint: "a data folder holds files named train, validation (or dev, valid, val) and test, or \
               folders of such files, one a task"
    )
}

/// The files and the folders in `folder`, hidden ones left out.
fn entries(folder: &Path) -> Result<(FilesByName, FilesByName)> {
    let problem = |e: std::io::Error| error!(Data, "cannot read `{}`: {e}", folder.display());
    let (mut files, mut folders) = (BTreeMap::new(), BTreeMap::new());
    for entry in std::fs::read_dir(folder).map_err(problem)? {
        let entry = entry.map_err(problem)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            folders.insert(name, path)
        } else {
            files.insert(name, path)
        };
    }
    Ok((files, folders))
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
                let files = |(split, paths): (String, Vec<PathBuf>)| {
                    paths.into_iter().map(move |path| (split.clone(), path))
                };
                let name = |(split, path): (String, PathBuf)| {
                    (split, path.file_name().unwrap().to_string_lossy().into_owned())
                };
                splits.into_iter().flat_map(files).map(name).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn refused(files: &[&str]) -> String {
        let error = found(files).unwrap_err();
        assert_eq!(class_of(&error), Class::Data);
        error.to_string()
    }

    fn pair(split: &str, name: &str) -> (String, String) {
        (split.to_owned(), name.to_owned())
    }

    #[test]
    fn splits_by_stem() {
        assert_eq!(
            names(&["train.json", "dev.json", "test.json", "README.md", ".hidden"]),
            [
                pair("test", "test.json"),
                pair("train", "train.json"),
                pair("validation", "dev.json")
            ]
        );
        assert_eq!(names(&["valid.txt"]), [pair("validation", "valid.txt")]);
        let shards = [
            "train-00001-of-00002.parquet",
            "train-00000-of-00002.parquet",
            "test-00000-of-00001-0a1b2c.parquet",
        ];
        assert_eq!(
            names(&shards),
            [pair("test", shards[2]), pair("train", shards[1]), pair("train", shards[0])]
        );
    }

    #[test]
    fn splits_by_a_word_where_no_stem_is_one() {
        assert_eq!(
            names(&["stsa.binary.train", "stsa.binary.dev"]),
            [pair("train", "stsa.binary.train"), pair("validation", "stsa.binary.dev")]
        );
        assert_eq!(
            names(&["SICK_train.txt", "train.tsv", "SICK_test.txt"]),
            [pair("train", "train.tsv")]
        );
        assert_eq!(names(&["a_train.tsv", "latest.tsv"]), [pair("train", "a_train.tsv")]);
        assert_eq!(
            names(&["SICK_train.txt", "SICK_trial.txt", "SICK_test_annotated.txt"]),
            [pair("train", "SICK_train.txt"), pair("validation", "SICK_trial.txt")]
        );
    }

    #[test]
    fn tasks_whose_files_lie_together_are_tasks() {
        let of = |files: &[&str]| match found(files).unwrap() {
            DataFiles::Tasks(tasks) => {
                let splits = tasks.iter().map(|(task, files)| match files {
                    DataFiles::Folder(splits) => {
                        let splits: Vec<&str> = splits.keys().map(String::as_str).collect();
                        format!("{task}: {}", splits.join(" "))
                    }
                    other => panic!("{other:?}"),
                });
                splits.collect::<Vec<_>>()
            }
            other => vec![format!("{other:?}")],
        };
        assert_eq!(
            of(&[
                "README.txt/",
                "auxiliary_train/arc_hard.csv",
                "dev/anatomy_dev.csv",
                "dev/virology_dev.csv",
                "val/anatomy_val.csv",
                "test/anatomy_test.csv",
                "test/virology_test.csv",
            ]),
            ["anatomy: shots test validation", "virology: shots test"]
        );
        // Without files for validation `dev` is that.
        assert_eq!(
            of(&["dev/a_dev.csv", "dev/b_dev.csv", "test/a_test.csv"]),
            ["a: test validation", "b: validation"]
        );
        for files in [["test/a_test.csv", "dev/a_dev.csv"], ["train/0000.csv", "test/0000.csv"]] {
            assert!(matches!(found(&files).unwrap(), DataFiles::Folder(_)), "{files:?}");
        }
    }

    #[test]
    fn folders_are_tasks() {
        let DataFiles::Tasks(tasks) =
            found(&["boolq/train.json", "boolq/test.json", "piqa/test.json", "README.md"]).unwrap()
        else {
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
        let absent = data(&Name::Path("/no/such/place".into())).unwrap_err();
        assert!(absent.to_string().starts_with("cannot read `/no/such/place`"));
    }

    #[test]
    fn files_that_are_not_one_split_are_named() {
        for (files, message) in [
            (["dev.json", "val.json"], "has two files for validation: `dev.json` and `val.json`"),
            (
                ["train-00000-of-00002.parquet", "train.parquet"],
                "has two files for train: `train-00000-of-00002.parquet` and `train.parquet`",
            ),
            (
                ["train-00000-of-00001.parquet", "train-00000-of-00001.csv"],
                "has two files for train: `train-00000-of-00001.csv` and \
                 `train-00000-of-00001.parquet`",
            ),
            (
                ["train-00000-of-00003.csv", "train-00002-of-00003.csv"],
                "has shards of train (`train-00000-of-00003.csv`), but lacks number 1 of 3, \
                 counted from 0",
            ),
            (
                ["train-00000-of-00001.csv", "train-00001-of-00001.csv"],
                "has a shard too many of train: `train-00001-of-00001.csv`",
            ),
        ] {
            let told = refused(&files);
            assert!(told.ends_with(message), "{told}");
        }
    }

    fn named(files: &[&str], splits: &[(&str, &[&str])]) -> (tempfile::TempDir, Result<DataFiles>) {
        let root = made(files);
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let splits =
            splits.iter().map(|(split, files)| ((*split).to_owned(), names(files))).collect();
        let found = data_with(&Name::Path(root.path().into()), &splits);
        (root, found)
    }

    #[test]
    fn a_recipe_names_the_files() {
        let files = ["SICK_train.txt", "SICK_trial.txt", "more/a.txt", "more/b.txt"];
        let (root, found) = named(
            &files,
            &[("dev", &["SICK_trial.txt"]), ("train", &["more/b.txt", "more/a.txt"])],
        );
        let path = |name: &str| root.path().join(name);
        let expected = [
            ("train", vec![path("more/b.txt"), path("more/a.txt")]),
            ("validation", vec![path("SICK_trial.txt")]),
        ];
        assert_eq!(
            found.unwrap(),
            DataFiles::Folder(expected.map(|(split, files)| (split.to_owned(), files)).into())
        );
        let (_root, found) = named(&["train.json"], &[]);
        assert!(matches!(found.unwrap(), DataFiles::Folder(splits) if splits.len() == 1));
    }

    #[test]
    fn names_of_splits_are_a_recipes_own() {
        type Case<'a> = (&'a [(&'a str, &'a [&'a str])], &'a str);
        let cases: [Case; 3] = [
            (&[("tran", &["a.txt"])], "unknown split `tran` in `splits`; did you mean `train`?"),
            (&[("train", &[])], "`splits` names no file for `train`"),
            (
                &[("dev", &["a.txt"]), ("val", &["b.txt"])],
                "`splits` has two names for the split `validation`, one of them `val`",
            ),
        ];
        for (splits, message) in cases {
            let error = named(&["a.txt", "b.txt"], splits).1.unwrap_err();
            assert_eq!((error.to_string().as_str(), class_of(&error)), (message, Class::Usage));
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_inside() {
        let outside = made(&["secret.json"]);
        let root = made(&["sub/real.json"]);
        std::os::unix::fs::symlink(
            root.path().join("sub/real.json"),
            root.path().join("train.json"),
        )
        .unwrap();
        assert!(data(&Name::Path(root.path().into())).is_ok());
        let link = |target: std::path::PathBuf, name: &str| {
            std::os::unix::fs::symlink(target, root.path().join(name)).unwrap()
        };
        // What is not read may lead anywhere.
        link(outside.path().join("none"), "README.md");
        assert!(data(&Name::Path(root.path().into())).is_ok());
        link(outside.path().join("secret.json"), "test.json");
        let error = data(&Name::Path(root.path().into())).unwrap_err();
        assert_eq!(class_of(&error), Class::Data);
        assert!(error.to_string().contains("leads out of the data folder"), "{error}");
        let splits = BTreeMap::from([("train".to_owned(), vec!["test.json".to_owned()])]);
        let error = data_with(&Name::Path(root.path().into()), &splits).unwrap_err();
        assert!(error.to_string().contains("leads out of the data folder"), "{error}");
    }
}
