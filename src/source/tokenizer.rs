//! Text to token ids and back: the tokenizer of a model folder, or the vocabulary inside a GGUF
//! file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use tokenizers::utils::truncation::truncate_encodings;
use tokenizers::{
    Encoding, PostProcessor, PostProcessorWrapper, TruncationDirection, TruncationParams,
};

use super::date::Date;
use super::file_names::{GENERATION_CONFIG, MORE_TEMPLATES, OTHERS, TOKENIZER, TOKENIZER_CONFIG};
use super::gguf::Gguf;
use super::pre_found::Undecided;
use super::tokenizer_special::Special;
use super::tokenizer_template::{self, Templates};
use super::{tokenizer_files, tokenizer_gguf, tokenizer_json, tokenizer_train};
use crate::error::error;

/// A text or a pair of them, with the special tokens around it.
pub struct WholeText {
    pub ids: Vec<u32>,
    /// Which text of a pair a token belongs to, 0 or 1 (`token_type_ids`).
    pub types: Vec<u32>,
    /// Whether something was cut off.
    pub cut: bool,
}

/// A tokenizer and what a model wants to know beside it.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocab_size: usize,
    pub(super) special: Special,
    /// Special tokens by role, where files tell of them.
    roles: Option<Vec<(String, String)>>,
    templates: Templates,
    /// The day that a chat template writes.
    date: Option<Date>,
    /// What stands before each text.
    begin: Vec<u32>,
    /// Spaces before punctuation are taken out of decoded texts.
    clean_up: bool,
    /// The rows of the model's embedding.
    rows: usize,
    /// The folder whose files are copied; `None` where it was made here, is embedded, or came out
    /// of another kind of file.
    folder: Option<PathBuf>,
    /// What a GGUF file leaves open of how a text is split.
    undecided: Undecided,
    /// What a person should know of its files: what was decided where they disagree, what was
    /// recognised.
    notes: Vec<String>,
    /// What a language model does otherwise than the files say of the end of a text.
    unfollowed_end: Option<String>,
    /// Whether models are told which text of a pair a token belongs to.
    types: bool,
    /// Whether a text that is too long loses its beginning.
    cuts_left: bool,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, a SentencePiece `tokenizer.model`, or a `vocab.json` with
    /// `merges.txt`, and what lies beside it in a model folder, as transformers' `AutoTokenizer`
    /// puts them together. Truncation and padding are switched off.
    ///
    /// Errors (class data): a file that is missing or damaged.
    pub fn from_file(path: &Path) -> Result<Self> {
        let read = tokenizer_files::read(path)?;
        Ok(Self {
            roles: Some(read.roles),
            templates: read.templates,
            begin: read.begin,
            clean_up: read.clean_up,
            folder: read.folder,
            notes: read.notes,
            unfollowed_end: read.unfollowed_end,
            types: read.types,
            cuts_left: read.cuts_left,
            ..Self::plain(read.inner, read.special)
        })
    }

    /// Builds the tokenizer that a GGUF file describes: byte-level BPE (`gpt2`) or SentencePiece
    /// BPE (`llama`).
    ///
    /// Errors (class data): no vocabulary, or one of another kind or with an unknown pre-tokenizer.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        Self::from_gguf_split(gguf, None)
    }

    /// As [`Self::from_gguf`], where texts are split by the rule of that name, if one is given,
    /// whatever the file says.
    pub fn from_gguf_split(gguf: &Gguf, pre_tokenizer: Option<&str>) -> Result<Self> {
        let built = tokenizer_gguf::build(gguf, pre_tokenizer)
            .with_context(|| format!("tokenizer in `{}`", gguf.path().display()))?;
        Ok(Self {
            templates: Templates { default: built.chat_template, others: vec![] },
            begin: built.special.bos.filter(|_| built.add_bos).into_iter().collect(),
            undecided: built.undecided,
            notes: built.notes,
            ..Self::plain(built.inner, built.special)
        })
    }

    /// Reads a `tokenizer.json` that is embedded in the program; what ends a text comes from the
    /// model's config.
    pub fn embedded(bytes: &[u8]) -> Result<Self> {
        let inner = tokenizer_json::built(bytes).context("embedded tokenizer")?;
        Ok(Self::plain(inner, Special::default()))
    }

    /// Trains byte-level BPE of at most `size` tokens on `texts`. Errors: a size that is too small
    /// (class data).
    pub fn train(texts: Vec<String>, size: usize) -> Result<Self> {
        let inner = tokenizer_train::train(texts.into_iter(), size)?;
        let special =
            Special { eos: inner.token_to_id(tokenizer_train::END), ..Special::default() };
        Ok(Self::plain(inner, special))
    }

    /// A tokenizer without anything beside it.
    fn plain(inner: tokenizers::Tokenizer, special: Special) -> Self {
        Self {
            vocab_size: highest(&inner),
            inner,
            special,
            roles: None,
            templates: Templates::default(),
            date: None,
            begin: vec![],
            clean_up: false,
            rows: usize::MAX,
            folder: None,
            undecided: Undecided::default(),
            notes: vec![],
            unfollowed_end: None,
            types: false,
            cuts_left: false,
        }
    }

    /// What a person should know of its files, a line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The same of a language model, which does otherwise than the files say of the end of a text.
    pub fn unfollowed_end(&self) -> Option<&String> {
        self.unfollowed_end.as_ref()
    }

    /// Takes the ids that the model's `config.json` gives, where the tokenizer's own files gave
    /// none.
    pub fn with_special_ids(mut self, bos: Option<u32>, eos: Option<u32>) -> Self {
        self.special.bos = self.special.bos.or(bos);
        self.special.eos = self.special.eos.or(eos);
        self
    }

    /// Knows the rows of the model's embedding: a text with a token that has none is refused.
    ///
    /// Errors (class data): such a token stands before every text.
    pub fn with_rows(mut self, rows: usize) -> Result<Self> {
        self.rows = rows;
        self.check_rows(&self.begin).context("the token that begins a text")?;
        if self.vocab_size > rows {
            let first =
                (rows as u32..self.vocab_size as u32).find_map(|id| Some((self.token(id)?, id)));
            let shown =
                first.map_or(String::new(), |(token, id)| format!(", the first `{token}` ({id})"));
            let many = self.vocab_size - rows;
            self.notes.push(format!(
                "the tokenizer has {} tokens, the model's vocabulary {rows}: {many} without a \
                 row{shown}; a text that holds one is refused",
                self.vocab_size
            ));
        }
        Ok(self)
    }

    /// Knows the day that a chat template writes.
    pub fn with_date(mut self, date: Option<Date>) -> Self {
        self.date = date;
        self
    }

    fn check_rows(&self, ids: &[u32]) -> Result<()> {
        match ids.iter().find(|id| **id as usize >= self.rows) {
            Some(id) => Err(error!(
                Data,
                "`{}` is token {id}, and the model's embedding has {} rows",
                self.token(*id).unwrap_or_default(),
                self.rows;
                hint: "leave the token out of the texts, or take a model whose embedding was \
                       enlarged for it"
            )
            .into()),
            None => Ok(()),
        }
    }

    /// The ids of a text. None is added to it, but special tokens written in the text are
    /// recognised.
    ///
    /// Errors (class data): a token for which the model's embedding has no row.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| error!(Data, "cannot tokenize the text: {e}"))?;
        self.undecided.agree(text, encoding.get_ids())?;
        self.check_rows(encoding.get_ids())?;
        Ok(encoding.get_ids().to_vec())
    }

    /// A text, or a pair of them, with the special tokens that the tokenizer's own rule puts around
    /// them, of at most `most` tokens: what is longer is cut at its end, or where `truncation_side`
    /// says so at its beginning, of a pair the longer text first (`longest_first` in transformers).
    ///
    /// Errors (class data): no text fits beside the special tokens; a token for which the model's
    /// embedding has no row.
    pub fn encode_whole(&self, text: &str, pair: Option<&str>, most: usize) -> Result<WholeText> {
        let failed = |e| error!(Data, "cannot tokenize the text: {e}");
        let tokens = |text: &str| -> Result<Encoding> {
            let encoding = self.inner.encode_fast(text, false).map_err(failed)?;
            self.undecided.agree(text, encoding.get_ids())?;
            Ok(encoding)
        };
        let (first, second) = (tokens(text)?, pair.map(tokens).transpose()?);
        let length = first.len() + second.as_ref().map_or(0, Encoding::len);
        let around = |processor: &PostProcessorWrapper| processor.added_tokens(second.is_some());
        let around = self.inner.get_post_processor().map_or(0, around);
        let before = if around == 0 { self.begin.len() } else { 0 };
        let Some(room) = most.checked_sub(around + before).filter(|room| *room > 0) else {
            return Err(
                error!(Data, "no text fits in {most} tokens beside the special ones").into()
            );
        };
        let direction =
            if self.cuts_left { TruncationDirection::Left } else { TruncationDirection::Right };
        let params =
            TruncationParams { max_length: room, direction, ..TruncationParams::default() };
        let (first, second) = truncate_encodings(first, second, &params).map_err(failed)?;
        let whole = self.inner.post_process(first, second, true).map_err(failed)?;
        let (mut ids, mut types) = (whole.get_ids().to_vec(), whole.get_type_ids().to_vec());
        if before > 0 && !ids.starts_with(&self.begin) {
            ids.splice(0..0, self.begin.iter().copied());
            types.splice(0..0, std::iter::repeat_n(0, before));
        }
        if !self.types {
            types.fill(0);
        }
        self.check_rows(&ids)?;
        Ok(WholeText { ids, types, cut: length > room })
    }

    /// The text of ids; unknown ids give nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        let text = self
            .inner
            .decode(ids, skip_special)
            .map_err(|e| error!(Data, "cannot decode the tokens: {e}"))?;
        Ok(if self.clean_up { cleaned(text) } else { text })
    }

    /// The token of an id, as the vocabulary writes it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token, as the vocabulary writes it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The special tokens, which decoding can leave out, as they are written, by id.
    pub fn special_tokens(&self) -> Vec<(String, u32)> {
        let mut out: Vec<(String, u32)> = self
            .inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, t)| t.special)
            .map(|(id, t)| (t.content, id))
            .collect();
        out.sort_unstable_by_key(|(_, id)| *id);
        out
    }

    /// One more than the highest id, added tokens included: the rows that an embedding needs.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The tokenizer as the text of a `tokenizer.json`.
    pub(super) fn json(&self) -> Result<String> {
        self.inner
            .to_string(false)
            .map_err(|e| error!(Run, "cannot write the tokenizer: {e}").into())
    }

    /// Errors (class data) where a GGUF file leaves open how a text is split: such a tokenizer is
    /// not written.
    pub fn decided(&self) -> Result<()> {
        self.undecided.decided()
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
        self.begin.len() == 1 && self.begin.first() == self.special.bos.as_ref()
    }

    /// The tokens that stand before each text, most often [`Self::bos`] or none.
    pub fn begin(&self) -> &[u32] {
        &self.begin
    }

    /// The rows of the model's embedding, where a model is known.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The Jinja template that turns a conversation into a text.
    pub fn chat_template(&self) -> Option<&str> {
        self.templates.default.as_deref()
    }

    /// The names of further chat templates.
    pub fn other_templates(&self) -> &[String] {
        &self.templates.others
    }

    /// Special tokens by role (`bos_token`, …), as chat templates see them.
    pub fn roles(&self) -> Vec<(String, String)> {
        let Special { bos, eos, unk, pad } = self.special;
        let by_id = || {
            let ids =
                [("bos_token", bos), ("eos_token", eos), ("unk_token", unk), ("pad_token", pad)];
            ids.into_iter()
                .filter_map(|(role, id)| Some((role.to_owned(), self.token(id?)?)))
                .collect()
        };
        self.roles.clone().unwrap_or_else(by_id)
    }

    /// The day that a chat template writes.
    pub fn date(&self) -> Option<Date> {
        self.date
    }

    /// Writes the tokenizer into a model folder, in the form that transformers' `AutoTokenizer`
    /// loads: the original files, or for one out of another kind of file `tokenizer.json` and
    /// `tokenizer_config.json`.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.decided()?;
        match &self.folder {
            Some(original) => copy_files(original, folder),
            None => {
                write(&folder.join(TOKENIZER), &self.json()?)?;
                write(
                    &folder.join(TOKENIZER_CONFIG),
                    &serde_json::to_string_pretty(&self.config())?,
                )
            }
        }
    }

    /// `tokenizer_config.json` of a tokenizer whose own files are not copied.
    fn config(&self) -> Value {
        let mut config = Map::new();
        config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
        for (role, token) in self.roles() {
            config.insert(role, json!(token));
        }
        config.insert("add_bos_token".into(), json!(self.add_bos()));
        if let Some(template) = &self.templates.default {
            config.insert("chat_template".into(), json!(template));
        }
        config.insert("clean_up_tokenization_spaces".into(), json!(self.clean_up));
        if self.inner.get_encode_special_tokens() {
            config.insert("split_special_tokens".into(), json!(true));
        }
        Value::Object(config)
    }
}

