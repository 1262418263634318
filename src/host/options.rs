//! Object maps as options: taken key by key into typed values; an unknown key is refused first.

use rhai::{Dynamic, Map};

use super::aliases;
use super::foreign::{foreign, ours};
use crate::error::{Error, did_you_mean, error};

/// The options of one call. The keys it may have are stated once, so that a misspelt one is told
/// before a missing one is.
pub(super) struct Options {
    /// The native that is called, for messages.
    call: &'static str,
    map: Map,
    /// Options that were given under an older name: (name, older name).
    older: aliases::Older,
}

/// A key's place, for messages: `layers[0]`, `rank`.
type Key<'a> = &'a str;

impl Options {
    /// The options of `call`, whose keys are `keys`.
    pub(super) fn new(call: &'static str, map: Map, keys: &[&'static str]) -> Result<Self, Error> {
        let (map, older) = aliases::resolved(call, map)?;
        for key in map.keys() {
            if !keys.contains(&key.as_str()) {
                return Err(unknown(call, key, keys));
            }
        }
        Ok(Self { call, map, older })
    }

    /// The value of `key`, which must be there.
    pub(super) fn take<T: FromOption>(&mut self, key: &str) -> Result<T, Error> {
        self.take_opt(key)?
            .ok_or_else(|| error!(Usage, "`{}` needs the option `{key}`: {}", self.call, T::WHAT))
    }

    /// The value of `key`, or `default`.
    pub(super) fn take_or<T: FromOption>(&mut self, key: &str, default: T) -> Result<T, Error> {
        Ok(self.take_opt(key)?.unwrap_or(default))
    }

    /// The value of `key`, if it is there.
    pub(super) fn take_opt<T: FromOption>(&mut self, key: &str) -> Result<Option<T>, Error> {
        match self.map.remove(key) {
            Some(value) => {
                T::from_option(&value, self.written(key)).map(Some).map_err(|e| self.in_call(e))
            }
            None => Ok(None),
        }
    }

    /// Refuses `key` unless `holds`; `what` completes "`key` of `call` must be …".
    pub(super) fn check(
        &self,
        key: &str,
        holds: bool,
        what: &str,
        found: impl std::fmt::Display,
    ) -> Result<(), Error> {
        if holds {
            Ok(())
        } else {
            Err(error!(
                Usage,
                "option `{}` of `{}` must be {what}, found {found}",
                self.written(key),
                self.call
            ))
        }
    }

    /// The name under which the call has the option `key`.
    fn written<'a>(&self, key: &'a str) -> &'a str {
        self.older.iter().find(|(name, _)| *name == key).map_or(key, |(_, older)| older)
    }

    fn in_call(&self, mismatch: Mismatch) -> Error {
        let Mismatch { key, what, found } = mismatch;
        error!(Usage, "option `{key}` of `{}` must be {what}, found {found}", self.call)
    }
}

/// Names the nearest option; for a word of other programs, what is ours.
fn unknown(call: &str, key: &str, keys: &[&'static str]) -> Error {
    let said = match ours(key, keys.iter().copied()) {
        Some(ours) => format!("; here it is `{ours}`"),
        None => did_you_mean(key, keys.iter().copied()),
    };
    let listed = format!("one of {}", keys.join(", "));
    let hint = match foreign(key) {
        Some(foreign) if said.is_empty() => format!("`{key}` {}; {listed}", foreign.said),
        _ => listed,
    };
    error!(Usage, "unknown option `{key}` of `{call}`{said}").hint(hint)
}

/// A value of the wrong type, at `key`.
#[derive(Debug)]
pub(super) struct Mismatch {
    key: String,
    what: &'static str,
    found: String,
}

impl Mismatch {
    pub(super) fn new<T: FromOption>(value: &Dynamic, key: Key) -> Self {
        Self { key: key.into(), what: T::WHAT, found: show(value) }
    }
}

/// A type that an option's value can be turned into.
pub(super) trait FromOption: Sized {
    /// Completes "must be …".
    const WHAT: &'static str;

    fn from_option(value: &Dynamic, key: Key) -> Result<Self, Mismatch>;
}

impl FromOption for usize {
    const WHAT: &'static str = "a whole number, 0 or more";

    fn from_option(value: &Dynamic, key: Key) -> Result<Self, Mismatch> {
        value
            .as_int()
            .ok()
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| Mismatch::new::<Self>(value, key))
    }
}

impl FromOption for f64 {
    const WHAT: &'static str = "a finite number";

    fn from_option(value: &Dynamic, key: Key) -> Result<Self, Mismatch> {
        let number = value.as_float().ok().or_else(|| value.as_int().ok().map(|n| n as f64));
        number.filter(|n| n.is_finite()).ok_or_else(|| Mismatch::new::<Self>(value, key))
    }
}

impl FromOption for bool {
    const WHAT: &'static str = "true or false";

    fn from_option(value: &Dynamic, key: Key) -> Result<Self, Mismatch> {
        value.as_bool().map_err(|_| Mismatch::new::<Self>(value, key))
    }
}

impl FromOption for String {
    const WHAT: &'static str = "a string";

    fn from_option(value: &Dynamic, key: Key) -> Result<Self, Mismatch> {
        value.clone().into_string().map_err(|_| Mismatch::new::<Self>(value, key))
    }
}

