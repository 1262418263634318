//! Tensors in `.safetensors` files, one or several shards, mapped into memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::lfs;
use super::tensors::{FileBytes, TensorEncoding, TensorSource, map, read};
use crate::error::{Error, bail, did_you_mean, error};

/// The header's length comes first, in this many bytes.
const LENGTH: usize = 8;

/// What helps where a file is not whole.
const AGAIN: &str = "copy or download it again";

/// Open `.safetensors` files: a map of each, and where each tensor lies.
pub struct Safetensors {
    shards: Vec<(PathBuf, FileBytes)>,
    entries: BTreeMap<String, StoredTensor>,
    metadata: BTreeMap<String, String>,
    /// Names that an earlier shard has with other numbers.
    copies: Vec<String>,
}

/// The error for a tensor of a type that no weights are read from (class data).
pub fn unread(name: &str, dtype: &str) -> anyhow::Error {
    error!(
        Data,
        "tensor `{name}` is stored as {dtype}; weights are read from F64, F32, F16, BF16, F8_E4M3 \
         and F8_E5M2";
        hint: "integers are packed or quantised weights: give the unquantised model, or a GGUF file"
    )
    .into()
}

struct StoredTensor {
    shard: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl Safetensors {
    /// Opens all shards of a model.
    ///
    /// Of a name in two shards the last holds, as transformers has it; [`Safetensors::copies`]
    /// tells where others differ.
    ///
    /// Errors (class data): a file that is missing, cut short or not in this format.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        Self::of(
            paths
                .iter()
                .map(|path| Ok((path.clone(), FileBytes::Mapped(map(path)?))))
                .collect::<Result<_>>()?,
        )
    }

    /// Reads a file that is embedded in the program; `name` stands for it in messages.
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Result<Self> {
        Self::of(vec![(name.into(), FileBytes::Embedded(bytes))])
    }

    fn of(shards: Vec<(PathBuf, FileBytes)>) -> Result<Self> {
        let mut entries: BTreeMap<String, StoredTensor> = BTreeMap::new();
        let (mut metadata, mut copies) = (BTreeMap::new(), vec![]);
        for (shard, (path, bytes)) in shards.iter().enumerate() {
            let (tensors, texts) = header(bytes, path)?;
            metadata.extend(texts);
            for (name, dtype, shape, range) in tensors {
                let entry = StoredTensor { shard, dtype, shape, range };
                let same = |old: &StoredTensor| {
                    (old.dtype, &old.shape) == (entry.dtype, &entry.shape)
                        && shards[old.shard].1[old.range.clone()] == bytes[entry.range.clone()]
                };
                if entries.get(&name).is_some_and(|old| !same(old)) {
                    copies.push(name.clone());
                }
                entries.insert(name, entry);
            }
        }
        Ok(Self { shards, entries, metadata, copies })
    }

    /// Names that several shards have with different numbers.
    pub fn copies(&self) -> &[String] {
        &self.copies
    }

    /// The file that a tensor is read from.
    pub fn file_of(&self, name: &str) -> Option<&Path> {
        self.entries.get(name).map(|entry| self.shards[entry.shard].0.as_path())
    }

    /// Whether two tensors hold the same numbers. Errors: as of [`TensorSource::load`].
    pub fn same(&self, one: &str, other: &str) -> Result<bool> {
        let (Some(a), Some(b)) = (self.entries.get(one), self.entries.get(other)) else {
            return Ok(false);
        };
        if a.shape != b.shape {
            return Ok(false);
        }
        let bytes = |entry: &StoredTensor| &self.shards[entry.shard].1[entry.range.clone()];
        if a.dtype == b.dtype && bytes(a) == bytes(b) {
            return Ok(true);
        }
        let numbers = |name| anyhow::Ok(self.load(name, DType::F32, &Device::Cpu)?.flatten_all()?);
        let different = numbers(one)?
            .ne(&numbers(other)?)?
            .to_dtype(DType::F32)?
            .sum_all()?
            .to_scalar::<f32>()?;
        Ok(different == 0.0)
    }

    /// A text that the file holds beside its tensors.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }
}

/// A tensor of a header: name, type, shape and place in the file.
type NamedTensor = (String, Dtype, Vec<usize>, Range<usize>);

/// Tensors and texts of a file's header, checked.
fn header(bytes: &[u8], path: &Path) -> Result<(Vec<NamedTensor>, BTreeMap<String, String>)> {
    let shown = path.display();
    let Some(length) = bytes.first_chunk::<LENGTH>() else {
        bail!(Data, "`{shown}` is not a safetensors file: it ends after {} bytes", bytes.len());
    };
    if lfs::is_pointer(bytes) {
        return Err(lfs::pointer_error(path).into());
    }
    let (length, rest) = (u64::from_le_bytes(*length), bytes.len() - LENGTH);
    if length > rest as u64 {
        bail!(
            Data,
            "`{shown}` is cut short, or not a safetensors file: header of {length} bytes, {rest} \
             in the file";
            hint: "{AGAIN}"
        );
    }
    let (length, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|e| damaged(path, bytes.len(), e))?;
    let start = LENGTH + length;
    let texts = metadata.metadata().clone().into_iter().flatten().collect();
    let place = |(name, info): (String, &TensorInfo)| {
        let (from, to) = info.data_offsets;
        (name, info.dtype, info.shape.clone(), start + from..start + to)
    };
    Ok((metadata.tensors().into_iter().map(place).collect(), texts))
}

/// The error for a file of that many bytes whose header is damaged, or does not fit its bytes.
fn damaged(path: &Path, size: usize, error: SafeTensorError) -> Error {
    let what = match error {
        SafeTensorError::MetadataIncompleteBuffer => {
            format!("is cut short, or has bytes that are no tensor's: {size} in all")
        }
        error => format!("is damaged: {error}"),
    };
    error!(Data, "`{}` {what}", path.display(); hint: "{AGAIN}")
}

impl TensorSource for Safetensors {
    fn names(&self) -> Vec<&str> {
        self.entries.keys().map(String::as_str).collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    fn dtype_name(&self, name: &str) -> Option<String> {
        self.entries.get(name).map(|entry| entry.dtype.to_string())
    }

    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let Some(entry) = self.entries.get(name) else {
            let hint = did_you_mean(name, self.names());
            bail!(Data, "there is no tensor `{name}`{hint}");
        };
        let (path, map) = &self.shards[entry.shard];
        let encoding = match entry.dtype {
            Dtype::F64 => TensorEncoding::F64,
            Dtype::F32 => TensorEncoding::F32,
            Dtype::F16 => TensorEncoding::F16,
            Dtype::BF16 => TensorEncoding::BF16,
            Dtype::F8_E4M3 => TensorEncoding::E4M3,
            Dtype::F8_E5M2 => TensorEncoding::E5M2,
            other => {
                return Err(
                    unread(name, &other.to_string()).context(format!("`{}`", path.display()))
                );
            }
        };
        read(map, entry.range.clone(), encoding, &entry.shape, dtype, device)
            .with_context(|| format!("tensor `{name}` in `{}`", path.display()))
    }
}
