//! The base of a model read again, tensor by tensor: what boosters were merged into.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use candle_core::DType;

use super::arch::{self, Architecture};
use super::save::{Digests, numbers_digest};
use super::stored::{self, Stored};
use super::{Model, ParamId, gguf};
use crate::error::bail;
use crate::ops::elementwise;
use crate::source::{Gguf, ModelFiles, Safetensors, TensorSource};

/// Gives the parameters `ids` the numbers that they have in `files`, from which the model was
/// loaded; one is held twice at a time. What lies beside them goes. `digests` says what was loaded
/// then.
///
/// Errors (class data): files that are gone or hold other numbers by now. Parameters read before
/// the error are then as in the base, all others as they were.
pub fn restore(
    model: &mut Model,
    files: &ModelFiles,
    digests: &Digests,
    ids: &BTreeSet<ParamId>,
) -> Result<()> {
    let architecture = model.architecture().boxed();
    each(files, architecture, |source| read(model, source, digests, ids))
}

/// Of all that was added to a model's 16-bit weights since `files`, the share that the weights
/// show: ⟨stored change, Σδ⟩/‖Σδ‖². `None` where nothing was rounded.
pub fn retained_fraction(model: &Model, files: &ModelFiles) -> Result<Option<f64>> {
    if model.params.compensated().next().is_none() {
        return Ok(None);
    }
    let (mut moved, mut added) = (0.0, 0.0);
    each(files, model.architecture().boxed(), |source| {
        for (id, compensation) in model.params.compensated() {
            let base = match model.fresh.get(id) {
                Some(start) => start.to_dtype(model.storage)?,
                None => id.relaid(source.load(&id.name, model.storage, &model.device)?)?,
            };
            // Of weights next to each other the difference is exact.
            let own = model.params.tensor(id).to_dtype(DType::F32)?;
            let stored = (own - base.to_dtype(DType::F32)?)?;
            let total = (&stored + compensation)?;
            moved += elementwise::dot(&stored, &total)?;
            added += elementwise::squares(&total)?;
        }
        Ok(())
    })?;
    Ok((added > 0.0).then(|| moved / added))
}

/// Lends the tensors of a model's files, under their published names.
fn each(
    files: &ModelFiles,
    mut architecture: Box<dyn Architecture>,
    body: impl FnOnce(&dyn TensorSource) -> Result<()>,
) -> Result<()> {
    match files {
        ModelFiles::Folder(folder) => {
            // What there is to say was said on loading.
            let notes = &mut vec![];
            let source = stored::open(folder, &*architecture, notes)?;
            body(&Stored::new(source, &mut *architecture, notes)?)
        }
        ModelFiles::Embedded(micro) => body(&Safetensors::embedded(micro.name, micro.weights)?),
        ModelFiles::Gguf { file, .. } => {
            let gguf = Gguf::open(file)?;
            let architecture = arch::from_gguf(&gguf, &mut vec![])?;
            body(&gguf::PublishedTensors::new(&gguf, &*architecture))
        }
    }
}

fn read(
    model: &mut Model,
    source: &dyn TensorSource,
    digests: &Digests,
    ids: &BTreeSet<ParamId>,
) -> Result<()> {
    for id in ids {
        let own = model.params.get(id);
        let own = own.with_context(|| format!("the model has no tensor `{}`", id.name))?;
        if let Some(start) = model.fresh.get(id) {
            let start = start.copy()?;
            model.params.replace(id, start);
            continue;
        }
        let (name, kind) = (&id.name, own.dtype());
        if source.shape(name) != Some(&id.published_shape()) {
            bail!(
                Data,
                "the base has changed since it was loaded: it has no `{name}` of that shape"
            );
        }
        let base = id.relaid(source.load(name, model.storage, &model.device)?)?.to_dtype(kind)?;
        let same = |digest: &[u8; 32]| numbers_digest(&base).is_ok_and(|now| now[..] == digest[..]);
        if digests.tensors.get(name).is_some_and(|digest| !same(digest)) {
            bail!(Data, "the base has changed since it was loaded: `{name}` has other numbers");
        }
        model.params.replace(id, base);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    use crate::device::compute_dtype;
    use crate::model::load;
    use crate::source::{Grants, model as files, resolve};

    const DOUBLED: [&str; 3] =
        ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", "model.embed_tokens.weight"];

    /// The micro model with some tensors doubled: its files, what it was, and which they are.
    fn doubled(storage: DType) -> Result<(Model, ModelFiles, Digests, BTreeSet<ParamId>)> {
        let micro = files(&resolve("builtin:micro", &Grants::new(vec![], false))?)?;
        let mut model = load::load(&micro, &Device::Cpu, storage)?.model;
        let digests = model.digests()?;
        let ids = DOUBLED.map(|name| model.param(name).unwrap().clone()).into();
        let deltas = model.copies(&ids)?;
        model.add(&deltas)?;
        Ok((model, micro, digests, ids))
    }

    #[test]
    fn what_a_merge_changed_is_as_it_was() -> Result<()> {
        for storage in [DType::F32, DType::BF16, DType::F16] {
            assert!(compute_dtype(storage, &Device::Cpu) == DType::F32);
            let (mut model, micro, digests, ids) = doubled(storage)?;
            assert_ne!(model.digest()?, digests.digest);
            // A tensor was doubled: nothing of that is lost.
            let whole = (storage != DType::F32).then_some(1.0);
            assert_eq!(
                (retained_fraction(&model, &micro)?, model.retained_fraction()),
                (whole, whole)
            );
            restore(&mut model, &micro, &digests, &ids)?;
            assert_eq!(model.digest()?, digests.digest);
        }
        Ok(())
    }

    #[test]
    fn files_with_other_numbers_are_refused() -> Result<()> {
        let (mut model, micro, mut digests, ids) = doubled(DType::BF16)?;
        digests.tensors.values_mut().for_each(|digest| *digest = [0; 32]);
        let error = restore(&mut model, &micro, &digests, &ids).unwrap_err();
        assert!(error.to_string().contains("has other numbers"), "{error}");
        Ok(())
    }
}
