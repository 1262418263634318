//! The model that a run began with.

use anyhow::Result;

use super::args::Compute;
use crate::error::Error;
use crate::model::MergeMode;
use crate::model::load::{self, Loaded};
use crate::run::Kept;
use crate::source::Grants;

/// Loads the base of a run that has ended. Errors (class data): its weights are no longer those that the run began with.
pub fn open(kept: &Kept, compute: &Compute) -> Result<Loaded> {
    let name = kept.model()?;
    let mut loaded = load::open(name, &Grants::everything(), &compute.device, compute.dtype)?;
    let (now, then) = (loaded.model.digest()?, kept.manifest.digests.get(name));
    if then.is_some_and(|then| *then != now) {
        return Err(Error::data(format!("`{name}` is not the model that the run began with: its weights are others"))
            .hint(format!("SHA-256 is {now}, in `run.json` {}", then.map_or("", String::as_str)))
            .into());
    }
    if let Some(mode) = MergeMode::from_name(&kept.manifest.merge_mode) {
        loaded.model.set_merge_mode(mode);
    }
    Ok(loaded)
}
