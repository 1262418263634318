//! The model that a run began with, and where the names of a run lie.

use std::path::PathBuf;

use anyhow::Result;

use super::args::Compute;
use crate::error::Error;
use crate::model::load::{self, Loaded};
use crate::model::{MergeMode, Model};
use crate::run::{Kept, Manifest};
use crate::source::{self, Grants, Name, Places, expanded, looks_like_path};
use crate::{bail_data, device};

/// Where the names of a run lie, as it noted.
pub fn places(manifest: &Manifest) -> Places {
    let begun = manifest.begun.as_ref();
    let then = begun
        .into_iter()
        .flat_map(|begun| &begun.places)
        .map(|(name, place)| (name.clone(), PathBuf::from(place)));
    Places {
        folder: begun.map(|begun| PathBuf::from(&begun.folder)),
        then: then.collect(),
        moved: Default::default(),
        digests: manifest.digests.clone(),
        options: manifest
            .given
            .iter()
            .map(|(parameter, name)| (name.clone(), format!("-p {parameter}=PATH")))
            .collect(),
    }
}

/// Whether a value of a parameter, `name`, is the name of something that the run read, and `value`
/// the place of it now.
pub fn is_place(manifest: &Manifest, name: &str, value: &str) -> bool {
    let of = |known: &String| {
        known.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let noted = manifest.begun.iter().any(|begun| begun.places.contains_key(name));
    let read = noted
        || manifest.models.iter().any(|model| model == name)
        || manifest.digests.keys().any(of);
    name != value && read && (looks_like_path(value) || expanded(value).exists())
}

/// The places of a run whose model alone is needed; `given` are parameters that say where it is
/// now.
///
/// Errors (class usage): another parameter than that of the model.
pub fn places_of_model(kept: &Kept, given: &[(String, String)]) -> Result<Places> {
    let (name, mut places) = (kept.model()?, places(&kept.manifest));
    for (parameter, value) in given {
        if !kept.manifest.given.iter().any(|(known, value)| known == parameter && value == name) {
            let error = Error::usage(format!(
                "`-p {parameter}={value}` does not say where the run's model is, which is `{name}`"
            ));
            let option = places.options.get(name).map(|option| format!("`{option}` does"));
            return Err(error.hint(option.unwrap_or("no parameter named it".into())).into());
        }
        places.moved.insert(name.to_owned(), expanded(value));
    }
    Ok(places)
}

/// Loads the base of a run that has ended, from where `places` says. Errors (class data): its
/// weights are no longer those that the run began with.
pub fn open(kept: &Kept, places: &Places, compute: &Compute) -> Result<Loaded> {
    let name = kept.model()?;
    let then = kept.manifest.digests.get(name);
    let read = |found: &Name| {
        let loaded = load::load(
            &source::model(found)?.split_by(kept.manifest.pre_tokenizer.as_deref())?,
            &compute.device,
            compute.dtype,
        )?;
        let digest = loaded.model.digest()?;
        Ok((loaded, digest))
    };
    let found = places.resolve(name, &Grants::everything())?;
    let ((mut loaded, now), found) = source::right_one(found, read, |(_, now)| then == Some(now))?;
    if then.is_some_and(|then| *then != now) {
        let place = if found.to_string() == name {
            String::new()
        } else {
            format!(", read from `{found}`,")
        };
        return Err(Error::data(format!(
            "`{name}`{place} is not the model that the run began with: its weights are others"
        ))
        .hint(format!("SHA-256 is {now}, in `run.json` {}", then.map_or("", String::as_str)))
        .into());
    }
    if let Some(mode) = MergeMode::from_name(&kept.manifest.merge_mode) {
        loaded.model.set_merge_mode(mode);
    }
    Ok(loaded)
}

/// Errors (class data) where the base and all boosters of a run give other weights than it ended
/// with, by their digest. A program, device or kernels that are not those of the run may give other
/// last bits, so nothing is said then.
pub fn agrees(kept: &Kept, model: &Model) -> Result<()> {
    let Manifest { engine, kernels, device: before, .. } = &kept.manifest;
    if engine != env!("CARGO_PKG_VERSION")
        || kernels != device::kernels()
        || before != "cpu"
        || !model.device().is_cpu()
    {
        return Ok(());
    }
    let Some(then) = &kept.weights_digest else { return Ok(()) };
    if *then != model.digest()? {
        bail_data!(
            "the run's boosters give other weights than it ended with: one of them or \
             `boosters/ensemble.json` was changed, or is damaged"
        );
    }
    Ok(())
}
