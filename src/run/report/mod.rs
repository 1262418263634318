//! `report.html`: a run, or several beside each other, as one page that needs nothing else: no
//! network, no script, no image. It is decided by the run folder alone; what a clock measured is in
//! elements of class `timing` and nowhere else.

mod bars;
mod bundle;
mod by_task;
mod compare;
mod curves;
mod heat;
mod layers;
mod line;
mod markup;
mod page;
mod points;
mod read;
mod scale;
mod seeds;
mod series;
mod single;
mod texts;
mod trace;

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Folder;
use crate::io::atomic;
use read::Recorded;

/// The name of the report in a run folder.
pub const NAME: &str = "report.html";

/// The report of the run in `folder`. Errors: a `run.json` or `metrics.jsonl` that cannot be read;
/// `run.json` is no JSON object (class data).
pub fn of_run(folder: &Folder) -> Result<String> {
    Ok(single::html(&Recorded::read(folder)?))
}

/// The report of the runs in `folders` beside each other, each called by its path. Errors: a folder
/// that holds no run (class usage); as [`of_run`].
pub fn of_runs(folders: &[PathBuf]) -> Result<String> {
    let named =
        |path: &PathBuf| Ok((path.display().to_string(), Recorded::read(&Folder::open(path)?)?));
    Ok(compare::html(&folders.iter().map(named).collect::<Result<Vec<_>>>()?))
}

/// Writes the report of the run in `folder` into it.
pub fn write(folder: &Folder) -> Result<()> {
    folder.write(NAME, of_run(folder)?.as_bytes())
}

/// Writes `html` to `path`, whole or not at all.
pub fn write_to(path: &Path, html: &str) -> Result<()> {
    atomic::write(path, html.as_bytes())
}

/// Numbers with commas between.
fn plain<'a>(numbers: impl IntoIterator<Item = &'a usize>) -> String {
    numbers.into_iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}
