//! `params`: what a recipe lets the command line set, and `-p` and `--params`, which set it.

use anyhow::Result;
use rhai::{Dynamic, ImmutableString, Map};
use serde_json::Value;

use super::foreign::ours;
use super::options::type_name;
use crate::error::{Error, bail, clip, did_you_mean, error};

/// The parameters of a run.
#[derive(Debug)]
pub(super) struct Params {
    given: Vec<(String, String)>,
    /// Values of `--params`, which `-p` goes over.
    of_file: serde_json::Map<String, Value>,
    declared: Option<Map>,
    /// Set once the run has begun: what is in `run.json` cannot change.
    closed: bool,
}

impl Params {
    pub(super) fn new(
        given: Vec<(String, String)>,
        of_file: serde_json::Map<String, Value>,
    ) -> Self {
        Self { given, of_file, declared: None, closed: false }
    }

    /// Takes the defaults and answers with what holds: `-p` over `--params` over default.
    pub(super) fn declare(&mut self, defaults: Map) -> Result<Map> {
        if self.declared.is_some() {
            bail!(
                Usage,
                "`params` is called a second time; a recipe declares all its parameters at once"
            );
        }
        if self.closed {
            bail!(
                Usage,
                "`params` comes too late; call it before anything that loads, trains or writes"
            );
        }
        for (name, default) in &defaults {
            check_default(name, default)?;
        }
        let mut values = defaults;
        for (name, value) in &self.of_file {
            match values.get(name.as_str()).map(|default| of_json(name, value, default)) {
                Some(value) => values.insert(name.as_str().into(), value?),
                None => return Err(unknown(&clip(name), &values).into()),
            };
        }
        let mut seen: Vec<&str> = vec![];
        for (name, text) in &self.given {
            if seen.contains(&name.as_str()) {
                bail!(Usage, "parameter `{name}` is given twice");
            }
            seen.push(name);
            match values.get(name.as_str()).map(|default| parse(name, text, default)) {
                Some(value) => values.insert(name.as_str().into(), value?),
                None => return Err(unknown(name, &values).into()),
            };
        }
        self.declared = Some(values.clone());
        Ok(values)
    }

    /// No more declarations; `-p` for a recipe that declared nothing is refused here.
    pub(super) fn close(&mut self) -> Result<()> {
        self.closed = true;
        let mut given = self.given.iter().map(|(name, _)| name).chain(self.of_file.keys());
        match given.next() {
            Some(name) if self.declared.is_none() => {
                let name = clip(name);
                bail!(Usage, "parameter `{name}` is given, but the recipe declares none")
            }
            _ => Ok(()),
        }
    }

    /// All values as JSON.
    pub(super) fn json(&self) -> Result<serde_json::Map<String, Value>> {
        let values = self.declared.iter().flatten();
        values
            .map(|(name, value)| Ok((name.to_string(), rhai::serde::from_dynamic(value)?)))
            .collect()
    }

    /// The strings that came from `-p`, as typed.
    pub(super) fn given(&self) -> impl Iterator<Item = &str> {
        let text = |name: &str| {
            self.declared.as_ref().and_then(|d| d.get(name)).is_some_and(Dynamic::is_string)
        };
        self.given.iter().filter(move |(name, _)| text(name)).map(|(_, value)| value.as_str())
    }

    /// The strings that came from `--params` and hold, each with its parameter.
    pub(super) fn of_file(&self) -> impl Iterator<Item = (&str, &str)> {
        let over = |name: &str| self.given.iter().any(|(given, _)| given == name);
        self.of_file
            .iter()
            .filter(move |(name, _)| !over(name))
            .filter_map(|(name, value)| Some((value.as_str()?, name.as_str())))
    }
}

fn unknown(name: &str, values: &Map) -> Error {
    let names = || values.keys().map(|k| k.as_str());
    let near = match ours(name, names()) {
        Some(ours) => format!("; did you mean `{ours}`?"),
        None => did_you_mean(name, names()),
    };
    let known: Vec<String> =
        values.iter().map(|(k, v)| format!("{k} ({})", type_name(v))).collect();
    let error = error!(Usage, "unknown parameter `{name}`{near}");
    error.hint(if known.is_empty() {
        "the recipe declares none".into()
    } else {
        format!("one of {}", known.join(", "))
    })
}

