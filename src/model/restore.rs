//! The base of a model read again, tensor by tensor: what boosters were merged into.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};

use super::save::{Digests, numbers_digest};
use super::stored::{self, Stored};
use super::{Config, Model, gguf};
use crate::bail_data;
use crate::ops::elementwise;
use crate::source::{Gguf, ModelFiles, Safetensors, TensorSource};

/// Gives the tensors called `names` the numbers that they have in `files`, from which the model was
/// loaded; one is held twice at a time. What lies beside them goes. `digests` says what was loaded
/// then.
///
/// Errors (class data): files that are gone or hold other numbers by now. Tensors read before the
/// error are then as in the base, all others as they were.
pub fn restore(
    model: &mut Model,
    files: &ModelFiles,
    digests: &Digests,
    names: &BTreeSet<String>,
) -> Result<()> {
    let config = model.config().clone();
    each(files, config, |source| read(model, source, digests, names))
}

/// Of all that was added to a model's 16-bit weights since `files`, the share that the weights
/// show: ⟨stored change, Σδ⟩/‖Σδ‖². `None` where nothing was rounded.
pub fn retained_fraction(model: &Model, files: &ModelFiles) -> Result<Option<f64>> {
    let names: BTreeSet<String> = model.compensation.keys().cloned().collect();
    if names.is_empty() {
        return Ok(None);
    }
    let (mut moved, mut added) = (0.0, 0.0);
    each(files, model.config().clone(), |source| {
        for (name, own) in model.tensors().into_iter().filter(|(name, _)| names.contains(name)) {
            let Some(rest) = model.compensation.get(&name) else { continue };
            // Tensors that a file lacks are zeros.
            let base = match source.shape(&name) {
                Some(_) => {
                    source.load(&name, model.storage, &model.device)?.to_dtype(DType::F32)?
                }
                None => rest.zeros_like()?,
            };
            // Of weights next to each other the difference is exact.
            let stored = (own.to_dtype(DType::F32)? - base)?;
            let total = (&stored + rest)?;
            moved += elementwise::dot(&stored, &total)?;
            added += elementwise::squares(&total)?;
        }
        Ok(())
    })?;
    Ok((added > 0.0).then(|| moved / added))
}

/// Lends the tensors of a model's files, under the published names of its config.
fn each(
    files: &ModelFiles,
    mut config: Config,
    body: impl FnOnce(&dyn TensorSource) -> Result<()>,
) -> Result<()> {
    match files {
        ModelFiles::Folder(folder) => {
            // What there is to say was said on loading.
            let notes = &mut vec![];
            let source = stored::open(folder, &config, notes)?;
            body(&Stored::new(source, &mut config, notes)?)
        }
        ModelFiles::Embedded(micro) => body(&Safetensors::embedded(micro.name, micro.weights)?),
        ModelFiles::Gguf { file: path, .. } => {
            let gguf = Gguf::open(path)?;
            let config = gguf::config(&gguf, &mut vec![])?;
            body(&gguf::Published::new(&gguf, &config))
        }
    }
}

fn read(
    model: &mut Model,
    source: &dyn TensorSource,
    digests: &Digests,
    names: &BTreeSet<String>,
) -> Result<()> {
    let (storage, device) = (model.storage, model.device.clone());
    for name in names {
        let own =
            model.tensor_mut(name).with_context(|| format!("the model has no tensor `{name}`"))?;
        let (kind, shape) = (own.dtype(), own.dims().to_vec());
        let base: Tensor = match source.shape(name) {
            Some(found) if found == shape => source.load(name, storage, &device)?.to_dtype(kind)?,
            // A norm without a bias has one of zeros.
            None if name.ends_with(".bias") => Tensor::zeros(shape, kind, &device)?,
            _ => bail_data!(
                "the base has changed since it was loaded: it has no `{name}` of that shape"
            ),
        };
        if digests
            .tensors
            .get(name)
            .is_some_and(|digest| numbers_digest(&base).is_ok_and(|now| now[..] != digest[..]))
        {
            bail_data!("the base has changed since it was loaded: `{name}` has other numbers");
        }
        *own = base;
        model.compensation.remove(name);
        model.clear_unmerged(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::compute_dtype;
    use crate::model::load;
    use crate::source::{Grants, model as files, resolve};

    #[test]
    fn what_a_merge_changed_is_as_it_was() -> Result<()> {
        let device = candle_core::Device::Cpu;
        let grants = Grants::new(vec![], false);
        let micro = files(&resolve("builtin:micro", &grants)?)?;
        for storage in [DType::F32, DType::BF16, DType::F16] {
            assert!(compute_dtype(storage, &device) == DType::F32);
            let mut model = load::load(&micro, &device, storage)?.model;
            let digests = model.digests()?;
            let names: BTreeSet<String> = [
                "model.layers.1.mlp.up_proj.weight",
                "model.norm.weight",
                "model.embed_tokens.weight",
            ]
            .map(String::from)
            .into();
            let deltas = model.copies(&names)?;
            model.add(&deltas)?;
            assert_ne!(model.digest()?, digests.digest);
            // A tensor was doubled: nothing of that is lost.
            let whole = (storage != DType::F32).then_some(1.0);
            assert_eq!(
                (retained_fraction(&model, &micro)?, model.retained_fraction()),
                (whole, whole)
            );
            restore(&mut model, &micro, &digests, &names)?;
            assert_eq!(model.digest()?, digests.digest);
            let other = Digests {
                tensors: digests.tensors.keys().map(|name| (name.clone(), [0; 32])).collect(),
                ..digests
            };
            let error = restore(&mut model, &micro, &other, &names).unwrap_err();
            assert!(error.to_string().contains("has other numbers"), "{error}");
        }
        Ok(())
    }
}
