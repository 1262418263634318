//! Conversations: lists of messages as OpenAI, TRL, ShareGPT and LLaMA-Factory write them, to those
//! of chat templates.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::keys::{self, Unused, is_empty, truth};
use super::{kind, loose};
use crate::data::item::{ItemPlace, Message};
use crate::error::{bail, clip, did_you_mean, error, nearest};

pub(super) const EXPECTED: &str =
    "expected is `{\"messages\": [{\"role\": \"user\", \"content\": text}, …]}`";

/// Roles that chat templates know.
const ROLES: [&str; 7] =
    ["system", "developer", "user", "assistant", "tool", "function", "ipython"];

/// Who speaks, in the words of ShareGPT sets, with its role; a call is a turn of the assistant.
const SPEAKERS: [(&str, &str); 16] = [
    ("human", "user"),
    ("prompter", "user"),
    ("gpt", "assistant"),
    ("chatgpt", "assistant"),
    ("bing", "assistant"),
    ("bard", "assistant"),
    ("bot", "assistant"),
    ("model", "assistant"),
    ("observation", "tool"),
    ("tool_response", "tool"),
    ("function_response", "tool"),
    ("tool_result", "tool"),
    ("function-response", "tool"),
    ("function_call", CALL),
    ("function-call", CALL),
    ("tool_call", CALL),
];

const CALL: &str = "call";

/// Keys of a message that a template words or the answer loses something.
pub(in crate::data) const WORDED: [&str; 11] = [
    "tool_calls",
    "function_call",
    "tools",
    "functions",
    "reasoning_content",
    "reasoning",
    "thinking",
    "tool_plan",
    "documents",
    "citations",
    "refusal",
];

/// Keys of a message that say who or what it is of; a template may word them, most do not.
const NAMES: [&str; 3] = ["name", "tool_call_id", "id"];

/// A list of messages, or a JSON text of one. `key` is what the record calls it; with `spoken`,
/// roles may be those of ShareGPT.
///
/// Errors (class data), with the place.
pub(in crate::data) fn messages(
    place: &ItemPlace,
    key: &str,
    value: Value,
    spoken: bool,
    unused: &mut Unused,
) -> Result<Vec<Message>> {
    let value = match value {
        Value::String(text) => {
            serde_json::from_str(&text).ok().filter(Value::is_array).unwrap_or(Value::String(text))
        }
        other => written(place, other),
    };
    let list = match value {
        Value::Array(list) if !list.is_empty() => list,
        Value::Array(_) => bail!(Data, "{place}: `{key}` is empty; {EXPECTED}"),
        other => bail!(Data, "{place}: `{key}` is {}, expected a list; {EXPECTED}", kind(&other)),
    };
    let message = |(i, value): (usize, Value)| match value {
        Value::Object(fields) => {
            Reader { place, at: format!("{key}[{i}]"), fields }.message(spoken, unused)
        }
        other => {
            bail!(Data, "{place}: `{key}[{i}]` is {}, expected an object; {EXPECTED}", kind(&other))
        }
    };
    list.into_iter().enumerate().map(message).collect()
}

/// Errors (class data) where a value holds what JSON or Unicode do not have, deep in it.
pub(super) fn usable(place: &ItemPlace, name: &str, value: &Value) -> Result<()> {
    match loose::what_within(value) {
        Some(what) => bail!(Data, "{place}: `{name}` holds {what}"),
        None => Ok(()),
    }
}

/// What a record of a Parquet file says: rows share their structs there, so that each has the keys
/// of all others, with nulls for values. Those are left out, as TRL does. Elsewhere a null was
/// written by somebody.
fn written(place: &ItemPlace, value: Value) -> Value {
    if place.unit == ItemPlace::PARQUET_ROW { without_nulls(value) } else { value }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(key, v)| (key, without_nulls(v)))
            .collect(),
        Value::Array(list) => {
            list.into_iter().filter(|v| !v.is_null()).map(without_nulls).collect()
        }
        other => other,
    }
}

/// JSON schemas of functions: a list, or a JSON text of one.
pub(in crate::data) fn tools(place: &ItemPlace, value: Value) -> Result<Vec<Value>> {
    if is_empty(&value) {
        return Ok(vec![]);
    }
    usable(place, "tools", &value)?;
    let parsed = match value {
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(parsed) => parsed,
            Err(_) => bail!(
                Data,
                "{place}: `tools` is a text that is no JSON, expected a list of JSON schemas"
            ),
        },
        other => written(place, other),
    };
    match parsed {
        Value::Array(list) if list.iter().all(Value::is_object) => Ok(list),
        Value::Array(list) => {
            let other = list.iter().find(|tool| !tool.is_object()).map_or("nothing".into(), kind);
            bail!(Data, "{place}: `tools` holds {other}, expected JSON schemas of functions")
        }
        other => {
            bail!(Data, "{place}: `tools` is {}, expected a list of JSON schemas", kind(&other))
        }
    }
}

