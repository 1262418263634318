//! The options of `data::load`.

use std::path::Path;
use std::sync::Arc;

use rhai::{Dynamic, Map};

use crate::data::formats::{Encoding, Format, Layout};
use crate::data::shots::ShotSource;
use crate::data::{EncodeOptions, LossOn, Mapping, ShotOptions, Template};
use crate::error::{bail, error};
use crate::host::options::{FromOption, Mismatch, Options};
use crate::session::{DataOptions, PromptFormat};

pub(super) const KEYS: [&str; 15] = [
    "template",
    "max_length",
    "loss",
    "format",
    "splits",
    "columns",
    "header",
    "delimiter",
    "quote",
    "encoding",
    "stream",
    "shots",
    "shots_from",
    "shots_seed",
    "shots_separator",
];

pub(super) fn parse(map: Map) -> anyhow::Result<DataOptions> {
    let mut o = Options::new("data::load", map, &KEYS)?;
    let Given { template, mapping } =
        o.take_or("template", Wanted::Name("alpaca".into()))?.read()?;
    let max_length: usize = o.take_or("max_length", DataOptions::MAX_LENGTH)?;
    o.check("max_length", max_length >= 2, "2 or more", max_length)?;
    let loss = match o.take_opt::<String>("loss")? {
        Some(name) => LossOn::parse(&name)?,
        None => template.default_loss(),
    };
    let delimiter = match o.take_opt::<String>("delimiter")? {
        Some(text) => match text.as_bytes() {
            [byte] => Some(*byte),
            _ => bail!(
                Usage,
                "option `delimiter` of `data::load` must be a single ASCII character, found \
                 {text:?}"
            ),
        },
        None => None,
    };
    let layout = Layout {
        format: o.take_opt::<String>("format")?.map(|name| Format::parse(&name)).transpose()?,
        columns: o.take_opt("columns")?,
        header: o.take_opt("header")?,
        delimiter,
        quote: o.take_opt("quote")?,
        encoding: o
            .take_opt::<String>("encoding")?
            .map(|name| Encoding::parse(&name))
            .transpose()?
            .unwrap_or_default(),
        usual: PromptFormat::columns(mapping.as_deref()),
        rows: mapping.is_some(),
    };
    let splits = o
        .take_opt::<Texts>("splits")?
        .map(|texts| texts.0.into_iter().collect())
        .unwrap_or_default();
    let stream = o.take_or("stream", false)?;
    let shots = shots(&mut o)?;
    let format =
        Arc::new(PromptFormat { template, options: EncodeOptions { max_length, loss }, mapping });
    Ok(DataOptions { layout, format, splits, stream, shots })
}

/// The options that a file holds: JSON with a map of a template or of options of `data::load`, else
/// a Jinja text, which is all of a text.
///
/// Errors: those of the options; a file that cannot be read, is no JSON, or no object (class data).
pub fn template_file(path: &Path) -> anyhow::Result<DataOptions> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|e| error!(Data, "template `{shown}` cannot be read: {e}"))?;
    let object = text.trim_start().strip_prefix('{');
    if object.is_none_or(|rest| rest.starts_with(['{', '%', '#'])) {
        return jinja_file(&text);
    }
    let json: serde_json::Value = serde_json::from_str(&text)
        .map_err(|e| error!(Data, "template `{shown}` is no JSON: {e}"))?;
    let map = rhai::serde::to_dynamic(json).ok().and_then(|value| value.try_cast::<Map>());
    let Some(map) = map else {
        bail!(Data, "template `{shown}` is no map: expected `{{\"prompt\": …}}`");
    };
    let is_options = map.contains_key("template");
    parse(if is_options { map } else { only_template(map.into()) })
}

