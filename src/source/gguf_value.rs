//! The values of a GGUF file's metadata.

use std::fmt;

use crate::error::clip;

/// A metadata value; integers and floats of all widths are widened.
#[derive(Clone, Debug, PartialEq)]
pub enum GgufValue {
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

impl GgufValue {
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

    /// An empty array is one of texts too: writers give it any type.
    pub fn as_strings(&self) -> Option<&[String]> {
        match self {
            Self::Strings(texts) => Some(texts),
            Self::Integers(none) if none.is_empty() => Some(&[]),
            Self::Floats(none) if none.is_empty() => Some(&[]),
            _ => None,
        }
    }
}

/// As messages show it: short.
impl fmt::Display for GgufValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(x) => write!(f, "{x}"),
            Self::Signed(x) => write!(f, "{x}"),
            Self::Float(x) => write!(f, "{x}"),
            Self::Bool(x) => write!(f, "{x}"),
            Self::String(x) => write!(f, "\"{}\"", clip(x)),
            Self::Integers(x) => write!(f, "an array of {} integers", x.len()),
            Self::Floats(x) => write!(f, "an array of {} floats", x.len()),
            Self::Strings(x) => write!(f, "an array of {} strings", x.len()),
        }
    }
}
