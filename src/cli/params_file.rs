//! `--params FILE`: parameters of a recipe as a JSON object.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::Result;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::{Error, error};

/// The largest file, in bytes.
const LARGEST: u64 = 1 << 20;

/// The values in the file at `path`, by name.
///
/// Errors (class usage): it cannot be read, is no JSON object, or names a parameter twice.
pub fn read(path: &Path) -> Result<Map<String, Value>> {
    let shown = path.display();
    let fail = |why: &dyn fmt::Display| error!(Usage, "cannot read `{shown}`: {why}");
    let mut bytes = vec![];
    let file = File::open(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => fail(&"there is no such file"),
        _ => fail(&e),
    })?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|e| fail(&e))?;
    if bytes.len() as u64 > LARGEST {
        return Err(fail(&format!("parameters have at most {LARGEST} bytes")).into());
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    match serde_json::from_slice::<Named>(text) {
        Ok(Named(values)) => Ok(values),
        Err(e) => Err(told(&shown, &e).into()),
    }
}

fn told(shown: &dyn fmt::Display, e: &serde_json::Error) -> Error {
    error!(
        Usage,
        "`{shown}` holds no parameters: {e}";
        hint: "it is a JSON object, for example `{{ \"rounds\": 16, \"lr\": 1e-3 }}`"
    )
}

/// Values by name, each name once.
struct Named(Map<String, Value>);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = Map<String, Value>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut found: A) -> Result<Self::Value, A::Error> {
                let mut values = Map::new();
                while let Some((name, value)) = found.next_entry::<String, Value>()? {
                    if values.contains_key(&name) {
                        let shown = crate::error::clip(&name);
                        return Err(A::Error::custom(format!("{shown:?} stands in it twice")));
                    }
                    values.insert(name, value);
                }
                Ok(values)
            }
        }
        deserializer.deserialize_map(Once).map(Named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &[u8]) -> Result<Map<String, Value>, String> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("p.json");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|e| e.to_string().replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn an_object_is_read_and_nothing_else() {
        let values = of(b"\xef\xbb\xbf{ \"rank\": 2, \"lr\": 1e-3 }").unwrap();
        assert_eq!(values, *serde_json::json!({ "rank": 2, "lr": 1e-3 }).as_object().unwrap());
        let deep = format!("{{ \"a\": {}", "[".repeat(100_000));
        for (text, says) in [
            (&b""[..], "`FILE` holds no parameters: EOF"),
            (b"[1]", "invalid type: sequence, expected a JSON object"),
            (b"{ \"rank\": 1, \"rank\": 2 }", "\"rank\" stands in it twice"),
            (b"{ \"rank\": NaN }", "expected value"),
            (b"{ \"rank\": 1e999 }", "number out of range"),
            (b"{ \"rank\": 1 } x", "trailing characters"),
            (b"{ \"\xff\": 1 }", "invalid unicode code point"),
            (deep.as_bytes(), "recursion limit exceeded"),
            (&vec![b' '; (1 << 20) + 1], "cannot read `FILE`: parameters have at most 1048576"),
        ] {
            let said = of(text).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
        let said = read(Path::new("/")).unwrap_err().to_string();
        assert!(said.starts_with("cannot read `/`: "), "{said}");
    }
}