fn check_default(name: &str, default: &Dynamic) -> Result<()> {
    let simple = |v: &Dynamic| v.is_int() || v.is_float() || v.is_bool() || v.is_string();
    let array = |v: &Dynamic| v.as_array_ref().is_ok_and(|a| a.iter().all(simple));
    if !simple(default) && !array(default) {
        let found = type_name(default);
        bail!(
            Usage,
            "default of parameter `{name}` must be an int, a float, a bool, a string or an array \
             of these, found {found}"
        );
    }
    Ok(())
}

/// `text` as a value of the default's type.
fn parse(name: &str, text: &str, default: &Dynamic) -> Result<Dynamic> {
    let wrong = |what: &str| error!(Usage, "parameter `{name}` must be {what}, found `{text}`");
    if default.is_string() {
        return Ok(text.into());
    }
    if default.is_bool() {
        return Ok(text.parse::<bool>().map_err(|_| wrong("true or false"))?.into());
    }
    if default.is_int() {
        return Ok(text.parse::<i64>().map_err(|_| wrong("a whole number"))?.into());
    }
    if default.is_float() {
        return match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value.into()),
            _ => Err(wrong("a number").into()),
        };
    }
    let items: Vec<Value> = serde_json::from_str(text).map_err(|_| wrong("an array in JSON"))?;
    let model = default.as_array_ref().ok().and_then(|a| a.first().cloned());
    let items: Option<Vec<Dynamic>> = items.iter().map(|v| element(v, model.as_ref())).collect();
    let what = model.map_or("an array of numbers, strings and bools".into(), |m| {
        format!("an array in JSON of {}s", type_name(&m))
    });
    Ok(items.ok_or_else(|| wrong(&what))?.into())
}

/// `value` of `--params`, which must have the default's type.
fn of_json(name: &str, value: &Value, default: &Dynamic) -> Result<Dynamic> {
    if let (true, Value::Array(_)) = (default.is_array(), value) {
        return parse(name, &value.to_string(), default);
    }
    let found = match value {
        Value::Number(n) if default.is_float() => n.as_f64().map(Dynamic::from),
        _ => element(value, None).filter(|found| found.type_id() == default.type_id()),
    };
    let what = match () {
        () if default.is_array() => "an array",
        () if default.is_string() => "a string",
        () if default.is_bool() => "true or false",
        () if default.is_int() => "a whole number",
        () => "a number",
    };
    let shown = clip(&value.to_string());
    Ok(found.ok_or_else(|| {
        error!(Usage, "parameter `{name}` of `--params` must be {what}, found `{shown}`")
    })?)
}

