//! The files of boosters in training.

use std::collections::BTreeMap;

use super::Folder;

/// Which files of boosters in training are needed.
#[derive(Debug, Default)]
pub struct BoosterStates {
    /// After how many merges each file was written.
    files: BTreeMap<String, usize>,
    merges: usize,
}

impl BoosterStates {
    pub(super) fn keep(&mut self, name: &str) {
        self.files.insert(name.to_owned(), self.merges);
    }

    /// Counts a merge.
    pub fn note_merge(&mut self) {
        self.merges += 1;
    }

    /// See [`super::Run::drop_state`].
    pub(super) fn drop(&mut self, folder: &Folder, name: &str, merged: bool) {
        if self.files.get(name) == Some(&(self.merges - usize::from(merged))) {
            self.files.remove(name);
            remove(folder, name);
        }
    }

    /// Removes files that nothing tells of: an earlier process left them.
    pub(super) fn tidy(&self, folder: &Folder) {
        let training = folder.path().join("boosters/training");
        for entry in std::fs::read_dir(&training).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !self.files.contains_key(&name) {
                remove(folder, &name);
            }
        }
        // It goes if it is empty.
        let _ = std::fs::remove_dir(training);
    }
}

fn remove(folder: &Folder, name: &str) {
    // What is left behind takes space, no more.
    let _ = folder.training(name).and_then(|path| Ok(std::fs::remove_file(path)?));
}
