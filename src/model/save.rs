//! A model as a Hugging Face folder that transformers loads, written whole or not at all.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use rayon::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::load::Extras;
use super::{Model, ParamId};
use crate::io::atomic;
use crate::ops::cpu::view::View;
use crate::ops::linear::UnmergedDelta;
use crate::source::Tokenizer;

/// Writes `tensors` as a safetensors file, whole or not at all.
pub fn write_safetensors(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    // transformers wants to know which framework wrote the file.
    write(path, tensors, ("format", "pt")).map(|_| ())
}

/// Bytes of tensors that are put together in memory and written at once.
const SMALL: usize = 16 << 20;

/// As [`write_safetensors`], with an entry of metadata: of several the format keeps no order, and
/// equal runs give equal bytes. Gives the file's SHA-256.
pub fn write_safetensors_summed(
    path: &Path,
    tensors: &[(String, Tensor)],
    entry: (&str, &str),
) -> Result<String> {
    let bytes = match write(path, tensors, entry)? {
        Some(bytes) => bytes,
        None => std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?,
    };
    Ok(hexadecimal(&Sha256::digest(bytes)))
}

/// Gives the file's bytes where they were put together in memory.
fn write(
    path: &Path,
    tensors: &[(String, Tensor)],
    (key, value): (&str, &str),
) -> Result<Option<Vec<u8>>> {
    let cpu: Vec<(&str, Tensor)> = tensors
        .iter()
        .map(|(name, t)| Ok((name.as_str(), t.to_device(&candle_core::Device::Cpu)?.contiguous()?)))
        .collect::<Result<_>>()?;
    let metadata = Some([(key.to_string(), value.to_string())].into());
    let total: usize = cpu.iter().map(|(_, t)| bytes(t)).sum();
    atomic::file(path, |partial| {
        if total <= SMALL {
            let bytes = safetensors::serialize(cpu, metadata)?;
            std::fs::write(partial, &bytes)?;
            return Ok(Some(bytes));
        }
        // It puts a file in the place that nobody else may read.
        let permissions = std::fs::metadata(partial)?.permissions();
        safetensors::serialize_to_file(cpu, metadata, partial)?;
        std::fs::set_permissions(partial, permissions)?;
        Ok(None)
    })
}

fn bytes(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}

/// Bytes of weights in a file, beyond which there are several: transformers' default.
pub const SHARD: usize = 5_000_000_000;

/// Writes `tensors` into `folder` as transformers looks for them: `model.safetensors`, or
/// [`shards`] of at most `most` bytes, and their index.
fn write_weights(folder: &Path, tensors: Vec<(String, Tensor)>, most: usize) -> Result<()> {
    let total: usize = tensors.iter().map(|(_, t)| bytes(t)).sum();
    if total <= most {
        return write_safetensors(&folder.join("model.safetensors"), &tensors);
    }
    let shards = shards(tensors, most);
    let count = shards.len();
    let mut places = BTreeMap::new();
    for (number, shard) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{count:05}.safetensors", number + 1);
        write_safetensors(&folder.join(&file), shard)?;
        places.extend(shard.iter().map(|(name, _)| (name.clone(), file.clone())));
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": places });
    std::fs::write(folder.join("model.safetensors.index.json"), format!("{index:#}\n"))
        .context("cannot write the index of the shards")
}

/// Runs of tensors of at most `most` bytes, a larger tensor alone in one.
fn shards(tensors: Vec<(String, Tensor)>, most: usize) -> Vec<Vec<(String, Tensor)>> {
    let (mut shards, mut shard, mut held) = (vec![], vec![], 0);
    for (name, tensor) in tensors {
        let size = bytes(&tensor);
        if held > 0 && held + size > most {
            shards.push(std::mem::take(&mut shard));
            held = 0;
        }
        held += size;
        shard.push((name, tensor));
    }
    shards.push(shard);
    shards
}

impl Model {
    /// As they are stored on disk, by published name: everything in the storage type.
    fn stored(&self) -> Result<Vec<(String, Tensor)>> {
        let one = |(id, tensor): (ParamId, Tensor)| {
            Ok((id.name.clone(), id.relaid(tensor)?.to_dtype(self.storage)?))
        };
        self.summed()?.into_iter().map(one).collect()
    }

    /// SHA-256 over names, shapes and the SHA-256 of all tensors' numbers, in the order of the
    /// network; of what lies beside weights too, behind them.
    pub fn digest(&self) -> Result<String> {
        Ok(self.digests()?.digest)
    }

    /// All numbers, in the order of the network; of what lies beside weights too, behind them.
    fn numbers(&self) -> Vec<(String, &Tensor)> {
        let mut tensors: Vec<(String, &Tensor)> =
            self.params().map(|(id, tensor)| (id.name.clone(), tensor)).collect();
        for (linear, unmerged) in self.params.all_unmerged() {
            let name = |part: &str| format!("{}.stacked_{part}", linear.name);
            match unmerged {
                UnmergedDelta::Factors(pair) => {
                    tensors.extend([(name("a"), &pair.a), (name("b"), &pair.b)]);
                }
                UnmergedDelta::Sum(sum) => tensors.push((name("sum"), sum)),
            }
        }
        tensors
    }