/// An array's element, of the type of the default's first element if it has one.
fn element(value: &Value, model: Option<&Dynamic>) -> Option<Dynamic> {
    let found: Dynamic = match value {
        Value::Bool(b) => (*b).into(),
        Value::String(s) => ImmutableString::from(s.as_str()).into(),
        Value::Number(n) => {
            n.as_i64().map(Dynamic::from).or_else(|| n.as_f64().map(Dynamic::from))?
        }
        _ => return None,
    };
    match (model, found.as_int()) {
        (Some(model), Ok(int)) if model.is_float() => Some((int as f64).into()),
        (Some(model), _) if model.type_id() != found.type_id() => None,
        _ => Some(found),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn declare_with(given: &[(&str, &str)], of_file: &Value) -> Result<Map> {
        let given = given.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        let array = |v: &[f64]| Dynamic::from_array(v.iter().map(|&x| x.into()).collect());
        let defaults = [
            ("model", Dynamic::from("m")),
            ("rank", 1_i64.into()),
            ("lr", 1e-3.into()),
            ("log", true.into()),
            ("etas", array(&[1.0, 0.5])),
        ];
        let defaults = Map::from_iter(defaults.map(|(n, v)| (n.into(), v)));
        Params::new(given, of_file.as_object().unwrap().clone()).declare(defaults)
    }

    fn declare(given: &[(&str, &str)]) -> Result<Map> {
        declare_with(given, &json!({}))
    }

    #[test]
    fn values_take_the_type_of_the_default() {
        let map = declare(&[
            ("model", "a=b/c"),
            ("rank", "4"),
            ("lr", "2"),
            ("log", "false"),
            ("etas", "[1, 0.25]"),
        ])
        .unwrap();
        assert_eq!(format!("{:?}", map["model"]), "\"a=b/c\"");
        assert_eq!(map["rank"].as_int(), Ok(4));
        assert_eq!(map["lr"].as_float(), Ok(2.0));
        assert_eq!(map["log"].as_bool(), Ok(false));
        assert_eq!(map["etas"].as_array_ref().unwrap()[0].as_float(), Ok(1.0));
    }

    #[test]
    fn wrong_values_and_names_are_told() {
        for (given, message, hint) in [
            (
                ("rnk", "1"),
                "unknown parameter `rnk`; did you mean `rank`?",
                Some("one of etas (array), log (bool), lr (float), model (string), rank (int)"),
            ),
            (("rank", "1.5"), "parameter `rank` must be a whole number, found `1.5`", None),
            (("lr", "nan"), "parameter `lr` must be a number, found `nan`", None),
            (("log", "yes"), "parameter `log` must be true or false, found `yes`", None),
            (("etas", "1,2"), "parameter `etas` must be an array in JSON, found `1,2`", None),
            (
                ("etas", "[\"a\"]"),
                "parameter `etas` must be an array in JSON of floats, found `[\"a\"]`",
                None,
            ),
        ] {
            let error = declare(&[given]).unwrap_err();
            assert_eq!(
                (error.to_string().as_str(), crate::error::hint_of(&error)),
                (message, hint)
            );
        }
        assert_eq!(
            declare(&[("rank", "1"), ("rank", "2")]).unwrap_err().to_string(),
            "parameter `rank` is given twice"
        );
    }

    #[test]
    fn a_file_sets_what_the_command_line_does_not() {
        let file = json!({ "model": "f", "rank": 3, "lr": 2, "log": false, "etas": [1, 2.5] });
        let map = declare_with(&[("rank", "4")], &file).unwrap();
        assert_eq!(format!("{:?}", map["model"]), "\"f\"");
        assert_eq!((map["rank"].as_int(), map["lr"].as_float()), (Ok(4), Ok(2.0)));
        assert_eq!(map["log"].as_bool(), Ok(false));
        assert_eq!(map["etas"].as_array_ref().unwrap()[1].as_float(), Ok(2.5));
        for (file, message) in [
            (json!({ "rank": 1.0 }), "`rank` of `--params` must be a whole number, found `1.0`"),
            (json!({ "rank": "1" }), "`rank` of `--params` must be a whole number, found `\"1\"`"),
            (json!({ "rank": u64::MAX }), "must be a whole number, found `18446744073709551615`"),
            (json!({ "lr": "1" }), "`lr` of `--params` must be a number, found `\"1\"`"),
            (json!({ "log": 1 }), "`log` of `--params` must be true or false, found `1`"),
            (json!({ "model": null }), "`model` of `--params` must be a string, found `null`"),
            (json!({ "model": { "a": 1 } }), "must be a string, found `{\"a\":1}`"),
            (json!({ "etas": 1 }), "`etas` of `--params` must be an array, found `1`"),
            (json!({ "etas": ["a"] }), "must be an array in JSON of floats, found `[\"a\"]`"),
            (json!({ "rnk": 1 }), "unknown parameter `rnk`; did you mean `rank`?"),
            (
                json!({ "learning_rate": 1 }),
                "unknown parameter `learning_rate`; did you mean `lr`?",
            ),
        ] {
            // Also where `-p` goes over it.
            let error = declare_with(&[("rank", "4")], &file).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn only_strings_from_the_command_line_are_granted() {
        let params = vec![("model".into(), "/data/m".into()), ("rank".into(), "2".into())];
        let file = json!({ "model": "/data/other", "data": "/etc/shadow" });
        let mut params = Params::new(params, file.as_object().unwrap().clone());
        let defaults = [
            ("model", Dynamic::from("default")),
            ("data", "/etc/passwd".into()),
            ("rank", 1_i64.into()),
        ];
        params.declare(Map::from_iter(defaults.map(|(n, v)| (n.into(), v)))).unwrap();
        assert_eq!(params.given().collect::<Vec<_>>(), ["/data/m"]);
        assert_eq!(params.of_file().collect::<Vec<_>>(), [("/etc/shadow", "data")]);
    }

    #[test]
    fn once_and_in_time() {
        let mut params = Params::new(vec![], Default::default());
        params.declare(Map::new()).unwrap();
        assert!(params.declare(Map::new()).unwrap_err().to_string().contains("a second time"));
        let mut params = Params::new(vec![], Default::default());
        params.close().unwrap();
        assert!(params.declare(Map::new()).unwrap_err().to_string().contains("too late"));
        assert!(
            Params::new(vec![("rank".into(), "1".into())], Default::default())
                .close()
                .unwrap_err()
                .to_string()
                .contains("declares none")
        );
    }
}
