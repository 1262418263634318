//! Links in data folders: what a folder from somebody else links to must not be read unless it is
//! part of it.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::error::{bail, error};

/// The file or folder `path` is below the real folder `root`, or `root` is in a snapshot of the
/// hub's cache and `path` a link to a blob of the same repository.
///
/// Errors (class data): it leads elsewhere, or to nothing.
pub(super) fn inside(path: &Path, root: &Path) -> Result<()> {
    const COPY: &str =
        "a copy with the files themselves in place of links is made by `cp -RL FOLDER COPY`";
    let Ok(target) = path.canonicalize() else {
        let what = if path.is_symlink() {
            "is a link to a file that is not there"
        } else {
            "cannot be read"
        };
        bail!(Data, "`{}` {what}", path.display(); hint: "{COPY}");
    };
    if target.starts_with(root)
        || blobs(root).into_iter().flatten().any(|blobs| target.starts_with(blobs))
    {
        return Ok(());
    }
    Err(error!(
        Data,
        "`{}` is a link that leads out of the data folder `{}`",
        path.display(),
        root.display();
        hint: "{COPY}"
    )
    .into())
}

/// Where the blobs lie of the repository that a folder of the hub's cache belongs to: for
/// `CACHE/datasets--me--talks/snapshots/abc123` and what is below it,
/// `CACHE/datasets--me--talks/blobs` and the store `CACHE/blobs` that repositories share.
fn blobs(folder: &Path) -> Option<[PathBuf; 2]> {
    let snapshots = folder
        .ancestors()
        .skip(1)
        .find(|above| above.file_name().is_some_and(|name| name == "snapshots"))?;
    let repository = snapshots.parent()?;
    let name = repository.file_name()?.to_str()?;
    let ours = ["datasets--", "models--", "spaces--"].iter().any(|kind| name.starts_with(kind));
    ours.then(|| Some([repository.join("blobs"), repository.parent()?.join("blobs")])).flatten()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::error::hint_of;

    #[test]
    fn only_blobs_of_the_same_repository_are_inside() {
        let home = tempfile::tempdir().unwrap();
        let cache = home.path().canonicalize().unwrap();
        let folder = cache.join("datasets--me--talks/snapshots/abc/data");
        std::fs::create_dir_all(&folder).unwrap();
        for repository in ["datasets--me--talks", "datasets--me--other"] {
            std::fs::create_dir_all(cache.join(repository).join("blobs")).unwrap();
            std::fs::write(cache.join(repository).join("blobs/b1"), "{}").unwrap();
        }
        symlink("../../../blobs/b1", folder.join("train.json")).unwrap();
        symlink("../../../../datasets--me--other/blobs/b1", folder.join("dev.json")).unwrap();
        symlink("../../../blobs/gone", folder.join("test.json")).unwrap();
        for root in [folder.as_path(), folder.parent().unwrap()] {
            inside(&folder.join("train.json"), root).unwrap();
            let error = inside(&folder.join("dev.json"), root).unwrap_err();
            assert!(
                error.to_string().contains("is a link that leads out of the data folder"),
                "{error}"
            );
            assert!(hint_of(&error).unwrap().contains("cp -RL"));
            let error = inside(&folder.join("test.json"), root).unwrap_err();
            assert!(
                error.to_string().ends_with("is a link to a file that is not there"),
                "{error}"
            );
        }
        // A folder that only looks like it.
        assert_eq!(blobs(Path::new("/home/snapshots/abc")), None);
        assert_eq!(blobs(Path::new("/home/datasets--a--b/snapshots")), None);
    }
}
