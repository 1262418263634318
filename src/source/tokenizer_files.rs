//! The tokenizer of a model folder: its files, which may disagree, made into one as transformers 5
//! does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::file_names::{
    ADDED_TOKENS, CONFIG, MERGES, SENTENCEPIECE, SPECIAL_TOKENS_MAP, TOKENIZER, TOKENIZER_CONFIG,
    VOCAB,
};
use super::sentencepiece::SentencePiece;
use super::tokenizer_class::{self, TokenizerClass};
use super::tokenizer_settings::{self, TokenizerSettings};
use super::tokenizer_special::Special;
use super::tokenizer_template::{self, Templates};
use super::tokenizer_tokens::{AddedTokens, Files, MarkedTokens};
use super::{lfs, text_file, tokenizer_json, tokenizer_pieces};
use crate::error::{Error, bail, error};

/// A tokenizer and what its files say beside it.
pub(super) struct Read {
    pub inner: tokenizers::Tokenizer,
    pub special: Special,
    /// Special tokens by role, as chat templates see them.
    pub roles: Vec<(String, String)>,
    pub templates: Templates,
    /// What stands before each text.
    pub begin: Vec<u32>,
    /// Spaces before punctuation are taken out of decoded texts.
    pub clean_up: bool,
    pub notes: Vec<String>,
    /// What a language model does otherwise than the files say of the end of a text.
    pub unfollowed_end: Option<String>,
    /// Whether models are told which text of a pair a token belongs to.
    pub types: bool,
    /// Whether a text that is too long loses its beginning.
    pub cuts_left: bool,
    /// The folder whose files are copied when it is saved; `None` where no tokenizer.json is among
    /// them.
    pub folder: Option<PathBuf>,
}

/// The files that a tokenizer is read from, the first that are all there.
pub(super) fn choose(there: impl Fn(&str) -> bool) -> Option<&'static [&'static str]> {
    let choices: [&[&str]; 3] = [&[TOKENIZER], &[SENTENCEPIECE], &[VOCAB, MERGES]];
    choices.into_iter().find(|names| names.iter().all(|name| there(name)))
}

/// The file of a folder that its tokenizer is read from.
///
/// Errors (class data): none that can be read; the message names what is there.
pub(super) fn find(folder: &Path) -> Result<PathBuf> {
    let there = |name: &str| folder.join(name).is_file();
    let other = [
        ("tekken.json", "a tokenizer of Mistral's own format"),
        ("tiktoken.model", "a vocabulary of tiktoken"),
        ("qwen.tiktoken", "a vocabulary of tiktoken"),
        (VOCAB, "a vocabulary without its merges.txt"),
        ("vocab.txt", "a vocabulary of word pieces"),
    ];
    let other = other.into_iter().find(|(name, _)| there(name));
    match (choose(there), other) {
        (Some([name, ..]), _) => Ok(folder.join(name)),
        (_, Some((name, what))) => Err(only(folder, &format!("{name}, {what}")).into()),
        _ => Err(error!(
            Data,
            "model folder `{}` has no {TOKENIZER}",
            folder.display();
            hint: "a tokenizer is {TOKENIZER}, {SENTENCEPIECE} (SentencePiece), or {VOCAB} with \
                   {MERGES}"
        )
        .into()),
    }
}

/// An error about what a folder holds in the place of a tokenizer.json, with the command that makes
/// one.
fn only(folder: &Path, what: &str) -> Error {
    let folder = folder.display();
    error!(
        Data,
        "model folder `{folder}` has no {TOKENIZER}, only {what}";
        hint: "python -c \"from transformers import AutoTokenizer; \
               AutoTokenizer.from_pretrained('{folder}').save_pretrained('{folder}')\""
    )
}

/// Reads a tokenizer with what lies beside it in its folder.
///
/// Errors (class data): a file that is missing, damaged or of an unknown kind.
pub(super) fn read(path: &Path) -> Result<Read> {
    let shown = path.display();
    let bytes =
        std::fs::read(path).map_err(|e| error!(Data, "cannot read tokenizer `{shown}`: {e}"))?;
    if lfs::is_pointer(&bytes) {
        return Err(lfs::pointer_error(path).into());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let beside = |name: &str| -> Result<Option<Value>> {
        let path = folder.join(name);
        if path.is_file() { text_file::json(&path).map(Some) } else { Ok(None) }
    };
    let settings = beside(TOKENIZER_CONFIG)?.unwrap_or_else(|| json!({}));
    let config = beside(CONFIG)?.unwrap_or_default();
    let (map, added) = (beside(SPECIAL_TOKENS_MAP)?, beside(ADDED_TOKENS)?);
    let place = || format!("tokenizer `{shown}`");
    let parts = TokenizerParts {
        path,
        bytes: &bytes,
        folder,
        settings: &settings,
        config: &config,
        map: map.as_ref(),
        added: added.as_ref(),
    };
    parts.read().with_context(place)
}

/// What is read, on the way.
struct TokenizerParts<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    folder: &'a Path,
    settings: &'a Value,
    config: &'a Value,
    map: Option<&'a Value>,
    added: Option<&'a Value>,
}

