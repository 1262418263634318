//! Where a run writes: one folder, made for it, and nothing outside.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use time::OffsetDateTime;

use crate::error::{bail, error};
use crate::io::atomic;

/// Names at the top of the folder that the run itself writes; a recipe cannot save under them.
const RESERVED: [&str; 9] = [
    "run.json",
    "recipe.rhai",
    MODULES,
    "journal.jsonl",
    "metrics.jsonl",
    "predictions.jsonl",
    "summary.json",
    "report.html",
    "boosters",
];
/// Where modules from beside the recipe are kept.
pub(super) const MODULES: &str = "modules";

/// A run's folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Nothing is written, and there need be no such folder.
    dry: bool,
    /// Folders in it that are there.
    made: RefCell<BTreeSet<PathBuf>>,
}

impl Folder {
    /// Makes the folder `out`, which may exist only if it is empty, or else `runs/NAME-TIME` (UTC),
    /// with a number behind it when another run took that name in the same second.
    pub fn create(out: Option<&Path>, name: &str) -> Result<Self> {
        let Some(out) = out else { return Self::create_named(Path::new("runs"), name) };
        fs::create_dir_all(out)
            .map_err(|e| error!(Usage, "cannot make the run folder `{}`: {e}", out.display()))?;
        Self::free(out)?;
        Ok(Self::at(out.to_path_buf()))
    }

    /// Errors (class usage): `out` is there and holds something, or is no folder.
    pub fn free(out: &Path) -> Result<()> {
        let mut entries = match fs::read_dir(out) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|e| {
                error!(Usage, "cannot read the run folder `{}`: {e}", out.display())
            })?,
        };
        if entries.next().is_some() {
            bail!(
                Usage,
                "run folder `{}` is not empty; give `--out` a new or empty folder",
                out.display()
            );
        }
        Ok(())
    }

    /// The folder of a run that was made before. Errors (class usage): there is none, or it holds
    /// no run.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            let what = if path.exists() { "it is not a folder" } else { "there is no such folder" };
            bail!(Usage, "`{}` is no run folder: {what}", path.display());
        }
        if !path.join("run.json").is_file() {
            bail!(Usage, "`{}` is no run folder: it has no `run.json`", path.display());
        }
        Ok(Self::at(path.to_path_buf()))
    }

    fn create_named(parent: &Path, name: &str) -> Result<Self> {
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot make the folder `{}`", parent.display()))?;
        let name: String = name
            .chars()
            .map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' })
            .collect();
        let stamp = utc_stamp(OffsetDateTime::now_utc());
        for attempt in 1..1000 {
            let suffix = if attempt == 1 { String::new() } else { format!("-{attempt}") };
            let path = parent.join(format!("{name}-{stamp}{suffix}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self::at(path)),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => {
                    return Err(e).with_context(|| {
                        format!("cannot make the run folder `{}`", path.display())
                    });
                }
            }
        }
        bail!(
            Usage,
            "no free name for a run of `{name}` in `{}`; give one with `--out`",
            parent.display()
        )
    }

    fn at(path: PathBuf) -> Self {
        Self { path, dry: false, made: RefCell::default() }
    }

    /// A folder that nothing is written to.
    pub fn dry() -> Self {
        Self { path: PathBuf::from("runs"), dry: true, made: RefCell::default() }
    }

    pub fn is_dry(&self) -> bool {
        self.dry
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file at the top of the folder so that it is there whole or not at all.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        if self.dry {
            return Ok(());
        }
        atomic::write(&self.path.join(name), bytes)
    }

    /// Keeps the text of the module that the recipe imports as `path`, a plain relative name.
    pub fn keep_module(&self, path: &str, text: &str) -> Result<()> {
        if self.dry {
            return Ok(());
        }
        let path = self.path.join(MODULES).join(format!("{path}.rhai"));
        let folder = path.parent().unwrap_or(&self.path);
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
        atomic::write(&path, text.as_bytes())
    }

    /// The folder of the boosters that are merged into the run's model `model`, made where it is
    /// missing: `boosters`; of a second model, `boosters/model-1`.
    pub fn boosters(&self, model: usize) -> Result<PathBuf> {
        let mut folder = self.path.join("boosters");
        if model > 0 {
            folder.push(format!("model-{model}"));
        }
        self.make(&folder)?;
        Ok(folder)
    }

    /// Makes a folder in this one, once.
    fn make(&self, folder: &Path) -> Result<()> {
        if !self.dry && !self.made.borrow().contains(folder) {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
            self.made.borrow_mut().insert(folder.to_path_buf());
        }
        Ok(())
    }

    /// The path of the file `name` of a booster in training, in a folder made where it is missing.
    pub fn training(&self, name: &str) -> Result<PathBuf> {
        let folder = self.path.join("boosters/training");
        self.make(&folder)?;
        Ok(folder.join(name))
    }

    /// The path of something that a recipe saves as `name`: below this folder, never over what the
    /// run writes.
    pub fn child(&self, name: &str) -> Result<PathBuf> {
        let plain = |c: Component| match c {
            Component::Normal(part) => part
                .to_str()
                .is_some_and(|p| !p.starts_with('.') && p.len() <= 100 && p.chars().all(is_plain)),
            _ => false,
        };
        let path = Path::new(name);
        if name.is_empty() || name.ends_with('/') || !path.components().all(plain) {
            bail!(
                Usage,
                "cannot save as `{name}`: a name of letters, digits, `-`, `_` and `.`, below the \
                 run folder (`/` makes folders in it)"
            );
        }
        if let Some(first) =
            path.iter().next().and_then(|p| p.to_str()).filter(|p| RESERVED.contains(p))
        {
            bail!(Usage, "cannot save as `{name}`: `{first}` is written by the run itself");
        }
        Ok(self.path.join(path))
    }
}

