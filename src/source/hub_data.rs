//! Data sets from the hub: only the files of splits are fetched.

use std::path::{Path, PathBuf};

use anyhow::Result;
use hf_hub::{Repo, RepoType};

use super::data::{WantedFiles, in_folder};
use super::hub::{Hub, Remote};
use super::splits::{Listing, Splits, is_data, splits};
use crate::error::{did_you_mean, error};

/// Folders in which a repository keeps the files of its splits, tried in this order.
const FOLDERS: [&str; 3] = ["", "data", "default"];

/// Lists, beside the files that were fetched, which they are: written last, so that a download cut
/// off is known.
const FETCHED: &str = ".xgbrun-splits.json";

impl Hub {
    /// The files of the splits of the data set `id` at `revision` (else `main`), from the cache
    /// where they all are, else fetched. They lie in the root of the repository, or all in `data/`,
    /// or all in `default/`. Where the hub cannot be asked, the files of splits that the cache
    /// holds are the data set.
    ///
    /// Errors (class data): those of [`Hub::model`]; no files of splits, two files for one split, a
    /// missing shard.
    pub fn data(&self, id: &str, revision: Option<&str>) -> Result<Splits> {
        let repo = data_set(id, revision);
        let kept = self.snapshot(&repo).and_then(|folder| noted(&folder));
        if let Some(splits) = kept {
            return Ok(splits);
        }
        let remote = match self.remote(id, repo.clone()) {
            Ok(remote) => remote,
            Err(error) => {
                return self.snapshot(&repo).and_then(|folder| held(&folder)).unwrap_or(Err(error));
            }
        };
        let Some(names) = FOLDERS
            .iter()
            .map(|folder| listed(&remote, folder))
            .find(|found| !matches!(found, Ok(names) if names.is_empty()))
        else {
            let what =
                "files of splits (train, validation, test) in its root, in `data` or in `default`";
            return Err(remote.lacks(what).into());
        };
        let names = names?;
        let fetched = fetch(&remote, &names)?;
        if let Some(folder) = self.snapshot(&repo) {
            // Where it cannot be written, the hub is asked again the next time.
            let _ = std::fs::write(folder.join(FETCHED), serde_json::to_string(&names)?);
        }
        Ok(fetched)
    }

    /// The files that are named for each split, from the cache where they all are, else fetched.
    ///
    /// Errors (class data): those of [`Hub::model`]; a file that the repository does not hold.
    pub fn data_with(
        &self,
        id: &str,
        revision: Option<&str>,
        wanted: &WantedFiles,
    ) -> Result<Splits> {
        let repo = data_set(id, revision);
        let names: Splits = wanted
            .iter()
            .map(|(split, names)| ((*split).to_owned(), names.iter().map(PathBuf::from).collect()))
            .collect();
        if let Some(splits) = self.snapshot(&repo).and_then(|folder| below(&folder, &names)) {
            return Ok(splits);
        }
        let remote = self.remote(id, repo)?;
        for name in wanted.values().flatten() {
            if !remote.listed.contains(name) {
                let near = did_you_mean(name, remote.listed.iter().map(String::as_str));
                return Err(remote.lacks(&format!("file `{name}`{near}")).into());
            }
        }
        fetch(&remote, &names)
    }
}

fn data_set(id: &str, revision: Option<&str>) -> Repo {
    Repo::with_revision(id.to_owned(), RepoType::Dataset, revision.unwrap_or("main").to_owned())
}

/// The files of splits in a folder of the repository, as paths in it.
fn listed(remote: &Remote, folder: &str) -> Result<Splits> {
    let mut listing = Listing::default();
    for path in &remote.listed {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let below = parent.strip_prefix(folder).map(|rest| rest.trim_start_matches('/'));
        let files = match below {
            Some("") => &mut listing.files,
            Some(below)
                if !below.contains('/')
                    && (folder.is_empty() || parent[folder.len()..].starts_with('/')) =>
            {
                listing.folders.entry(below.to_owned()).or_default()
            }
            _ => continue,
        };
        if is_data(name) {
            files.insert(name.to_owned(), PathBuf::from(path));
        }
    }
    splits(&remote.shown, &listing)
}

/// The files of splits that a snapshot in the cache holds, or why they are no data set; `None`
/// where there are none.
fn held(snapshot: &Path) -> Option<Result<Splits>> {
    let folders =
        FOLDERS.iter().map(|folder| snapshot.join(folder)).filter(|folder| folder.is_dir());
    folders
        .map(|folder| in_folder(&folder))
        .find(|found| !matches!(found, Ok(splits) if splits.is_empty()))
}

fn fetch(remote: &Remote, names: &Splits) -> Result<Splits> {
    let mut splits = Splits::new();
    for (split, names) in names {
        let get = |name: &PathBuf| {
            remote.get(name.to_str().ok_or_else(|| error!(Data, "a name that is not UTF-8"))?)
        };
        splits.insert(split.clone(), names.iter().map(get).collect::<Result<_>>()?);
    }
    Ok(splits)
}

/// The files that an earlier run noted as fetched, if they are all there.
fn noted(folder: &Path) -> Option<Splits> {
    let names: Splits = serde_json::from_slice(&std::fs::read(folder.join(FETCHED)).ok()?).ok()?;
    below(folder, &names)
}

fn below(folder: &Path, names: &Splits) -> Option<Splits> {
    let file = |name: &PathBuf| Some(folder.join(name)).filter(|path| path.is_file());
    let files = |(split, names): (&String, &Vec<PathBuf>)| {
        Some((split.clone(), names.iter().map(file).collect::<Option<_>>()?))
    };
    names.iter().map(files).collect()
}
