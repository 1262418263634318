//! Where the things lie that a run names: a name is a path from the folder that the run was begun
//! in, which need not be the one that it is gone on with or asked in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::grants::{Grants, expanded};
use super::name::{Name, resolve};
use crate::error::{Error, bail, error};

/// Names of a run and where they lie. The default knows of none: names are paths from the current
/// folder.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The folder that the run was begun in.
    pub folder: Option<PathBuf>,
    /// Absolute paths of names, as they were then.
    pub then: BTreeMap<String, PathBuf>,
    /// Paths that were given for names now.
    pub moved: BTreeMap<String, PathBuf>,
    /// SHA-256 of what was read, by name.
    pub digests: BTreeMap<String, String>,
    /// What gives the place of a name, for messages: `-p model=PATH`.
    pub options: BTreeMap<String, String>,
}

impl Places {
    /// What `name` may stand for: at the place that was given for it, or else in the current folder
    /// and where it lay when the run was begun. Several are never the same; which of them is the
    /// right one, its digest says.
    ///
    /// Errors: those of [`resolve`]; a name that is at no place (class data).
    pub fn resolve(&self, name: &str, grants: &Grants) -> Result<Vec<Name>> {
        if !grants.allows(name) {
            return Ok(vec![resolve(name, grants)?]);
        }
        if let Some(moved) = self.moved.get(name) {
            if !moved.exists() {
                let shown = moved.display();
                bail!(Data, "there is no file or folder `{shown}`, given for `{name}`");
            }
            return Ok(vec![Name::Path(moved.clone())]);
        }
        let Some(then) = self.then.get(name) else {
            return Ok(vec![resolve(name, grants).map_err(|e| self.lost(name, e))?]);
        };
        let here = expanded(name);
        let found = there(&here, then);
        if found.is_empty() {
            let error = error!(Data, "there is no file or folder `{name}`");
            return Err(self.lost(name, error.into()));
        }
        Ok(found.into_iter().map(|path| Name::Path(path.to_owned())).collect())
    }

    /// As [`Self::resolve`], the one path that is likeliest: that of when the run was begun before
    /// one of the same name here.
    pub fn path(&self, name: &str, grants: &Grants) -> Result<PathBuf> {
        let granted = grants.check(name)?;
        if !self.moved.contains_key(name) && !self.then.contains_key(name) {
            return Ok(granted);
        }
        let found = self.resolve(name, grants)?;
        let mut paths = found
            .into_iter()
            .filter_map(|name| if let Name::Path(path) = name { Some(path) } else { None });
        Ok(paths.next_back().unwrap_or(granted))
    }

    /// Says of an error where the run was begun, and what gives the place of a name.
    fn lost(&self, name: &str, error: anyhow::Error) -> anyhow::Error {
        let Some(option) = self.options.get(name) else { return error };
        let begun = match (&self.folder, self.then.get(name)) {
            (Some(folder), Some(then)) => {
                format!(
                    ": the run was begun in `{}`, and `{name}` was `{}` then",
                    folder.display(),
                    then.display()
                )
            }
            (Some(folder), None) => format!("; the run was begun in `{}`", folder.display()),
            (None, _) => "; the run may have been begun in another folder".into(),
        };
        let known = Error::from(&error);
        Error { message: format!("{}{begun}", known.message), ..known }
            .hint(format!("`{option}` says where it is now"))
            .into()
    }
}

/// Those of two paths at which there is something, once if it is the same.
fn there<'a>(here: &'a Path, then: &'a Path) -> Vec<&'a Path> {
    let mut found: Vec<&Path> = [here, then].into_iter().filter(|path| path.exists()).collect();
    if let [a, b] = found[..]
        && a.canonicalize().ok() == b.canonicalize().ok()
    {
        found.pop();
    }
    found
}