/// The name of the file of a booster, by how many were kept before it.
pub fn booster_name(number: usize) -> String {
    format!("{number:04}.safetensors")
}

fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || "-_.".contains(c)
}

/// A moment in UTC as `20261124T142600Z`.
fn utc_stamp(at: OffsetDateTime) -> String {
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    format!("{year:04}{:02}{day:02}T{hour:02}{minute:02}{second:02}Z", u8::from(month))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_civil_dates() {
        let stamp = |seconds| utc_stamp(OffsetDateTime::from_unix_timestamp(seconds).unwrap());
        assert_eq!(stamp(0), "19700101T000000Z");
        assert_eq!(stamp(951_782_399), "20000228T235959Z");
        assert_eq!(stamp(951_782_400), "20000229T000000Z");
        assert_eq!(stamp(1_795_530_360), "20261124T142600Z");
    }

    #[test]
    fn an_occupied_folder_is_refused_and_an_empty_one_taken() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("a/b");
        let folder = Folder::create(Some(&out), "x").unwrap();
        folder.write("run.json", b"{}").unwrap();
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1, "no temporary file is left");
        let error = Folder::create(Some(&out), "x").unwrap_err();
        assert_eq!(crate::error::class_of(&error), crate::error::Class::Usage);
        assert!(error.to_string().contains("is not empty"), "{error}");
    }

    #[test]
    fn runs_of_one_second_get_their_own_folders() {
        let home = tempfile::tempdir().unwrap();
        let paths: Vec<_> =
            (0..3).map(|_| Folder::create_named(home.path(), "odd name").unwrap().path).collect();
        assert!(paths[0] != paths[1] && paths[1] != paths[2]);
        assert!(paths[0].file_name().unwrap().to_str().unwrap().starts_with("odd-name-2"));
    }

    #[test]
    fn saving_stays_below_the_folder() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::create(Some(home.path()), "x").unwrap();
        assert_eq!(folder.child("model").unwrap(), home.path().join("model"));
        assert_eq!(folder.child("best/round-8").unwrap(), home.path().join("best/round-8"));
        for name in [
            "",
            ".",
            "..",
            "/etc",
            "../up",
            "a/../../b",
            "a/./../b",
            ".hidden",
            "a/.b",
            "a\0b",
            "a b",
            "run.json",
            "boosters/1",
            "a/",
        ] {
            assert!(folder.child(name).is_err(), "{name:?}");
        }
    }
}
