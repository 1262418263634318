//! The other keys of `tokenizer_config.json`, as transformers 5 honours them. What it reads and
//! what changes neither tokens nor texts (`model_max_length`, `padding_side`, `errors`,
//! `model_input_names`, …) says nothing here either.

use anyhow::Result;
use serde_json::{Value, json};
use tokenizers::PostProcessorWrapper;

use super::tokenizer_class::TokenizerClass;
use super::tokenizer_special::Special;
use super::tokenizer_tokens::AddedTokens;
use crate::error::{Error, bail, error};

/// Keys that would make transformers read or run something else.
const REFUSED: [(&str, &str); 6] = [
    ("init_inputs", "values for the constructor of a class"),
    ("gguf_file", "a GGUF file with the tokenizer"),
    ("post_processor", "a post-processor beside that of tokenizer.json"),
    ("tokenizer_object", "a tokenizer beside tokenizer.json"),
    ("tokenizer_truncation", "truncation beside that of tokenizer.json"),
    ("tokenizer_padding", "padding beside that of tokenizer.json"),
];

/// From so many tokens on, transformers looks whether a tokenizer has Mistral's first regex.
const LARGE: usize = 100_000;

/// What the keys say.
pub(super) struct TokenizerSettings {
    pub split_special_tokens: bool,
    pub clean_up: bool,
    /// The template that is to stand in the post-processor's place: whether BOS and EOS are in it.
    ends: Option<(bool, bool)>,
    /// `add_bos_token` and `add_eos_token` that no one follows, since tokenizer.json has a say.
    flags: (Option<bool>, Option<bool>),
    notes: Vec<String>,
}

/// What a post-processor puts around a text.
pub(super) struct Around {
    pub before: Vec<u32>,
    pub after: Vec<u32>,
}

/// Whether `model_input_names`, or else the class, has `token_type_ids`. Errors (class data): a
/// value that is no list of names.
pub(super) fn has_types(settings: &Value, class: TokenizerClass) -> Result<bool> {
    match &settings["model_input_names"] {
        Value::Null => Ok(class.has_types()),
        Value::Array(names) => Ok(names.iter().any(|name| name == "token_type_ids")),
        other => bail!(Data, "tokenizer_config.json: `model_input_names` is {other}, not a list"),
    }
}

impl TokenizerSettings {
    /// Errors (class data): a key of the wrong type, or one that asks for something that is not
    /// done here.
    pub fn read(
        settings: &Value,
        config: &Value,
        class: TokenizerClass,
        file: Option<&Value>,
        size: usize,
    ) -> Result<Self> {
        check_refused(settings)?;
        check_versions(settings)?;
        check_sides(settings)?;
        let on = |key: &str| settings[key].as_bool().unwrap_or(false);
        if on("fix_mistral_regex") && size > LARGE && may_be_mistral(config) {
            return Err(other_regex().into());
        }
        let bpe = file.is_none_or(|file| file["model"]["type"].as_str().unwrap_or("BPE") == "BPE");
        let forced = on("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output");
        let flag = |key: &str| settings.get(key).map(|value| value.as_bool().unwrap_or(false));
        let flags = (flag("add_bos_token"), flag("add_eos_token"));
        Ok(Self {
            split_special_tokens: on("split_special_tokens"),
            clean_up: on("clean_up_tokenization_spaces") && (!bpe || forced),
            ends: ends(class, file, flags),
            flags: if file.is_some() { flags } else { (None, None) },
            notes: other_prefix(settings, class, file).into_iter().collect(),
        })
    }

