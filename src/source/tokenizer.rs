//! Text to token ids and back: a `tokenizer.json`, or the vocabulary inside a GGUF file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::model::{self, TOKENIZER};
use super::{Gguf, model::OTHERS};
use super::{tokenizer_gguf, tokenizer_train};
use crate::bail_data;
use crate::error::Error;

const CONFIG: &str = "tokenizer_config.json";
const TEMPLATE: &str = "chat_template.jinja";

/// A tokenizer and what a model wants to know beside it.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocab_size: usize,
    pub(super) special: Special,
    chat_template: Option<String>,
    add_bos: bool,
    /// The folder it was read from; `None` where it was made here, came out of a GGUF file or is embedded.
    folder: Option<PathBuf>,
    /// What a person should know of its files: what was decided where they disagree, what was recognised.
    notes: Vec<String>,
}

/// The ids of the tokens that have a role.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Special {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unk: Option<u32>,
    pub pad: Option<u32>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, and beside it `tokenizer_config.json` and `chat_template.jinja` where they exist.
    /// Truncation and padding that it asks for are switched off.
    ///
    /// Errors (class data): a file that is missing or damaged.
    pub fn from_file(path: &Path) -> Result<Self> {
        let shown = path.display();
        let bytes = std::fs::read(path).map_err(|e| Error::data(format!("cannot read tokenizer `{shown}`: {e}")))?;
        let inner = parsed(&bytes).with_context(|| format!("tokenizer `{shown}`"))?;

        let folder = path.parent().unwrap_or(Path::new("."));
        let beside = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        let config = beside(CONFIG).map(|path| model::json(&path)).transpose()?.unwrap_or_default();
        let id = |role: &str| {
            let token = &config[role];
            inner.token_to_id(token.as_str().or_else(|| token["content"].as_str())?)
        };
        let special = Special { bos: id("bos_token"), eos: id("eos_token"), unk: id("unk_token"), pad: id("pad_token") };
        let chat_template = match beside(TEMPLATE) {
            Some(path) => Some(std::fs::read_to_string(&path).map_err(|e| Error::data(format!("cannot read `{}`: {e}", path.display())))?),
            None => template_of(&config["chat_template"]),
        };
        let add_bos = match config["add_bos_token"].as_bool() {
            Some(add) => add,
            None => {
                let empty = inner.encode_fast("", true).map_err(|e| Error::data(format!("tokenizer `{shown}`: {e}")))?;
                special.bos.is_some() && empty.get_ids().first().copied() == special.bos
            }
        };
        let vocab_size = highest(&inner);
        Ok(Self { inner, vocab_size, special, chat_template, add_bos, folder: Some(folder.to_owned()), notes: vec![] })
    }

    /// Builds the tokenizer that a GGUF file describes: byte-level BPE (`gpt2`) or SentencePiece BPE (`llama`).
    ///
    /// Errors (class data): no vocabulary, or one of another kind or with an unknown pre-tokenizer.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let built = tokenizer_gguf::build(gguf).with_context(|| format!("tokenizer in `{}`", gguf.path().display()))?;
        Ok(Self {
            vocab_size: highest(&built.inner),
            inner: built.inner,
            special: built.special,
            chat_template: built.chat_template,
            add_bos: built.add_bos,
            folder: None,
            notes: vec![],
        })
    }

    /// Reads a `tokenizer.json` that is embedded in the program; what ends a text comes from the model's config.
    pub fn embedded(bytes: &[u8]) -> Result<Self> {
        let inner = parsed(bytes).context("embedded tokenizer")?;
        Ok(Self {
            vocab_size: highest(&inner),
            inner,
            special: Special::default(),
            chat_template: None,
            add_bos: false,
            folder: None,
            notes: vec![],
        })
    }

    /// Trains byte-level BPE of at most `size` tokens on `texts`. Errors: a size that is too small (class data).
    pub fn train(texts: Vec<String>, size: usize) -> Result<Self> {
        let inner = tokenizer_train::train(texts.into_iter(), size)?;
        let special = Special { eos: inner.token_to_id(tokenizer_train::END), ..Special::default() };
        Ok(Self { vocab_size: highest(&inner), inner, special, chat_template: None, add_bos: false, folder: None, notes: vec![] })
    }

    /// What a person should know of its files, a line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Takes the ids that the model's `config.json` gives, where the tokenizer's own files gave none.
    pub fn with_special_ids(mut self, bos: Option<u32>, eos: Option<u32>) -> Self {
        self.special.bos = self.special.bos.or(bos);
        self.special.eos = self.special.eos.or(eos);
        self
    }

    /// The ids of a text. None is added to it, but special tokens written in the text are recognised.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(|e| Error::data(format!("cannot tokenize the text: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids; unknown ids give nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        Ok(self.inner.decode(ids, skip_special).map_err(|e| Error::data(format!("cannot decode the tokens: {e}")))?)
    }

    /// The token of an id, as the vocabulary writes it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token, as the vocabulary writes it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// One more than the highest id, added tokens included: the rows that an embedding needs.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The tokenizer as the text of a `tokenizer.json`.
    pub(super) fn json(&self) -> Result<String> {
        self.inner.to_string(false).map_err(|e| Error::run(format!("cannot write the tokenizer: {e}")).into())
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.special.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.special.eos
    }

    /// Whether the model expects each text to begin with [`Self::bos`].
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// The Jinja template that turns a conversation into a text.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// Writes the tokenizer into a model folder, in the form that transformers' `AutoTokenizer` loads: the original
    /// files, or for one out of a GGUF file `tokenizer.json` and `tokenizer_config.json`.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
        };
        let Some(original) = &self.folder else {
            let text = self.inner.to_string(false).map_err(|e| Error::run(format!("cannot write the tokenizer: {e}")))?;
            write(TOKENIZER, &text)?;
            return write(CONFIG, &serde_json::to_string_pretty(&self.config())?);
        };
        for name in std::iter::once(TOKENIZER).chain(OTHERS.into_iter().filter(|name| *name != "generation_config.json")) {
            let (from, to) = (original.join(name), folder.join(name));
            // Copying a file onto itself would empty it.
            let same = to.canonicalize().is_ok_and(|to| from.canonicalize().is_ok_and(|from| from == to));
            if from.is_file() && !same {
                std::fs::copy(&from, &to).with_context(|| format!("cannot copy `{}` to `{}`", from.display(), to.display()))?;
            }
        }
        Ok(())
    }

    /// `tokenizer_config.json` of a tokenizer out of a GGUF file.
    fn config(&self) -> Value {
        let mut config = Map::new();
        config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
        let Special { bos, eos, unk, pad } = self.special;
        for (role, id) in [("bos_token", bos), ("eos_token", eos), ("unk_token", unk), ("pad_token", pad)] {
            if let Some(token) = id.and_then(|id| self.token(id)) {
                config.insert(role.into(), json!(token));
            }
        }
        config.insert("add_bos_token".into(), json!(self.add_bos));
        if let Some(template) = &self.chat_template {
            config.insert("chat_template".into(), json!(template));
        }
        config.insert("clean_up_tokenization_spaces".into(), json!(false));
        Value::Object(config)
    }
}

