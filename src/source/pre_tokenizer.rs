//! How a text is split before byte-level BPE, by the name that GGUF's `tokenizer.ggml.pre` gives.
//!
//! Names and rules: `llama_vocab_pre_type` and `llm_tokenizer_bpe` of ggml-org/llama.cpp, in the
//! words of the published tokenizer.json files where these say the same otherwise.

use anyhow::Result;
use serde_json::Value;
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

use crate::error::{Error, did_you_mean};

/// A way to split a text. Steps follow one another, each within the pieces of those before.
#[derive(Debug)]
pub(super) struct PreTokenizerRule {
    /// All names that mean it; the first is written.
    pub names: &'static [&'static str],
    /// Digits one by one, before all else.
    digits: bool,
    /// What these match and what lies between, as regular expressions.
    splits: &'static [&'static str],
    /// GPT-2's words, behind all else.
    words: bool,
    /// Whether the published tokenizers compose letters and marks first.
    nfc: bool,
    /// Whether a piece that is a token is taken whole, whatever the merges say.
    pub ignore_merges: bool,
    /// Whether a text begins with BOS where a file does not say.
    pub add_bos: bool,
    /// Whether it is published with models of other architectures only, or not at all: no file that
    /// is read here has it unnamed.
    pub elsewhere: bool,
}

const PLAIN: PreTokenizerRule = PreTokenizerRule {
    names: &[],
    digits: false,
    splits: &[],
    words: false,
    nfc: false,
    ignore_merges: false,
    add_bos: false,
    elsewhere: false,
};

const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
);
pub(super) const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const QWEN35: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const CJK: &str = "[一-龥ࠀ-一가-퟿]+";
// Letters that have a case; those written by number are others than they look.
const DEEPSEEK_LETTERS: &str = "\
    \\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷ\
    ᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u{1F7D}ᾀ-ᾴᾶ-ᾼ\u{1FBE}ῂ-ῄῆ-ῌῐ-\u{1FD3}ῖ-\u{1FDB}ῠ-Ῥῲ-ῴῶ-ῼ\
    ℂℇℊ-ℓℕℙ-ℝℤ\u{2126}ℨ\u{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚ\
    ａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
const DEEPSEEK3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
    r##"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
);
const SENTENCES: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const SEED_CODER: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const BAILING: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]",
    r"|\s+(?!\S)|\s+",
);
const EXAONE_MOE: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
);
const MINICPM5: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// All rules that are known, the most usual first.
pub(super) static RULES: [PreTokenizerRule; 21] = [
    PreTokenizerRule {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        splits: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["qwen2", "deepseek-r1-qwen", "megrez"],
        splits: &[QWEN2],
        nfc: true,
        ..PLAIN
    },
    PreTokenizerRule {
        names: &[
            "gpt-2",
            "gpt2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
        ],
        words: true,
        ..PLAIN
    },
    PreTokenizerRule {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        digits: true,
        words: true,
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["tekken"],
        splits: &[TEKKEN],
        ignore_merges: true,
        add_bos: true,
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["gpt-4o", "llama4", "kanana2", "minimax-m2", "talkie"],
        splits: &[GPT4O],
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["smaug-bpe", "dbrx", "glm4", "chatglm-bpe"],
        splits: &[LLAMA3],
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["stablelm2", "hunyuan", "solar-open", "grok-2", "kormo", "f2llmv2"],
        splits: &[QWEN2],
        ..PLAIN
    },
    PreTokenizerRule { names: &["qwen35"], splits: &[QWEN35], nfc: true, ..PLAIN },
    PreTokenizerRule {
        names: &["deepseek-llm"],
        splits: &[
            r"[\r\n]",
            DEEPSEEK_LETTERS,
            r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
            r"\s+$",
            CJK,
            r"\p{N}+",
        ],
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["deepseek-coder"],
        splits: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"],
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        splits: &[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3],
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["falcon"],
        splits: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["bloom", "poro-chat", "gpt3-finnish"],
        splits: &[SENTENCES],
        ..PLAIN
    },
    PreTokenizerRule { names: &["viking"], splits: &[SENTENCES, r"\p{N}"], ..PLAIN },
    PreTokenizerRule { names: &["seed-coder"], splits: &[SEED_CODER], ..PLAIN },
    PreTokenizerRule {
        names: &["bailingmoe", "bailingmoe2", "llada-moe"],
        splits: &[BAILING],
        elsewhere: true,
        ..PLAIN
    },
    PreTokenizerRule { names: &["exaone-moe"], splits: &[EXAONE_MOE], elsewhere: true, ..PLAIN },
    PreTokenizerRule {
        names: &["minicpm5"],
        splits: &[r"\p{N}{1,3}", MINICPM5],
        ignore_merges: true,
        ..PLAIN
    },
    PreTokenizerRule {
        names: &["tiny_aya", "cohere2moe"],
        splits: &[r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O],
        elsewhere: true,
        ..PLAIN
    },
    DEFAULT,
];

/// What llama.cpp falls back to, which no published tokenizer is.
const DEFAULT: PreTokenizerRule = PreTokenizerRule {
    names: &["default"],
    splits: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    elsewhere: true,
    ..PLAIN
};

