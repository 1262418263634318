//! Which part of a conversation is learnt, decided by what the model's chat template renders.
//!
//! In most templates a turn adds to what stands before it. Some add to the prompt what the answered
//! text does not have (`<think>` of DeepSeek-R1), some word the last answer otherwise than earlier
//! ones (Qwen3), some move a text to the last question (the system text of Mistral). So there are
//! several ways, the first that fits is taken, and [`How`] says which.

use anyhow::Result;
use serde_json::{Value, json};

use crate::data::chat::{ChatTemplate, OWN, THOUGHTS, seen};
use crate::data::formats::messages::WORDED;
use crate::data::item::{Chat, Message, TextPiece};
use crate::error::{Error, bail, error};

/// How the turns of a conversation were told from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Each adds to what stands before it.
    Stable,
    /// Earlier turns are rewritten: the whole is rendered once, and the turns are found in it.
    Found,
    /// One example a turn, behind the prompt that the template makes of what came before.
    Each,
    /// As [`How::Each`], for the last turn; others cannot be told from what stands before them.
    Last,
}

/// A conversation in words.
#[derive(Clone, Debug)]
pub struct Worded {
    /// One text in pieces, or one for each turn.
    pub examples: Vec<Vec<TextPiece>>,
    pub how: How,
    /// An answer is not worded as it stands: the template leaves out a part of it.
    pub altered: bool,
    /// A message has a `name` that the template does not word.
    pub unnamed: bool,
}

/// What stands in the place of a content to see where the template writes it: letters for private
/// use.
const PROBE: &str = "\u{10fffc}\u{10fffd}\u{10fffc}";

/// A content of so many letters does not occur in a text by chance.
const CERTAIN: usize = 24;

impl ChatTemplate {
    /// The conversation up to the last turn of the assistant. Its turns, each up to the token that
    /// ends it, are supervised, but those that the file says are not to be learnt.
    ///
    /// Errors (class data): no such turn; a message, or functions, that the template does not word;
    /// turns that cannot be told from what stands before them.
    pub fn word(&self, chat: &Chat) -> Result<Worded> {
        RenderedChat { template: self, chat, messages: seen(&chat.messages) }.word()
    }

    /// The text after which the assistant speaks next. Errors as those of [`Self::word`].
    pub fn ask(&self, chat: &Chat) -> Result<String> {
        let talk = RenderedChat { template: self, chat, messages: seen(&chat.messages) };
        let text = talk.text(talk.messages.len(), true)?;
        match talk.honours(talk.messages.len(), true, &text, false) {
            None => Ok(text),
            Some(lost) => Err(talk.lost(&lost).into()),
        }
    }
}

/// A conversation on its way through a template.
struct RenderedChat<'a> {
    template: &'a ChatTemplate,
    chat: &'a Chat,
    /// As the template sees them.
    messages: Vec<Value>,
}

/// A turn of the assistant, rendered.
struct Turn {
    at: usize,
    /// What the assistant is asked, and that with its answer.
    asked: String,
    answered: String,
    /// Where in the latter the turn begins, if the former says so.
    start: Option<usize>,
}

/// What a template does not word.
enum Lost {
    Tools,
    Message(usize),
    Key(usize, &'static str),
}

impl RenderedChat<'_> {
    fn word(&self) -> Result<Worded> {
        let place = &self.chat.place;
        let answers: Vec<usize> =
            (0..self.messages.len()).filter(|&i| self.message(i).is_answer()).collect();
        let Some(&last) = answers.last() else {
            bail!(
                Data,
                "{place}: no turn of the conversation is the assistant's, so nothing is to be \
                 learnt"
            );
        };
        let whole = self.text(last + 1, false)?;
        let lost = self.honours(last + 1, false, &whole, true);
        if self.template.marks && lost.is_none() {
            return Ok(self.worded(vec![self.marked(&answers)?], How::Stable));
        }
        let turns = answers.iter().map(|&at| self.turn(at)).collect::<Result<Vec<_>>>()?;
        if lost.is_none() {
            if let Some(pieces) = self.stable(&turns) {
                return Ok(self.worded(vec![pieces], How::Stable));
            }
            if let Some(pieces) = self.found(&turns) {
                return Ok(self.worded(vec![pieces], How::Found));
            }
        }
        let untold = || lost.map_or_else(|| self.untold(last_of(&turns)), |lost| self.lost(&lost));
        self.each(&turns).ok_or_else(|| untold().into())
    }