impl TokenizerParts<'_> {
    fn read(&self) -> Result<Read> {
        if !self.settings.is_object() {
            bail!(Data, "{TOKENIZER_CONFIG} is no map");
        }
        let name = self.path.file_name().unwrap_or_default();
        let is_file = name != SENTENCEPIECE && name != VOCAB;
        let class = TokenizerClass::of(self.settings, self.config, is_file.then_some(self.bytes))?;
        let file = if is_file { Some(tokenizer_json::checked(self.bytes)?) } else { None };
        let mut files = Files {
            settings: self.settings,
            map: self.map,
            added: self.added,
            file: file.as_ref(),
            pieces: None,
        };
        let mut notes = vec![];
        let inner = match &file {
            Some(file) => self.of_file(file, class, &mut notes)?,
            None if name == SENTENCEPIECE => self.of_pieces(class, &mut files, &mut notes)?,
            None => self.of_vocabulary(class)?,
        };
        self.completed(inner, class, &files, notes)
    }

    /// A tokenizer with all that the files say beside it.
    fn completed(
        &self,
        mut inner: tokenizers::Tokenizer,
        class: TokenizerClass,
        files: &Files,
        mut notes: Vec<String>,
    ) -> Result<Read> {
        let size = inner.get_vocab_size(true);
        let settings =
            TokenizerSettings::read(self.settings, self.config, class, files.file, size)?;
        let tokens = AddedTokens::read(files, class)?;
        notes.extend(self.add(&tokens, class, &mut inner)?);
        inner.set_encode_special_tokens(settings.split_special_tokens);
        settings.post_process(&mut inner, &tokens)?;
        let around = tokenizer_settings::around(&inner)?;
        let special = special(&tokens, &inner);
        let file = shown(self.path);
        notes.extend(settings.notes(&around, special, &inner, &file));
        let unfollowed_end = TokenizerSettings::unfollowed_end(&around, &inner, &file);
        let templates = tokenizer_template::find(self.folder, self.settings, &mut notes)?;
        Ok(Read {
            special,
            roles: tokens.named(),
            templates,
            begin: around.before,
            clean_up: settings.clean_up,
            notes,
            unfollowed_end,
            cuts_left: tokenizer_settings::cuts_left(self.settings),
            types: tokenizer_settings::has_types(self.settings, class)?,
            folder: files.file.map(|_| self.folder.to_owned()),
            inner,
        })
    }

    /// Adds special and added tokens. Returns what a person should know of them.
    fn add(
        &self,
        tokens: &AddedTokens,
        class: TokenizerClass,
        inner: &mut tokenizers::Tokenizer,
    ) -> Result<Vec<String>> {
        let new = tokens.add(inner, class)?;
        let new = (!new.is_empty()).then(|| new_tokens(&new, self.path));
        let moved = tokens.moved(inner).into_iter().take(3).map(|(token, told, id)| {
            format!(
                "the files beside {} give `{token}` the id {told}; it has {id}, as in transformers \
                 5",
                shown(self.path)
            )
        });
        Ok(new.into_iter().chain(moved).collect())
    }

    /// A tokenizer.json as it is, or built anew by a class that does so.
    fn of_file(
        &self,
        file: &Value,
        class: TokenizerClass,
        notes: &mut Vec<String>,
    ) -> Result<tokenizers::Tokenizer> {
        if class == TokenizerClass::File {
            return tokenizer_json::built(self.bytes);
        }
        let kind = file["model"]["type"].as_str().unwrap_or("BPE");
        if kind != class.model() {
            return Err(other_model(class, kind).into());
        }
        let (vocab, merges) = tokenizer_class::vocabulary(file);
        let rebuilt = class
            .rebuilt(vocab, merges, file["post_processor"].clone(), self.settings)?
            .unwrap_or_default();
        let other = tokenizer_class::differences(file, &rebuilt);
        if !other.is_empty() {
            notes.push(format!(
                "texts are split by the rules of the class {}, as in transformers 5, and not by {} \
                 of {TOKENIZER}, as in version 4",
                class.name(),
                other.join(" and "),
            ));
        }
        tokenizer_json::built(&serde_json::to_vec(&rebuilt)?)
    }

    /// A SentencePiece model.
    fn of_pieces(
        &self,
        class: TokenizerClass,
        files: &mut Files,
        notes: &mut Vec<String>,
    ) -> Result<tokenizers::Tokenizer> {
        if is_tiktoken(self.bytes) {
            return Err(only(
                self.folder,
                "tokenizer.model, a vocabulary of tiktoken (base64), not of SentencePiece",
            )
            .into());
        }
        let model = SentencePiece::read(self.bytes)
            .map_err(|e| only(self.folder, &format!("{SENTENCEPIECE}: {e}")))?;
        let built = tokenizer_pieces::build(&model, class, self.settings, &self.names())?;
        notes.extend(built.notes);
        files.pieces = Some(MarkedTokens {
            marked: built.marked,
            roles: built.roles,
            raw: class == TokenizerClass::File && model.add_dummy_prefix,
        });
        tokenizer_json::built(&serde_json::to_vec(&built.json)?)
    }

    /// The tokens that tokenizer_config.json, or else added_tokens.json, puts at ids.
    fn names(&self) -> BTreeMap<u64, String> {
        let Some(decoder) = self.settings["added_tokens_decoder"].as_object() else {
            let added = self.added.and_then(Value::as_object).into_iter().flatten();
            return added.filter_map(|(token, id)| Some((id.as_u64()?, token.clone()))).collect();
        };
        let name = |(id, token): (&String, &Value)| {
            Some((id.parse().ok()?, token["content"].as_str()?.to_owned()))
        };
        decoder.iter().filter_map(name).collect()
    }

    /// `vocab.json` and `merges.txt`, as the classes of GPT-2 and Qwen2 read them.
    fn of_vocabulary(&self, class: TokenizerClass) -> Result<tokenizers::Tokenizer> {
        if !matches!(class, TokenizerClass::Gpt2 | TokenizerClass::Qwen2) {
            let what = format!(
                "{VOCAB} and {MERGES}, which do not say how texts are split; the class {} does not \
                 read them",
                class.name()
            );
            return Err(only(self.folder, &what).into());
        }
        let vocab: Value = serde_json::from_slice(self.bytes)
            .map_err(|e| error!(Data, "it is not valid JSON: {e}"))?;
        let merges = text_file::text(&self.folder.join(MERGES))?;
        let merges: Vec<&str> =
            merges.lines().filter(|line| !line.starts_with("#version")).collect();
        let rebuilt =
            class.rebuilt(vocab, json!(merges), Value::Null, self.settings)?.unwrap_or_default();
        let bytes = serde_json::to_vec(&rebuilt)?;
        tokenizer_json::checked(&bytes)?;
        tokenizer_json::built(&bytes)
    }
}