    /// Puts the post-processor in, where a class makes one of its own.
    pub fn post_process(
        &self,
        inner: &mut tokenizers::Tokenizer,
        tokens: &AddedTokens,
    ) -> Result<()> {
        let Some((bos, eos)) = self.ends else { return Ok(()) };
        let mut template = vec![json!({"Sequence": {"id": "A", "type_id": 0}})];
        let mut special = serde_json::Map::new();
        for (wanted, role, at) in [(bos, "bos_token", 0), (eos, "eos_token", usize::MAX)] {
            if let Some(token) = tokens.role(role).filter(|_| wanted)
                && let Some(id) = inner.token_to_id(token)
            {
                template.insert(
                    at.min(template.len()),
                    json!({"SpecialToken": {"id": token, "type_id": 0}}),
                );
                special
                    .insert(token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]}));
            }
        }
        if special.is_empty() {
            inner.with_post_processor(None::<PostProcessorWrapper>);
            return Ok(());
        }
        let mut pair = template.clone();
        pair.push(json!({"Sequence": {"id": "B", "type_id": 1}}));
        let made = json!({
            "type": "TemplateProcessing", "single": template, "pair": pair,
            "special_tokens": special,
        });
        inner.with_post_processor(Some(serde_json::from_value::<PostProcessorWrapper>(made)?));
        Ok(())
    }

    /// What a person should know of the ends of texts; `file` is the name of the tokenizer's file.
    pub fn notes(
        &self,
        around: &Around,
        special: Special,
        inner: &tokenizers::Tokenizer,
        file: &str,
    ) -> Vec<String> {
        let mut notes = self.notes.clone();
        notes.extend(self.not_followed(around, inner, file));
        if let Some(bos) = special.bos
            && around.before.first().is_some_and(|first| *first != bos)
        {
            notes.push(format!(
                "{file} puts {} before a text, though the token that begins one is {}",
                quoted(&around.before, inner),
                quoted(&[bos], inner)
            ));
        }
        notes
    }

    /// What of them a language model does otherwise.
    pub fn unfollowed_end(
        around: &Around,
        inner: &tokenizers::Tokenizer,
        file: &str,
    ) -> Option<String> {
        (!around.after.is_empty()).then(|| {
            format!(
                "{file} puts {} after each text; here a text to train on ends with the model's end \
                 token, and one to go on with does not",
                quoted(&around.after, inner)
            )
        })
    }

    /// What tokenizer_config.json says of the ends of texts, and the tokenizer's file otherwise.
    fn not_followed(
        &self,
        around: &Around,
        inner: &tokenizers::Tokenizer,
        file: &str,
    ) -> Vec<String> {
        let sides = [
            ("add_bos_token", self.flags.0, &around.before, "before"),
            ("add_eos_token", self.flags.1, &around.after, "after"),
        ];
        let note = |(key, told, ids, side): (&str, Option<bool>, &Vec<u32>, &str)| {
            let told = told.filter(|told| *told == ids.is_empty())?;
            Some(format!(
                "tokenizer_config.json says `{key}`: {told}, and {file} puts {} {side} a text: the \
                 latter counts, as in transformers 5 (version 4 followed the former for \
                 LlamaTokenizerFast)",
                quoted(ids, inner),
            ))
        };
        sides.into_iter().filter_map(note).collect()
    }
}

/// Errors (class data): a key that asks for another file or another class.
fn check_refused(settings: &Value) -> Result<()> {
    for (key, what) in REFUSED {
        if settings
            .get(key)
            .is_some_and(|v| !v.is_null() && v.as_array().is_none_or(|list| !list.is_empty()))
        {
            bail!(Data, "tokenizer_config.json: `{key}` ({what}) is not read");
        }
    }
    Ok(())
}

/// Errors (class data): another file for some versions of transformers.
fn check_versions(settings: &Value) -> Result<()> {
    let versions = settings["fast_tokenizer_files"].as_array().into_iter().flatten();
    let other = versions.filter_map(Value::as_str).find(|name| *name != "tokenizer.json");
    let Some(other) = other else { return Ok(()) };
    Err(error!(
        Data,
        "tokenizer_config.json: `fast_tokenizer_files` names `{other}` for some versions of \
         transformers";
        hint: "keep the file that is meant as tokenizer.json, and take `fast_tokenizer_files` out"
    )
    .into())
}

