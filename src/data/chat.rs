//! Conversations, worded by the model's own chat template: Jinja, rendered as transformers does
//! (`utils/chat_template_utils.py`). A template comes with a model and is not to be trusted.

use anyhow::Result;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, context};
use regex::Regex;
use serde_json::{Map, Value};

use crate::data::item::{Chat, Instruction, ItemPlace, Message, TextPiece};
use crate::data::jinja;
use crate::data::tokenizer::Encode;
use crate::error::{Error, bail, error};

/// A model's chat template, compiled.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    pub(super) eos: String,
    /// It says itself what the assistant generates, in `{% generation %}` blocks.
    pub(super) marks: bool,
}

const NAME: &str = "chat template";

/// The template that writes [`MARKS`] around what the assistant generates.
const MARKED: &str = "marked chat template";

/// Letters for private use, around what stands in a `{% generation %}` block.
const MARKS: [char; 2] = ['\u{f0000}', '\u{f0001}'];

/// What can be done where a template does not do for conversations.
pub(super) const OWN: &str = "a template of the recipe can word conversations: `template: #{ text: \
                              \"{% for m in messages %}…{% endfor %}\" }`";

/// The work that a template may do on an item, in minijinja's measure: steps taken, or 64 bytes
/// made. So neither loops without end nor texts that double themselves (64 MiB are made at most)
/// take the machine.
pub(super) const FUEL: u64 = 1 << 20;

impl ChatTemplate {
    /// The template of the model behind `tokenizer`. Errors (class data) where it has none, or none
    /// that is valid.
    pub fn of(tokenizer: &dyn Encode) -> Result<Self> {
        let text = tokenizer.chat_template().ok_or_else(|| missing(tokenizer.other_templates()))?;
        let roles = tokenizer.roles();
        let bos = roles.iter().find(|(role, _)| role == "bos_token").map_or("", |(_, token)| token);
        let eos = tokenizer.eos().and_then(|id| tokenizer.token(id)).unwrap_or_default();
        let mut template = Self::new(text, bos, &eos)?;
        for (role, token) in
            roles.iter().filter(|(role, _)| !matches!(role.as_str(), "bos_token" | "eos_token"))
        {
            template.environment.add_global(role.clone(), token.as_str());
        }
        if let Some(date) = tokenizer.date() {
            template.environment.add_function("strftime_now", move |pattern: String| {
                date.format(&pattern)
                    .map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, e.to_string()))
            });
        }
        Ok(template)
    }

    /// Compiles a template, for a model whose sequences begin and end with the tokens written `bos`
    /// and `eos`. Errors (class data): a text that is no Jinja.
    pub fn new(text: &str, bos: &str, eos: &str) -> Result<Self> {
        let damaged = |e: minijinja::Error| {
            error!(
                Data,
                "the model's chat template cannot be read, line {}: {}",
                e.line().unwrap_or(1),
                reason(&e)
            )
        };
        let mut environment = environment().map_err(damaged)?;
        let [plain, marked] = generation_tags(text)?;
        let marks = plain != marked;
        environment.add_template_owned(NAME, plain).map_err(damaged)?;
        environment.add_template_owned(MARKED, marked).map_err(damaged)?;
        Ok(Self { environment, bos: bos.to_owned(), eos: eos.to_owned(), marks })
    }

    /// The conversation as a text; with `ask`, up to where the assistant begins to speak.
    ///
    /// Errors (class data), at its place: what the template refuses, such as turns out of order;
    /// one that asks for the date, since a run would not be the same tomorrow; one that does not
    /// come to an end.
    pub fn render(&self, chat: &Chat, ask: bool) -> Result<String> {
        self.text(NAME, &seen(&chat.messages), ask, chat)
    }

    /// The text of `messages`, which stand in the place of the conversation's.
    pub(super) fn plain(&self, messages: &[Value], ask: bool, chat: &Chat) -> Result<String> {
        self.text(NAME, messages, ask, chat)
    }

    /// The text in pieces: what stands in `{% generation %}` blocks is supervised, as in
    /// transformers' `return_assistant_tokens_mask`.
    pub(super) fn marked(&self, messages: &[Value], chat: &Chat) -> Result<Vec<TextPiece>> {
        let marked = self.text(MARKED, messages, false, chat)?;
        let plain = self.text(NAME, messages, false, chat)?;
        let pieces = by_marks(&marked);
        if pieces.iter().map(|piece| piece.text.as_str()).collect::<String>() != plain {
            let what = "changes what its `{% generation %}` blocks hold, so that it cannot be told \
                        what is learnt";
            bail!(Data, "{}: the model's chat template {what}", chat.place; hint: "{OWN}");
        }
        Ok(pieces)
    }

    fn text(&self, template: &str, messages: &[Value], ask: bool, chat: &Chat) -> Result<String> {
        let tools = if chat.tools.is_empty() { Value::Null } else { chat.tools.clone().into() };
        let rendered = self.environment.get_template(template).and_then(|template| {
            let context = context! {
                messages => Serde(messages),
                add_generation_prompt => ask,
                bos_token => &*self.bos,
                eos_token => &*self.eos,
                // There in transformers, if only as none: a template may ask `tools is not none`.
                tools => Serde(&tools),
                documents => (),
                ..minijinja::Value::from(Serde(&chat.variables)),
            };
            template.render(context)
        });
        rendered.map_err(|e| refused(&chat.place, &e).into())
    }
}