/// Reads what a name may stand for, and gives the first thing that `is_right`, with its place. A
/// single one is what it is; where none of several is right, it is the first that can be read, so
/// that what it is instead can be said.
///
/// Errors: none can be read; the first one's.
pub fn right_one<T>(
    found: Vec<Name>,
    read: impl Fn(&Name) -> Result<T>,
    is_right: impl Fn(&T) -> bool,
) -> Result<(T, Name)> {
    let several = found.len() > 1;
    let (mut wrong, mut fault) = (None, None);
    for name in found {
        match read(&name) {
            Ok(read) if !several || is_right(&read) => return Ok((read, name)),
            Ok(_) => wrong = wrong.or(Some(name)),
            Err(error) => fault = fault.or(Some(error)),
        }
    }
    match (wrong, fault) {
        (Some(name), _) => Ok((read(&name)?, name)),
        (None, Some(error)) => Err(error),
        (None, None) => Err(error!(Data, "a name that stands for nothing").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::hint_of;

    /// A folder with a folder `there` in it, and the places of a run that was begun in it.
    fn begun() -> (tempfile::TempDir, Places) {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        std::fs::create_dir(path("there")).unwrap();
        let at = |name: &str, place: &str| (name.to_owned(), path(place));
        let option = |name: &str, option: &str| (name.to_owned(), option.to_owned());
        let places = Places {
            folder: Some(home.path().into()),
            then: [at("src", "there"), at("gone", "gone"), at("a/b", "there")].into(),
            moved: [at("model", "there"), at("lost", "nowhere")].into(),
            options: [option("gone", "-p data=PATH"), option("none", "-p x=PATH")].into(),
            ..Places::default()
        };
        (home, places)
    }

    #[test]
    fn a_name_is_looked_for_here_and_where_it_was() {
        let (home, places) = begun();
        let there = home.path().join("there");
        let found = |name: &str| places.resolve(name, &Grants::everything()).unwrap();
        // `src` is a folder where tests run.
        assert_eq!(found("src"), [Name::Path("src".into()), Name::Path(there.clone())]);
        assert_eq!(places.path("src", &Grants::everything()).unwrap(), there);
        // It looks like one of the hub, and was a path.
        assert_eq!(found("a/b"), [Name::Path(there.clone())]);
        assert_eq!(found("model"), [Name::Path(there)]);
        assert_eq!(found("builtin:micro"), [Name::Builtin("micro".into())]);
        assert!(places.resolve("src", &Grants::none()).is_err());
    }

    #[test]
    fn a_name_that_is_lost_is_told_with_its_place_and_its_option() {
        let (home, places) = begun();
        let lost = |name: &str| places.resolve(name, &Grants::everything()).unwrap_err();
        assert!(lost("lost").to_string().ends_with("nowhere`, given for `lost`"));
        let error = lost("gone");
        let shown = home.path().display();
        let message = format!(
            "there is no file or folder `gone`: the run was begun in `{shown}`, and `gone` was \
             `{}` then",
            home.path().join("gone").display()
        );
        assert_eq!(
            (error.to_string(), hint_of(&error)),
            (message, Some("`-p data=PATH` says where it is now"))
        );
        let end = format!("; the run was begun in `{shown}`");
        assert!(lost("none").to_string().ends_with(&end));
    }

    #[test]
    fn the_right_one_of_several_is_taken() {
        let names =
            |names: &[&str]| names.iter().map(|name| Name::Path(name.into())).collect::<Vec<_>>();
        let read = |name: &Name| {
            if name.to_string() == "broken" {
                Err(error!(Data, "broken").into())
            } else {
                Ok(name.to_string())
            }
        };
        let taken = |all: &[&str], right: &str| {
            right_one(names(all), read, |read| read == right).map(|(read, _)| read)
        };
        assert_eq!(taken(&["a"], "b").unwrap(), "a");
        assert_eq!(taken(&["a", "broken", "b"], "b").unwrap(), "b");
        assert_eq!(taken(&["broken", "a", "c"], "b").unwrap(), "a");
        assert_eq!(taken(&["broken"], "b").unwrap_err().to_string(), "broken");
    }
}
