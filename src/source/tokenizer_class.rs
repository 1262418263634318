//! The class that transformers 5 loads a tokenizer with, and what it makes of the vocabulary.
//!
//! Its classes of models build the tokenizer anew from vocabulary and merges, and take of
//! tokenizer.json nothing else than the post-processor; its base class takes tokenizer.json as it
//! is. Which one is asked follows `AutoTokenizer` (`models/auto/tokenization_auto.py`), what they
//! build follows `models/*/tokenization_*.py`.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::pre_tokenizer::QWEN2;
use super::tokenizer_pipeline::{Pipeline, byte_level, metaspace, spaces, split, strip};
use crate::error::{Error, bail, error};

/// Who builds the tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenizerClass {
    /// The base class: the file says it all.
    File,
    Llama,
    CodeLlama,
    Gpt2,
    GptNeoX,
    Qwen2,
    Bert,
    DistilBert,
    Roberta,
}

/// Names of classes of transformers that take tokenizer.json as it is.
const BASE: [&str; 4] =
    ["PreTrainedTokenizer", "TokenizersBackend", "PythonBackend", "BloomTokenizer"];

/// Classes of transformers that build something else, none of it for the models known here.
const OTHERS: &str = "Albert Bart Barthez Bartpho BertGeneration BertJapanese Bertweet \
    BigBird BioGpt Blenderbot BlenderbotSmall ByT5 CLIP CTRL Camembert Canine Clvp CodeGen Cohere \
    ConvBert CpmAnt Cpm DPRContextEncoder DPRQuestionEncoder DPRReader Deberta DebertaV2 Dia \
    Electra Esm Esmc FNet FSMT FastSpeech2Conformer Flaubert Funnel GPTNeoXJapanese \
    GPTSw3 Gemma Herbert Lasr LayoutLMv2 LayoutLMv3 LayoutXLM Luke M2M100 MBart50 MBart MLuke \
    MPNet Marian MarkupLM Mgpstr MobileBert MyT5 Nllb Nougat OpenAIGPT PLBart Parakeet Pegasus \
    Perceiver Phobert Pop2Piano ProphetNet Qwen3_5 Rag Reformer RemBert RoCBert RoFormer \
    SeamlessM4T Siglip2 Siglip Speech2Text SpeechT5 Splinter SqueezeBert T5 Tapas Tipsv2 Udop \
    VideoPrism Vits Wav2Vec2CTC Wav2Vec2PhonemeCTC Whisper XGLM XLMRoberta XLM XLNet";

/// What a person can do where a class is not known here.
pub(super) const AS_IT_IS: &str = "set `tokenizer_class` to `PreTrainedTokenizerFast` in \
                                   tokenizer_config.json to take tokenizer.json as it is";

impl TokenizerClass {
    /// The class that `AutoTokenizer` takes for a folder: by `tokenizer_config.json`,
    /// `config.json`, and the text of `tokenizer.json` where there is one.
    ///
    /// Errors (class data): a class of transformers that is not known here, or one of the
    /// repository's own.
    pub fn of(settings: &Value, config: &Value, file: Option<&[u8]>) -> Result<Self> {
        let model = config["model_type"].as_str().unwrap_or_default();
        let name =
            settings["tokenizer_class"].as_str().or_else(|| config["tokenizer_class"].as_str());
        let name = name.map(|name| name.strip_suffix("Fast").unwrap_or(name));
        let own_code = has_own_code(settings);
        let byte_level =
            file.is_some_and(|bytes| bytes.windows(11).any(|window| window == b"\"ByteLevel\""));
        Ok(match (model, name) {
            ("mistral", _) => TokenizerClass::File,
            ("qwen2", _) if !own_code || name.is_none() => TokenizerClass::Qwen2,
            ("qwen3", None) => TokenizerClass::Qwen2,
            ("bert" | "distilbert", None) => TokenizerClass::Bert,
            ("roberta", None) => TokenizerClass::Roberta,
            (_, Some("LlamaTokenizer")) if byte_level && !own_code => TokenizerClass::File,
            (_, Some("LlamaTokenizer")) => TokenizerClass::Llama,
            (_, Some("CodeLlamaTokenizer")) => TokenizerClass::CodeLlama,
            (_, Some("GPT2Tokenizer")) => TokenizerClass::Gpt2,
            (_, Some("GPTNeoXTokenizer")) => TokenizerClass::GptNeoX,
            (_, Some("Qwen2Tokenizer")) => TokenizerClass::Qwen2,
            (_, Some("BertTokenizer")) => TokenizerClass::Bert,
            (_, Some("DistilBertTokenizer")) => TokenizerClass::DistilBert,
            (_, Some("RobertaTokenizer")) => TokenizerClass::Roberta,
            (_, Some(name)) if is_other(name) => return Err(other_class(name).into()),
            (_, Some(name)) if BASE.contains(&name) => TokenizerClass::File,
            _ if own_code => return Err(own_class().into()),
            _ => TokenizerClass::File,
        })
    }