/// The error of a model without a chat template for all uses; `others` are those for some.
fn missing(others: &[String]) -> Error {
    let none = match others {
        [] => "the model has no chat template".to_owned(),
        names => format!(
            "the model has chat templates named `{}`, and none named `default`",
            names.join("`, `")
        ),
    };
    error!(
        Data,
        "{none}";
        hint: "instructions are worded by `alpaca`, `llm-adapters` and `none` too; {OWN}"
    )
}

/// What compiles a chat template, as transformers sets it.
fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function(
        "raise_exception",
        |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        },
    );
    jinja::like_python(&mut environment);
    mark_generation(&mut environment);
    Ok(environment)
}

/// Why a template makes no text of a conversation.
fn refused(place: &ItemPlace, e: &minijinja::Error) -> Error {
    let refused = |what: &str| error!(Data, "{place}: the model's chat template {what}");
    match e.kind() {
        ErrorKind::OutOfFuel => refused("does not come to an end on the conversation"),
        ErrorKind::UnknownFunction if reason(e).contains("strftime_now") => refused(
            "asks for today's date (`strftime_now`), so that a run would differ from day to day",
        )
        .hint(
            "give the day: `date: \"2026-01-31\"` in the options of `model::load`, or `--date \
             2026-01-31`",
        ),
        _ => refused(&format!("refuses the conversation: {}", reason(e))),
    }
}

/// Names under which messages hold what was thought before the answer; templates read one or
/// another of them.
pub(super) const THOUGHTS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Messages as transformers hands them to a template: thoughts by each name that templates know.
pub(super) fn seen(messages: &[Message]) -> Vec<Value> {
    let seen = |message: &Message| {
        let fields = &message.fields;
        let Some(thoughts) = THOUGHTS.iter().find_map(|key| fields.get(*key)).cloned() else {
            return fields.clone();
        };
        let mut all = Map::from_iter([("thinking".to_owned(), thoughts.clone())]);
        all.extend(fields.clone());
        all.insert("reasoning_content".into(), thoughts);
        all
    };
    messages.iter().map(|message| Value::Object(seen(message))).collect()
}

/// An instruction as a conversation: what stands before, its question, and the answer where it is
/// wanted.
pub fn conversation(item: &Instruction, answered: bool) -> Chat {
    let mut messages = vec![];
    if !item.before.system.is_empty() {
        messages.push(Message::new("system", &item.before.system));
    }
    for (question, answer) in &item.before.history {
        messages.extend([Message::new("user", question), Message::new("assistant", answer)]);
    }
    messages.push(Message::new("user", &question(item)));
    if answered {
        messages.push(Message::new("assistant", &item.answer_text));
    }
    Chat { tools: item.before.tools.clone(), ..Chat::new(item.place.clone(), messages) }
}

/// What a user says of an instruction.
pub(super) fn question(item: &Instruction) -> String {
    match item.input.as_str() {
        "" => item.instruction.clone(),
        input => format!("{}\n\n{input}", item.instruction),
    }
}

