//! A model as a Hugging Face folder that transformers loads, written whole or not at all.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Model;
use super::load::Extras;
use crate::source::Tokenizer;

/// Writes `tensors` as a safetensors file, through a temporary file beside it.
pub fn write_safetensors(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let partial = path.with_extension("partial");
    let cpu: Vec<(&str, Tensor)> = tensors
        .iter()
        .map(|(name, t)| Ok((name.as_str(), t.to_device(&candle_core::Device::Cpu)?.contiguous()?)))
        .collect::<Result<_>>()?;
    // transformers wants to know which framework wrote the file.
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize_to_file(cpu, Some(metadata), &partial).with_context(|| format!("cannot write `{}`", path.display()))?;
    std::fs::rename(&partial, path).with_context(|| format!("cannot write `{}`", path.display()))
}

impl Model {
    /// All tensors as they are stored on disk: everything in the storage type.
    fn stored(&self) -> Result<Vec<(String, Tensor)>> {
        self.tensors().into_iter().map(|(name, t)| Ok((name, t.to_dtype(self.storage)?))).collect()
    }

    /// SHA-256 over names, shapes and numbers of all tensors, in the order of the network.
    pub fn digest(&self) -> Result<String> {
        let mut hash = Sha256::new();
        for (name, tensor) in self.tensors() {
            hash.update(format!("{name}{:?}", tensor.dims()).as_bytes());
            let flat = tensor.to_device(&candle_core::Device::Cpu)?.flatten_all()?;
            match flat.dtype() {
                DType::BF16 => flat.to_vec1::<half::bf16>()?.iter().for_each(|x| hash.update(x.to_le_bytes())),
                DType::F64 => flat.to_vec1::<f64>()?.iter().for_each(|x| hash.update(x.to_le_bytes())),
                _ => {
                    let values = flat.to_dtype(DType::F32)?;
                    let values = crate::ops::slice::f32s(&values)?;
                    let mut bytes = Vec::with_capacity(1 << 16);
                    for part in values.chunks(1 << 14) {
                        bytes.clear();
                        part.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
                        hash.update(&bytes);
                    }
                }
            }
        }
        Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }
}

/// Writes `folder`: config.json, model.safetensors, the tokenizer, and what came along.
///
/// Errors: the folder exists already, or the disk refuses.
pub fn save(model: &Model, tokenizer: &Tokenizer, extras: &Extras, folder: &Path) -> Result<()> {
    if folder.exists() {
        crate::bail_usage!("cannot save to `{}`: it exists already", folder.display());
    }
    let partial = partial_name(folder);
    let _ = std::fs::remove_dir_all(&partial);
    std::fs::create_dir_all(&partial).with_context(|| format!("cannot create `{}`", partial.display()))?;
    let mut config = extras.config.clone();
    let dtype = if model.storage == DType::BF16 { "bfloat16" } else { "float32" };
    for key in ["dtype", "torch_dtype"] {
        if config.get(key).is_some() || key == "torch_dtype" && config.get("dtype").is_none() {
            config[key] = json!(dtype);
        }
    }
    std::fs::write(partial.join("config.json"), format!("{:#}\n", config))?;
    write_safetensors(&partial.join("model.safetensors"), &model.stored()?)?;
    tokenizer.save(&partial)?;
    for file in &extras.others {
        if let Some(name) = file.file_name().filter(|name| !partial.join(name).exists()) {
            std::fs::copy(file, partial.join(name)).with_context(|| format!("cannot copy `{}`", file.display()))?;
        }
    }
    std::fs::rename(&partial, folder).with_context(|| format!("cannot create `{}`", folder.display()))
}

fn partial_name(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    folder.with_file_name(name)
}