    /// The name, as transformers writes it.
    pub fn name(self) -> &'static str {
        match self {
            TokenizerClass::File => "PreTrainedTokenizerFast",
            TokenizerClass::Llama => "LlamaTokenizer",
            TokenizerClass::CodeLlama => "CodeLlamaTokenizer",
            TokenizerClass::Gpt2 => "GPT2Tokenizer",
            TokenizerClass::GptNeoX => "GPTNeoXTokenizer",
            TokenizerClass::Qwen2 => "Qwen2Tokenizer",
            TokenizerClass::Bert => "BertTokenizer",
            TokenizerClass::DistilBert => "DistilBertTokenizer",
            TokenizerClass::Roberta => "RobertaTokenizer",
        }
    }

    /// The kind of model that it builds.
    pub fn model(self) -> &'static str {
        match self {
            TokenizerClass::Bert | TokenizerClass::DistilBert => "WordPiece",
            _ => "BPE",
        }
    }

    /// Whether models are told which text of a pair a token belongs to, where no file says.
    pub fn has_types(self) -> bool {
        self == TokenizerClass::Bert
    }

    /// The special tokens that it takes where no file gives others.
    pub fn tokens(self) -> &'static [(&'static str, &'static str)] {
        const END: &str = "<|endoftext|>";
        match self {
            TokenizerClass::File => &[],
            TokenizerClass::Llama => {
                &[("unk_token", "<unk>"), ("bos_token", "<s>"), ("eos_token", "</s>")]
            }
            TokenizerClass::CodeLlama => &[
                ("unk_token", "<unk>"),
                ("bos_token", "<s>"),
                ("eos_token", "</s>"),
                ("prefix_token", "▁<PRE>"),
                ("middle_token", "▁<MID>"),
                ("suffix_token", "▁<SUF>"),
                ("eot_token", "▁<EOT>"),
                ("fill_token", "<FILL_ME>"),
            ],
            TokenizerClass::Gpt2 => &[("unk_token", END), ("bos_token", END), ("eos_token", END)],
            TokenizerClass::GptNeoX => &[
                ("unk_token", END),
                ("bos_token", END),
                ("eos_token", END),
                ("pad_token", "<|padding|>"),
            ],
            TokenizerClass::Qwen2 => &[("unk_token", END), ("eos_token", END), ("pad_token", END)],
            TokenizerClass::Bert | TokenizerClass::DistilBert => &[
                ("unk_token", "[UNK]"),
                ("sep_token", "[SEP]"),
                ("pad_token", "[PAD]"),
                ("cls_token", "[CLS]"),
                ("mask_token", "[MASK]"),
            ],
            TokenizerClass::Roberta => &[
                ("bos_token", "<s>"),
                ("eos_token", "</s>"),
                ("sep_token", "</s>"),
                ("cls_token", "<s>"),
                ("unk_token", "<unk>"),
                ("pad_token", "<pad>"),
                ("mask_token", "<mask>"),
            ],
        }
    }

    /// The `tokenizer.json` that the class builds of `vocab` and `merges`; none for the base class.
    ///
    /// Errors (class data): a setting of the wrong type.
    pub fn rebuilt(
        self,
        vocab: Value,
        merges: Value,
        post_processor: Value,
        settings: &Value,
    ) -> Result<Option<Value>> {
        let mut pipeline = match self {
            TokenizerClass::File => return Ok(None),
            TokenizerClass::Llama | TokenizerClass::CodeLlama => self.llama(settings)?,
            TokenizerClass::Gpt2 | TokenizerClass::GptNeoX => self.gpt2(settings)?,
            TokenizerClass::Qwen2 => qwen2(settings)?,
            TokenizerClass::Bert | TokenizerClass::DistilBert => self.bert(&vocab, settings)?,
            TokenizerClass::Roberta => self.roberta(&vocab, settings)?,
        };
        pipeline.model["vocab"] = vocab;
        if pipeline.model["type"] == "BPE" {
            pipeline.model["merges"] = merges;
        }
        if pipeline.post_processor.is_null() {
            pipeline.post_processor = post_processor;
        }
        Ok(Some(pipeline.file()))
    }

    /// SentencePiece's BPE, as the classes of Llama and Code Llama build it.
    fn llama(self, settings: &Value) -> Result<Pipeline> {
        let prefix = flag(settings, "add_prefix_space", true, Some(true))?;
        let legacy = self == TokenizerClass::Llama && flag(settings, "legacy", false, Some(false))?;
        let scheme = match (prefix, legacy) {
            (false, _) => "never",
            (true, true) => "always",
            (true, false) => "first",
        };
        let mut model = json!({"type": "BPE", "fuse_unk": true, "byte_fallback": true});
        if self == TokenizerClass::CodeLlama {
            let unk = &settings["unk_token"];
            let unk = unk["content"].as_str().or_else(|| unk.as_str());
            model["unk_token"] = unk.unwrap_or("<unk>").into();
        }
        let mut decoders = vec![spaces(), json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
        if prefix || self == TokenizerClass::CodeLlama {
            decoders.push(strip());
        }
        Ok(Pipeline {
            normalizer: Value::Null,
            pre_tokenizer: metaspace(scheme),
            model,
            post_processor: Value::Null,
            decoder: json!({"type": "Sequence", "decoders": decoders}),
        })
    }

    /// A special token of the settings, or the class's own, with its id.
    fn special(self, role: &str, vocab: &Value, settings: &Value) -> Result<(String, Value)> {
        let told = &settings[role];
        let own = self.tokens().iter().find(|(own, _)| *own == role).map(|(_, token)| *token);
        let token = told["content"].as_str().or_else(|| told.as_str()).or(own).unwrap_or_default();
        let id = &vocab[token];
        if !id.is_u64() {
            bail!(Data, "the vocabulary has no `{token}`, which is the tokenizer's `{role}`");
        }
        Ok((token.to_owned(), id.clone()))
    }

    /// WordPiece over BERT's words.
    fn bert(self, vocab: &Value, settings: &Value) -> Result<Pipeline> {
        let (unk, _) = self.special("unk_token", vocab, settings)?;
        let (cls, cls_id) = self.special("cls_token", vocab, settings)?;
        let (sep, sep_id) = self.special("sep_token", vocab, settings)?;
        let strip = match settings.get("strip_accents") {
            Some(Value::Null) | None => Value::Null,
            Some(_) => flag(settings, "strip_accents", false, None)?.into(),
        };
        let special =
            |token: &str, kind: u8| json!({ "SpecialToken": { "id": token, "type_id": kind } });
        let text = |name: &str, kind: u8| json!({ "Sequence": { "id": name, "type_id": kind } });
        let single = [special(&cls, 0), text("A", 0), special(&sep, 0)];
        let second = [text("B", 1), special(&sep, 1)];
        let pair: Vec<Value> = single.iter().chain(&second).cloned().collect();
        let known = |token: &str, id: &Value| json!({"id": token, "ids": [id], "tokens": [token]});
        Ok(Pipeline {
            normalizer: json!({
                "type": "BertNormalizer", "clean_text": true,
                "handle_chinese_chars": flag(settings, "tokenize_chinese_chars", true, None)?,
                "strip_accents": strip, "lowercase": flag(settings, "do_lower_case", true, None)?,
            }),
            pre_tokenizer: json!({"type": "BertPreTokenizer"}),
            model: json!({
                "type": "WordPiece", "unk_token": unk, "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
            }),
            post_processor: json!({
                "type": "TemplateProcessing", "single": single, "pair": pair,
                "special_tokens": { &cls: known(&cls, &cls_id), &sep: known(&sep, &sep_id) },
            }),
            decoder: json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        })
    }

    /// Byte-level BPE of GPT-2's words, between RoBERTa's tokens.
    fn roberta(self, vocab: &Value, settings: &Value) -> Result<Pipeline> {
        let prefix = flag(settings, "add_prefix_space", false, None)?;
        let (cls, cls_id) = self.special("cls_token", vocab, settings)?;
        let (sep, sep_id) = self.special("sep_token", vocab, settings)?;
        Ok(Pipeline {
            pre_tokenizer: byte_level(prefix, true),
            post_processor: json!({
                "type": "RobertaProcessing", "sep": [sep, sep_id], "cls": [cls, cls_id],
                "trim_offsets": flag(settings, "trim_offsets", true, None)?,
                "add_prefix_space": prefix,
            }),
            ..byte_level_bpe()
        })
    }

    /// Byte-level BPE of GPT-2's words, as the classes of GPT-2 and GPT-NeoX build it.
    fn gpt2(self, settings: &Value) -> Result<Pipeline> {
        Ok(Pipeline {
            normalizer: if self == TokenizerClass::GptNeoX {
                json!({"type": "NFC"})
            } else {
                Value::Null
            },
            pre_tokenizer: byte_level(flag(settings, "add_prefix_space", false, None)?, true),
            ..byte_level_bpe()
        })
    }
}

