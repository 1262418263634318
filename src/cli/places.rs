//! Where the names of a run lie.

use std::path::PathBuf;

use anyhow::Result;

use crate::error::error;
use crate::run::{FinishedRun, Manifest};
use crate::source::{Places, expanded, looks_like_path};

/// Where the names of a run lie, as it noted.
pub fn of_run(manifest: &Manifest) -> Places {
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
pub fn of_model(kept: &FinishedRun, given: &[(String, String)]) -> Result<Places> {
    let (name, mut places) = (kept.model()?, of_run(&kept.manifest));
    for (parameter, value) in given {
        if !kept.manifest.given.iter().any(|(known, value)| known == parameter && value == name) {
            let error = error!(
                Usage,
                "`-p {parameter}={value}` does not say where the run's model is, which is `{name}`"
            );
            let option = places.options.get(name).map(|option| format!("`{option}` does"));
            return Err(error.hint(option.unwrap_or("no parameter named it".into())).into());
        }
        places.moved.insert(name.to_owned(), expanded(value));
    }
    Ok(places)
}
