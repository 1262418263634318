//! Special and added tokens: what tokenizer_config.json, special_tokens_map.json, added_tokens.json
//! and tokenizer.json say of them, put together as transformers 5 does (`_from_pretrained` and the
//! constructors, `tokenization_utils_base.py`).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::{Map, Value, json};
use tokenizers::AddedToken;

use super::tokenizer_class::TokenizerClass;
use crate::error::{bail, error};

/// Roles that every tokenizer may have, in the order in which new tokens are added.
const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The key of special tokens without a role, and the one that it has in version 4 of transformers.
const EXTRA: &str = "extra_special_tokens";
const ADDITIONAL: &str = "additional_special_tokens";

/// What the files say.
pub(super) struct Files<'a> {
    /// `tokenizer_config.json`.
    pub settings: &'a Value,
    /// `special_tokens_map.json`.
    pub map: Option<&'a Value>,
    /// `added_tokens.json`.
    pub added: Option<&'a Value>,
    /// `tokenizer.json`.
    pub file: Option<&'a Value>,
    /// What a SentencePiece model gives.
    pub pieces: Option<MarkedTokens>,
}

/// Tokens that a SentencePiece model marks, and roles that it gives where no file does.
pub(super) struct MarkedTokens {
    pub marked: Vec<Token>,
    pub roles: Vec<(&'static str, String)>,
    /// Added tokens are found in the text as it is written, before it is normalized.
    pub raw: bool,
}

impl MarkedTokens {
    /// Puts them where no file says otherwise.
    fn put(&self, said: &mut Map<String, Value>, added: &mut BTreeMap<u64, Token>) {
        if self.raw {
            added.values_mut().for_each(|token| token.normalized = Some(false));
        }
        said.insert(ADDITIONAL.into(), self.marked.iter().map(Token::json).collect());
        for (role, token) in &self.roles {
            said.entry(*role).or_insert_with(|| json!(token));
        }
    }
}

/// A token with its flags; those that are not given follow from whether it is special.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub content: String,
    pub single_word: bool,
    pub lstrip: bool,
    pub rstrip: bool,
    pub normalized: Option<bool>,
    pub special: bool,
}

impl Token {
    /// A token that is written as plain text in a file.
    pub fn new(content: &str, special: bool, normalized: Option<bool>) -> Self {
        Self {
            content: content.to_owned(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized,
            special,
        }
    }

    /// A token with its flags; `None` for another kind of value. Errors (class data): a flag of the
    /// wrong type.
    fn read(value: &Value, place: &str) -> Result<Option<Self>> {
        let Some(content) = value["content"].as_str() else { return Ok(None) };
        let flag = |key: &str| -> Result<Option<bool>> {
            match &value[key] {
                Value::Null => Ok(None),
                Value::Bool(flag) => Ok(Some(*flag)),
                other => bail!(
                    Data,
                    "{place}: `{key}` of the token `{content}` is {other}, neither true nor false"
                ),
            }
        };
        let on = |key: &str| -> Result<bool> { Ok(flag(key)?.unwrap_or(false)) };
        Ok(Some(Self {
            content: content.to_owned(),
            single_word: on("single_word")?,
            lstrip: on("lstrip")?,
            rstrip: on("rstrip")?,
            normalized: flag("normalized")?,
            special: on("special")?,
        }))
    }

    fn built(&self) -> AddedToken {
        AddedToken::from(self.content.clone(), self.special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.normalized.unwrap_or(!self.special))
    }

    fn json(&self) -> Value {
        let mut json = json!({
            "content": self.content, "single_word": self.single_word, "lstrip": self.lstrip,
            "rstrip": self.rstrip, "special": self.special,
        });
        if let Some(normalized) = self.normalized {
            json["normalized"] = normalized.into();
        }
        json
    }
}

/// A value of a role or a list: a token as text, or with its flags.
#[derive(Clone, Debug)]
enum TokenValue {
    Text(String),
    Token(Token),
}

impl TokenValue {
    fn read(value: &Value, place: &str) -> Result<Self> {
        match value {
            Value::String(text) => Ok(TokenValue::Text(text.clone())),
            other => match Token::read(other, place)? {
                Some(token) => Ok(TokenValue::Token(token)),
                None => bail!(Data, "{place} is {other}, which is no token"),
            },
        }
    }

    fn content(&self) -> &str {
        match self {
            TokenValue::Text(text) => text,
            TokenValue::Token(token) => &token.content,
        }
    }

