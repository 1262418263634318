//! GGUF files: metadata by key, and tensors dequantised from a mapped file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};

use super::gguf_header::{self, Described, Header};
use super::tensors::{Bytes, TensorSource, map, read};
use crate::bail_data;
use crate::error::{Error, nearest};

/// A metadata value; integers and floats of all widths are widened.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    String(String),
    /// An array of integers or booleans (0 and 1).
    Integers(Vec<i64>),
    Floats(Vec<f64>),
    Strings(Vec<String>),
}

impl Value {
    /// An integer that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(x) => Some(*x),
            Self::Signed(x) => u64::try_from(*x).ok(),
            _ => None,
        }
    }

    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Unsigned(x) => i64::try_from(*x).ok(),
            Self::Signed(x) => Some(*x),
            _ => None,
        }
    }

    /// A float, or an integer as one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(x) => Some(*x),
            Self::Unsigned(x) => Some(*x as f64),
            Self::Signed(x) => Some(*x as f64),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(x) = self { Some(*x) } else { None }
    }

    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(x) = self { Some(x) } else { None }
    }

    pub fn as_integers(&self) -> Option<&[i64]> {
        if let Self::Integers(x) = self { Some(x) } else { None }
    }

    pub fn as_floats(&self) -> Option<&[f64]> {
        if let Self::Floats(x) = self { Some(x) } else { None }
    }

    pub fn as_strings(&self) -> Option<&[String]> {
        if let Self::Strings(x) = self { Some(x) } else { None }
    }
}

/// As messages show it: short.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(x) => write!(f, "{x}"),
            Self::Signed(x) => write!(f, "{x}"),
            Self::Float(x) => write!(f, "{x}"),
            Self::Bool(x) => write!(f, "{x}"),
            Self::String(x) if x.chars().count() > 40 => write!(f, "\"{}…\"", x.chars().take(40).collect::<String>()),
            Self::String(x) => write!(f, "\"{x}\""),
            Self::Integers(x) => write!(f, "an array of {} integers", x.len()),
            Self::Floats(x) => write!(f, "an array of {} floats", x.len()),
            Self::Strings(x) => write!(f, "an array of {} strings", x.len()),
        }
    }
}

/// An open GGUF file.
pub struct Gguf {
    path: PathBuf,
    map: Bytes,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Described>,
}

impl Gguf {
    /// Opens a file and reads its header.
    ///
    /// Errors (class data): the file is missing, cut short, damaged, or of a version that is not read.
    pub fn open(path: &Path) -> Result<Self> {
        let map = Bytes::Mapped(map(path)?);
        let Header { metadata, tensors } =
            gguf_header::read(&map).with_context(|| format!("cannot read GGUF file `{}`", path.display()))?;
        Ok(Self { path: path.to_owned(), map, metadata, tensors })
    }

    /// The file's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A metadata value, if the file has one of this key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// A metadata value that may be missing, but not of another type: `optional("llama.vocab_size", Value::as_u64)`.
    pub fn optional<'a, T>(&'a self, key: &str, read: fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => bail_data!("`{}`: metadata `{key}` has a value of the wrong type: {value}", self.path.display()),
        }
    }

    /// A metadata value that must be there: `required("llama.block_count", Value::as_u64)`.
    pub fn required<'a, T>(&'a self, key: &str, read: fn(&'a Value) -> Option<T>) -> Result<T> {
        match self.optional(key, read)? {
            Some(value) => Ok(value),
            None => {
                let near = nearest(key, self.metadata.keys().map(String::as_str));
                let error = Error::data(format!("`{}` has no metadata `{key}`", self.path.display()));
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
        self.tensors.get(name).map(|tensor| tensor.shape.as_slice())
    }

    fn dtype_name(&self, name: &str) -> Option<String> {
        let (word, ..) = gguf_header::kind(self.tensors.get(name)?.kind)?;
        Some(word.to_owned())
    }

    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let Some(tensor) = self.tensors.get(name) else {
            let hint = nearest(name, self.names()).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            bail_data!("there is no tensor `{name}` in `{}`{hint}", self.path.display());
        };
        let encoding = match gguf_header::kind(tensor.kind) {
            Some((_, _, _, Some(encoding))) => encoding,
            _ => bail_data!(
                "tensor `{name}` in `{}` is stored as {}, which is not read; F32, F16, BF16, Q4_0 to Q8_0 and Q2_K to Q8_K are",
                self.path.display(),
                self.dtype_name(name).unwrap_or_default()
            ),
        };
        read(&self.map, tensor.range.clone(), encoding, &tensor.shape, dtype, device)
            .with_context(|| format!("tensor `{name}` in `{}`", self.path.display()))
    }
}
