//! GGUF files: metadata by key, and tensors dequantised from a mapped file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};

use super::gguf_header::{self, GgufHeader, GgufTensorInfo};
use super::gguf_value::GgufValue;
use super::tensors::{FileBytes, TensorEncoding, TensorSource, map, read};
use super::{gguf_split, lfs};
use crate::error::{bail, did_you_mean, error, nearest};

/// An open GGUF file, or several that hold one model.
pub struct Gguf {
    path: PathBuf,
    parts: Vec<GgufPart>,
    metadata: BTreeMap<String, GgufValue>,
    /// With the part that each lies in.
    tensors: BTreeMap<String, (usize, GgufTensorInfo)>,
}

/// A file, and its bytes.
struct GgufPart {
    path: PathBuf,
    map: FileBytes,
}

impl GgufPart {
    fn open(path: &Path) -> Result<(Self, GgufHeader)> {
        let map = FileBytes::Mapped(map(path)?);
        if lfs::is_pointer(&map) {
            return Err(lfs::pointer_error(path).into());
        }
        let header = gguf_header::read(&map)
            .with_context(|| format!("cannot read GGUF file `{}`", path.display()))?;
        Ok((Self { path: path.to_owned(), map }, header))
    }
}

impl Gguf {
    /// Opens a file and reads its header; of a model that was split, all parts, whichever was
    /// named.
    ///
    /// Errors (class data): a file is missing, cut short, damaged, or of a version that is not
    /// read.
    pub fn open(path: &Path) -> Result<Self> {
        let (part, header) = GgufPart::open(path)?;
        let within = || format!("cannot read GGUF file `{}`", path.display());
        match gguf_split::stated(&header.metadata).with_context(within)? {
            Some((no, count)) => {
                drop(part);
                Self::of_parts(path, no, count)
            }
            None => Ok(Self {
                path: path.to_owned(),
                parts: vec![part],
                metadata: header.metadata,
                tensors: header
                    .tensors
                    .into_iter()
                    .map(|(name, tensor)| (name, (0, tensor)))
                    .collect(),
            }),
        }
    }

    /// All `count` parts of the model that `path` is part `no` of.
    fn of_parts(path: &Path, no: u64, count: u64) -> Result<Self> {
        let mut all = Self {
            path: path.to_owned(),
            parts: vec![],
            metadata: BTreeMap::new(),
            tensors: BTreeMap::new(),
        };
        for (at, path) in gguf_split::parts(path, no, count)?.iter().enumerate() {
            all.add(GgufPart::open(path)?, (at as u64, count))?;
        }
        let held = all.tensors.len();
        let stated = all.optional("split.tensors.count", GgufValue::as_u64)?;
        match stated.filter(|stated| *stated != held as u64) {
            None => Ok(all),
            Some(stated) => {
                bail!(Data, "the parts of `{}` hold {held} tensors, not {stated}", path.display())
            }
        }
    }

    /// Takes a part in; the first one's metadata count.
    fn add(&mut self, (part, header): (GgufPart, GgufHeader), place: (u64, u64)) -> Result<()> {
        let (at, shown) = (self.parts.len(), part.path.display().to_string());
        if gguf_split::stated(&header.metadata)? != Some(place) {
            bail!(
                Data,
                "`{shown}` is not part {} of {}, as its name says: its metadata say otherwise",
                place.0 + 1,
                place.1
            );
        }
        for (name, tensor) in header.tensors {
            if self.tensors.contains_key(&name) {
                bail!(Data, "tensor `{name}` in `{shown}` is in a part before it as well");
            }
            self.tensors.insert(name, (at, tensor));
        }
        if at == 0 {
            self.metadata = header.metadata;
        }
        self.parts.push(part);
        Ok(())
    }

    /// The file's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All metadata keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.metadata.keys().map(String::as_str)
    }

    /// Refuses tensors that are stored in a way that is not read, before any is.
    ///
    /// Errors (class data): the first, and how many there are.
    pub fn readable(&self) -> Result<()> {
        let unread: Vec<&str> =
            self.names().into_iter().filter(|name| self.encoding(name).is_none()).collect();
        let Some(name) = unread.first() else { return Ok(()) };
        let more = if unread.len() > 1 {
            format!(" (as are {} more)", unread.len() - 1)
        } else {
            String::new()
        };
        Err(error!(
            Data,
            "tensor `{name}` in `{}` is stored as {}{more}, which is not read; F32, F16, BF16, \
             Q4_0 to Q8_0, Q2_K to Q8_K, IQ4_NL, IQ4_XS and MXFP4 are",
            self.path.display(),
            self.dtype_name(name).unwrap_or_default();
            hint: "llama.cpp's `llama-quantize --allow-requantize FILE OUT f16` writes it in a \
                   type that is read"
        )
        .into())
    }

    fn encoding(&self, name: &str) -> Option<TensorEncoding> {
        self.tensors.get(name)?.1.kind.encoding()
    }

    /// A metadata value, if the file has one of this key.
    pub fn get(&self, key: &str) -> Option<&GgufValue> {
        self.metadata.get(key)
    }

    /// A metadata value that may be missing, but not of another type:
    /// `optional("llama.vocab_size", GgufValue::as_u64)`.
    pub fn optional<'a, T>(
        &'a self,
        key: &str,
        read: fn(&'a GgufValue) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => bail!(
                Data,
                "`{}`: metadata `{key}` has a value of the wrong type: {value}",
                self.path.display()
            ),
        }
    }

    /// A metadata value that must be there: `required("llama.block_count", GgufValue::as_u64)`.
    pub fn required<'a, T>(&'a self, key: &str, read: fn(&'a GgufValue) -> Option<T>) -> Result<T> {
        match self.optional(key, read)? {
            Some(value) => Ok(value),
            None => {
                let near = nearest(key, self.metadata.keys().map(String::as_str));
                let error = error!(Data, "`{}` has no metadata `{key}`", self.path.display());
                Err(match near {
                    Some(near) => error.hint(format!("it has `{near}`")),
                    None => error,
                }
                .into())
            }
        }
    }
}

impl TensorSource for Gguf {
    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|(_, tensor)| tensor.shape.as_slice())
    }

    fn dtype_name(&self, name: &str) -> Option<String> {
        Some(self.tensors.get(name)?.1.kind.name.to_owned())
    }

    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let Some((at, tensor)) = self.tensors.get(name) else {
            let hint = did_you_mean(name, self.names());
            bail!(Data, "there is no tensor `{name}` in `{}`{hint}", self.path.display());
        };
        let Some(encoding) = self.encoding(name) else {
            let kind = self.dtype_name(name).unwrap_or_default();
            bail!(
                Data,
                "tensor `{name}` in `{}` is stored as {kind}, which is not read",
                self.path.display()
            );
        };
        let part = &self.parts[*at];
        read(&part.map, tensor.range.clone(), encoding, &tensor.shape, dtype, device)
            .with_context(|| format!("tensor `{name}` in `{}`", part.path.display()))
    }
}
