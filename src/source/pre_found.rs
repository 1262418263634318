//! The rule by which a GGUF file's tokenizer splits texts, where `tokenizer.ggml.pre` does not say:
//! told by the tokens of a published vocabulary, or by what the merges rule out.
//!
//! A token comes out of training inside one piece of a text. So a rule that splits a token is not
//! the one the vocabulary was trained under. Of the rules that are left, a text is taken only where
//! all give the same tokens.

use anyhow::Result;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::{
    Decoder, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
    Tokenizer,
};

use super::pre_tokenizer::{PreTokenizerRule, RULES, unknown};
use crate::error::{Error, bail, error};

/// Tokens that stand in published vocabularies only.
struct PublishedVocabulary {
    family: &'static str,
    /// The rule's name.
    rule: &'static str,
    /// Fewest tokens.
    least: usize,
    /// Tokens, with their ids where others have such tokens elsewhere.
    tokens: &'static [(&'static str, Option<u32>)],
    /// A token that another family has beside those.
    without: Option<&'static str>,
}

const fn published(
    family: &'static str,
    rule: &'static str,
    least: usize,
    tokens: &'static [(&'static str, Option<u32>)],
) -> PublishedVocabulary {
    PublishedVocabulary { family, rule, least, tokens, without: None }
}

static PUBLISHED: [PublishedVocabulary; 9] = [
    // Llama 4's has `<|header_start|>`, and another rule.
    PublishedVocabulary {
        without: Some("<|header_start|>"),
        ..published("Llama 3", "llama-bpe", 0, &[("<|begin_of_text|>", None)])
    },
    published("Qwen2", "qwen2", 151_643, &[("<|endoftext|>", Some(151_643))]),
    published("SmolLM", "smollm", 49_152, &[("<|endoftext|>", Some(0)), ("<repo_name>", Some(3))]),
    published(
        "StarCoder",
        "starcoder",
        49_152,
        &[("<|endoftext|>", Some(0)), ("<fim_prefix>", Some(1))],
    ),
    published("GPT-2", "gpt-2", 50_257, &[("<|endoftext|>", Some(50_256))]),
    published(
        "DeepSeek Coder",
        "deepseek-coder",
        32_013,
        &[("<｜begin▁of▁sentence｜>", Some(32_013))],
    ),
    published(
        "DeepSeek LLM",
        "deepseek-llm",
        100_000,
        &[("<｜begin▁of▁sentence｜>", Some(100_000))],
    ),
    published("DeepSeek V3", "deepseek-v3", 128_000, &[("<｜begin▁of▁sentence｜>", Some(0))]),
    published(
        "Mistral Nemo",
        "tekken",
        131_072,
        &[("<unk>", Some(0)), ("<s>", Some(1)), ("[INST]", Some(3))],
    ),
];

/// Merges of a published vocabulary that are looked at.
const SAMPLE: usize = 4096;

/// A vocabulary, as far as it tells of rules.
pub(super) struct VocabularyClues<'a> {
    pub tokens: &'a [String],
    pub id: &'a dyn Fn(&str) -> Option<u32>,
    /// What merges join, in pairs.
    pub merges: &'a [(String, String)],
}

/// What was found.
pub(super) struct Found {
    /// The rules that it can be, at least one.
    pub rules: Vec<&'static PreTokenizerRule>,
    /// What a person should know of that.
    pub note: Option<String>,
}

/// The rules that `tokenizer.ggml.pre`, if it is `stated`, and the vocabulary leave.
///
/// Errors (class data): none, or a name that is not known.
pub(super) fn find(stated: Option<&str>, clues: &VocabularyClues) -> Result<Found> {
    if let Some(rule) = stated.and_then(PreTokenizerRule::of).filter(|rule| !rule.is_default()) {
        return Ok(Found { rules: vec![rule], note: None });
    }
    let lacks = lacks(stated);
    if let Some((family, rule)) = of_published(clues)? {
        let note = format!(
            "{lacks}; the vocabulary is that of {family}, so `{}` is taken, {OTHERWISE}",
            rule.name()
        );
        return Ok(Found { rules: vec![rule], note: Some(note) });
    }
    if stated.is_some_and(|name| PreTokenizerRule::of(name).is_none()) {
        return Err(Error::data(lacks).hint(HINT).into());
    }
    let rules = fitting(clues)?;
    if rules.is_empty() {
        bail!(
            Data,
            "{lacks}, and the vocabulary fits no rule that is known";
            hint: "{HINT}"
        );
    }
    let note = Some(format!("{lacks}; {}, {OTHERWISE}", fit(&rules)));
    Ok(Found { rules, note })
}

