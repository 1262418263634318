//! Which names a recipe may read: a path only as the exact value of a `-p` on the command line.

use std::collections::BTreeSet;
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
}

impl Grants {
    /// Nothing but `builtin:` names.
    pub fn none() -> Self {
        Self::new([], false)
    }

    /// Every path and hub id, for command-line verbs, where the user typed the name.
    pub fn everything() -> Self {
        Self { paths: None, hub: true }
    }

    /// Exactly these paths, as they were written on the command line.
    pub fn new(paths: impl IntoIterator<Item = String>, hub: bool) -> Self {
        Self { paths: Some(paths.into_iter().collect()), hub }
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
        Err(error!(
            Usage,
            "a recipe may read only the paths given with `-p`, not `{name}`; {granted}";
            hint: "declare a parameter in the recipe and run it with `-p NAME={name}`"
        )
        .into())
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