    fn message(&self, i: usize) -> &Message {
        &self.chat.messages[i]
    }

    /// The first `upto` messages as a text.
    fn text(&self, upto: usize, ask: bool) -> Result<String> {
        self.template.plain(&self.messages[..upto], ask, self.chat)
    }

    /// The same with other messages in their place; `None` where the template refuses those.
    fn probed(
        &self,
        upto: usize,
        ask: bool,
        change: impl FnOnce(&mut Vec<Value>),
    ) -> Option<String> {
        let mut messages = self.messages[..upto].to_vec();
        change(&mut messages);
        self.template.plain(&messages, ask, self.chat).ok()
    }

    fn turn(&self, at: usize) -> Result<Turn> {
        let answered = self.text(at + 1, false)?;
        if at == 0 {
            let start = self.opened(&answered);
            return Ok(Turn {
                at,
                asked: answered[..start].to_owned(),
                answered,
                start: Some(start),
            });
        }
        let asked = self.text(at, true)?;
        let start = if answered.starts_with(&asked) {
            Some(asked.len())
        } else {
            self.shared_prompt(at, &asked, &answered)
        };
        Ok(Turn { at, asked, answered, start })
    }

    /// Where the prompt ends that the asked and the answered text share, if it holds all that
    /// stands before the turn. Whatever else the answer were, it would end there.
    fn shared_prompt(&self, at: usize, asked: &str, answered: &str) -> Option<usize> {
        let open = self.text(at, false).ok().filter(|open| answered.starts_with(open.as_str()))?;
        let probe = self
            .probed(at + 1, false, |m| m[at] = json!({ "role": "assistant", "content": PROBE }))?;
        let shared = common(asked, answered).min(common(asked, &probe));
        (shared >= open.len()).then_some(shared)
    }

    /// Where in the text of the first message the assistant begins to speak: behind what is asked
    /// behind a user's message. Of no messages a template makes nothing, or what it makes of no
    /// conversation.
    fn opened(&self, answered: &str) -> usize {
        let user = json!({ "role": "user", "content": PROBE });
        let text = |ask| self.template.plain(std::slice::from_ref(&user), ask, self.chat).ok();
        let prompt = text(false)
            .zip(text(true))
            .and_then(|(open, asked)| asked.strip_prefix(open.as_str()).map(str::to_owned));
        let probed = self.probed(1, false, |m| set_probe(&mut m[0]));
        let (Some(prompt), Some(probed)) = (prompt.filter(|prompt| !prompt.is_empty()), probed)
        else {
            return 0;
        };
        let head = &answered[..around(&probed, answered)
            .map_or_else(|| common(&probed, answered), |(before, _)| before)];
        // All of it, or its beginning, where the answered text has no more of it.
        let part = || {
            prompt.char_indices().map(|(i, _)| &prompt[..i]).rev().find(|part| head.ends_with(part))
        };
        head.rfind(&prompt)
            .map(|at| at + prompt.len())
            .or_else(|| part().filter(|part| !part.is_empty()).map(|_| head.len()))
            .unwrap_or(0)
    }

    /// An example for each turn that is learnt, or for the last one, if that can be told from what
    /// stands before it and others cannot.
    fn each(&self, turns: &[Turn]) -> Option<Worded> {
        let learnt = turns.iter().filter(|turn| self.message(turn.at).learnt);
        let mut each: Vec<Option<Vec<TextPiece>>> = learnt.map(|turn| self.alone(turn)).collect();
        let last = each.pop().flatten()?;
        Some(match each.into_iter().collect::<Option<Vec<_>>>() {
            Some(mut each) => {
                each.push(last);
                self.worded(each, How::Each)
            }
            None => self.worded(vec![last], How::Last),
        })
    }

