//! Where a recipe's own template words a border between prompt and answer that tokenizers see in
//! another way than people do.

use anyhow::Result;

use super::continuation::{Border, White, continued};
use super::encode::{Words, count};
use super::item::{Instruction, Item};
use super::template::Template;
use super::tokenizer::{Encode, tokens};

/// Items that are looked at.
const LOOKED_AT: usize = 200;

/// What is odd about the borders of some items.
#[derive(Default)]
struct Odd {
    items: usize,
    /// Prompts that end in a space.
    spaces: usize,
    /// Answers that begin with a letter directly behind the prompt's last one.
    unspaced: usize,
    /// Items whose prompt and answer share a token.
    joined: usize,
    /// The first of `unspaced`, and of `joined`.
    example: String,
}

/// Warnings on the first items, a line each; none where all is as tokenizers have it.
///
/// Errors: what the template or the tokenizer refuses.
pub fn advice(items: &[Item], template: Template, tokenizer: &dyn Encode) -> Result<Vec<String>> {
    let words = Words::new(template, tokenizer)?;
    let mut odd = Odd::default();
    let asked = items.iter().filter_map(|item| match item {
        // A chat template says itself what stands between question and answer.
        Item::Instruction(item) if template != Template::Chat => Some(item),
        _ => None,
    });
    for item in asked.filter(|item| item.pair.is_none()).take(LOOKED_AT) {
        odd.look(item, &words, tokenizer)?;
    }
    Ok(odd.told())
}

impl Odd {
    fn look(&mut self, item: &Instruction, words: &Words, tokenizer: &dyn Encode) -> Result<()> {
        let prompt = words.test_prompt(&Instruction { shots: None, ..item.clone() })?;
        let answers = match item.choices.is_empty() {
            true => vec![item.answer_text.clone()],
            false => words.choices(item).into_owned(),
        };
        let Some(answer) = answers.iter().find(|answer| !answer.is_empty()) else { return Ok(()) };
        self.items += 1;
        if prompt.ends_with([' ', '\t']) {
            self.spaces += 1;
            return Ok(());
        }
        let border = format!("{:?} before {answer:?}", tail(&prompt));
        if !prompt.ends_with(char::is_whitespace) && answer.starts_with(char::is_alphanumeric) {
            self.unspaced += 1;
            self.example = border;
        } else if splits_words(item, tokenizer)? {
            let parts = continued(tokenizer, &prompt, &answers, White::Text, &item.place);
            if parts.is_ok_and(|parts| parts.border == Border::Apart) {
                return Ok(());
            }
            self.joined += 1;
            self.example = border;
        }
        Ok(())
    }

    fn told(&self) -> Vec<String> {
        let (of, example) = (count(self.items, "item"), &self.example);
        let all = [
            (
                self.spaces,
                "the prompt ends in a space, which most tokenizers have as the beginning of the \
                 next word: end the prompt without it, and begin the answers with it"
                    .to_owned(),
            ),
            (
                self.unspaced,
                format!(
                    "the answer begins without a space directly behind the prompt ({example}), \
                     where texts have one: begin the answers with it"
                ),
            ),
            (
                self.joined,
                format!(
                    "the tokenizer joins the prompt's end and the answer's beginning in one token \
                     ({example})"
                ),
            ),
        ];
        let odd = all.into_iter().filter(|(items, _)| *items > 0);
        odd.map(|(items, what)| format!("{items} of {of}: {what}")).collect()
    }
}

/// Whether the tokenizer has a space as part of the word behind it, and puts none before a text: of
/// others, each prompt and answer are other tokens together than apart.
fn splits_words(item: &Instruction, tokenizer: &dyn Encode) -> Result<bool> {
    let encode = |text: &str| tokens(tokenizer, text, &item.place);
    Ok([encode("one")?, encode(" two")?].concat() == encode("one two")?)
}

/// The last letters of a prompt.
fn tail(prompt: &str) -> String {
    let letters: Vec<char> = prompt.chars().collect();
    letters[letters.len().saturating_sub(10)..].iter().collect()
}
