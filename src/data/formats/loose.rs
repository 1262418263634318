//! JSON as Python's `json` writes it: NaN, Infinity and halves of surrogate pairs, which JSON and
//! Unicode do not have.
//!
//! A value that holds such a thing is read as a `fault`: it passes where nobody uses it, and is
//! named where somebody does.

use std::ops::Range;

use serde_json::Value;

/// The key of the object that stands for a value that cannot be used.
const KEY: &str = "\0";

/// Numbers of Python that JSON does not have.
const NUMBERS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// A value that cannot be used, and what it is.
pub(super) fn fault(what: impl Into<String>) -> Value {
    Value::Object([(KEY.to_owned(), Value::String(what.into()))].into_iter().collect())
}

/// What a value that cannot be used is; `None` for all others.
pub fn what(value: &Value) -> Option<&str> {
    let map = value.as_object().filter(|map| map.len() == 1)?;
    map.get(KEY)?.as_str()
}

/// The same for a value or anything in it.
pub fn what_within(value: &Value) -> Option<&str> {
    what(value).or_else(|| match value {
        Value::Array(list) => list.iter().find_map(what_within),
        Value::Object(map) => map.values().find_map(what_within),
        _ => None,
    })
}

/// The value of a text. Errors are those of JSON, with their places in the text.
pub(super) fn parse(text: &str) -> serde_json::Result<Value> {
    let error = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let odd = odd(text);
    if odd.is_empty() {
        return Err(error);
    }
    // Of the same length, so that what else is wrong has its place.
    serde_json::from_str::<serde::de::IgnoredAny>(&replaced(text, &odd, Odd::blank))?;
    serde_json::from_str(&replaced(text, &odd, Odd::marked))
}

/// A part of a text that is no JSON: a number, or the whole string around a half of a pair.
struct Odd {
    part: Range<usize>,
    what: String,
    key: bool,
}

impl Odd {
    fn blank(&self, text: &str) -> String {
        if text.starts_with('"') {
            whole(text)
        } else {
            format!("{:<width$}", 0, width = text.len())
        }
    }

    /// Keys cannot be faults: nobody can ask for one with a half of a pair.
    fn marked(&self, text: &str) -> String {
        if self.key { whole(text) } else { fault(self.what.as_str()).to_string() }
    }
}

/// A string with U+FFFD for each half of a pair.
fn whole(text: &str) -> String {
    let mut out = text.to_owned();
    lone(text, 0).iter().for_each(|&at| out.replace_range(at..at + 6, r"\ufffd"));
    out
}

fn replaced(text: &str, odd: &[Odd], with: fn(&Odd, &str) -> String) -> String {
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    for odd in odd {
        out += &text[at..odd.part.start];
        out += &with(odd, &text[odd.part.clone()]);
        at = odd.part.end;
    }
    out + &text[at..]
}

/// All parts that are no JSON for the reasons above.
fn odd(text: &str) -> Vec<Odd> {
    let bytes = text.as_bytes();
    let (mut found, mut at) = (vec![], 0);
    while at < bytes.len() {
        if bytes[at] == b'"' {
            let end = end_of_string(bytes, at);
            found.extend(odd_string(text, at..end));
            at = end;
            continue;
        }
        let behind_a_word = at > 0 && bytes[at - 1].is_ascii_alphanumeric();
        match NUMBERS.into_iter().find(|word| bytes[at..].starts_with(word.as_bytes())) {
            Some(word) if !behind_a_word => {
                let (part, what) =
                    (at..at + word.len(), format!("{word}, which JSON does not have"));
                at = part.end;
                found.push(Odd { part, what, key: false });
            }
            _ => at += 1,
        }
    }
    found
}

/// The string that is `part` of a text, if it holds half of a pair.
fn odd_string(text: &str, part: Range<usize>) -> Option<Odd> {
    let half = *lone(&text[part.clone()], part.start).first()?;
    let what = format!(
        "a text with half of a surrogate pair (`{}`), which is no Unicode",
        &text[half..half + 6]
    );
    let key = text[part.end..].bytes().find(|b| !b.is_ascii_whitespace()) == Some(b':');
    Some(Odd { part, what, key })
}

/// The end of the string that begins at `start`, behind its quote.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Where halves of surrogate pairs stand in a string as it is written, counted from `from`.
fn lone(string: &str, from: usize) -> Vec<usize> {
    let unit = |at: usize| {
        let digits = string.get(at..at + 6)?.strip_prefix(r"\u")?;
        u16::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))
    };
    let (mut found, mut at) = (vec![], 0);
    while let Some(next) = string[at..].find('\\') {
        at += next;
        at += match (unit(at), unit(at + 6)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(0xd800..0xe000), _) => {
                found.push(from + at);
                6
            }
            (Some(_), _) => 6,
            // A backslash and a letter of any width.
            (None, _) => 1 + string[at + 1..].chars().next().map_or(0, char::len_utf8),
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_python_writes_is_read() {
        let value = parse(concat!(
            r#"{"a": NaN, "b": [-Infinity, 1], "c": "NaN \"Infinity\" \ud83d\ude00", "#,
            r#""d": "x\ud83d", "\udc00": 1}"#,
        ))
        .unwrap();
        assert_eq!(what(&value["a"]), Some("NaN, which JSON does not have"));
        assert_eq!(what_within(&value["b"]), Some("-Infinity, which JSON does not have"));
        assert_eq!(value["c"], json!("NaN \"Infinity\" 😀"));
        assert_eq!(
            what(&value["d"]),
            Some(r"a text with half of a surrogate pair (`\ud83d`), which is no Unicode")
        );
        assert_eq!(value["\u{fffd}"], json!(1));
        assert_eq!(
            (what(&json!({ "a": "b" })), what_within(&json!([1, { "a": null }]))),
            (None, None)
        );
    }

    #[test]
    fn other_faults_keep_their_places() {
        let place = |text: &str| {
            let error = parse(text).unwrap_err();
            (error.line(), error.column())
        };
        assert_eq!(place("{\"a\": NaN,\n \"b\" 1}"), (2, 6));
        assert_eq!(place("{\"a\": \"\\ud83d\", \"b\": x}"), (1, 22));
        for text in ["xNaN", "[NaNNaN]", "\"\\ud83d", "\"\\ud83", "[nan]", "\"\\", "[1, NaN"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
