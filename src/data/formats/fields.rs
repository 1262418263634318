//! The fields of a record, taken out one after the other; what is left over is no item's.

use anyhow::Result;
use serde_json::{Map, Value};

use super::keys::is_empty;
use super::kind;
use crate::data::item::ItemPlace;
use crate::error::{Error, bail, nearest};

/// The fields of a record, to be taken out by name.
pub(super) struct RecordFields<'a> {
    pub place: &'a ItemPlace,
    fields: Map<String, Value>,
    expected: &'static str,
}

impl<'a> RecordFields<'a> {
    pub fn new(place: &'a ItemPlace, fields: Map<String, Value>, expected: &'static str) -> Self {
        Self { place, fields, expected }
    }

    /// A string that has to be there.
    pub fn text(&mut self, name: &str) -> Result<String> {
        match self.fields.remove(name) {
            Some(Value::String(text)) => Ok(text),
            Some(other) => bail!(
                Data,
                "{}: `{name}` is {}, expected a string; {}",
                self.place,
                kind(&other),
                self.expected
            ),
            None => bail!(Data, "{} has no `{name}`; {}", self.place, self.expected),
        }
    }

    /// What a key holds, taken out; null is nothing.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.shift_remove(name).filter(|value| !value.is_null())
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// A list that may be missing, or null.
    pub fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) if name == "ids" => {
                bail!(Data, "{}: `{name}` is {}, {}", self.place, kind(&other), self.expected)
            }
            Some(other) => {
                bail!(Data, "{}: `{name}` is {}, expected a list", self.place, kind(&other))
            }
        }
    }

    /// A system text, by the names that it has beside the texts of a record; empty where there is
    /// none.
    pub fn system(&mut self) -> Result<String> {
        let mut found = String::new();
        for name in ["system", "system_prompt", "system_message"] {
            match self.take(name) {
                Some(value) if is_empty(&value) => {}
                Some(Value::String(text)) if found.is_empty() || found == text => found = text,
                Some(Value::String(_)) => bail!(
                    Data,
                    "{}: `{name}` is another system text than the one before it",
                    self.place
                ),
                Some(other) => {
                    bail!(Data, "{}: `{name}` is {}, expected a string", self.place, kind(&other))
                }
                None => {}
            }
        }
        Ok(found)
    }

    /// Of each key that is left `pass` says what becomes of it; its errors get the place.
    pub fn rest(self, mut pass: impl FnMut(&str, &Value) -> Result<(), Error>) -> Result<()> {
        for (key, value) in &self.fields {
            pass(key, value).map_err(|error| {
                // The words of a slip are as those of a key that is missing.
                let expected = if error.message.starts_with("unknown key") {
                    format!("; {}", self.expected)
                } else {
                    String::new()
                };
                Error { message: format!("{}: {}{expected}", self.place, error.message), ..error }
            })?;
        }
        Ok(())
    }

    /// A string that may be missing, or null. A key that nearly has its name is taken for a slip.
    pub fn optional(&mut self, name: &str) -> Result<Option<String>> {
        if self.fields.get(name).is_some_and(|value| !value.is_null()) {
            return self.text(name).map(Some);
        }
        self.fields.remove(name);
        match nearest(name, self.fields.keys().map(String::as_str)) {
            Some(slip) => bail!(
                Data,
                "{}: unknown key `{slip}`; did you mean `{name}`?; {}",
                self.place,
                self.expected
            ),
            None => Ok(None),
        }
    }
}