impl<T: FromOption> FromOption for Vec<T> {
    const WHAT: &'static str = "an array";

    fn from_option(value: &Dynamic, key: Key) -> Result<Self, Mismatch> {
        let items = value.as_array_ref().map_err(|_| Mismatch::new::<Self>(value, key))?;
        items.iter().enumerate().map(|(i, v)| T::from_option(v, &format!("{key}[{i}]"))).collect()
    }
}

/// A type's name as recipes know it.
pub(super) fn type_name(value: &Dynamic) -> &'static str {
    if value.is_int() {
        "int"
    } else if value.is_float() {
        "float"
    } else if value.is_bool() {
        "bool"
    } else if value.is_string() {
        "string"
    } else if value.is_char() {
        "char"
    } else if value.is_array() {
        "array"
    } else if value.is_map() {
        "map"
    } else if value.is_fnptr() {
        "function"
    } else if value.is_unit() {
        "()"
    } else {
        "another kind of value"
    }
}

/// A value for a message: a short one as written, a long one by its type.
fn show(value: &Dynamic) -> String {
    let text = format!("{value:?}");
    let scalar = value.is_int()
        || value.is_float()
        || value.is_bool()
        || value.is_string()
        || value.is_char();
    if scalar && text.chars().count() <= 40 {
        format!("{text} ({})", type_name(value))
    } else {
        type_name(value).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(map: &[(&str, Dynamic)]) -> Result<Options, Error> {
        let map = map.iter().map(|(k, v)| ((*k).into(), v.clone())).collect();
        Options::new("fit", map, &["steps", "lr", "layers", "log", "loss"])
    }

    #[test]
    fn an_older_name_is_the_option_and_named_in_errors() {
        let map = |pairs: &[(&str, i64)]| -> Map {
            pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
        };
        let keys = ["hidden_size", "head_dim"];
        let mut o = Options::new("model::create", map(&[("width", 8)]), &keys).unwrap();
        let error = o.check("hidden_size", false, "odd", 8).unwrap_err();
        assert_eq!(error.message, "option `width` of `model::create` must be odd, found 8");
        assert_eq!(o.take::<usize>("hidden_size").unwrap(), 8);
        let both = Options::new("model::create", map(&[("width", 8), ("hidden_size", 8)]), &keys);
        let error = both.err().unwrap().message;
        assert_eq!(error, "`hidden_size` and `width` of `model::create` are the same option");
    }

    #[test]
    fn values_are_taken_and_whole_numbers_serve_as_floats() {
        let layers = Dynamic::from_array(vec![1_i64.into(), 3_i64.into()]);
        let mut o =
            options(&[("steps", 8_i64.into()), ("lr", 1_i64.into()), ("layers", layers)]).unwrap();
        assert_eq!(o.take::<usize>("steps").unwrap(), 8);
        assert_eq!(o.take::<f64>("lr").unwrap(), 1.0);
        assert_eq!(o.take::<Vec<usize>>("layers").unwrap(), [1, 3]);
        assert!(o.take_or("log", true).unwrap());
        assert_eq!(o.take_opt::<String>("loss").unwrap(), None);
        assert_eq!(
            o.take::<usize>("steps").unwrap_err().message,
            "`fit` needs the option `steps`: a whole number, 0 or more"
        );
    }

    #[test]
    fn a_wrong_value_is_named_with_its_place() {
        let layers = Dynamic::from_array(vec![1_i64.into(), "a".into()]);
        let long = "x".repeat(50);
        let mut o = options(&[
            ("steps", (-1_i64).into()),
            ("lr", f64::NAN.into()),
            ("layers", layers),
            ("log", long.into()),
        ])
        .unwrap();
        let message = |e: Error| e.message;
        assert_eq!(
            message(o.take::<usize>("steps").unwrap_err()),
            "option `steps` of `fit` must be a whole number, 0 or more, found -1 (int)"
        );
        assert_eq!(
            message(o.take::<f64>("lr").unwrap_err()),
            "option `lr` of `fit` must be a finite number, found NaN (float)"
        );
        let layers = o.take::<Vec<usize>>("layers").unwrap_err();
        assert_eq!(
            message(layers),
            "option `layers[1]` of `fit` must be a whole number, 0 or more, found \"a\" (string)"
        );
        assert_eq!(
            message(o.take::<bool>("log").unwrap_err()),
            "option `log` of `fit` must be true or false, found string"
        );
    }

    #[test]
    fn an_unknown_key_names_the_nearest_and_all() {
        let error = options(&[("stpes", 8_i64.into())]).err().unwrap();
        assert_eq!(error.message, "unknown option `stpes` of `fit`; did you mean `steps`?");
        assert_eq!(error.hint.as_deref(), Some("one of steps, lr, layers, log, loss"));
        let error = options(&[("learning_rate", 1e-3.into())]).err().unwrap();
        assert_eq!(error.message, "unknown option `learning_rate` of `fit`; here it is `lr`");
        let error = options(&[("lora_alpha", 16_i64.into())]).err().unwrap();
        assert_eq!(error.message, "unknown option `lora_alpha` of `fit`");
        let hint = error.hint.unwrap();
        assert!(hint.starts_with("`lora_alpha` is `alpha` of `model.booster`; "), "{hint}");
        assert!(hint.ends_with("; one of steps, lr, layers, log, loss"), "{hint}");
    }
}