    /// That digest, with that of each tensor; of a model without numbers there is none.
    pub fn digests(&self) -> Result<Digests> {
        if self.is_meta() {
            return Ok(Digests::default());
        }
        let tensors = self.numbers();
        let parts = tensors
            .par_iter()
            .map(|(_, tensor)| numbers_digest(tensor))
            .collect::<Result<Vec<_>>>()?;
        let mut hash = Sha256::new();
        for ((name, tensor), part) in tensors.iter().zip(&parts) {
            hash.update(format!("{name}{:?}", tensor.dims()).as_bytes());
            hash.update(part);
        }
        let names = tensors.into_iter().map(|(name, _)| name);
        Ok(Digests {
            digest: hexadecimal(&hash.finalize()),
            tensors: names.zip(parts.into_iter().map(Into::into)).collect(),
        })
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What a model's numbers were.
#[derive(Clone, Debug, Default)]
pub struct Digests {
    /// SHA-256 over all, as [`Model::digest`] gives it.
    pub digest: String,
    /// SHA-256 of a tensor's numbers, by published name.
    pub tensors: BTreeMap<String, [u8; 32]>,
}

/// SHA-256 of a tensor's numbers, little-endian, row by row.
pub(super) fn numbers_digest(tensor: &Tensor) -> Result<sha2::digest::Output<Sha256>> {
    let flat = tensor.to_device(&candle_core::Device::Cpu)?.flatten_all()?;
    let mut hash = Sha256::new();
    match flat.dtype() {
        DType::BF16 => update(&mut hash, &View::<half::bf16>::new(&flat)?, |x| x.to_le_bytes()),
        DType::F16 => update(&mut hash, &View::<half::f16>::new(&flat)?, |x| x.to_le_bytes()),
        DType::F64 => update(&mut hash, &View::<f64>::new(&flat)?, |x| x.to_le_bytes()),
        _ => {
            update(&mut hash, &View::<f32>::new(&flat.to_dtype(DType::F32)?)?, |x| x.to_le_bytes())
        }
    }
    Ok(hash.finalize())
}

/// Feeds numbers as bytes, some thousands at a time.
fn update<T: Copy, const N: usize>(hash: &mut Sha256, values: &[T], bytes: impl Fn(T) -> [u8; N]) {
    let mut buffer = Vec::with_capacity(N << 12);
    for part in values.chunks(1 << 12) {
        buffer.clear();
        part.iter().for_each(|&x| buffer.extend(bytes(x)));
        hash.update(&buffer);
    }
}

/// The `config.json` that the model came with, with the type of its weights.
fn config_json(extras: &Extras, storage: DType) -> Value {
    let mut config = extras.config.clone();
    let dtype = match storage {
        DType::BF16 => "bfloat16",
        DType::F16 => "float16",
        _ => "float32",
    };
    // transformers 5 calls it `dtype`, earlier versions `torch_dtype`.
    let present: Vec<&str> =
        ["dtype", "torch_dtype"].into_iter().filter(|key| config.get(key).is_some()).collect();
    for key in if present.is_empty() { vec!["torch_dtype"] } else { present } {
        config[key] = json!(dtype);
    }
    config
}

/// Writes `folder`: config.json, weights in files of at most `shard` bytes, the tokenizer, what
/// came along, and `more` files by name; of a model without numbers, nothing. Errors as
/// [`atomic::folder`].
pub fn save(
    model: &Model,
    tokenizer: &Tokenizer,
    extras: &Extras,
    more: &[(&str, &[u8])],
    shard: usize,
    folder: &Path,
) -> Result<()> {
    if model.is_meta() {
        return Ok(());
    }
    let config = config_json(extras, model.storage);
    atomic::folder(folder, |folder| {
        std::fs::write(folder.join("config.json"), format!("{config:#}\n"))
            .context("cannot write `config.json`")?;
        write_weights(folder, model.stored()?, shard)?;
        tokenizer.save(folder)?;
        for file in &extras.others {
            if let Some(name) = file.file_name().filter(|name| !folder.join(name).exists()) {
                std::fs::copy(file, folder.join(name))
                    .with_context(|| format!("cannot copy `{}`", file.display()))?;
            }
        }
        for (name, bytes) in more {
            std::fs::write(folder.join(name), bytes)
                .with_context(|| format!("cannot write `{name}`"))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Both ways of writing: the same tensors come back, and others may read the file as far as
    /// they may read any.
    #[cfg(unix)]
    #[test]
    fn small_and_large_files_are_as_others_are() -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir()?;
        let mode = |name: &str| {
            anyhow::Ok(std::fs::metadata(home.path().join(name))?.permissions().mode())
        };
        std::fs::write(home.path().join("plain"), "")?;
        for (name, count) in [("small", 3), ("large", SMALL / 4 + 1)] {
            let path = home.path().join(name);
            let numbers = Tensor::arange(0f32, count as f32, &Device::Cpu)?;
            write_safetensors(&path, &[("a".to_owned(), numbers.clone())])?;
            assert_eq!(mode(name)?, mode("plain")?, "{name}");
            let read = candle_core::safetensors::load(&path, &Device::Cpu)?;
            assert_eq!(read["a"].to_vec1::<f32>()?, numbers.to_vec1::<f32>()?, "{name}");
        }
        assert_eq!(std::fs::read_dir(home.path())?.count(), 3, "no temporary file is left");
        Ok(())
    }
}
