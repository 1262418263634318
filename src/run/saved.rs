//! What a recipe saves, and what a process that was killed left of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Folder;
use crate::io::atomic::PARTIAL;

/// What the recipe saved, below the run's folder.
#[derive(Debug, Default)]
pub struct SavedPaths {
    paths: BTreeSet<PathBuf>,
    /// Taken up from an earlier process, which may have left what its journal does not tell of.
    pub(super) resumed: bool,
}

impl SavedPaths {
    /// Notes what was saved as `name` before the run was taken up.
    pub(super) fn note(&mut self, folder: &Folder, name: &str) {
        self.paths.extend(folder.child(name));
    }

    /// The path of something that is saved as `name` (see [`Folder::child`]). Of a run that was
    /// taken up, what lies there and nobody told of is removed: a process that ended before it
    /// could tell left it.
    pub fn add(&mut self, folder: &Folder, name: &str) -> Result<PathBuf> {
        let path = folder.child(name)?;
        let noted = self.paths.iter().any(|saved| saved.starts_with(&path));
        if self.resumed && !folder.is_dry() && !noted && path.is_dir() {
            std::fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove `{}`", path.display()))?;
        }
        self.paths.insert(path.clone());
        Ok(path)
    }

    pub(super) fn tidy(&self, folder: &Folder) {
        if self.resumed {
            remove_halves(folder.path(), 2);
        }
    }
}

/// Removes files that a process which was killed had not written to their end, `depth` folders
/// deep: what is being written has a name with a point before it, or one that ends in `.partial`.
fn remove_halves(folder: &Path, depth: usize) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir()
            && depth > 0
            && ["boosters", "model-"].iter().any(|own| name.starts_with(own))
        {
            remove_halves(&path, depth - 1);
        } else if path.is_file() && (name.starts_with('.') || name.ends_with(PARTIAL)) {
            // What stays takes space, no more.
            let _ = std::fs::remove_file(path);
        }
    }
}