/// What `tokenizer.ggml.pre` does not say, the beginning of a message.
fn lacks(stated: Option<&str>) -> String {
    match stated {
        None => {
            "it has no `tokenizer.ggml.pre`, which says how a text is split into words".to_owned()
        }
        Some("default") => "its `tokenizer.ggml.pre` is `default`, which does not say how a text \
                            is split into words"
            .to_owned(),
        Some(other) => unknown("its pre-tokenizer", other),
    }
}

/// The rules that split no token of the vocabulary.
fn fitting(clues: &VocabularyClues) -> Result<Vec<&'static PreTokenizerRule>> {
    let mut rules = vec![];
    for rule in RULES.iter().filter(|rule| !rule.elsewhere) {
        if splits(rule, clues.merges.iter(), 0)? == 0 {
            rules.push(rule);
        }
    }
    Ok(rules)
}

/// What the rules that are left mean, for a note.
fn fit(rules: &[&PreTokenizerRule]) -> String {
    let names = rules.iter().map(|rule| format!("`{}`", rule.name())).collect::<Vec<_>>();
    match &names[..] {
        [name] => {
            format!("of the rules that are known the vocabulary fits {name} alone, which is taken")
        }
        names => format!(
            "the vocabulary fits {}: a text is refused where these do not give the same tokens",
            names.join(", ")
        ),
    }
}

const OTHERWISE: &str =
    "unless `--pre-tokenizer`, in recipes `pre_tokenizer` of `model::load`, names a rule";
const HINT: &str = "name the rule with `--pre-tokenizer NAME`, \
                    in recipes `model::load(NAME, #{ pre_tokenizer: \"…\" })`, \
                    or convert the model again by llama.cpp's `convert_hf_to_gguf.py`, \
                    which writes it";

/// The published vocabulary that it is, by its tokens; its merges must fit the rule, but for a few.
fn of_published(
    clues: &VocabularyClues,
) -> Result<Option<(&'static str, &'static PreTokenizerRule)>> {
    for one in &PUBLISHED {
        let has = |(token, at): &(&str, Option<u32>)| {
            (clues.id)(token).is_some_and(|id| at.is_none_or(|at| at == id))
        };
        if clues.tokens.len() < one.least
            || !one.tokens.iter().all(has)
            || one.without.is_some_and(|token| (clues.id)(token).is_some())
        {
            continue;
        }
        let Some(rule) = PreTokenizerRule::of(one.rule) else { continue };
        let step = clues.merges.len().div_ceil(SAMPLE).max(1);
        let few = clues.merges.len() / step / 100;
        if splits(rule, clues.merges.iter().step_by(step), few)? <= few {
            return Ok(Some((one.family, rule)));
        }
    }
    Ok(None)
}

/// How many of the merges join what a rule splits; counting ends above `enough`.
fn splits<'a>(
    rule: &PreTokenizerRule,
    merges: impl Iterator<Item = &'a (String, String)>,
    enough: usize,
) -> Result<usize> {
    let steps = rule.splitters().map_err(library)?;
    let mut count = 0;
    for (left, right) in merges {
        if is_split(&steps, &format!("{left}{right}"))? {
            count += 1;
            if count > enough {
                break;
            }
        }
    }
    Ok(count)
}

/// Whether a byte-level token, a text by itself, would be split. One that is no whole text says
/// nothing, and one that begins `'ll`, `'re` or `'ve` is on the way to it.
fn is_split(steps: &[PreTokenizerWrapper], token: &str) -> Result<bool> {
    let text = ByteLevel::default().decode_chain(vec![token.to_owned()]).map_err(library)?.concat();
    if text.contains(char::REPLACEMENT_CHARACTER) || pieces(steps, &text)? == 1 {
        return Ok(false);
    }
    let rest = ["'ll", "'re", "'ve", "'LL", "'RE", "'VE"]
        .into_iter()
        .find_map(|word| text.ends_with(&word[..2]).then_some(&word[2..]));
    rest.map_or(Ok(true), |rest| Ok(pieces(steps, &format!("{text}{rest}"))? > 1))
}

/// The pieces that a text is split into.
fn pieces(steps: &[PreTokenizerWrapper], text: &str) -> Result<usize> {
    let mut pieces = PreTokenizedString::from(text);
    for step in steps {
        step.pre_tokenize(&mut pieces).map_err(library)?;
    }
    Ok(pieces.get_splits(OffsetReferential::Original, OffsetType::Byte).len())
}

fn library(error: tokenizers::Error) -> Error {
    error!(Data, "the vocabulary cannot be looked at: {error}")
}