/// The filter that marks what is generated.
pub(super) fn mark_generation(environment: &mut Environment) {
    environment.add_filter("generation", |text: String| format!("{}{text}{}", MARKS[0], MARKS[1]));
}

/// A text with marks in pieces: what stands between them is supervised.
pub(super) fn by_marks(marked: &str) -> Vec<TextPiece> {
    let (mut pieces, mut supervised) = (vec![], false);
    for text in marked.split_inclusive(MARKS) {
        let end = text.chars().next_back().filter(|last| MARKS.contains(last));
        let text = end.map_or(text, |mark| &text[..text.len() - mark.len_utf8()]);
        pieces.push(TextPiece { text: text.to_owned(), supervised });
        supervised = end == Some(MARKS[0]);
    }
    pieces
}

fn reason(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

/// The template with a scope, and with a scope and marks, in the place of `{% generation %}`
/// blocks, with which transformers finds the assistant's turns. The same twice where there are
/// none.
pub(super) fn generation_tags(text: &str) -> Result<[String; 2]> {
    let tag = |name: &str| Regex::new(&format!(r"\{{%([-+]?)\s*{name}\s*([-+]?)%\}}"));
    let (open, close) = (tag("generation")?, tag("endgeneration")?);
    let with = |opened: &str, closed: &str| {
        close.replace_all(&open.replace_all(text, opened), closed).into_owned()
    };
    Ok([
        with("{%$1 with $2%}", "{%$1 endwith $2%}"),
        with("{%$1 filter generation %}{% with $2%}", "{%$1 endwith %}{% endfilter $2%}"),
    ])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::error::{Class, class_of};

    fn render(template: &str) -> Result<String> {
        let place = ItemPlace { file: Path::new("talks.jsonl").into(), unit: "line", number: 3 };
        let hi = Message::new("user", "<b> & \"é\"");
        ChatTemplate::new(template, "<s>", "</s>")?.render(&Chat::new(place, vec![hi]), true)
    }

    #[test]
    fn what_templates_ask_of_transformers_is_there() {
        for (template, want) in [
            ("{{ messages[0] | tojson }}", r#"{"role": "user", "content": "<b> & \"é\""}"#),
            (
                "{{ messages | tojson(indent=1) }}",
                "[\n {\n  \"role\": \"user\",\n  \"content\": \"<b> & \\\"é\\\"\"\n }\n]",
            ),
            ("{% generation %}a{%- endgeneration -%} b", "ab"),
            ("{% if tools is not none or documents is not none %}tools{% endif %}", ""),
            ("{% if strftime_now is defined %}today{% else %}once{% endif %}", "once"),
            (
                "{% for i in range(9) %}{% if i > 1 %}{% break %}{% endif %}{{ i }}{% endfor %}",
                "01",
            ),
            ("{% if true %}\n  {% if true %}\nx{% endif %}{% endif %}\n", "x"),
            (
                "{{ bos_token }}{{ ' a '.strip() }}{{ messages[::-1][0].role }}{{ eos_token }}",
                "<s>auser</s>",
            ),
        ] {
            assert_eq!(render(template).unwrap(), want, "{template}");
        }
    }

    fn refuses(template: &str, want: &str) {
        let error = render(template).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), class_of(&error)),
            (want, Class::Data),
            "{template}"
        );
    }

    #[test]
    fn bad_templates_are_refused_in_words() {
        refuses(
            "a\n{% if %}",
            "the model's chat template cannot be read, line 2: unexpected end of block",
        );
        refuses(
            "{{ strftime_now('%d %b %Y') }}",
            "`talks.jsonl` line 3: the model's chat template asks for today's date \
             (`strftime_now`), so that a run would differ from day to day",
        );
    }

    #[test]
    fn templates_without_end_are_refused() {
        let endless = "{% for i in range(99999) %}{% for j in range(99999) %}{{ messages }}\
                       {% endfor %}{% endfor %}";
        let doubling = "{% set n = namespace(x='a') %}\
                        {% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}\
                        {{ n.x | length }}";
        for template in [endless, doubling] {
            refuses(
                template,
                "`talks.jsonl` line 3: the model's chat template does not come to an end on the \
                 conversation",
            );
        }
        // Calls without end come to one.
        assert!(render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").is_err());
    }
}