/// Errors (class data): a side that is neither left nor right.
fn check_sides(settings: &Value) -> Result<()> {
    for key in ["padding_side", "truncation_side"] {
        if let Some(side) = settings.get(key)
            && !matches!(side.as_str(), Some("left" | "right"))
        {
            bail!(Data, "tokenizer_config.json: `{key}` is {side}; sides are `left` and `right`");
        }
    }
    Ok(())
}

/// Whether a text that is too long loses its beginning.
pub(super) fn cuts_left(settings: &Value) -> bool {
    settings["truncation_side"] == "left"
}

/// The error for Mistral's regex where the file has another.
fn other_regex() -> Error {
    error!(
        Data,
        "tokenizer_config.json: `fix_mistral_regex` asks for another regex than that of \
         tokenizer.json";
        hint: "load it with transformers and save it with `save_pretrained`: its tokenizer.json \
               then has the regex"
    )
}

/// Whether BOS and EOS are in the template of a class that makes its own; `flags` are those of
/// tokenizer_config.json.
fn ends(
    class: TokenizerClass,
    file: Option<&Value>,
    flags: (Option<bool>, Option<bool>),
) -> Option<(bool, bool)> {
    match (class, file) {
        // The flags in the file are taken out where there is a tokenizer.json, and the class has
        // its own.
        (TokenizerClass::CodeLlama, Some(_)) => Some((true, false)),
        (TokenizerClass::CodeLlama, None) => {
            Some((flags.0.unwrap_or(true), flags.1.unwrap_or(false)))
        }
        (TokenizerClass::GptNeoX, Some(_)) => Some((false, false)),
        (_, None) => Some((flags.0.unwrap_or(false), flags.1.unwrap_or(false))),
        (_, Some(file)) if file["post_processor"].is_null() => Some((false, false)),
        _ => None,
    }
}

/// The note where tokenizer_config.json and tokenizer.json disagree on a space before the text.
fn other_prefix(settings: &Value, class: TokenizerClass, file: Option<&Value>) -> Option<String> {
    let prefix = settings["add_prefix_space"].as_bool()?;
    let theirs = file?["pre_tokenizer"]["add_prefix_space"].as_bool()?;
    (class == TokenizerClass::File && prefix != theirs).then(|| {
        format!(
            "tokenizer_config.json says `add_prefix_space`: {prefix}, tokenizer.json {theirs}; the \
             latter counts, as in transformers 5 (version 4 followed the former)"
        )
    })
}

/// Tokens as a message shows them.
fn quoted(ids: &[u32], inner: &tokenizers::Tokenizer) -> String {
    if ids.is_empty() {
        return "none".to_owned();
    }
    let token = |id: &u32| format!("`{}`", inner.id_to_token(*id).unwrap_or_default());
    ids.iter().map(token).collect::<Vec<_>>().join(" ")
}

/// What the post-processor puts before and after a text.
pub(super) fn around(inner: &tokenizers::Tokenizer) -> Result<Around> {
    let ids = |special| -> Result<Vec<u32>> {
        let encoding = inner.encode_fast("a", special).map_err(|e| error!(Data, "{e}"))?;
        Ok(encoding.get_ids().to_vec())
    };
    let (plain, whole) = (ids(false)?, ids(true)?);
    // An empty text has no place of its own: what is put is put before it.
    let at =
        (0..=whole.len().saturating_sub(plain.len())).find(|at| whole[*at..].starts_with(&plain));
    let Some(at) = at else { bail!(Data, "its post-processor changes the tokens of a text") };
    Ok(Around { before: whole[..at].to_vec(), after: whole[at + plain.len()..].to_vec() })
}

/// Whether `_patch_mistral_regex` of transformers 5 looks at the tokenizer of a model with this
/// config.
fn may_be_mistral(config: &Value) -> bool {
    let old = config["transformers_version"].as_str().is_none_or(|version| {
        version
            .split('.')
            .next()
            .is_some_and(|major| major.parse::<u32>().is_ok_and(|major| major < 5))
    });
    let kind = config["model_type"].as_str();
    old && kind.is_none_or(|kind| {
        matches!(kind, "mistral" | "mistral3" | "voxtral" | "ministral" | "pixtral")
    })
}
