//! What Python's Jinja writes where minijinja would write something else: JSON, numbers, lists and
//! objects.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter};
use serde_json::Value as Json;

/// Lets the templates of `environment` write values as Python does.
pub(super) fn like_python(environment: &mut Environment) {
    environment.set_formatter(written);
    json(environment);
    environment.add_filter("string", |value: &Value| text(value));
}

/// The filter `tojson`, as Python writes JSON.
pub(super) fn json(environment: &mut Environment) {
    environment.add_filter("tojson", tojson);
}

fn written(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Number => {
            out.write_str(&text(value)).map_err(Error::from)
        }
        _ => escape_formatter(out, state, value),
    }
}

/// `str(value)`.
fn text(value: &Value) -> String {
    if value.as_str().is_some() { value.to_string() } else { repr(value) }
}

/// `repr(value)`.
fn repr(value: &Value) -> String {
    match value.kind() {
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Number if !value.is_integer() => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
        }
        ValueKind::Seq => {
            let items: Vec<String> =
                value.try_iter().into_iter().flatten().map(|item| repr(&item)).collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Map => {
            let keys = value.try_iter().into_iter().flatten();
            let pairs: Vec<String> = keys
                .map(|key| {
                    format!("{}: {}", repr(&key), repr(&value.get_item(&key).unwrap_or_default()))
                })
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
        _ => value.to_string(),
    }
}

/// A string as Python shows it.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for letter in text.chars() {
        match letter {
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            '\\' => out += "\\\\",
            _ if letter == quote => out.extend(['\\', quote]),
            _ if letter.is_ascii_control() => out += &format!("\\x{:02x}", letter as u32),
            _ => out.push(letter),
        }
    }
    out.push(quote);
    out
}

/// The shortest digits that are the number, with an exponent where Python writes one.
fn float(x: f64) -> String {
    if !x.is_finite() {
        return if x.is_nan() {
            "nan".into()
        } else {
            format!("{}inf", if x < 0.0 { "-" } else { "" })
        };
    }
    let size = x.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let shown = format!("{x:e}");
        let (digits, exponent) = shown.split_once('e').unwrap_or((&shown, "0"));
        let (sign, exponent) =
            exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{x:?}")
}

/// JSON as Python's `json.dumps` writes it, which transformers sets in the place of Jinja's own
/// filter.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let failed = |what: &str| Error::new(ErrorKind::InvalidOperation, what.to_owned());
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let flag = |name: &str| options.get::<Option<bool>>(name).map(|flag| flag.unwrap_or(false));
    let (ascii, sorted) = (flag("ensure_ascii")?, flag("sort_keys")?);
    options.assert_all_used()?;
    if value.is_undefined() {
        return Err(failed("what is undefined cannot be written as JSON"));
    }
    let (item, key) = match separators.as_deref() {
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(failed("`separators` of `tojson` are two texts")),
    };
    let json = serde_json::to_value(value).map_err(|e| failed(&e.to_string()))?;
    let mut out = String::new();
    Dumps { indent: indent.map(|n| n.min(64)), item, key, ascii, sorted }.write(&json, 0, &mut out);
    Ok(out)
}

/// How `json.dumps` was asked to write.
struct Dumps {
    indent: Option<usize>,
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
}

impl Dumps {
    fn write(&self, json: &Json, depth: usize, out: &mut String) {
        match json {
            Json::String(text) => out.push_str(&self.string(text)),
            Json::Number(number) if number.is_f64() => {
                out.push_str(&number.as_f64().map_or_else(|| number.to_string(), float))
            }
            Json::Array(list) if !list.is_empty() => {
                let write = |item: &Json, out: &mut String| self.write(item, depth + 1, out);
                self.list(('[', ']'), list.iter(), depth, out, write);
            }
            Json::Object(map) if !map.is_empty() => {
                let mut pairs: Vec<(&String, &Json)> = map.iter().collect();
                if self.sorted {
                    pairs.sort_by_key(|(key, _)| *key);
                }
                let write = |(key, value): (&String, &Json), out: &mut String| {
                    *out += &self.string(key);
                    *out += &self.key;
                    self.write(value, depth + 1, out);
                };
                self.list(('{', '}'), pairs.into_iter(), depth, out, write);
            }
            other => out.push_str(&other.to_string()),
        }
    }

    fn list<T>(
        &self,
        (open, close): (char, char),
        items: impl Iterator<Item = T>,
        depth: usize,
        out: &mut String,
        write: impl Fn(T, &mut String),
    ) {
        let line = |depth: usize| {
            self.indent.map_or(String::new(), |indent| format!("\n{}", " ".repeat(indent * depth)))
        };
        out.push(open);
        for (i, item) in items.enumerate() {
            if i > 0 {
                *out += &self.item;
            }
            *out += &line(depth + 1);
            write(item, out);
        }
        *out += &line(depth);
        out.push(close);
    }

    fn string(&self, text: &str) -> String {
        let json = Json::from(text).to_string();
        if !self.ascii || json.is_ascii() {
            return json;
        }
        let mut out = String::new();
        for letter in json.chars() {
            let mut units = [0; 2];
            match letter.is_ascii() {
                true => out.push(letter),
                false => letter
                    .encode_utf16(&mut units)
                    .iter()
                    .for_each(|unit| out += &format!("\\u{unit:04x}")),
            }
        }
        out
    }
}
