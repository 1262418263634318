//! A prompt and what follows it as tokens: one rule for training and for scoring.
//!
//! Prompt and text behind it are one text to a model. Where a tokenizer makes of the two together
//! what it makes of each alone, the border lies between their tokens. Where it does not (it puts a
//! space before each text, or joins the letters at the border), the border is where
//! EleutherAI/lm-evaluation-harness has it (`TemplateLM._encode_pair`): the white space at the
//! prompt's end goes with the text behind it, and of the tokens of the whole, those beyond the
//! number that the prompt has alone. For training, white space that has tokens of its own stays
//! with the prompt: the loss is on the answer.

use anyhow::Result;

use crate::data::item::ItemPlace;
use crate::data::tokenizer::{Encode, opened, tokens};
use crate::error::{Error, bail, error};

/// A prompt with texts that may follow it, in tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Continued {
    /// With the beginning-of-sequence token if the model wants one. Empty where nothing is before
    /// the texts.
    pub prompt: Vec<u32>,
    /// What follows it, as many as there were texts.
    pub texts: Vec<Vec<u32>>,
    pub border: Border,
}

/// Where a prompt ends and the text behind it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Border {
    /// Between the tokens of the one and of the other, as each has them alone.
    Apart,
    /// They are tokenised as one text.
    Joined,
    /// So too, and the white space at the prompt's end counts with what follows.
    Spaces,
}

/// What the white space at a prompt's end goes with, where it has tokens of its own and the border
/// is still not [`Border::Apart`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum White {
    /// The prompt: for training, so that the loss is on the answer.
    Prompt,
    /// The text behind it: for scoring, as lm-evaluation-harness has it.
    Text,
}

/// How many items were tokenised as one text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// Items whose prompt and answer are other tokens together than apart.
    pub items: usize,
    /// Those of them whose prompt ends in white space, which counts with the answer.
    pub spaces: usize,
}

impl Joined {
    pub(super) fn add(&mut self, border: Border) {
        self.items += usize::from(border != Border::Apart);
        self.spaces += usize::from(border == Border::Spaces);
    }