    /// The whole in pieces, where each turn adds to what stands before it.
    fn stable(&self, turns: &[Turn]) -> Option<Vec<TextPiece>> {
        let (mut pieces, mut done) = (vec![], "");
        for turn in turns {
            let start = turn
                .start
                .filter(|start| *start >= done.len() && turn.answered.starts_with(done))?;
            push(&mut pieces, &turn.answered[done.len()..start], false);
            self.said(&mut pieces, &turn.answered[start..], turn.at);
            done = &turn.answered;
        }
        Some(pieces)
    }

    /// A turn as it stands in a text, its end among what is supervised.
    fn said(&self, pieces: &mut Vec<TextPiece>, turn: &str, at: usize) {
        let (message, eos) = (self.message(at), &self.template.eos);
        // What separates turns is layout, not something to say; a turn that the template does not
        // end is ended here.
        let said = turn.trim_end();
        let said = if said.len() < message.content().trim_end().len() { turn } else { said };
        push(pieces, said, message.learnt);
        if said.trim() == message.content().trim() && !said.ends_with(eos) {
            push(pieces, eos, message.learnt);
        }
        push(pieces, &turn[said.len()..], false);
    }

    /// The whole in pieces, where its earlier turns are not what they were when they were the last:
    /// each is sought where the whole changes with its content. `None` unless all that is learnt is
    /// there, and each turn begins and ends as it did.
    fn found(&self, turns: &[Turn]) -> Option<Vec<TextPiece>> {
        let last = last_of(turns);
        let (start, whole) = (last.start?, &last.answered);
        let mut spans = vec![];
        for turn in &turns[..turns.len() - 1] {
            spans.push((turn.at, self.span(turn, last.at + 1, whole)?));
        }
        spans.push((last.at, (start, whole.len())));
        let (mut pieces, mut done) = (vec![], 0);
        for (at, (start, end)) in spans {
            if start < done || end < start {
                return None;
            }
            push(&mut pieces, &whole[done..start], false);
            self.said(&mut pieces, &whole[start..end], at);
            done = end;
        }
        Some(pieces)
    }

    /// Where an earlier turn stands in the whole.
    fn span(&self, turn: &Turn, upto: usize, whole: &str) -> Option<(usize, usize)> {
        let with_probe = |upto| self.probed(upto, false, |m| set_probe(&mut m[turn.at]));
        let (before, after) = around(&with_probe(upto)?, whole)?;
        let (own_before, own_after) = around(&with_probe(turn.at + 1)?, &turn.answered)?;
        if whole[before..after] != turn.answered[own_before..own_after] {
            return None;
        }
        let start = turn.start.filter(|start| *start <= own_before)?;
        let open = self
            .text(turn.at, false)
            .ok()
            .filter(|open| open.len() <= start && turn.answered.starts_with(open.as_str()))?;
        let (prompt, head) = (&turn.answered[open.len()..start], &turn.answered[start..own_before]);
        // What the template writes between the prompt and the content of the last turn may be left
        // out, from its beginning on.
        let rest = head.char_indices().map(|(i, _)| &head[i..]).chain([""]).find(|rest| {
            let prompt =
                if rest.len() < head.len() && prompt.is_empty() { None } else { Some(prompt) };
            prompt.is_some_and(|prompt| {
                whole[..before].strip_suffix(rest).is_some_and(|text| text.ends_with(prompt))
            })
        })?;
        let at = before - rest.len();
        let tail = turn.answered[own_after..].trim_end();
        whole[after..].starts_with(tail).then(|| (at, after + tail.len()))
    }

    /// A turn by itself, behind its own prompt; `None` where it cannot be told from that.
    fn alone(&self, turn: &Turn) -> Option<Vec<TextPiece>> {
        let mut pieces = vec![];
        let lost = self.honours(turn.at + 1, false, &turn.answered, false);
        if let (None, Some(start)) = (&lost, turn.start) {
            push(&mut pieces, &turn.answered[..start], false);
            self.said(&mut pieces, &turn.answered[start..], turn.at);
            return Some(pieces);
        }
        // What the answer itself loses, no prompt gives back.
        if matches!(lost, Some(Lost::Message(i) | Lost::Key(i, _)) if i == turn.at)
            || self.honours(turn.at, true, &turn.asked, false).is_some()
        {
            return None;
        }
        let (prompt, said) = self.composed(turn)?;
        push(&mut pieces, &prompt, false);
        self.said(&mut pieces, &said, turn.at);
        Some(pieces)
    }