/// What a `tokenizer.json` describes, without the truncation and padding that it asks for.
fn parsed(bytes: &[u8]) -> Result<tokenizers::Tokenizer> {
    check_merges(bytes)?;
    let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| Error::data(format!("it is damaged: {e}")))?;
    inner.with_truncation(None).map_err(|e| Error::data(format!("{e}")))?;
    inner.with_padding(None);
    Ok(inner)
}

/// One more than the highest id.
fn highest(inner: &tokenizers::Tokenizer) -> usize {
    inner.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1)
}

/// A template given as text, or as a list of named ones, of which `default` counts.
fn template_of(value: &Value) -> Option<String> {
    let named = |list: &Vec<Value>| {
        list.iter().find(|entry| entry["name"] == "default").and_then(|entry| entry["template"].as_str().map(str::to_owned))
    };
    value.as_str().map(str::to_owned).or_else(|| value.as_array().and_then(named))
}

/// Refuses BPE merges that name no token: the library's builder would panic on some of them.
fn check_merges(bytes: &[u8]) -> Result<()> {
    let json: Value = serde_json::from_slice(bytes).map_err(|e| Error::data(format!("it is not valid JSON: {e}")))?;
    let model = &json["model"];
    let (Some(vocab), Some(merges)) = (model["vocab"].as_object(), model["merges"].as_array()) else { return Ok(()) };
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default();
    for (row, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Value::String(text) => text.split_once(' '),
            Value::Array(pair) => pair.first().and_then(Value::as_str).zip(pair.get(1).and_then(Value::as_str)),
            _ => None,
        };
        let joined = pair.and_then(|(left, right)| Some(format!("{left}{}", right.strip_prefix(prefix)?)));
        if !joined.is_some_and(|joined| vocab.contains_key(&joined)) {
            bail_data!("merge {row} ({merge}) does not give a token of the vocabulary");
        }
    }
    Ok(())
}