/// What a model's `template.json` says, as options: the name of a template, or a recipe's own
/// texts. Errors: a name that is not known (class usage), no name and no texts (class data).
pub fn template_of(told: &serde_json::Value) -> anyhow::Result<DataOptions> {
    let texts = told["text"].as_object();
    match (told["name"].as_str(), texts) {
        (Some("recipe"), Some(texts)) => {
            let (mut map, mut choices) = (serde_json::Map::new(), serde_json::Map::new());
            for (key, text) in texts {
                match key.strip_prefix("choices.") {
                    Some(name) => choices.insert(name.to_owned(), text.clone()),
                    None => map.insert(key.clone(), text.clone()),
                };
            }
            if !choices.is_empty() {
                map.insert("choices".into(), choices.into());
            }
            parse(only_template(rhai::serde::to_dynamic(map)?))
        }
        (Some(name), _) if name != "recipe" => DataOptions::worded(name),
        _ => bail!(Data, "it names no template"),
    }
}

/// A Jinja text; the end of its last line is the file's.
fn jinja_file(text: &str) -> anyhow::Result<DataOptions> {
    let text = text.strip_suffix('\n').unwrap_or(text).to_owned();
    parse(only_template(Map::from_iter([("text".into(), text.into())]).into()))
}

fn only_template(template: Dynamic) -> Map {
    Map::from_iter([("template".into(), template)])
}

/// Solved examples before each question; none where none are asked for.
fn shots(o: &mut Options) -> anyhow::Result<Option<ShotOptions>> {
    let count: Option<usize> = o.take_opt("shots")?;
    let from = o.take_opt::<String>("shots_from")?;
    let seed = o.take_opt::<usize>("shots_seed")?.map(|seed| seed as u64);
    let separator = o.take_opt::<String>("shots_separator")?;
    let Some(count) = count else {
        if from.is_some() || seed.is_some() || separator.is_some() {
            bail!(
                Usage,
                "options `shots_from`, `shots_seed` and `shots_separator` of `data::load` need \
                 `shots`, how many solved examples stand before a question"
            );
        }
        return Ok(None);
    };
    let from = from.as_deref().map(ShotSource::parse).transpose()?;
    let separator = separator.unwrap_or_else(|| ShotOptions::SEPARATOR.to_owned());
    Ok(Some(ShotOptions { count, from, seed, separator }))
}

/// The option `template`.
enum Wanted {
    Name(String),
    Own(Map),
}

struct Given {
    template: Template,
    mapping: Option<Arc<Mapping>>,
}

impl FromOption for Wanted {
    const WHAT: &'static str =
        "the name of a template, or a map with `prompt`, `messages` or `text`";

    fn from_option(value: &Dynamic, key: &str) -> Result<Self, Mismatch> {
        match value.clone().try_cast::<Map>() {
            Some(map) => Ok(Self::Own(map)),
            None => String::from_option(value, key)
                .map(Self::Name)
                .map_err(|_| Mismatch::new::<Self>(value, key)),
        }
    }
}

impl Wanted {
    fn read(self) -> anyhow::Result<Given> {
        let map = match self {
            Self::Name(name) => {
                let (template, mapping) = PromptFormat::named(&name)?;
                return Ok(Given { template, mapping });
            }
            Self::Own(map) => map,
        };
        let mut o = Options::new(
            "template",
            map,
            &[
                "prompt",
                "pair",
                "answer",
                "choices",
                "label",
                "target",
                "messages",
                "tools",
                "text",
                "description",
                "eos",
            ],
        )?;
        let (eos, description) = (o.take_opt("eos")?, o.take_opt::<String>("description")?);
        let given = |mapping: Mapping| {
            let template = if mapping.asks_chat() { Template::Chat } else { Template::None };
            if eos.is_some() && template == Template::Chat {
                bail!(
                    Usage,
                    "option `eos` of `template` does not go with `messages`: the model's chat \
                     template says how an answer ends"
                );
            }
            let mapping = Arc::new(mapping.ended(eos.unwrap_or(true)));
            Ok(Given { template, mapping: Some(mapping) })
        };
        let (messages, text) = (o.take_opt::<String>("messages")?, o.take_opt::<String>("text")?);
        let tools = o.take_opt::<String>("tools")?;
        if messages.is_some() || text.is_some() {
            if description.is_some() {
                bail!(
                    Usage,
                    "option `description` of `template` goes with `prompt`, before which it stands"
                );
            }
            let Some(mapping) = conversation(messages, tools, text, &mut o)? else {
                bail!(
                    Usage,
                    "options `messages` and `text` of `template` stand alone, but for `tools` \
                     beside `messages`"
                )
            };
            return given(mapping);
        }
        if tools.is_some() {
            bail!(
                Usage,
                "option `tools` of `template` needs `messages`, beside which the model's chat \
                 template words it"
            );
        }
        let choices =
            o.take_opt::<Choices>("choices")?.map(Choices::read).transpose()?.unwrap_or_default();
        let pair = o.take_opt::<String>("pair")?;
        let mapping = Mapping::new(
            &o.take::<String>("prompt")?,
            o.take_opt::<String>("answer")?.as_deref(),
            choices,
            o.take_opt::<String>("label")?.as_deref(),
            o.take_opt::<String>("target")?.as_deref(),
        )?;
        let mapping = match pair {
            Some(pair) => mapping.with_pair(&pair)?,
            None => mapping,
        };
        given(match description {
            Some(description) => mapping.with_description(&description)?,
            None => mapping,
        })
    }
}

