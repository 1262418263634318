//! What a name in a recipe or on the command line stands for.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::grants::Grants;
use crate::error::{Error, error, nearest};

/// A name whose kind is known and whose reading is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Embedded in the program: `builtin:micro`.
    Builtin(String),
    /// A file or folder that exists.
    Path(PathBuf),
    /// A repository of the Hugging Face hub: `owner/name` or `owner/name@revision`.
    Hub { id: String, revision: Option<String> },
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin(name) => write!(f, "builtin:{name}"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Hub { id, revision: None } => f.write_str(id),
            Self::Hub { id, revision: Some(revision) } => write!(f, "{id}@{revision}"),
        }
    }
}

/// File endings that make a name a path even where it has one slash or none.
const FILE_ENDINGS: [&str; 13] = [
    ".gguf",
    ".safetensors",
    ".json",
    ".jsonl",
    ".ndjson",
    ".csv",
    ".tsv",
    ".txt",
    ".parquet",
    ".jinja",
    ".gz",
    ".zst",
    ".arrow",
];

/// Decides what `name` stands for. A granted path that exists comes before a hub id of the same
/// text.
///
/// Errors: a path that is not granted, a hub id where the hub is not (class usage); a path that
/// does not exist, a text that names nothing (class data).
pub fn resolve(name: &str, grants: &Grants) -> Result<Name> {
    if let Some(builtin) = name.strip_prefix("builtin:") {
        return Ok(Name::Builtin(builtin.to_owned()));
    }
    if grants.allows(name) && !name.is_empty() {
        let path = grants.check(name)?;
        if path.exists() {
            return Ok(Name::Path(path));
        }
    }
    if looks_like_path(name) {
        let path = grants.check(name)?;
        return Err(missing(&path).into());
    }
    match hub_id(name) {
        Some(hub) if grants.hub => Ok(hub),
        Some(_) => Err(not_granted(name, grants).into()),
        None => {
            let error = error!(
                Data,
                "`{name}` names nothing that is there: expected `builtin:…`, a path that exists (a \
                 recipe reads those that `-p` gives), or a hub id `owner/name` or \
                 `owner/name@revision`"
            );
            Err(match grants.hint(name) {
                Some(hint) => error.hint(hint),
                None => error,
            }
            .into())
        }
    }
}

/// The error for a hub id where the hub is not granted.
fn not_granted(name: &str, grants: &Grants) -> Error {
    let hint = grants.hint(name).unwrap_or_else(|| format!("give it with `-p NAME={name}`"));
    error!(
        Usage,
        "`{name}` would be fetched from the hub, which the recipe may not ask for by itself";
        hint: "{hint}, or allow all with `--allow-hub`"
    )
}

/// Whether a text is written as a path is: it is none of the hub then.
pub fn looks_like_path(name: &str) -> bool {
    let slashes = name.split('@').next().unwrap_or(name).matches('/').count();
    name.starts_with(['/', '~', '.'])
        || slashes > 1
        || name.ends_with('/')
        || FILE_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// The error for a granted path that does not exist, with the nearest name beside it.
fn missing(path: &Path) -> Error {
    let parent =
        path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let wanted = path.file_name().unwrap_or_default().to_string_lossy();
    let beside: Vec<String> = std::fs::read_dir(parent)
        .map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect()
        })
        .unwrap_or_default();
    let error = error!(Data, "there is no file or folder `{}`", path.display());
    match nearest(&wanted, beside.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("there is `{}`", parent.join(near).display())),
        None => error,
    }
}

/// Parses `owner/name` or `owner/name@revision`. A revision is a branch, a tag, a commit or
/// `refs/pr/5`.
fn hub_id(text: &str) -> Option<Name> {
    let (id, revision) = match text.split_once('@') {
        Some((id, revision)) => (id, Some(revision)),
        None => (text, None),
    };
    let (owner, name) = id.split_once('/')?;
    let parts = [owner, name]
        .into_iter()
        .chain(revision.into_iter().flat_map(|revision| revision.split('/')));
    for part in parts {
        let plain = part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if part.is_empty() || !plain || part.starts_with(['.', '-']) || part.contains("..") {
            return None;
        }
    }
    Some(Name::Hub { id: id.to_owned(), revision: revision.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of, hint_of};

    fn hub(id: &str, revision: Option<&str>) -> Name {
        Name::Hub { id: id.into(), revision: revision.map(str::to_owned) }
    }

    #[test]
    fn names_have_kinds() {
        let grants = Grants::new([], true);
        let kind = |name: &str| resolve(name, &grants).unwrap();
        assert_eq!(kind("builtin:micro"), Name::Builtin("micro".into()));
        assert_eq!(kind("HuggingFaceTB/SmolLM2-135M"), hub("HuggingFaceTB/SmolLM2-135M", None));
        assert_eq!(kind("owner/name@main"), hub("owner/name", Some("main")));
        assert_eq!(kind("owner/name@refs/pr/5"), hub("owner/name", Some("refs/pr/5")));
    }

    #[test]
    fn what_is_neither_is_refused() {
        let grants = Grants::new([], true);
        let class = |name: &str| class_of(&resolve(name, &grants).unwrap_err());
        for name in
            ["gpt2", "", "a/b@", "a/b@../c", "a/b c", "a/..", "a/b?x", "-a/b", "a/b@x//y", "a/b%2e"]
        {
            assert_eq!(class(name), Class::Data, "{name}");
        }
        for name in [
            "/etc/passwd",
            "./x",
            "../x",
            "~/x",
            "~",
            "a/b/c",
            "x.gguf",
            "a/b.safetensors",
            "a/../..",
            "a/",
        ] {
            assert_eq!(class(name), Class::Usage, "{name}");
        }
        assert_eq!(class_of(&resolve("a/b", &Grants::none()).unwrap_err()), Class::Usage);
    }

    #[test]
    fn a_granted_folder_comes_before_the_hub() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        std::fs::create_dir(&model).unwrap();
        let name = model.to_string_lossy().into_owned();
        let granted = Grants::new([name.clone()], true);
        assert_eq!(resolve(&name, &granted).unwrap(), Name::Path(model.clone()));
        // `src/source` looks like a hub id, and is a folder where tests run.
        assert_eq!(
            resolve("src/source", &Grants::everything()).unwrap(),
            Name::Path("src/source".into())
        );
        assert_eq!(resolve("src/source", &Grants::new([], true)).unwrap(), hub("src/source", None));

        let error = resolve(&name.replace("model", "modle"), &Grants::everything()).unwrap_err();
        assert_eq!(class_of(&error), Class::Data);
        assert_eq!(hint_of(&error).unwrap(), format!("there is `{}`", model.display()));
    }
}
