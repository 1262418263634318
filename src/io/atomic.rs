//! Files and folders that are there whole or not at all.
//!
//! A file is written under a name of its own in the same folder, which ends in `.partial`, and
//! takes its name by a rename (`tempfile`'s `persist`). What a killed process leaves under such a
//! name is in nobody's way.
//!
//! A folder keeps one name, `NAME.partial`, by code of our own: `tempfile` has no `persist` for
//! folders, and under the one name the next attempt clears away what a killed one left, which may
//! be gigabytes.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::Builder;

use crate::error::bail;

/// What the name of everything ends in that is not yet whole.
pub const PARTIAL: &str = ".partial";

/// Writes `bytes` as the file `path` and waits until the disk has them.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    put(path, bytes, true)
}

/// As [`write()`], but a power cut may take the file.
pub fn write_soon(path: &Path, bytes: &[u8]) -> Result<()> {
    put(path, bytes, false)
}

fn put(path: &Path, bytes: &[u8], wait: bool) -> Result<()> {
    file(path, |partial| {
        let mut file = File::create(partial)?;
        file.write_all(bytes)?;
        if wait {
            file.sync_all()?;
        }
        Ok(())
    })
}

/// Errors (class usage) where the file `path`, which somebody named, cannot be made: it is there
/// already, or [`placed`] refuses it. For a look before long work.
pub fn fresh(path: &Path) -> Result<()> {
    if path.exists() {
        bail!(Usage, "cannot write `{}`: it exists already", path.display());
    }
    placed(path)
}

/// Errors (class usage) where the file `path`, which somebody named, is a folder or lies in none.
pub fn placed(path: &Path) -> Result<()> {
    let shown = path.display();
    if path.is_dir() {
        bail!(Usage, "cannot write `{shown}`: it is a folder; name a file in it");
    }
    match path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        Some(folder) if folder.exists() => {
            bail!(Usage, "cannot write `{shown}`: `{}` is no folder", folder.display())
        }
        Some(folder) => {
            let folder = folder.display();
            bail!(
                Usage,
                "cannot write `{shown}`: there is no folder `{folder}`";
                hint: "make it first: `mkdir -p {folder}`"
            )
        }
        None => Ok(()),
    }
}

/// Makes the file `path` of what `fill` writes to the path that it is given: an empty file, with
/// the permissions that any new file has.
pub fn file<T>(path: &Path, fill: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let make = || {
        let name = path.file_name().context("it names no file")?;
        let mut prefix = name.to_os_string();
        prefix.push(".");
        let folder = path.parent().unwrap_or(Path::new(""));
        if !folder.as_os_str().is_empty() && !folder.exists() {
            bail!(Run, "there is no folder `{}`", folder.display());
        }
        // `tempfile` by itself makes files that nobody else may read.
        let create = |partial: &Path| File::options().write(true).create_new(true).open(partial);
        let partial = Builder::new().prefix(&prefix).suffix(PARTIAL).make_in(folder, create)?;
        let partial = partial.into_temp_path();
        let filled = fill(&partial)?;
        partial.persist(path).map_err(|e| e.error)?;
        anyhow::Ok(filled)
    };
    make().with_context(|| format!("cannot write `{}`", path.display()))
}

/// Makes the folder `path` of what `fill` puts into the one that it is given.
///
/// Errors: the folder exists already (class usage), or the disk refuses.
pub fn folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.exists() {
        bail!(Usage, "cannot save to `{}`: it exists already", path.display());
    }
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(PARTIAL);
    let partial = path.with_file_name(name);
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial)
        .with_context(|| format!("cannot create `{}`", partial.display()))?;
    fill(&partial).inspect_err(|_| drop(fs::remove_dir_all(&partial)))?;
    fs::rename(&partial, path).with_context(|| format!("cannot create `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of};

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_cannot_be_made_is_told_of_before() {
        let home = tempfile::tempdir().unwrap();
        fresh(&home.path().join("a.json")).unwrap();
        fresh(Path::new("a.json")).unwrap();
        fs::write(home.path().join("file"), "").unwrap();
        for (name, why) in [
            ("file", "it exists already"),
            ("none/a.json", "there is no folder `"),
            ("file/a.json", "` is no folder"),
        ] {
            let error = fresh(&home.path().join(name)).unwrap_err();
            assert_eq!(class_of(&error), Class::Usage);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn a_file_is_replaced_whole_or_stays() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.json");
        write(&path, b"one").unwrap();
        write_soon(&path, b"two").unwrap();
        let half = |partial: &Path| -> Result<()> {
            fs::write(partial, "half")?;
            bail!(Run, "no more")
        };
        let error = format!("{:#}", file(&path, half).unwrap_err());
        assert_eq!(error, format!("cannot write `{}`: no more", path.display()));
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(home.path()), ["a.json"], "no temporary file is left");
    }

    #[test]
    fn what_cannot_be_written_is_named_by_its_own_path() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("none/a.json");
        let error = format!("{:#}", write(&path, b"").unwrap_err());
        let shown = path.display();
        let folder = path.parent().unwrap().display();
        assert_eq!(error, format!("cannot write `{shown}`: there is no folder `{folder}`"));
        let error = format!("{:#}", write(Path::new(".."), b"").unwrap_err());
        assert_eq!(error, "cannot write `..`: it names no file");
        // A folder is in the way.
        let path = home.path().join("taken");
        fs::create_dir_all(path.join("inside")).unwrap();
        assert!(write(&path, b"").is_err());
        assert_eq!(names(home.path()), ["taken"], "no temporary file is left");
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_any_new_file_and_folder() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::write(at("plain"), "").unwrap();
        fs::create_dir(at("plain folder")).unwrap();
        write(&at("whole"), b"").unwrap();
        folder(&at("whole folder"), |_| Ok(())).unwrap();
        let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode();
        assert_eq!(mode("whole"), mode("plain"));
        assert_eq!(mode("whole folder"), mode("plain folder"));
    }

    #[test]
    fn a_folder_is_there_whole_or_not_at_all() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("made/for/it");
        let half = |partial: &Path| {
            fs::write(partial.join("half"), "")?;
            bail!(Run, "no more")
        };
        assert_eq!(folder(&path, half).unwrap_err().to_string(), "no more");
        assert!(names(&home.path().join("made/for")).is_empty());
        // What a killed process left is cleared away.
        fs::create_dir(home.path().join("made/for/it.partial")).unwrap();
        fs::write(home.path().join("made/for/it.partial/old"), "").unwrap();
        folder(&path, |partial| Ok(fs::write(partial.join("new"), "")?)).unwrap();
        assert_eq!(names(&path), ["new"]);
        assert_eq!(names(&home.path().join("made/for")), ["it"]);
        let error = folder(&path, |_| Ok(())).unwrap_err();
        assert_eq!(class_of(&error), Class::Usage);
    }
}
