//! The options of `data::load`.

use std::sync::Arc;

use rhai::{Dynamic, Map};

use crate::data::formats::{Encoding, Format, Layout};
use crate::data::{EncodeOptions, LossOn, Mapping, Template};
use crate::error::bail;
use crate::host::options::{FromOption, Mismatch, Options};
use crate::session::{DataOptions, PromptFormat};

pub(super) const KEYS: [&str; 11] = [
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
        rows: mapping.is_some(),
    };
    let splits = o
        .take_opt::<Texts>("splits")?
        .map(|texts| texts.0.into_iter().collect())
        .unwrap_or_default();
    let stream = o.take_or("stream", false)?;
    let format =
        Arc::new(PromptFormat { template, options: EncodeOptions { max_length, loss }, mapping });
    Ok(DataOptions { layout, format, splits, stream })
}

/// The option `template`.
enum Wanted {
    Name(String),
    Own(Map),
}

struct Given {
    template: Template,
    mapping: Option<Mapping>,
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
                return Ok(Given { template: Template::parse(&name)?, mapping: None });
            }
            Self::Own(map) => map,
        };
        let mut o = Options::new(
            "template",
            map,
            &[
                "prompt", "pair", "answer", "choices", "label", "target", "messages", "tools",
                "text",
            ],
        )?;
        let given = |mapping: Mapping| {
            let template = if mapping.asks_chat() { Template::Chat } else { Template::None };
            Ok(Given { template, mapping: Some(mapping) })
        };
        let (messages, text) = (o.take_opt::<String>("messages")?, o.take_opt::<String>("text")?);
        let tools = o.take_opt::<String>("tools")?;
        if messages.is_some() || text.is_some() {
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
        given(match pair {
            Some(pair) => mapping.with_pair(&pair)?,
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
