//! The fields of a JSON object of `config.json`, with errors that name them.

use anyhow::Result;
use serde_json::Value;

use crate::error::bail;
use crate::ops::activation::Activation;

pub struct ConfigFields<'a>(pub &'a Value);

impl ConfigFields<'_> {
    /// The value, also where it is null.
    pub fn raw(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// The value, where it is there and not null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.raw(key).filter(|v| !v.is_null())
    }

    pub fn wrong<T>(&self, key: &str, wanted: &str) -> Result<T> {
        bail!(Data, "config.json: `{key}` is {}, not {wanted}", self.0[key])
    }

    /// The value that `read` gives; `default` where the key is missing. Null is an error.
    pub fn or<T>(
        &self,
        key: &str,
        default: T,
        wanted: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<T> {
        match self.raw(key) {
            None => Ok(default),
            Some(value) => read(value).map_or_else(|| self.wrong(key, wanted), Ok),
        }
    }

    pub fn size(&self, key: &str) -> Result<Option<usize>> {
        if self.get(key).is_none() { Ok(None) } else { self.size_or(key, 0).map(Some) }
    }

    pub fn size_or(&self, key: &str, default: usize) -> Result<usize> {
        let read = |v: &Value| v.as_u64().filter(|n| (1..1 << 31).contains(n)).map(|n| n as usize);
        self.or(key, default, "a positive whole number", read)
    }

    /// A size that two keys can say, as transformers' `attribute_map` has it. Errors where they
    /// differ.
    pub fn size_by(&self, [key, other]: [&str; 2], default: usize) -> Result<usize> {
        let own = self.size_or(key, default)?;
        let alias = self.size_or(other, own)?;
        if self.raw(key).is_some() && own != alias {
            bail!(
                Data,
                "config.json: `{key}` is {own} and `{other}` is {alias}, which are the same"
            );
        }
        Ok(alias)
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        if self.get(key).is_none() { Ok(None) } else { self.number_or(key, 0.0).map(Some) }
    }

    pub fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        self.or(key, default, "a positive number", |v| v.as_f64().filter(|x| *x > 0.0))
    }

    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        self.or(key, default, "true or false", Value::as_bool)
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.raw(key) {
            None => Ok(None),
            Some(value) => {
                value.as_str().map_or_else(|| self.wrong(key, "a text"), |text| Ok(Some(text)))
            }
        }
    }

    /// The same; none where it is null.
    pub fn text_or_null(&self, key: &str) -> Result<Option<&str>> {
        if self.get(key).is_none() { Ok(None) } else { self.text(key) }
    }

    /// A list of positive numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let one = |v: &Value| v.as_f64().filter(|x| *x > 0.0);
        let read =
            |v: &Value| v.as_array().and_then(|list| list.iter().map(one).collect()).map(Some);
        self.or(key, None, "a list of positive numbers", read)
    }

    /// One token id, a list of them, or none where the value is null; `default` where the key is
    /// missing.
    pub fn ids_or(&self, key: &str, default: &[u32]) -> Result<Vec<u32>> {
        let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        match self.raw(key) {
            None => Ok(default.to_vec()),
            Some(Value::Null) => Ok(vec![]),
            Some(Value::Array(list)) => list
                .iter()
                .map(id)
                .collect::<Option<_>>()
                .map_or_else(|| self.wrong(key, "a list of token ids"), Ok),
            Some(v) => id(v).map_or_else(|| self.wrong(key, "a token id"), |id| Ok(vec![id])),
        }
    }

    /// The activation that a name stands for; `default` where the key is missing.
    pub fn activation(&self, key: &str, default: &str) -> Result<Activation> {
        let name = self.text(key)?.unwrap_or(default);
        match Activation::from_name(name) {
            Some(activation) => Ok(activation),
            None => bail!(
                Data,
                "config.json: unknown `{key}` `{name}`; known are silu, gelu, gelu_new, \
                 gelu_pytorch_tanh, relu"
            ),
        }
    }

    /// Says which sizes a config leaves to transformers' class.
    pub fn note_missing(&self, keys: &[&str], notes: &mut Vec<String>) {
        let missing: Vec<String> = keys
            .iter()
            .filter(|key| self.raw(key).is_none())
            .map(|key| format!("`{key}`"))
            .collect();
        if !missing.is_empty() {
            notes.push(format!(
                "config.json has no {}: transformers' own numbers stand in",
                missing.join(", ")
            ));
        }
    }
}

/// As `config.json` names an activation.
pub fn activation_name(activation: Activation) -> &'static str {
    match activation {
        Activation::Silu => "silu",
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_pytorch_tanh",
        Activation::Relu => "relu",
    }
}