/// Copies the files of a tokenizer; templates that are there already stay.
fn copy_files(original: &Path, folder: &Path) -> Result<()> {
    for name in std::iter::once(TOKENIZER)
        .chain(OTHERS.into_iter().filter(|name| *name != GENERATION_CONFIG))
    {
        let (from, to) = (original.join(name), folder.join(name));
        // Copying a file onto itself would empty it.
        let same =
            to.canonicalize().is_ok_and(|to| from.canonicalize().is_ok_and(|from| from == to));
        if from.is_file() && !same {
            copy(&from, &to)?;
        }
    }
    let more = folder.join(MORE_TEMPLATES);
    for from in tokenizer_template::more(original)? {
        let to = more.join(from.file_name().unwrap_or_default());
        if !to.exists() {
            std::fs::create_dir_all(&more)
                .with_context(|| format!("cannot create `{}`", more.display()))?;
            copy(&from, &to)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to)
        .with_context(|| format!("cannot copy `{}` to `{}`", from.display(), to.display()))?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

/// One more than the highest id.
fn highest(inner: &tokenizers::Tokenizer) -> usize {
    inner.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1)
}

/// As transformers' `clean_up_tokenization`.
fn cleaned(text: String) -> String {
    let pairs = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    pairs.into_iter().fold(text, |text, (from, to)| text.replace(from, to))
}
