//! Records that are conversations.

use anyhow::Result;
use serde_json::{Map, Value};

use super::fields::RecordFields;
use super::keys::{Unused, is_empty};
use super::{kind, loose, messages};
use crate::data::item::{Chat, Message};
use crate::error::bail;

/// What lists of messages are called.
pub(super) const KEYS: [&str; 3] = ["messages", "conversations", "conversation"];

/// Keys that hold an answer where the messages end in a question.
const ANSWERS: [&str; 5] = ["completion", "response", "output", "answer", "target"];

/// Variables of a chat template that are not the record's to give.
const TAKEN: [&str; 8] = [
    "messages",
    "tools",
    "documents",
    "add_generation_prompt",
    "continue_final_message",
    "chat_template",
    "bos_token",
    "eos_token",
];

/// A record with a list of messages; with `system`, `tools` and `chat_template_kwargs` beside it,
/// where it has them.
pub(super) fn chat(fields: &mut RecordFields, unused: &mut Unused) -> Result<Chat> {
    let place = fields.place;
    let Some((key, value)) = KEYS.into_iter().find_map(|key| Some((key, fields.take(key)?))) else {
        bail!(Data, "{place} has no `messages`; {}", messages::EXPECTED);
    };
    same(fields, &value, unused);
    let list = messages::messages(place, key, value, key != "messages", unused)?;
    if let Some(answer) =
        ANSWERS.into_iter().find(|key| fields.get(key).is_some_and(|value| !is_empty(value)))
        && !list.last().is_some_and(Message::is_answer)
    {
        bail!(
            Data,
            "{place}: `{key}` ends in a question, and `{answer}` beside it would be left out";
            hint: "the answer is the last of the messages; or call them `prompt` and `completion`, \
                   both lists"
        );
    }
    around(fields, list)
}

/// A record with `prompt` and `completion` as lists of messages (TRL): of both, the answers in the
/// second are learnt.
pub(super) fn turns(fields: &mut RecordFields, unused: &mut Unused) -> Result<Chat> {
    let place = fields.place;
    let mut list = |key: &str, fields: &mut RecordFields| match fields.take(key) {
        Some(value @ Value::Array(_)) => messages::messages(place, key, value, false, unused),
        Some(other) => bail!(
            Data,
            "{place}: `{key}` is {}, and its counterpart a list; both are texts, or both lists",
            kind(&other)
        ),
        None => bail!(
            Data,
            "{place} has no `{key}`; expected are lists of messages as `prompt` and `completion`"
        ),
    };
    let (mut prompt, mut completion) = (list("prompt", fields)?, list("completion", fields)?);
    prompt.iter_mut().for_each(|message| message.learnt = false);
    prompt.append(&mut completion);
    around(fields, prompt)
}

/// Takes what says nothing new beside `messages`: the question once more, and a preferred answer
/// that is the conversation.
fn same(fields: &mut RecordFields, list: &Value, unused: &mut Unused) {
    let asked = |prompt: &Value| {
        list.as_array()
            .is_some_and(|list| list.iter().any(|message| message.get("content") == Some(prompt)))
    };
    if fields.get("prompt").is_some_and(asked) {
        fields.take("prompt");
    }
    if fields.get("chosen") == Some(list) {
        for key in ["chosen", "rejected"] {
            fields.take(key);
            unused.column(key);
        }
    }
}

/// The conversation with what stands beside its messages.
fn around(fields: &mut RecordFields, mut messages: Vec<Message>) -> Result<Chat> {
    let place = fields.place;
    let system = fields.system()?;
    match messages.first().filter(|first| first.role() == "system").map(Message::content) {
        _ if system.is_empty() => {}
        Some(said) if said == system => {}
        Some(_) => {
            bail!(Data, "{place}: `system` is another system text than that of the first message")
        }
        None => messages.insert(0, Message::new("system", &system)),
    }
    let tools = fields.take("tools").map_or(Ok(vec![]), |value| messages::tools(place, value))?;
    let variables = match fields.take("chat_template_kwargs").filter(|value| !is_empty(value)) {
        None => Map::new(),
        Some(value @ Value::Object(_)) if loose::what(&value).is_none() => {
            messages::usable(place, "chat_template_kwargs", &value)?;
            value.as_object().cloned().unwrap_or_default()
        }
        Some(other) => {
            bail!(Data, "{place}: `chat_template_kwargs` is {}, expected an object", kind(&other))
        }
    };
    if let Some(taken) = variables.keys().find(|key| TAKEN.contains(&key.as_str())) {
        bail!(Data, "{place}: `chat_template_kwargs.{taken}` is not for a record to say");
    }
    Ok(Chat { tools, variables, ..Chat::new(place.clone(), messages) })
}