/// Whether the tokenizer's class is code of the repository's own.
fn has_own_code(settings: &Value) -> bool {
    let map = &settings["auto_map"];
    !map["AutoTokenizer"].is_null() || map.is_array()
}

fn own_class() -> Error {
    error!(
        Data,
        "its tokenizer is code of the repository's own (`auto_map` in tokenizer_config.json), \
         which is not run";
        hint: "take `auto_map` out of tokenizer_config.json to take tokenizer.json as it is"
    )
}

/// Whether it is one of [`OTHERS`].
fn is_other(name: &str) -> bool {
    OTHERS.split(' ').any(|other| name.strip_suffix("Tokenizer") == Some(other))
}

fn other_class(name: &str) -> Error {
    error!(
        Data,
        "tokenizer_config.json names the class `{name}`, whose rules are not known here";
        hint: "{AS_IT_IS}"
    )
}

/// Byte-level BPE of Qwen2's words.
fn qwen2(settings: &Value) -> Result<Pipeline> {
    let bytes = byte_level(flag(settings, "add_prefix_space", false, Some(false))?, false);
    Ok(Pipeline {
        normalizer: json!({"type": "NFC"}),
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": [split(QWEN2), bytes]}),
        ..byte_level_bpe()
    })
}

/// Byte-level BPE that does not split texts.
fn byte_level_bpe() -> Pipeline {
    Pipeline {
        normalizer: Value::Null,
        pre_tokenizer: Value::Null,
        model: json!({
            "type": "BPE", "continuing_subword_prefix": "", "end_of_word_suffix": "",
            "fuse_unk": false,
        }),
        post_processor: Value::Null,
        decoder: byte_level(true, true),
    }
}