    /// The prompt that is asked, and the turn as the answered text has it behind the message
    /// before: for templates that move something into the last question, which is gone once there
    /// is an answer.
    fn composed(&self, turn: &Turn) -> Option<(String, String)> {
        let before = turn.at.checked_sub(1)?;
        let tail = |upto, ask, answer: Option<&str>| {
            let text = self.probed(upto, ask, |m| {
                set_content(&mut m[before], PROBE);
                if let Some(answer) = answer {
                    m[turn.at] = json!({ "role": "assistant", "content": answer });
                }
            })?;
            let (_, tail) = text.split_once(PROBE)?;
            (!tail.contains(PROBE)).then(|| tail.to_owned())
        };
        let (asked, open, answered) = (
            tail(turn.at, true, None)?,
            tail(turn.at, false, None)?,
            tail(turn.at + 1, false, None)?,
        );
        let other = tail(turn.at + 1, false, Some("\u{10fffc}"))?;
        let shared = common(&asked, &answered).min(common(&asked, &other));
        let (prompt, said) = (turn.asked.strip_suffix(&asked[shared..])?, &answered[shared..]);
        let told = shared >= common(&asked, &open)
            && turn.answered.ends_with(said)
            && said.contains(self.message(turn.at).content().trim());
        told.then(|| (prompt.to_owned(), said.to_owned()))
    }

    /// What `{% generation %}` blocks hold.
    fn marked(&self, answers: &[usize]) -> Result<Vec<TextPiece>> {
        let mut pieces =
            self.template.marked(&self.messages[..=answers[answers.len() - 1]], self.chat)?;
        let blocks = pieces.iter_mut().filter(|piece| piece.supervised).collect::<Vec<_>>();
        let learnt = |at: &usize| self.message(*at).learnt;
        if blocks.len() == answers.len() {
            blocks.into_iter().zip(answers).for_each(|(block, at)| block.supervised = learnt(at));
        } else if blocks.is_empty() || !answers.iter().all(learnt) {
            let what = format!(
                "has {} `{{% generation %}}` blocks for {} turns of the assistant",
                blocks.len(),
                answers.len()
            );
            bail!(
                Data,
                "{}: the model's chat template {what}",
                self.chat.place;
                hint: "{OWN}"
            );
        }
        pieces.retain(|piece| !piece.text.is_empty());
        Ok(pieces)
    }