impl PreTokenizerRule {
    /// The rule of that name.
    pub fn of(name: &str) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.names.contains(&name))
    }

    /// The name that is written.
    pub fn name(&self) -> &'static str {
        self.names[0]
    }

    /// Whether it is what llama.cpp falls back to.
    pub fn is_default(&self) -> bool {
        self.name() == DEFAULT.names[0]
    }

    /// Everything that splits, without the step that turns text into bytes.
    pub fn splitters(&self) -> Result<Vec<PreTokenizerWrapper>, tokenizers::Error> {
        let mut steps: Vec<PreTokenizerWrapper> = vec![];
        if self.digits {
            steps.push(Digits::new(true).into());
        }
        for pattern in self.splits.iter().copied().chain(self.words.then_some(GPT2)) {
            steps.push(
                Split::new(
                    SplitPattern::Regex(pattern.to_owned()),
                    SplitDelimiterBehavior::Isolated,
                    false,
                )?
                .into(),
            );
        }
        Ok(steps)
    }

    /// Lets a tokenizer split by it.
    pub fn apply(&self, tokenizer: &mut Tokenizer) -> Result<(), tokenizers::Error> {
        if self.nfc {
            tokenizer.with_normalizer(Some(NFC))?;
        }
        // GPT-2's words are a part of the step that turns text into bytes.
        let mut steps = PreTokenizerRule { words: false, ..*self }.splitters()?;
        steps.push(ByteLevel::new(false, true, self.words).into());
        if steps.len() == 1 {
            tokenizer.with_pre_tokenizer(steps.pop());
        } else {
            tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
        }
        Ok(())
    }

    /// The rule by which a `tokenizer.json` splits, if one of the names means it.
    pub fn of_json(tokenizer: &Value) -> Option<&'static Self> {
        let steps: Vec<&Value> = match tokenizer["pre_tokenizer"]["pretokenizers"].as_array() {
            Some(steps) => steps.iter().collect(),
            None => vec![&tokenizer["pre_tokenizer"]],
        };
        let normalizer = &tokenizer["normalizer"];
        let nfc = normalizer["type"] == "NFC";
        if !nfc && !normalizer.is_null() {
            return None;
        }
        let ignore_merges = tokenizer["model"]["ignore_merges"].as_bool().unwrap_or(false);
        let fits = |rule: &&PreTokenizerRule| {
            rule.is(&steps) && rule.nfc == nfc && rule.ignore_merges == ignore_merges
        };
        RULES.iter().find(fits)
    }

    fn is(&self, steps: &[&Value]) -> bool {
        let Some((last, before)) = steps.split_last() else { return false };
        let flag = |key: &str| last[key].as_bool().unwrap_or(true);
        let bytes = last["type"] == "ByteLevel"
            && !flag("add_prefix_space")
            && flag("use_regex") == self.words;
        let (digits, splits) = before.split_at(usize::from(self.digits).min(before.len()));
        let split = |steps: &Value, pattern: &str| {
            steps["type"] == "Split"
                && steps["pattern"]["Regex"] == pattern
                && steps["behavior"] == "Isolated"
                && steps["invert"] != true
        };
        bytes
            && digits.len() == usize::from(self.digits)
            && digits
                .iter()
                .all(|steps| steps["type"] == "Digits" && steps["individual_digits"] == true)
            && splits.len() == self.splits.len()
            && splits.iter().zip(self.splits).all(|(steps, pattern)| split(steps, pattern))
    }
}

/// The error for a name that no rule has, without a class of its own: `whose` begins its message.
pub(super) fn unknown(whose: &str, name: &str) -> String {
    let all = RULES.iter().flat_map(|rule| rule.names.iter().copied());
    let near = did_you_mean(name, all);
    let first: Vec<&str> = RULES.iter().map(PreTokenizerRule::name).collect();
    format!(
        "{whose} `{name}` is not known, only {} and other names of these{near}",
        first.join(", ")
    )
}

/// Checks a name that a person gave. Errors (class usage): none that is known.
pub fn check(name: &str) -> Result<()> {
    match PreTokenizerRule::of(name) {
        Some(_) => Ok(()),
        None => Err(Error::usage(unknown("the pre-tokenizer", name)).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokenizers::models::bpe::BPE;

    use super::*;

    fn tokenizer(rule: &PreTokenizerRule) -> Tokenizer {
        let mut tokenizer =
            Tokenizer::new(BPE::builder().ignore_merges(rule.ignore_merges).build().unwrap());
        rule.apply(&mut tokenizer).unwrap();
        tokenizer
    }

    #[test]
    fn every_rule_is_known_again() {
        let mut names = BTreeSet::new();
        for rule in &RULES {
            assert!(
                rule.names.iter().all(|name| names.insert(*name)),
                "{} is there twice",
                rule.name()
            );
            let json = serde_json::from_str(&tokenizer(rule).to_string(false).unwrap()).unwrap();
            assert_eq!(
                PreTokenizerRule::of_json(&json).map(PreTokenizerRule::name),
                Some(rule.name())
            );
        }
        let mut json: Value =
            serde_json::from_str(&tokenizer(&RULES[0]).to_string(false).unwrap()).unwrap();
        json["normalizer"] = serde_json::json!({"type": "NFKC"});
        assert!(PreTokenizerRule::of_json(&json).is_none());
        assert!(check("llama3").is_ok() && check("llama").is_err());
    }

    #[test]
    fn letters_that_look_alike_are_told_apart() {
        // None of them is in its composed form: an editor that composes would change the ranges.
        for letter in ["\u{1F7D}", "\u{1FBE}", "\u{1FD3}", "\u{1FDB}", "\u{2126}", "\u{212A}"] {
            assert!(DEEPSEEK_LETTERS.contains(letter));
        }
        assert_eq!(CJK, "[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]+");
    }
}