/// A flag of tokenizer_config.json: `usual` where it is not there, `null` where it is null, if the
/// class takes that.
fn flag(settings: &Value, key: &str, usual: bool, null: Option<bool>) -> Result<bool> {
    match (settings.get(key), null) {
        (None, _) => Ok(usual),
        (Some(Value::Bool(flag)), _) => Ok(*flag),
        (Some(Value::Null), Some(null)) => Ok(null),
        (Some(other), _) => {
            bail!(Data, "tokenizer_config.json: `{key}` is {other}, neither true nor false")
        }
    }
}

/// Vocabulary and merges of a `tokenizer.json`, as the classes take them: a Unigram vocabulary
/// gives its order alone.
pub(super) fn vocabulary(json: &Value) -> (Value, Value) {
    let vocab = match &json["model"]["vocab"] {
        Value::Array(list) => {
            let tokens = list
                .iter()
                .enumerate()
                .filter_map(|(id, entry)| Some((entry[0].as_str()?.to_owned(), json!(id))));
            Value::Object(tokens.collect::<Map<_, _>>())
        }
        other => other.clone(),
    };
    let merges = json["model"].get("merges").filter(|merges| merges.is_array()).cloned();
    (vocab, merges.unwrap_or_else(|| json!([])))
}

/// What of a `tokenizer.json` the class does in another way, for a note.
pub(super) fn differences(file: &Value, rebuilt: &Value) -> Vec<&'static str> {
    let parts = ["normalizer", "pre_tokenizer", "decoder"];
    let mut out: Vec<&str> = parts
        .into_iter()
        .filter(|part| plain(&file[part], part) != plain(&rebuilt[part], part))
        .collect();
    let model = |json: &Value| -> Vec<Value> {
        let model = &json["model"];
        let flag = |key: &str| json!(model[key].as_bool().unwrap_or(false));
        let text = |key: &str| json!(model[key].as_str().unwrap_or_default());
        vec![
            json!(model["type"].as_str().unwrap_or("BPE")),
            flag("byte_fallback"),
            flag("ignore_merges"),
            text("unk_token"),
            text("continuing_subword_prefix"),
            text("end_of_word_suffix"),
        ]
    };
    if model(file) != model(rebuilt) {
        out.push("model");
    }
    out
}