    /// The first thing that the text, of the first `upto` messages, does not word. Thoughts of
    /// turns that are not `learnt` in this text, as of earlier ones, are left out by design.
    fn honours(&self, upto: usize, ask: bool, text: &str, learnt: bool) -> Option<Lost> {
        let without_tools = || {
            let bare = Chat { tools: vec![], ..self.chat.clone() };
            self.template.plain(&self.messages[..upto], ask, &bare).ok()
        };
        if !self.chat.tools.is_empty() && without_tools().is_some_and(|bare| bare == text) {
            return Some(Lost::Tools);
        }
        // Whether the text is the same with another message `i`.
        let same = |i: usize, change: &dyn Fn(&mut Value)| {
            self.probed(upto, ask, |m| change(&mut m[i])).is_some_and(|other| other == text)
        };
        for i in 0..upto {
            let message = self.message(i);
            let content = message.content().trim();
            let certain =
                content.is_empty() || (content.len() >= CERTAIN && text.contains(content));
            if !certain && same(i, &|m| set_content(m, &format!("{content}{PROBE}"))) {
                return Some(Lost::Message(i));
            }
            let thinks =
                (learnt && message.learnt && message.is_answer()) || (i + 1 == upto && !ask);
            let lost = |key: &&'static str| match THOUGHTS.contains(key) {
                true => thinks && same(i, &|m| remove(m, &THOUGHTS)),
                false => same(i, &|m| remove(m, &[*key])),
            };
            let mut keys = WORDED.into_iter().filter(|key| message.fields.contains_key(*key));
            if let Some(key) = keys.find(lost) {
                return Some(Lost::Key(i, key));
            }
        }
        None
    }

    fn lost(&self, lost: &Lost) -> Error {
        let what = match lost {
            Lost::Tools => "has no place for `tools`".to_owned(),
            Lost::Message(i) => {
                format!(
                    "leaves out message {} of the conversation, which is of the role `{}`",
                    i + 1,
                    self.message(*i).role()
                )
            }
            Lost::Key(i, key) => {
                format!("leaves out `{key}` of message {} of the conversation", i + 1)
            }
        };
        error!(Data, "{}: the model's chat template {what}", self.chat.place; hint: "{OWN}")
    }

    fn untold(&self, turn: &Turn) -> Error {
        let what = format!(
            "under the model's chat template turn {} changes what stands before it",
            turn.at + 1
        );
        error!(Data, "{}: {what}, and cannot be told from it", self.chat.place; hint: "{OWN}")
    }

    fn worded(&self, examples: Vec<Vec<TextPiece>>, how: How) -> Worded {
        let texts: Vec<String> = examples
            .iter()
            .map(|pieces| pieces.iter().map(|piece| piece.text.as_str()).collect())
            .collect();
        let answers =
            self.chat.messages.iter().filter(|message| message.is_answer() && message.learnt);
        let altered = how != How::Last
            && answers
                .into_iter()
                .any(|m| !texts.iter().any(|text| text.contains(m.content().trim())));
        Worded { examples, how, altered, unnamed: self.unnamed() }
    }

    /// Whether the template leaves out the name of a message.
    fn unnamed(&self) -> bool {
        let upto = self.messages.len();
        let mut named = (0..upto).filter(|&i| {
            self.message(i).fields.contains_key("name") && self.message(i).role() != "tool"
        });
        named.any(|i| {
            let bare = self.probed(upto, false, |m| remove(&mut m[i], &["name"]));
            bare.is_some_and(|bare| Some(bare) == self.text(upto, false).ok())
        })
    }
}

fn last_of(turns: &[Turn]) -> &Turn {
    &turns[turns.len() - 1]
}

fn push(pieces: &mut Vec<TextPiece>, text: &str, supervised: bool) {
    if !text.is_empty() {
        pieces.push(TextPiece { text: text.to_owned(), supervised });
    }
}

fn set_content(message: &mut Value, content: &str) {
    if let Some(fields) = message.as_object_mut() {
        fields.insert("content".into(), content.into());
    }
}

fn remove(message: &mut Value, keys: &[&str]) {
    if let Some(fields) = message.as_object_mut() {
        keys.iter().for_each(|key| drop(fields.shift_remove(*key)));
    }
}

/// Puts [`PROBE`] in the place of what a turn says, or of the function that it calls where it says
/// nothing.
fn set_probe(message: &mut Value) {
    let silent = message["content"].as_str().is_none_or(str::is_empty);
    let named = ["/tool_calls/0/function/name", "/tool_calls/0/name"]
        .into_iter()
        .find(|path| message.pointer(path).is_some());
    match named.filter(|_| silent).and_then(|path| message.pointer_mut(path)) {
        Some(name) => *name = PROBE.into(),
        None => set_content(message, PROBE),
    }
}

/// Bytes that two texts have in common at their beginnings, whole letters.
fn common(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

/// From where to where in `text` stands what [`PROBE`] stands for in `probed`; `None` where that is
/// not at one place.
fn around(probed: &str, text: &str) -> Option<(usize, usize)> {
    let (before, after) = probed.split_once(PROBE)?;
    let fits = !after.contains(PROBE)
        && text.starts_with(before)
        && text.ends_with(after)
        && before.len() + after.len() <= text.len();
    fits.then(|| (before.len(), text.len() - after.len()))
}