/// A template for conversations; `None` where what is given does not go together.
fn conversation(
    messages: Option<String>,
    tools: Option<String>,
    text: Option<String>,
    o: &mut Options,
) -> anyhow::Result<Option<Mapping>> {
    let question = ["prompt", "pair", "answer", "label", "target"]
        .into_iter()
        .map(|key| o.take_opt::<String>(key))
        .collect::<Result<Vec<_>, _>>()?;
    let alone = question.iter().all(Option::is_none) && o.take_opt::<Choices>("choices")?.is_none();
    match (messages, tools, text) {
        (Some(messages), tools, None) if alone => {
            Mapping::messages(&messages, tools.as_deref()).map(Some)
        }
        (None, None, Some(text)) if alone => Mapping::whole(&text).map(Some),
        _ => Ok(None),
    }
}

/// Choices by name: a map to their texts, or a list of names that are their own texts.
enum Choices {
    Texts(Texts),
    Names(Vec<String>),
}

impl Choices {
    fn read(self) -> anyhow::Result<Vec<(String, String)>> {
        match self {
            Self::Texts(texts) => texts.single(),
            Self::Names(names) => Ok(names.into_iter().map(|name| (name.clone(), name)).collect()),
        }
    }
}

impl FromOption for Choices {
    const WHAT: &'static str = "a map from names to texts, or a list of names";

    fn from_option(value: &Dynamic, key: &str) -> Result<Self, Mismatch> {
        if value.is_array() {
            return Vec::from_option(value, key).map(Self::Names);
        }
        Texts::from_option(value, key)
            .map(Self::Texts)
            .map_err(|e| if value.is_map() { e } else { Mismatch::new::<Self>(value, key) })
    }
}

/// A map from names to a text or several.
struct Texts(Vec<(String, Vec<String>)>);

impl Texts {
    fn single(self) -> anyhow::Result<Vec<(String, String)>> {
        let one = |(name, texts): (String, Vec<String>)| match <[String; 1]>::try_from(texts) {
            Ok([text]) => Ok((name, text)),
            Err(_) => bail!(Usage, "option `choices.{name}` of `template` must be one text"),
        };
        self.0.into_iter().map(one).collect()
    }
}

impl FromOption for Texts {
    const WHAT: &'static str = "a map from names to texts";

    fn from_option(value: &Dynamic, key: &str) -> Result<Self, Mismatch> {
        let map = value.as_map_ref().map_err(|_| Mismatch::new::<Self>(value, key))?;
        let texts = |(name, value): (&rhai::Identifier, &Dynamic)| {
            let key = format!("{key}.{name}");
            let texts = if value.is_array() {
                Vec::from_option(value, &key)?
            } else {
                vec![String::from_option(value, &key)?]
            };
            Ok((name.to_string(), texts))
        };
        map.iter().map(texts).collect::<Result<_, _>>().map(Self)
    }
}