/// A part without what changes no token: byte-level decoding has no settings, and where offsets lie
/// is not asked.
fn plain(part: &Value, name: &str) -> Value {
    match part {
        Value::Object(map) if name == "decoder" && map.get("type") == Some(&json!("ByteLevel")) => {
            json!("ByteLevel")
        }
        Value::Object(map) => map
            .iter()
            .filter(|(key, _)| *key != "trim_offsets")
            .map(|(key, value)| (key.clone(), plain(value, name)))
            .collect(),
        Value::Array(list) => list.iter().map(|value| plain(value, name)).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_is_that_of_auto_tokenizer() {
        let class = |model: &str, name: &str, file: &str| {
            let settings =
                if name.is_empty() { json!({}) } else { json!({"tokenizer_class": name}) };
            TokenizerClass::of(&settings, &json!({"model_type": model}), Some(file.as_bytes())).ok()
        };
        for (model, name, file, want) in [
            ("llama", "", "", Some(TokenizerClass::File)),
            ("llama", "PreTrainedTokenizerFast", "", Some(TokenizerClass::File)),
            ("llama", "MyOwnTokenizer", "", Some(TokenizerClass::File)),
            ("llama", "LlamaTokenizerFast", "", Some(TokenizerClass::Llama)),
            ("llama", "LlamaTokenizer", r#"{"type": "ByteLevel"}"#, Some(TokenizerClass::File)),
            ("llama", "GPT2Tokenizer", r#"{"type": "ByteLevel"}"#, Some(TokenizerClass::Gpt2)),
            ("llama", "GemmaTokenizerFast", "", None),
            ("mistral", "LlamaTokenizer", "", Some(TokenizerClass::File)),
            ("qwen2", "PreTrainedTokenizerFast", "", Some(TokenizerClass::Qwen2)),
            ("qwen3", "PreTrainedTokenizerFast", "", Some(TokenizerClass::File)),
            ("qwen3", "", "", Some(TokenizerClass::Qwen2)),
        ] {
            assert_eq!(class(model, name, file), want, "{model} {name} {file}");
        }
        let own = json!({
            "auto_map": {"AutoTokenizer": ["tokenization_x.XTokenizer", null]},
            "tokenizer_class": "XTokenizer",
        });
        assert!(TokenizerClass::of(&own, &json!({"model_type": "llama"}), None).is_err());
    }

    #[test]
    fn only_what_changes_tokens_is_a_difference() {
        let build = |class: TokenizerClass, settings: Value| {
            class.rebuilt(json!({}), json!([]), Value::Null, &settings).unwrap().unwrap()
        };
        let mut file = build(TokenizerClass::Gpt2, json!({}));
        file["pre_tokenizer"]["trim_offsets"] = json!(false);
        file["decoder"]["add_prefix_space"] = json!(false);
        assert_eq!(differences(&file, &build(TokenizerClass::Gpt2, json!({}))), [""; 0]);
        assert_eq!(
            differences(&file, &build(TokenizerClass::Gpt2, json!({"add_prefix_space": true}))),
            ["pre_tokenizer"]
        );
        assert_eq!(
            differences(&file, &build(TokenizerClass::Qwen2, json!({}))),
            ["normalizer", "pre_tokenizer"]
        );
        assert_eq!(
            differences(&file, &build(TokenizerClass::Llama, json!({"legacy": true}))),
            ["pre_tokenizer", "decoder", "model"]
        );
        assert!(
            TokenizerClass::Gpt2
                .rebuilt(json!({}), json!([]), Value::Null, &json!({"add_prefix_space": null}))
                .is_err()
        );
    }
}