    /// For a report.
    pub(super) fn notes(&self) -> [(&'static str, usize); 2] {
        [
            ("prompt and answer tokenised as one text", self.items),
            ("trailing spaces of the prompt count with the answer", self.spaces),
        ]
    }
}

/// Encodes a prompt with each of `texts` behind it. All of them get the same border: if one is
/// other tokens behind the prompt than alone, the harness's.
///
/// Errors (class data), at `place`: what the tokenizer refuses, and a text that leaves no token of
/// its own.
pub(super) fn continued(
    tokenizer: &dyn Encode,
    prompt: &str,
    texts: &[impl AsRef<str>],
    white: White,
    place: &ItemPlace,
) -> Result<Continued> {
    let encode = |text: &str| tokens(tokenizer, text, place);
    let before = encode(prompt)?;
    let apart = texts.iter().map(|text| encode(text.as_ref())).collect::<Result<Vec<_>>>()?;
    let whole = texts
        .iter()
        .map(|text| encode(&format!("{prompt}{}", text.as_ref())))
        .collect::<Result<Vec<_>>>()?;
    let same = |(whole, alone): (&Vec<u32>, &Vec<u32>)| {
        whole.strip_prefix(&before[..]) == Some(&alone[..])
    };
    if whole.iter().zip(&apart).all(same) {
        return Ok(bounded(tokenizer, before, apart, Border::Apart));
    }
    let head = prompt.trim_end_matches(is_white);
    let own = white == White::Prompt && whole.iter().all(|whole| whole.starts_with(&before));
    let (before, border) = if own || head.len() == prompt.len() {
        (before, Border::Joined)
    } else {
        (encode(head)?, Border::Spaces)
    };
    let mut rests = Vec::with_capacity(texts.len());
    for ((text, alone), whole) in texts.iter().zip(&apart).zip(&whole) {
        rests.push(match whole.get(before.len()..) {
            _ if alone.is_empty() => vec![],
            Some(rest) if !rest.is_empty() => rest.to_vec(),
            _ => return Err(swallowed(text.as_ref(), place).into()),
        });
    }
    Ok(bounded(tokenizer, before, rests, border))
}

/// The error of a text without a token of its own.
fn swallowed(text: &str, place: &ItemPlace) -> Error {
    error!(
        Data,
        "{place}: behind its prompt the text {text:?} leaves no token of its own";
        hint: "the tokenizer joins it with the prompt's last letters; end the prompt in a space or \
               a line end"
    )
}

/// With the beginning-of-sequence token where the model wants it: before the prompt, unless that
/// has it; where the prompt gives no token, a text's own is left out.
fn bounded(
    tokenizer: &dyn Encode,
    prompt: Vec<u32>,
    mut texts: Vec<Vec<u32>>,
    border: Border,
) -> Continued {
    let nothing = prompt.is_empty();
    let prompt = opened(tokenizer, prompt);
    if nothing && !prompt.is_empty() {
        for text in texts.iter_mut().filter(|text| text.first() == prompt.first()) {
            text.remove(0);
        }
    }
    Continued { prompt, texts, border }
}

/// Texts that each have a prompt of their own, as texts behind what all prompts begin with; and of
/// each, how many tokens at its beginning are its prompt's.
pub(super) fn together(apart: Vec<Continued>) -> (Continued, Vec<usize>) {
    let first = apart.first().map_or(&[][..], |one| &one.prompt);
    let same = |i: &usize| apart.iter().all(|one| one.prompt.get(*i) == first.get(*i));
    let common = (0..first.len()).take_while(same).count();
    let prompt = first[..common].to_vec();
    let given = apart.iter().map(|one| one.prompt.len() - common).collect();
    let border = apart
        .iter()
        .map(|one| one.border)
        .find(|border| *border != Border::Apart)
        .unwrap_or(Border::Apart);
    let own = |one: Continued| {
        let scored = one.texts.into_iter().flatten();
        one.prompt.into_iter().skip(common).chain(scored).collect()
    };
    (Continued { prompt, texts: apart.into_iter().map(own).collect(), border }, given)
}

/// Errors (class data) where a text to be scored gives no token, or nothing is before it.
pub(super) fn scorable(continued: &Continued, place: &ItemPlace) -> Result<()> {
    if continued.texts.iter().any(Vec::is_empty) {
        bail!(Data, "{place}: the tokenizer makes nothing of a choice");
    }
    match (continued.prompt.is_empty(), continued.border) {
        (false, _) => Ok(()),
        (true, Border::Spaces) => {
            bail!(
                Data,
                "{place}: the prompt is white space, which counts with the choices: nothing stands \
                 before them"
            )
        }
        (true, _) => bail!(Data, "{place}: the tokenizer makes nothing of the prompt"),
    }
}

/// What Python's `str.rstrip` takes away.
fn is_white(letter: char) -> bool {
    letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;

    /// A token a letter; with `prepend` a space before each text, as SentencePiece has it; the pair
    /// `ab` and a space before a letter are one token.
    struct Letters {
        prepend: bool,
        add_bos: bool,
    }

    const BOS: u32 = 1;
    const PAIR: u32 = 2_000_000;
    const SPACED: u32 = 3_000_000;

    impl Encode for Letters {
        fn encode(&self, text: &str) -> Result<Vec<u32>> {
            let space = if self.prepend && !text.is_empty() { " " } else { "" };
            let text: Vec<char> = format!("{space}{text}").chars().collect();
            let (mut ids, mut i) = (vec![], 0);
            while i < text.len() {
                match (text[i], text.get(i + 1)) {
                    ('^', _) => ids.push(BOS),
                    ('a', Some('b')) => ids.push(PAIR),
                    (' ', Some(next)) if next.is_alphabetic() => ids.push(SPACED + *next as u32),
                    (letter, _) => ids.push(letter as u32),
                }
                i += 1 + usize::from(ids.last().is_some_and(|id| *id >= PAIR));
            }
            Ok(ids)
        }
        fn bos(&self) -> Option<u32> {
            Some(BOS)
        }
        fn eos(&self) -> Option<u32> {
            None
        }
        fn add_bos(&self) -> bool {
            self.add_bos
        }
        fn vocab_size(&self) -> usize {
            2 * SPACED as usize
        }
        fn chat_template(&self) -> Option<&str> {
            None
        }
        fn token(&self, _: u32) -> Option<String> {
            None
        }
        fn decode(&self, _: &[u32]) -> Result<String> {
            Ok(String::new())
        }
    }

    fn place(number: usize) -> ItemPlace {
        ItemPlace { file: Arc::from(Path::new("t")), unit: "item", number }
    }

    /// Tokens as text: a letter with the space before it `_x`, the pair `[ab]`; sequences by a bar.
    fn shown(prompt: &str, texts: &[&str], letters: &Letters, white: White) -> (String, Border) {
        let one = |id: &u32| match *id {
            BOS => "^".to_owned(),
            PAIR => "[ab]".to_owned(),
            id if id > SPACED => format!("_{}", char::from_u32(id - SPACED).unwrap()),
            id => char::from_u32(id).unwrap().to_string(),
        };
        let found = continued(letters, prompt, texts, white, &place(1)).unwrap();
        let all = std::iter::once(&found.prompt)
            .chain(&found.texts)
            .map(|ids| ids.iter().map(one).collect::<String>());
        (all.collect::<Vec<_>>().join("|"), found.border)
    }

    /// A prompt with texts behind it; whether a space goes before each text; whether a sequence
    /// begins with a token; the tokens in scoring, and the border.
    type BorderCase = (&'static str, &'static [&'static str], bool, bool, &'static str, Border);

    const CASES: [BorderCase; 12] = [
        // The same together as apart: nothing moves, not even a space at the end.
        ("q:", &[" x", " y"], false, true, "^q:|_x|_y", Border::Apart),
        ("q:\n", &["x", "y"], false, false, "q:\n|x|y", Border::Apart),
        ("q: ", &["1"], false, false, "q: |1", Border::Apart),
        ("^q:", &[" x"], false, true, "^q:|_x", Border::Apart),
        // A space before each text.
        ("q:", &[" x", " y"], true, true, "^_q:|_x|_y", Border::Joined),
        ("q:\n", &["x", "y"], true, true, "^_q:|\nx|\ny", Border::Spaces),
        // A space that joins the next letter, and a choice for which it does not.
        ("q: ", &["x", "1"], false, false, "q:|_x| 1", Border::Spaces),
        ("q:\u{3000}\u{1f} ", &["x"], false, false, "q:|\u{3000}\u{1f}_x", Border::Spaces),
        // Letters that join over the border: as many tokens as the prompt has alone are before it.
        ("qa", &["bc", "d"], false, false, "qa|c|d", Border::Joined),
        // Nothing before the texts.
        ("", &["x", "^x"], false, true, "^|x|x", Border::Apart),
        (" ", &["x"], false, true, "^|_x", Border::Spaces),
        (" ", &["x"], false, false, "|_x", Border::Spaces),
    ];

    #[test]
    fn the_border_is_that_of_the_harness_where_tokens_differ() {
        for (prompt, texts, prepend, add_bos, want, border) in CASES {
            let letters = Letters { prepend, add_bos };
            let scored = shown(prompt, texts, &letters, White::Text);
            assert_eq!(scored, (want.to_owned(), border), "{prompt:?} {texts:?}");
            // In training only white space with tokens of its own makes a difference.
            let trained = if prompt == "q:\n" && prepend {
                ("^_q:\n|x|y".to_owned(), Border::Joined)
            } else {
                scored
            };
            assert_eq!(
                shown(prompt, texts, &letters, White::Prompt),
                trained,
                "{prompt:?} {texts:?}"
            );
        }
    }

    #[test]
    fn a_text_without_a_token_is_named() {
        let letters = Letters { prepend: false, add_bos: false };
        let of =
            |prompt, texts: &[&str]| continued(&letters, prompt, texts, White::Text, &place(7));
        let error = of("qa", &["c", "b"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`t` item 7: behind its prompt the text \"b\" leaves no token of its own"
        );
        let check = |prompt, texts: &[&str]| scorable(&of(prompt, texts).unwrap(), &place(7));
        for prompt in ["q", "q "] {
            assert_eq!(
                check(prompt, &["x", ""]).unwrap_err().to_string(),
                "`t` item 7: the tokenizer makes nothing of a choice"
            );
        }
        assert_eq!(
            check("", &["x"]).unwrap_err().to_string(),
            "`t` item 7: the tokenizer makes nothing of the prompt"
        );
        let white = check(" ", &["x"]).unwrap_err().to_string();
        assert_eq!(
            white,
            "`t` item 7: the prompt is white space, which counts with the choices: nothing stands \
             before them"
        );
        check("q", &["x"]).unwrap();
    }
}