/// The error for a class of one kind of model where tokenizer.json is of another.
fn other_model(class: TokenizerClass, kind: &str) -> Error {
    error!(
        Data,
        "{TOKENIZER_CONFIG} names the class `{}`, which is of {}; {TOKENIZER} is of {kind}",
        class.name(),
        class.model()
    )
    .hint(tokenizer_class::AS_IT_IS)
}

/// The ids of the tokens that have a role.
fn special(tokens: &AddedTokens, inner: &tokenizers::Tokenizer) -> Special {
    let id = |role: &str| inner.token_to_id(tokens.role(role)?);
    Special {
        bos: id("bos_token"),
        eos: id("eos_token"),
        unk: id("unk_token"),
        pad: id("pad_token"),
    }
}

fn shown(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

fn new_tokens(new: &[(String, u32)], path: &Path) -> String {
    let some: Vec<String> =
        new.iter().take(4).map(|(token, id)| format!("`{token}` ({id})")).collect();
    let more = if new.len() > 4 { format!(" and {} more", new.len() - 4) } else { String::new() };
    format!(
        "{}{more} are not in {} and were added, as transformers does",
        some.join(", "),
        shown(path)
    )
}

/// Whether the file's first line is that of a tiktoken vocabulary: base64, a space, a number.
fn is_tiktoken(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Some((token, rank)) =
        std::str::from_utf8(line).ok().and_then(|line| line.trim_end().split_once(' '))
    else {
        return false;
    };
    rank.parse::<u32>().is_ok() && super::charsmap::from_base64(token).is_some()
}
