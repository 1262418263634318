//! Which modules an adapter is for, as PEFT matches their names.

use fancy_regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::keys::shown;
use super::{HEAD, embedding};
use crate::error::{Error, error};
use crate::model::Model;

/// Bytes of a regular expression, at most.
const LONGEST: usize = 1 << 16;
/// Steps back in a match, at most.
const BACKTRACKS: usize = 100_000;

/// A regular expression of an adapter's config, as Python's `re` takes it.
#[derive(Debug)]
pub(super) struct Pattern {
    key: String,
    text: String,
    regex: Regex,
}

impl Pattern {
    /// `text` of `key`, with what stands before and behind it. Errors (class data): no expression,
    /// or none that is known.
    pub fn new(key: &str, before: &str, text: &str, behind: &str) -> Result<Self, Error> {
        let refused = |why: String| {
            error!(Data, "`{key}` holds a regular expression `{}` that {why}", shown(&text.into()))
        };
        if text.len() > LONGEST {
            return Err(refused(format!("is longer than {LONGEST} bytes")));
        }
        let regex = RegexBuilder::new(&format!("{before}{text}{behind}"))
            .backtrack_limit(BACKTRACKS)
            .build();
        let regex = regex.map_err(|e| {
            refused(format!("cannot be read: {e}")).hint("name the modules one by one")
        })?;
        Ok(Self { key: key.to_owned(), text: text.to_owned(), regex })
    }

    /// Errors (class data): a match that does not end.
    pub fn matches(&self, module: &str) -> Result<bool, Error> {
        let endless = |e| {
            error!(
                Data,
                "`{}`: the regular expression `{}` on `{module}`: {e}",
                self.key,
                shown(&self.text.as_str().into())
            )
        };
        self.regex.is_match(module).map_err(endless)
    }

    /// The number that the group `index` catches.
    fn index(&self, module: &str) -> Option<i64> {
        self.regex.captures(module).ok().flatten()?.name("index")?.as_str().parse().ok()
    }
}

/// Values by pattern, in the order of the file: the first pattern that a module's name ends in
/// gives its value.
#[derive(Debug)]
pub(super) struct ByPattern<T>(Vec<(Pattern, T)>);

impl<T: Copy> ByPattern<T> {
    pub fn new(key: &str, values: Vec<(&String, T)>) -> Result<Self, Error> {
        let one = |(text, value): (&String, T)| {
            Ok((Pattern::new(key, r"^(?:.*\.)?(?:", text, ")$")?, value))
        };
        Ok(Self(values.into_iter().map(one).collect::<Result<_, Error>>()?))
    }

    pub fn of(&self, module: &str) -> Result<Option<T>, Error> {
        for (pattern, value) in &self.0 {
            if pattern.matches(module)? {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }
}

/// Names of modules, or an expression for them.
#[derive(Debug)]
enum TargetModules {
    /// What PEFT takes for the model's architecture where nothing is said.
    Default(&'static [&'static str]),
    /// All linear modules but the head.
    Linear(Vec<String>),
    Whole(Pattern),
    /// The name, or its end behind a dot.
    Ends(Vec<String>),
}

impl TargetModules {
    /// A list of names, or an expression; `None` where nothing is said.
    fn read(key: &str, value: Option<&Value>) -> Result<Option<Self>, Error> {
        Ok(match value {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(Self::Whole(Pattern::new(key, "^(?:", text, ")$")?)),
            Some(list) => Some(Self::Ends(texts(key, list)?)),
        })
    }

    /// What `target_modules` names.
    fn targets(value: Option<&Value>) -> Result<Self, Error> {
        match value.and_then(Value::as_str) {
            Some(text) if text.eq_ignore_ascii_case("all-linear") => Ok(Self::Linear(vec![])),
            _ => Ok(Self::read("target_modules", value)?.unwrap_or(Self::Default(&[]))),
        }
    }

