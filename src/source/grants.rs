//! Which names a recipe may read: a path only as the exact value of a `-p` on the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Result;

use crate::error::error;

/// The names that may be read.
#[derive(Clone, Debug)]
pub struct Grants {
    /// `None`: every path, because the user typed it.
    paths: Option<BTreeSet<String>>,
    /// Whether models and data may be fetched from the hub.
    pub hub: bool,
    /// Names that a file of parameters holds, each with its parameter: they may not be read.
    of_file: BTreeMap<String, String>,
}

impl Grants {
    /// Nothing but `builtin:` names.
    pub fn none() -> Self {
        Self::new([], false)
    }

    /// Every path and hub id, for command-line verbs, where the user typed the name.
    pub fn everything() -> Self {
        Self { paths: None, hub: true, of_file: BTreeMap::new() }
    }

    /// Exactly these paths, as they were written on the command line.
    pub fn new(paths: impl IntoIterator<Item = String>, hub: bool) -> Self {
        Self { paths: Some(paths.into_iter().collect()), hub, of_file: BTreeMap::new() }
    }

    /// The same beside names that are not granted since a file of parameters holds them.
    pub fn beside(self, of_file: BTreeMap<String, String>) -> Self {
        Self { of_file, ..self }
    }

    /// What would be right where `name` is not granted, or not there.
    pub(super) fn hint(&self, name: &str) -> Option<String> {
        let parameter = self.of_file.get(name)?;
        Some(format!("`--params` lets a recipe read nothing; give it with `-p {parameter}={name}`"))
    }

    /// Whether exactly this name was granted, as a path.
    pub fn allows(&self, name: &str) -> bool {
        self.paths.as_ref().is_none_or(|paths| paths.contains(name))
    }

    /// The path of a granted name; a leading `~/` is the home folder.
    ///
    /// Errors (class usage): the name was not granted; the message lists what was. It does not
    /// depend on whether the path exists, so a recipe cannot look around.
    pub fn check(&self, name: &str) -> Result<PathBuf> {
        if self.allows(name) {
            return Ok(expanded(name));
        }
        let granted = match &self.paths {
            Some(paths) if !paths.is_empty() => {
                let list: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
                format!("given were {}", list.join(", "))
            }
            _ => "none was given".into(),
        };
        let hint = self.hint(name).unwrap_or_else(|| {
            format!("declare a parameter in the recipe and run it with `-p NAME={name}`")
        });
        let error = error!(
            Usage,
            "a recipe may read only the paths given with `-p`, not `{name}`; {granted}"
        );
        Err(error.hint(hint).into())
    }
}

/// A name as a path; a leading `~/` is the home folder.
pub fn expanded(name: &str) -> PathBuf {
    match (name.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of, hint_of};

    #[test]
    fn only_the_exact_text_is_granted() {
        let grants = Grants::new(["data/train.json".into(), "models/tiny".into()], false);
        assert_eq!(grants.check("data/train.json").unwrap(), PathBuf::from("data/train.json"));
        for other in [
            "data/../data/train.json",
            "./data/train.json",
            "data",
            "models/tiny/config.json",
            "/etc/passwd",
            "",
        ] {
            let error = grants.check(other).unwrap_err();
            assert_eq!(class_of(&error), Class::Usage);
            assert_eq!(
                error.to_string(),
                format!(
                    "a recipe may read only the paths given with `-p`, not `{other}`; given were \
                     `data/train.json`, `models/tiny`"
                )
            );
            assert_eq!(
                hint_of(&error).unwrap(),
                format!("declare a parameter in the recipe and run it with `-p NAME={other}`")
            );
        }
    }

    #[test]
    fn what_a_file_of_parameters_names_is_refused_with_the_way_out() {
        let of_file = BTreeMap::from([("/etc/passwd".to_owned(), "data".to_owned())]);
        let grants = Grants::new(["/m".into()], false).beside(of_file);
        assert!(!grants.allows("/etc/passwd") && grants.allows("/m"));
        let error = grants.check("/etc/passwd").unwrap_err();
        assert_eq!(
            hint_of(&error).unwrap(),
            "`--params` lets a recipe read nothing; give it with `-p data=/etc/passwd`"
        );
        assert!(hint_of(&grants.check("/x").unwrap_err()).unwrap().starts_with("declare"));
    }

    #[test]
    fn none_and_everything() {
        assert!(
            Grants::none()
                .check("x.json")
                .unwrap_err()
                .to_string()
                .ends_with("not `x.json`; none was given")
        );
        assert!(!Grants::none().hub);
        assert_eq!(Grants::everything().check("/x").unwrap(), PathBuf::from("/x"));
    }
}