/// The error where neither the file nor its vocabulary says whether a text begins with BOS.
pub(super) fn undecided_bos() -> Error {
    error!(
        Data,
        "it has neither `tokenizer.ggml.add_bos_token` nor a `tokenizer.ggml.pre` that \
         is known, so whether a text begins with BOS is not known";
        hint: "{HINT}"
    )
}

/// Tokenizers by the other rules that a vocabulary leaves; none, where the rule is known.
#[derive(Clone, Default)]
pub(super) struct Undecided {
    /// The rule that is taken.
    pub rule: &'static str,
    pub others: Vec<(&'static str, Tokenizer)>,
}

impl Undecided {
    /// Errors (class data) where another rule gives other tokens than `ids` for a text.
    pub fn agree(&self, text: &str, ids: &[u32]) -> Result<()> {
        for (name, other) in &self.others {
            let encoding = other
                .encode_fast(text, false)
                .map_err(|e| error!(Data, "cannot tokenize the text: {e}"))?;
            if encoding.get_ids() != ids {
                let shown: String = text.chars().take(60).collect();
                bail!(
                    Data,
                    "the GGUF file does not say how a text is split into words, and of the rules \
                     that its vocabulary fits, `{}` and `{name}` give other tokens for {shown:?}",
                    self.rule;
                    hint: "{HINT}"
                );
            }
        }
        Ok(())
    }

    /// Errors (class data) where the rule is not known, so that the tokenizer cannot be written.
    pub fn decided(&self) -> Result<()> {
        if self.others.is_empty() {
            return Ok(());
        }
        Err(error!(
            Data,
            "the GGUF file does not say how a text is split into words, so its tokenizer \
             cannot be written";
            hint: "{HINT}"
        )
        .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(stated: Option<&str>, tokens: &[&str], merges: &[&str]) -> Result<Vec<&'static str>> {
        let tokens: Vec<String> = tokens.iter().map(|token| (*token).to_owned()).collect();
        let pair = |merge: &&str| {
            merge.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())).unwrap()
        };
        let merges: Vec<(String, String)> = merges.iter().map(pair).collect();
        let id = |token: &str| tokens.iter().position(|known| known == token).map(|id| id as u32);
        let found = find(stated, &VocabularyClues { tokens: &tokens, id: &id, merges: &merges })?;
        assert_eq!(found.note.is_some(), stated != Some("smollm"));
        Ok(found.rules.into_iter().map(PreTokenizerRule::name).collect())
    }

    #[test]
    fn a_token_rules_out_what_would_split_it() {
        let fits = |merges: &[&str]| found(None, &[], merges).unwrap();
        assert!(fits(&[]).len() > 12);
        assert!(!fits(&["1 2"]).iter().any(|name| ["qwen2", "smollm", "tekken"].contains(name)));
        assert_eq!(fits(&["1 2", "12 3", "123 4", "Ġ ("]), ["gpt-2", "deepseek-llm", "bloom"]);
        // Upper and lower case, three digits, a sign before a word, line ends behind a sign.
        assert_eq!(
            fits(&["12 3", "t E", "( a", "; Ċ"]),
            ["llama-bpe", "smaug-bpe", "deepseek-v3", "minicpm5"]
        );
        assert!(found(None, &[], &["12 34", "a 1", "; Ċ"]).is_err());
        // On the way to `'ll`.
        assert_eq!(fits(&["1 2", "12 3", "123 4", "Ġ (", "' l", "'l l"]), ["gpt-2", "bloom"]);
    }

    #[test]
    fn published_vocabularies_are_known_by_their_tokens() {
        assert_eq!(found(None, &["a", "<|begin_of_text|>"], &["12 3"]).unwrap(), ["llama-bpe"]);
        assert_eq!(
            found(Some("llama-new"), &["a", "<|begin_of_text|>"], &["12 3"]).unwrap(),
            ["llama-bpe"]
        );
        // Not with merges of another rule, nor beside Llama 4's.
        assert_eq!(
            found(None, &["<|begin_of_text|>"], &["1 2", "12 3", "123 4", "Ġ (", "' l"]).unwrap(),
            ["gpt-2", "bloom"]
        );
        assert!(
            found(None, &["<|begin_of_text|>", "<|header_start|>"], &["12 3"]).unwrap().len() > 1
        );
        assert_eq!(found(Some("smollm"), &["<|begin_of_text|>"], &["12 3"]).unwrap(), ["smollm"]);
        let error = found(Some("smolm"), &[], &[]).unwrap_err().to_string();
        assert!(
            error.contains("`smolm` is not known") && error.ends_with("did you mean `smollm`?"),
            "{error}"
        );
    }
}