    fn has(&self, module: &str) -> Result<bool, Error> {
        match self {
            Self::Default(list) => Ok(list.iter().any(|name| ends_in(module, name))),
            Self::Linear(list) => Ok(list.iter().any(|name| name == module)),
            Self::Whole(pattern) => pattern.matches(module),
            Self::Ends(list) => Ok(list.iter().any(|name| ends_in(module, name))),
        }
    }
}

/// Whether a module's name is `name`, or ends in it behind a dot.
fn ends_in(module: &str, name: &str) -> bool {
    module.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// A list of texts. Errors (class data): anything else.
pub(super) fn texts(key: &str, value: &Value) -> Result<Vec<String>, Error> {
    let list = value
        .as_array()
        .and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
    list.ok_or_else(|| error!(Data, "`{key}` is {}, not a list of names", shown(value)))
}

/// The modules that an adapter is for.
#[derive(Debug)]
pub(super) struct Targets {
    named: TargetModules,
    excluded: Option<TargetModules>,
    /// Modules that `modules_to_save` names have no factors.
    saved: Vec<Pattern>,
    /// Layers, where only some are meant, and the ways to find a module's own.
    layers: Vec<i64>,
    indexed: Vec<Pattern>,
}

impl Targets {
    /// Reads them from `adapter_config.json`. Errors (class data): values of another type,
    /// expressions that are not known, keys that contradict each other in PEFT too.
    pub fn read(config: &Map<String, Value>, modules_to_save: &[String]) -> Result<Self, Error> {
        let named = TargetModules::targets(config.get("target_modules"))?;
        let empty =
            |named: &TargetModules| matches!(named, TargetModules::Ends(list) if list.is_empty());
        let excluded = TargetModules::read("exclude_modules", config.get("exclude_modules"))?
            .filter(|named| !empty(named));
        let saved = modules_to_save
            .iter()
            .map(|name| Pattern::new("modules_to_save", r"^(?:^|.*\.)(?:", name, r")(?:$|\..*)"));
        let saved = saved.collect::<Result<_, _>>()?;
        let layers = layers(config.get("layers_to_transform"))?;
        let above = names_above_layers(config.get("layers_pattern"))?;
        let by_layer = !layers.is_empty() || !above.is_empty();
        if by_layer && !matches!(named, TargetModules::Ends(_) | TargetModules::Default(_)) {
            return Err(error!(
                Data,
                "`layers_to_transform` and `layers_pattern` are for a list of `target_modules`, \
                 not for a text"
            ));
        }
        let all_layers = config.get("layers_to_transform").is_none_or(Value::is_null);
        if all_layers && !above.is_empty() {
            return Err(error!(
                Data,
                "`layers_pattern` says how layers are found, but `layers_to_transform` names none"
            ));
        }
        Ok(Self { named, excluded, saved, layers, indexed: indexed(&above)? })
    }

    /// Of that model: what is not named depends on its architecture.
    pub fn suit(mut self, model: &Model) -> Self {
        match &mut self.named {
            TargetModules::Default(list) => {
                *list = model.architecture().entry().family.peft_targets
            }
            TargetModules::Linear(list) => {
                list.extend(model.linears().map(|linear| linear.name.clone()))
            }
            TargetModules::Whole(_) | TargetModules::Ends(_) => {}
        }
        self
    }

    /// Whether a module has factors. Errors (class data): an expression that does not come to an
    /// end.
    pub fn has(&self, module: &str) -> Result<bool, Error> {
        Ok(self.leaves_out(module)?.is_none())
    }

    /// The key that leaves a module without factors; `None` of one that has some. Errors as
    /// [`Targets::has`].
    pub fn leaves_out(&self, module: &str) -> Result<Option<&'static str>, Error> {
        if let Some(excluded) = &self.excluded
            && excluded.has(module)?
        {
            return Ok(Some("exclude_modules"));
        }
        for saved in &self.saved {
            if saved.matches(module)? {
                return Ok(Some("modules_to_save"));
            }
        }
        if !self.named.has(module)? {
            return Ok(Some("target_modules"));
        }
        let exactly = matches!(
            &self.named,
            TargetModules::Ends(list) if list.iter().any(|name| name == module)
        );
        let layer = self.indexed.iter().find_map(|pattern| pattern.index(module));
        let meant = self.layers.is_empty()
            || exactly
            || layer.is_some_and(|layer| self.layers.contains(&layer));
        Ok((!meant).then_some("layers_to_transform"))
    }

    /// All modules of a model that have factors.
    pub fn of(&self, model: &Model) -> Result<Vec<String>, Error> {
        let linear = model.linears().map(|linear| linear.name.as_str());
        let mut found = vec![];
        for module in linear.chain([embedding(model), HEAD]) {
            if self.has(module)? {
                found.push(module.to_owned());
            }
        }
        Ok(found)
    }
}

/// A layer, or several; none stands for all.
fn layers(value: Option<&Value>) -> Result<Vec<i64>, Error> {
    let number = |value: &Value| value.as_i64();
    let found = match value {
        None | Some(Value::Null) => Some(vec![]),
        Some(Value::Array(items)) => items.iter().map(number).collect(),
        Some(value) => number(value).map(|layer| vec![layer]),
    };
    found.ok_or_else(|| {
        error!(
            Data,
            "`layers_to_transform` is {}, not numbers of layers",
            value.map(shown).unwrap_or_default()
        )
    })
}

/// The names that `layers_pattern` gives to what the layers lie in.
fn names_above_layers(value: Option<&Value>) -> Result<Vec<String>, Error> {
    let mut names = match value {
        None | Some(Value::Null) => vec![],
        Some(Value::String(text)) => vec![text.clone()],
        Some(list) => texts("layers_pattern", list)?,
    };
    names.retain(|name| !name.is_empty());
    Ok(names)
}

/// Expressions for a module's layer: the number behind one of these names, or else the first.
fn indexed(above: &[String]) -> Result<Vec<Pattern>, Error> {
    let pattern = |before, text, behind| Pattern::new("layers_pattern", before, text, behind);
    if above.is_empty() {
        return Ok(vec![pattern("", r"^.*?\.[^.]*\.(?P<index>\d+)\.", "")?]);
    }
    above.iter().map(|name| pattern(r"^(?:^|.*?\.)(?:", name, r")\.(?P<index>\d+)\.")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing;
    use serde_json::json;

    fn targets(config: Value) -> Targets {
        let model = testing::with(|c| c.common.num_hidden_layers = 12);
        let model = testing::model(&model, candle_core::DType::F32).unwrap();
        Targets::read(config.as_object().unwrap(), &[]).unwrap().suit(&model)
    }

    const Q: &str = "model.layers.1.self_attn.q_proj";

    /// Whether a query, a projection down and the head have factors.
    fn has(config: &Value) -> [bool; 3] {
        let found = targets(config.clone());
        [Q, "model.layers.11.mlp.down_proj", "lm_head"].map(|module| found.has(module).unwrap())
    }

    #[test]
    fn names_match_as_in_peft() {
        for (named, want) in [
            (Value::Null, [true, false, false]),
            (json!(["q_proj", "lm_head"]), [true, false, true]),
            (json!(["roj", "head", "layers.1.self_attn.q_proj"]), [true, false, false]),
            (json!("all-Linear"), [true, true, false]),
            (json!(r".*(?=down).*|lm_\w+"), [false, true, true]),
            (json!("q_proj"), [false, false, false]),
            (json!(r"^(?!.*mlp).*_proj$"), [true, false, false]),
        ] {
            assert_eq!(has(&json!({ "target_modules": named })), want, "{named}");
        }
        assert_eq!(has(&json!({})), [true, false, false]);
    }

    #[test]
    fn layers_match_as_in_peft() {
        for (named, layers, pattern, want) in [
            (json!(["q_proj", "down_proj"]), json!([11]), Value::Null, [false, true, false]),
            (json!(["q_proj", "down_proj"]), json!(1), json!("layers"), [true, false, false]),
            (json!(["q_proj"]), json!([1]), json!(["h", "blocks"]), [false; 3]),
            (json!([Q, "lm_head"]), json!([5]), Value::Null, [true, false, true]),
        ] {
            let config = json!({ "target_modules": named, "layers_to_transform": layers,
                "layers_pattern": pattern });
            assert_eq!(has(&config), want, "{config}");
        }
    }

    #[test]
    fn excluded_modules_have_no_factors() {
        for (excluded, want) in [
            (json!(r".*\.1\..*"), [false, true, false]),
            (json!(["mlp.down_proj"]), [true, false, false]),
        ] {
            let config = json!({ "target_modules": ["q_proj", "down_proj"],
                "exclude_modules": excluded });
            assert_eq!(has(&config), want, "{config}");
        }
    }

    #[test]
    fn the_first_pattern_gives_the_value() {
        let q = "model.layers.0.self_attn.q_proj";
        for (pattern, want) in [
            (r"^model.layers.0.self_attn.q_proj", true),
            ("q_proj", true),
            (r"layers\.[01]\..*", true),
            ("_proj", false),
            ("model", false),
            (r".*q_(?:proj|up)", true),
            ("layers.0.self_attn", false),
        ] {
            let (first, second) = (pattern.to_owned(), "self_attn.*".to_owned());
            let found = ByPattern::new("alpha_pattern", vec![(&first, 1), (&second, 2)])
                .unwrap()
                .of(q)
                .unwrap();
            assert_eq!(found, Some(if want { 1 } else { 2 }), "{pattern}");
        }
    }

    #[test]
    fn expressions_that_cannot_be_read_are_named() {
        let said =
            |config: Value| Targets::read(config.as_object().unwrap(), &[]).unwrap_err().message;
        assert!(
            said(json!({ "target_modules": "(q" }))
                .starts_with("`target_modules` holds a regular expression")
        );
        assert!(
            said(json!({ "exclude_modules": "x".repeat(LONGEST + 1) })).contains("is longer than")
        );
        assert!(
            said(json!({ "target_modules": [1] }))
                .starts_with("`target_modules` is [1], not a list")
        );
        assert!(
            said(json!({ "target_modules": "all-linear", "layers_to_transform": [0] }))
                .contains("not for a text")
        );
        assert!(said(json!({ "layers_to_transform": ["0"] })).contains("not numbers of layers"));
        let slow = targets(json!({ "target_modules": r"(?:(?=.)(\w|\.)+\1?)+!" }));
        assert!(
            slow.has(&format!("model.{}", "a".repeat(200)))
                .is_err_and(|e| e.message.starts_with("`target_modules`: the regular"))
        );
    }
}
