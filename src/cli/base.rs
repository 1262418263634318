//! The model that a run began with.

use anyhow::Result;

use super::args::Compute;
use crate::error::Error;
use crate::model::load::{self, Loaded};
use crate::model::{MergeMode, Model};
use crate::run::{Kept, Manifest};
use crate::source::Grants;
use crate::{bail_data, device};

/// Loads the base of a run that has ended. Errors (class data): its weights are no longer those that the run began with.
pub fn open(kept: &Kept, compute: &Compute) -> Result<Loaded> {
    let name = kept.model()?;
    let mut loaded = load::open(name, kept.manifest.pre_tokenizer.as_deref(), &Grants::everything(), &compute.device, compute.dtype)?;
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

/// Errors (class data) where the base and all boosters of a run give other weights than it ended with, by their digest. A program,
/// device or kernels that are not those of the run may give other last bits, so nothing is said then.
pub fn agrees(kept: &Kept, model: &Model) -> Result<()> {
    let Manifest { engine, kernels, device: before, .. } = &kept.manifest;
    if engine != env!("CARGO_PKG_VERSION") || kernels != device::kernels() || before != "cpu" || !model.device().is_cpu() {
        return Ok(());
    }
    let Some(then) = &kept.weights_digest else { return Ok(()) };
    if *then != model.digest()? {
        bail_data!(
            "the run's boosters give other weights than it ended with: one of them or `boosters/ensemble.json` was changed, or is damaged"
        );
    }
    Ok(())
}