/// A message on its way to what a template sees.
struct Reader<'a> {
    place: &'a ItemPlace,
    /// What messages call it: `messages[0]`.
    at: String,
    fields: Map<String, Value>,
}

impl Reader<'_> {
    fn message(mut self, spoken: bool, unused: &mut Unused) -> Result<Message> {
        // What is null, or an empty list, is not there, for templates too: many write it out where
        // they find it.
        self.fields.retain(|key, value| {
            value.is_string() || key == "content" || key == "value" || !is_empty(value)
        });
        let spoken = self.says_from(spoken);
        let learnt = self.learnt()?;
        if self.role(spoken)? == CALL {
            self.call()?;
        } else {
            self.content()?;
        }
        self.check_content()?;
        self.others(unused)?;
        Ok(Message { fields: self.fields, learnt })
    }

    /// Errors (class data) unless the content is a text, or missing where functions are called
    /// without a word.
    fn check_content(&mut self) -> Result<()> {
        let (place, at) = (self.place, &self.at);
        let answers = self.fields.get("role").is_some_and(|role| role == "assistant");
        let calls =
            self.fields.contains_key("tool_calls") || self.fields.contains_key("function_call");
        match self.fields.get("content") {
            Some(Value::String(_)) => {}
            None | Some(Value::Null) if answers && calls => {
                self.fields.shift_remove("content");
            }
            None => bail!(Data, "{place}: `{at}` has no `content`; {EXPECTED}"),
            Some(other) => bail!(
                Data,
                "{place}: `{at}.content` is {}, expected a string; {EXPECTED}",
                kind(other)
            ),
        }
        Ok(())
    }

    /// Turns `from` and `value` into `role` and `content`; whether the words of ShareGPT may stand
    /// for roles.
    fn says_from(&mut self, spoken: bool) -> bool {
        if self.fields.contains_key("role") || !self.fields.contains_key("from") {
            return spoken;
        }
        let rename = |(key, value): (String, Value)| match key.as_str() {
            "from" => ("role".to_owned(), value),
            "value" => ("content".to_owned(), value),
            _ => (key, value),
        };
        self.fields = std::mem::take(&mut self.fields).into_iter().map(rename).collect();
        true
    }

    /// Whether the turn is to be learnt, by the keys that say so in OpenAI's and TRL's files
    /// (`weight`), Axolotl's (`train`, `training`) and ms-swift's (`loss`, `loss_scale`).
    fn learnt(&mut self) -> Result<bool> {
        let mut learnt = true;
        for key in ["weight", "train", "training", "loss", "loss_scale"] {
            let Some(value) = self.fields.shift_remove(key) else { continue };
            match truth(&value) {
                Some(counts) => learnt &= counts,
                None => {
                    bail!(Data, "{}: `{}.{key}` is {value}, expected 0 or 1", self.place, self.at)
                }
            }
        }
        Ok(learnt)
    }

    /// The role as a template knows it, set in the message.
    fn role(&mut self, spoken: bool) -> Result<&'static str> {
        let (place, at) = (self.place, &self.at);
        let role = match self.fields.get("role") {
            Some(Value::String(role)) => role.clone(),
            Some(other) => {
                bail!(
                    Data,
                    "{place}: `{at}.role` is {}, expected a string; {EXPECTED}",
                    kind(other)
                )
            }
            None => bail!(Data, "{place}: `{at}` has no `role`; {EXPECTED}"),
        };
        let known = ROLES.into_iter().find(|known| *known == role);
        let speaker =
            || SPEAKERS.into_iter().find(|(word, _)| spoken && *word == role).map(|(_, role)| role);
        let Some(found) = known.or_else(speaker) else {
            let alias = SPEAKERS
                .into_iter()
                .find(|(word, role_of)| *word == role && *role_of != CALL)
                .map(|(_, role)| role);
            let near = did_you_mean(alias.unwrap_or(&role), ROLES);
            bail!(
                Data,
                "{place}: `{at}.role` is `{}`, expected system, developer, user, assistant or \
                 tool{near}",
                clip(&role)
            );
        };
        let found_role = if found == CALL { "assistant" } else { found };
        self.fields.insert("role".into(), found_role.into());
        Ok(found)
    }

    /// Parts that are all text become one text, as templates that know parts write them: one behind
    /// the other.
    fn content(&mut self) -> Result<()> {
        let Some(Value::Array(parts)) = self.fields.get("content") else { return Ok(()) };
        let texts = parts.iter().enumerate().map(|(i, part)| self.text(i, part));
        let whole = texts.collect::<Result<String>>()?;
        self.fields.insert("content".into(), whole.into());
        Ok(())
    }

    /// The text of part `i` of the content. Errors (class data): it is of another type, or holds
    /// more than its text.
    fn text<'b>(&self, i: usize, part: &'b Value) -> Result<&'b str> {
        let (place, at) = (self.place, &self.at);
        let kind_of =
            part.get("type").and_then(Value::as_str).map_or_else(|| kind(part), Into::into);
        let other = part.as_object().and_then(|fields| {
            fields.iter().find(|(key, v)| *key != "type" && *key != "text" && !is_empty(v))
        });
        match (kind_of.as_ref(), part.get("text"), other) {
            ("text", Some(Value::String(text)), None) => Ok(text),
            ("text", _, Some((key, _))) => bail!(
                Data,
                "{place}: `{at}.content[{i}]` has the key `{}`, which would be left out",
                clip(key)
            ),
            ("text", ..) => bail!(Data, "{place}: `{at}.content[{i}]` has no `text`"),
            (other, ..) => {
                let error = error!(
                    Data,
                    "{place}: `{at}.content[{i}]` is a part of the type `{}`, which is no text",
                    clip(other)
                );
                let hint = "the models here read text only: parts are `{\"type\": \"text\", \
                            \"text\": …}`";
                Err(error.hint(hint).into())
            }
        }
    }

    /// A turn that is the JSON of a call (LLaMA-Factory's `function_call`), or of several, becomes
    /// one with `tool_calls`.
    fn call(&mut self) -> Result<()> {
        let (place, at) = (self.place, &self.at);
        let text = self.fields.shift_remove("content").unwrap_or_default();
        let value = text.as_str().map_or(Ok(text.clone()), serde_json::from_str);
        let calls = match value {
            Ok(Value::Array(calls)) => calls,
            Ok(call) => vec![call],
            Err(_) => bail!(
                Data,
                "{place}: `{at}` is a call that is no JSON; expected is `{{\"name\": …, \
                 \"arguments\": …}}`"
            ),
        };
        let call = |call: &Value| match (call.get("name"), call.get("arguments")) {
            (Some(Value::String(name)), Some(arguments)) => Ok(
                json!({ "type": "function", "function": { "name": name, "arguments": arguments } }),
            ),
            _ => bail!(Data, "{place}: `{at}` is a call without `name` and `arguments`"),
        };
        let calls = calls.iter().map(call).collect::<Result<Vec<_>>>()?;
        self.fields.insert("tool_calls".into(), calls.into());
        Ok(())
    }

    /// What else the message holds: a template may word it.
    fn others(&mut self, unused: &mut Unused) -> Result<()> {
        let (place, at) = (self.place, &self.at);
        for (key, value) in &self.fields {
            if loose::what_within(value).is_some() {
                usable(place, &format!("{at}.{}", clip(key)), value)?;
            }
            let known = ["role", "content"].contains(&key.as_str())
                || WORDED.contains(&key.as_str())
                || NAMES.contains(&key.as_str());
            if known || keys::why_silent(key).is_some() || unused.has_of_message(key) {
                continue;
            }
            if let Some(holds) = keys::matters(key) {
                bail!(Data, "{place}: `{at}.{key}` holds {holds}, which would be left out");
            }
            let slips = WORDED.into_iter().chain(["weight", "name", "content", "role"]);
            match (nearest(key, slips), value) {
                (Some(near), _) => bail!(
                    Data,
                    "{place}: unknown key `{}` in `{at}`; did you mean `{near}`?; {EXPECTED}",
                    clip(key)
                ),
                (None, _) => unused.of_message(key),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(value: Value, spoken: bool) -> Result<Vec<Message>> {
        let place = ItemPlace { file: Path::new("t.jsonl").into(), unit: "line", number: 1 };
        messages(&place, "messages", value, spoken, &mut Unused::default())
    }

    fn fields(messages: &[Message]) -> Value {
        messages.iter().map(|m| Value::Object(m.fields.clone())).collect()
    }

    #[test]
    fn sharegpt_is_read_as_its_roles() {
        let list = json!([
            { "from": "system", "value": "s" }, { "from": "human", "value": "q" },
            { "from": "gpt", "value": "a", "weight": 0 },
            { "from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}" },
            { "from": "observation", "value": "5" },
            { "from": "chatgpt", "value": "b", "weight": null },
        ]);
        let got = read(list, false).unwrap();
        let call =
            json!([{ "type": "function", "function": { "name": "f", "arguments": { "x": 1 } } }]);
        let want = json!([
            { "role": "system", "content": "s" }, { "role": "user", "content": "q" },
            { "role": "assistant", "content": "a" }, { "role": "assistant", "tool_calls": call },
            { "role": "tool", "content": "5" }, { "role": "assistant", "content": "b" },
        ]);
        assert_eq!(fields(&got), want);
        assert_eq!(
            got.iter().map(|m| m.learnt).collect::<Vec<_>>(),
            [true, true, false, true, true, true]
        );
    }

    #[test]
    fn speakers_are_roles_where_they_may_stand_for_them() {
        let spoken =
            json!([{ "role": "human", "content": "q" }, { "role": "gpt", "content": "a" }]);
        assert_eq!(
            fields(&read(spoken.clone(), true).unwrap()),
            json!([{ "role": "user", "content": "q" }, { "role": "assistant", "content": "a" }])
        );
        let error = read(spoken, false).unwrap_err().to_string();
        assert!(
            error.ends_with(
                "`messages[0].role` is `human`, expected system, developer, user, assistant or \
                 tool; did you mean `user`?"
            ),
            "{error}"
        );
    }

    #[test]
    fn what_says_nothing_is_not_handed_on() {
        let list = json!([
            {
                "role": "user",
                "content": [
                    { "type": "text", "text": "a", "image": null }, { "type": "text", "text": "b" },
                ],
                "tool_calls": [],
            },
            {
                "role": "assistant", "content": null,
                "tool_calls": [{ "function": { "name": "f" } }], "name": null, "weight": 1,
            },
        ]);
        let want = json!([
            { "role": "user", "content": "ab" },
            { "role": "assistant", "tool_calls": [{ "function": { "name": "f" } }] },
        ]);
        assert_eq!(fields(&read(list.clone(), false).unwrap()), want);
        assert_eq!(fields(&read(list.to_string().into(), false).unwrap()), want);
    }

    #[test]
    fn nulls_of_other_rows_are_left_out_of_parquet() {
        let list = json!([{
            "type": "function",
            "function": { "name": "f", "parameters": { "x": { "a": [1, null] }, "y": null } },
        }]);
        let bare = json!([{
            "type": "function", "function": { "name": "f", "parameters": { "x": { "a": [1] } } },
        }]);
        for (unit, want) in [(ItemPlace::PARQUET_ROW, &bare), ("line", &list)] {
            let place = ItemPlace { file: Path::new("t").into(), unit, number: 1 };
            assert_eq!(Value::from(tools(&place, list.clone()).unwrap()), *want);
            // In a JSON text they were written by somebody.
            assert_eq!(Value::from(tools(&place, list.to_string().into()).unwrap()), list);
            let said =
                json!([{ "role": "assistant", "content": null, "tool_calls": list.clone() }]);
            let got = messages(&place, "messages", said, false, &mut Unused::default()).unwrap();
            assert_eq!(got[0].fields["tool_calls"], *want);
        }
    }

    #[test]
    fn what_would_be_lost_is_refused_by_its_name() {
        let user = |more: Value| {
            let mut message = json!({ "role": "user", "content": "a" });
            message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!([message])
        };
        let arguments = json!({ "x": loose::fault("NaN") });
        for (more, want) in [
            (json!({ "weight": 0.5 }), "`messages[0].weight` is 0.5, expected 0 or 1"),
            (json!({ "images": ["x"] }), "`messages[0].images` holds what is no text"),
            (
                json!({ "tool_cals": [1] }),
                "unknown key `tool_cals` in `messages[0]`; did you mean `tool_calls`?",
            ),
            (
                json!({ "content": [{ "type": "image_url", "image_url": "x" }] }),
                "`messages[0].content[0]` is a part of the type `image_url`",
            ),
            (
                json!({ "content": [{ "type": "text", "text": "x", "cache": 1 }] }),
                "`messages[0].content[0]` has the key `cache`",
            ),
            (
                json!({ "tool_calls": [{ "function": { "arguments": arguments } }] }),
                "`messages[0].tool_calls` holds NaN",
            ),
            (json!({ "content": null }), "`messages[0].content` is null, expected a string"),
        ] {
            let error = read(user(more), false).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn what_is_no_list_of_messages_is_refused() {
        for (list, want) in [
            (
                json!([{ "from": "function_call", "value": "f(x)" }]),
                "`messages[0]` is a call that is no JSON",
            ),
            (json!("hello"), "`messages` is a string, expected a list"),
        ] {
            let error = read(list, false).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