    /// The token, special unless its flags say otherwise.
    fn token(&self) -> Token {
        match self {
            TokenValue::Text(text) => Token::new(text, true, None),
            TokenValue::Token(token) => token.clone(),
        }
    }
}

/// The tokens of a tokenizer beside its vocabulary.
pub(super) struct AddedTokens {
    /// By role, the seven usual ones first.
    roles: Vec<(String, Option<TokenValue>)>,
    /// Special tokens without a role.
    extra: Vec<TokenValue>,
    /// By the id that a file gives.
    added: BTreeMap<u64, Token>,
}

impl AddedTokens {
    /// Errors (class data): a value that is no token.
    pub fn read(files: &Files, class: TokenizerClass) -> Result<Self> {
        let mut said = files.settings.as_object().cloned().unwrap_or_default();
        if !truthy(said.get(EXTRA)) {
            rename_additional(&mut said);
        }
        let mut own = named(&mut said);
        own.extend(take_map(&mut said, "model_specific_special_tokens"));
        let mut added = added(files, &mut said, &mut own)?;
        if let Some(pieces) = &files.pieces {
            pieces.put(&mut said, &mut added);
        }
        if !said.contains_key(EXTRA) {
            rename_additional(&mut said);
        }
        if let Some(token) = files.file.and_then(|file| file["padding"]["pad_token"].as_str()) {
            said.entry("pad_token").or_insert_with(|| json!(token));
        }
        for (role, token) in class.tokens() {
            said.entry(*role).or_insert_with(|| json!(token));
        }
        Ok(Self { roles: roles(&said, own, &added)?, extra: extra(&said)?, added })
    }

    /// The tokens with a role, then those without.
    fn special(&self) -> impl Iterator<Item = &TokenValue> {
        self.roles.iter().filter_map(|(_, said)| said.as_ref()).chain(&self.extra)
    }

    /// All tokens, in the order in which they are added to those that the tokenizer knows.
    fn all(&self, inner: &tokenizers::Tokenizer) -> Vec<Token> {
        let mut known: BTreeSet<String> =
            inner.get_added_tokens_decoder().values().map(|token| token.content.clone()).collect();
        let mut tokens: Vec<Token> = self.added.values().cloned().collect();
        known.extend(tokens.iter().map(|token| token.content.clone()));
        for said in self.special() {
            if known.insert(said.content().to_owned()) {
                tokens.push(said.token());
            }
        }
        let with_role: BTreeSet<&str> =
            self.roles.iter().filter_map(|(_, said)| Some(said.as_ref()?.content())).collect();
        for token in &mut tokens {
            token.special |= with_role.contains(token.content.as_str());
        }
        tokens
    }

    /// Adds the tokens that the vocabulary lacks, and gives those that it has their flags. Returns
    /// those that are new.
    pub fn add(
        &self,
        inner: &mut tokenizers::Tokenizer,
        class: TokenizerClass,
    ) -> Result<Vec<(String, u32)>> {
        let tokens = self.all(inner);
        let new: Vec<String> = tokens
            .iter()
            .map(|token| token.content.clone())
            .filter(|content| inner.token_to_id(content).is_none())
            .collect();
        let library = |e: tokenizers::Error| error!(Data, "the tokens cannot be added: {e}");
        inner.add_tokens(tokens.iter().map(Token::built)).map_err(library)?;
        if class == TokenizerClass::Qwen2 {
            let special = self.special().map(|said| Token::new(said.content(), true, None).built());
            inner.add_tokens(special).map_err(library)?;
        }
        let id = |token: String| inner.token_to_id(&token).map(|id| (token, id));
        Ok(new.into_iter().filter_map(id).collect())
    }

    /// The tokens of which a file gives another id than the vocabulary does: token, id of the file,
    /// id.
    pub fn moved(&self, inner: &tokenizers::Tokenizer) -> Vec<(String, u64, u32)> {
        let id = |(told, token): (&u64, &Token)| {
            Some((token.content.clone(), *told, inner.token_to_id(&token.content)?))
        };
        self.added.iter().filter_map(id).filter(|(_, told, id)| *told != u64::from(*id)).collect()
    }

    /// The token of a role.
    pub fn role(&self, role: &str) -> Option<&str> {
        self.roles.iter().find(|(name, _)| name == role)?.1.as_ref().map(TokenValue::content)
    }

    /// The tokens by role, as chat templates see them.
    pub fn named(&self) -> Vec<(String, String)> {
        self.roles
            .iter()
            .filter_map(|(role, said)| Some((role.clone(), said.as_ref()?.content().to_owned())))
            .collect()
    }
}

/// Whether a key names a token of a role that only some models have.
fn is_named(key: &str) -> bool {
    key.ends_with("_token") && !ROLES.contains(&key)
}

/// Whether a value is neither null nor an empty list or map.
fn truthy(value: Option<&Value>) -> bool {
    value.is_some_and(|v| {
        !v.is_null()
            && v.as_array().is_none_or(|a| !a.is_empty())
            && v.as_object().is_none_or(|o| !o.is_empty())
    })
}

/// Puts what stands under the key of version 4 under that of version 5.
fn rename_additional(said: &mut Map<String, Value>) {
    if let Some(old) = said.remove(ADDITIONAL) {
        said.insert(EXTRA.into(), old);
    }
}

/// Takes a map out of the settings; it is empty where they hold none.
fn take_map(said: &mut Map<String, Value>, key: &str) -> Map<String, Value> {
    match said.remove(key) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// Takes the map of special tokens by role, where there is one and no list, out of the settings.
fn take_extra(said: &mut Map<String, Value>) -> Map<String, Value> {
    if said.get(EXTRA).is_some_and(Value::is_object) { take_map(said, EXTRA) } else { Map::new() }
}

/// Takes the tokens of such roles out of the settings.
fn named(said: &mut Map<String, Value>) -> Map<String, Value> {
    let keys: Vec<String> = said
        .iter()
        .filter(|(key, value)| is_named(key) && value.is_string())
        .map(|(key, _)| key.clone())
        .collect();
    let mut own: Map<String, Value> =
        keys.into_iter().filter_map(|key| said.remove_entry(&key)).collect();
    own.extend(take_extra(said));
    own
}

/// The added tokens by id. Where tokenizer_config.json does not give them, special_tokens_map.json
/// overrides its roles, and added_tokens.json and tokenizer.json give them.
fn added(
    files: &Files,
    said: &mut Map<String, Value>,
    own: &mut Map<String, Value>,
) -> Result<BTreeMap<u64, Token>> {
    if let Some(decoder) = said.get("added_tokens_decoder") {
        return by_id(decoder);
    }
    for (key, value) in files.map.and_then(Value::as_object).into_iter().flatten() {
        override_by(said, key, value.clone());
    }
    own.extend(take_extra(said));
    let special = special(said);
    let mut added = BTreeMap::new();
    for (token, id) in files.added.and_then(Value::as_object).into_iter().flatten() {
        let Some(id) = id.as_u64() else {
            bail!(Data, "added_tokens.json: the id of `{token}` is {id}")
        };
        let is_special = special.contains(token);
        added.insert(id, Token::new(token, is_special, Some(!is_special)));
    }
    for value in files.file.and_then(|file| file["added_tokens"].as_array()).into_iter().flatten() {
        if let (Some(id), Some(token)) =
            (value["id"].as_u64(), Token::read(value, "`added_tokens`")?)
        {
            added.insert(id, token);
        }
    }
    Ok(added)
}

/// The tokens of `added_tokens_decoder`.
fn by_id(decoder: &Value) -> Result<BTreeMap<u64, Token>> {
    let Some(decoder) = decoder.as_object() else {
        bail!(Data, "`added_tokens_decoder` is no map")
    };
    let mut added = BTreeMap::new();
    for (id, value) in decoder {
        match (id.parse(), Token::read(value, "`added_tokens_decoder`")?) {
            (Ok(id), Some(token)) => drop(added.insert(id, token)),
            _ => bail!(Data, "`added_tokens_decoder`: `{id}` is {value}, not an id with a token"),
        }
    }
    Ok(added)
}

/// Puts what special_tokens_map.json says of a key in the place of what tokenizer_config.json says;
/// a list of further tokens adds to its list.
fn override_by(said: &mut Map<String, Value>, key: &str, mut value: Value) {
    if let Some(list) = value.as_array().filter(|_| key == EXTRA) {
        let mut all = said.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let new: Vec<Value> = list.iter().filter(|token| !all.contains(token)).cloned().collect();
        all.extend(new);
        value = all.into();
    } else if value["content"].is_string() {
        value["special"] = true.into();
    }
    said.insert(key.to_owned(), value);
}

/// The contents of the special tokens that the settings name.
fn special(said: &Map<String, Value>) -> BTreeSet<String> {
    let extra = said.get(EXTRA).and_then(Value::as_array).into_iter().flatten();
    let content =
        |value: &Value| value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned);
    ROLES.iter().filter_map(|role| said.get(*role)).chain(extra).filter_map(content).collect()
}

/// The tokens by role: the usual ones with the flags that an added token has, those of the settings
/// beside them, and those that are the model's `own`.
fn roles(
    said: &Map<String, Value>,
    own: Map<String, Value>,
    added: &BTreeMap<u64, Token>,
) -> Result<Vec<(String, Option<TokenValue>)>> {
    let read = |role: &str, value: &Value| TokenValue::read(value, &format!("`{role}`"));
    let by_content: BTreeMap<&str, &Token> =
        added.values().map(|token| (token.content.as_str(), token)).collect();
    let mut roles = vec![];
    for role in ROLES {
        let value = said.get(role).filter(|value| !value.is_null());
        let token = value.map(|value| read(role, value)).transpose()?;
        let known = token.as_ref().and_then(|said| by_content.get(said.content()));
        roles.push((
            role.to_owned(),
            known.map(|token| TokenValue::Token((*token).clone())).or(token),
        ));
    }
    let is_token = |value: &Value| value.is_string() || value["content"].is_string();
    let mut more: Map<String, Value> = said
        .iter()
        .filter(|(key, value)| is_named(key) && is_token(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    more.extend(own);
    for (role, value) in &more {
        roles.push((role.clone(), Some(read(role, value)?)));
    }
    Ok(roles)
}

/// The special tokens without a role.
fn extra(said: &Map<String, Value>) -> Result<Vec<TokenValue>> {
    match said.get(EXTRA) {
        None | Some(Value::Null) => Ok(vec![]),
        Some(Value::Array(list)) => {
            list.iter().map(|value| TokenValue::read(value, "`extra_special_tokens`")).collect()
        }
        Some(other) => {
            bail!(Data, "`extra_special_tokens` is {other}, neither a list nor a map of tokens")
        }
    }
}
