//! Conversations, worded by the model's own chat template: Jinja, rendered as transformers does
//! (`utils/chat_template_utils.py`). A template comes with a model and is not to be trusted.

use std::io;

use anyhow::Result;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{AutoEscape, Environment, ErrorKind, context};
use regex::Regex;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};
use serde_json::{Serializer, Value, json};

use crate::data::encode::Encode;
use crate::data::item::{Instruction, Message, Place};
use crate::error::Error;

/// A piece of a conversation, and whether it is what the model has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub text: String,
    pub supervised: bool,
}

/// A model's chat template, compiled.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

const NAME: &str = "chat template";

/// The work that a template may do on an item, in minijinja's measure: steps taken, or 64 bytes made. So neither loops without
/// end nor texts that double themselves (64 MiB are made at most) take the machine.
pub(super) const FUEL: u64 = 1 << 20;

impl ChatTemplate {
    /// The template of the model behind `tokenizer`. Errors (class data) where it has none, or none that is valid.
    pub fn of(tokenizer: &dyn Encode) -> Result<Self> {
        let Some(text) = tokenizer.chat_template() else {
            let none = match tokenizer.other_templates() {
                [] => "the model has no chat template".to_owned(),
                names => format!("the model has chat templates named `{}`, and none named `default`", names.join("`, `")),
            };
            return Err(Error::data(none).hint("other templates are `alpaca`, `llm-adapters` and `none`").into());
        };
        let roles = tokenizer.roles();
        let bos = roles.iter().find(|(role, _)| role == "bos_token").map_or("", |(_, token)| token);
        let eos = tokenizer.eos().and_then(|id| tokenizer.token(id)).unwrap_or_default();
        let mut template = Self::new(text, bos, &eos)?;
        for (role, token) in roles.iter().filter(|(role, _)| !matches!(role.as_str(), "bos_token" | "eos_token")) {
            template.environment.add_global(role.clone(), token.as_str());
        }
        if let Some(date) = tokenizer.date() {
            template.environment.add_function("strftime_now", move |pattern: String| {
                date.format(&pattern).map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, e.to_string()))
            });
        }
        Ok(template)
    }

    /// Compiles a template, for a model whose sequences begin and end with the tokens written `bos` and `eos`.
    /// Errors (class data): a text that is no Jinja.
    pub fn new(text: &str, bos: &str, eos: &str) -> Result<Self> {
        let damaged = |e: minijinja::Error| {
            Error::data(format!("the model's chat template cannot be read, line {}: {}", e.line().unwrap_or(1), reason(&e)))
        };
        let mut environment = Environment::new();
        // As transformers sets them.
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(damaged)?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_filter("tojson", tojson);
        environment.add_template_owned(NAME, without_generation_tags(text)?).map_err(damaged)?;
        Ok(Self { environment, bos: bos.to_owned(), eos: eos.to_owned() })
    }

    /// The conversation as a text; with `ask`, up to where the assistant begins to speak.
    ///
    /// Errors (class data), at `place`: what the template refuses, such as turns out of order; one that asks for the date, since
    /// a run would not be the same tomorrow; one that does not come to an end.
    pub fn render(&self, messages: &[Message], ask: bool, place: &Place) -> Result<String> {
        let messages: Vec<Value> = messages.iter().map(|m| json!({ "role": m.role, "content": m.content })).collect();
        let rendered = self.environment.get_template(NAME).and_then(|template| {
            let context = context! {
                messages => Serde(&messages),
                add_generation_prompt => ask,
                bos_token => &*self.bos,
                eos_token => &*self.eos,
                // There in transformers, if only as none: a template may ask `tools is not none`.
                tools => (),
                documents => (),
            };
            template.render(context)
        });
        let refused = |what: String| Error::data(format!("{place}: the model's chat template {what}"));
        match rendered {
            Ok(text) => Ok(text),
            Err(e) if e.kind() == ErrorKind::OutOfFuel => Err(refused("does not come to an end on the conversation".into()).into()),
            Err(e) if e.kind() == ErrorKind::UnknownFunction && reason(&e).contains("strftime_now") => {
                let error = refused("asks for today's date (`strftime_now`), so that a run would differ from day to day".into());
                Err(error.hint("give the day: `date: \"2026-01-31\"` in the options of `model::load`, or `--date 2026-01-31`").into())
            }
            Err(e) => Err(refused(format!("refuses the conversation: {}", reason(&e))).into()),
        }
    }

    /// The whole conversation in pieces; each turn of the assistant, up to the token that ends it, is supervised.
    ///
    /// Errors (class data): no such turn, or a template under which a turn changes what was before it.
    pub fn pieces(&self, messages: &[Message], place: &Place) -> Result<Vec<Piece>> {
        let mut pieces: Vec<Piece> = vec![];
        let mut done = String::new();
        let mut push = |text: &str, supervised| {
            if !text.is_empty() {
                pieces.push(Piece { text: text.to_owned(), supervised });
            }
        };
        for (i, message) in messages.iter().enumerate().filter(|(_, m)| m.role == "assistant") {
            let asked = self.render(&messages[..i], true, place)?;
            let answered = self.render(&messages[..=i], false, place)?;
            let (Some(before), Some(turn)) = (asked.strip_prefix(&done), answered.strip_prefix(&asked)) else {
                let error = Error::data(format!("{place}: under the model's chat template turn {} changes what stands before it", i + 1));
                return Err(error.hint("its turns cannot be told apart; use the template `alpaca`, or one of your own").into());
            };
            // What separates turns is layout, not something to say; a turn that the template does not end is ended here.
            let said = turn.trim_end();
            let said = if said.len() < message.content.trim_end().len() { turn } else { said };
            push(before, false);
            push(said, true);
            if said.trim() == message.content.trim() && !said.ends_with(&self.eos) {
                push(&self.eos, true);
            }
            push(&turn[said.len()..], false);
            done = answered;
        }
        if done.is_empty() {
            return Err(Error::data(format!("{place}: no turn of the conversation is the assistant's, so nothing is to be learnt")).into());
        }
        Ok(pieces)
    }
}

/// An instruction as a conversation: its question, and the answer where it is wanted.
pub fn conversation(item: &Instruction, answered: bool) -> Vec<Message> {
    let question = if item.input.is_empty() { item.instruction.clone() } else { format!("{}\n\n{}", item.instruction, item.input) };
    let mut messages = vec![Message { role: "user".into(), content: question }];
    if answered {
        messages.push(Message { role: "assistant".into(), content: item.answer_text.clone() });
    }
    messages
}

fn reason(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

/// The template without `{% generation %}` and `{% endgeneration %}`, with which transformers finds the assistant's turns.
fn without_generation_tags(text: &str) -> Result<String> {
    let tag = |name: &str| Regex::new(&format!(r"\{{%([-+]?)\s*{name}\s*([-+]?)%\}}"));
    let (open, close) = (tag("generation")?, tag("endgeneration")?);
    let text = open.replace_all(text, "{%$1 if true $2%}");
    Ok(close.replace_all(&text, "{%$1 endif $2%}").into_owned())
}

/// JSON as Python's `json.dumps` writes it, which transformers sets in the place of Jinja's own filter.
fn tojson(value: &minijinja::Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let escaped: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    if escaped == Some(true) {
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, "`tojson` does not know `ensure_ascii`"));
    }
    let mut out = vec![];
    let written = match indent {
        Some(indent) => {
            let indent = vec![b' '; indent.min(64)];
            value.serialize(&mut Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(&indent)))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut out, Spaced)),
    };
    let failed = |e: String| minijinja::Error::new(ErrorKind::InvalidOperation, e);
    written.map_err(|e| failed(e.to_string()))?;
    String::from_utf8(out).map_err(|e| failed(e.to_string()))
}

/// A space after `,` and `:`, as Python has it.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::error::{Class, class_of};

    fn render(template: &str) -> Result<String> {
        let place = Place { file: Path::new("talks.jsonl").into(), unit: "line", number: 3 };
        let hi = Message { role: "user".into(), content: "<b> & \"é\"".into() };
        ChatTemplate::new(template, "<s>", "</s>")?.render(&[hi], true, &place)
    }

    #[test]
    fn what_templates_ask_of_transformers_is_there() {
        for (template, want) in [
            ("{{ messages[0] | tojson }}", r#"{"role": "user", "content": "<b> & \"é\""}"#),
            ("{{ messages | tojson(indent=1) }}", "[\n {\n  \"role\": \"user\",\n  \"content\": \"<b> & \\\"é\\\"\"\n }\n]"),
            ("{% generation %}a{%- endgeneration -%} b", "ab"),
            ("{% if tools is not none or documents is not none %}tools{% endif %}", ""),
            ("{% if strftime_now is defined %}today{% else %}once{% endif %}", "once"),
            ("{% for i in range(9) %}{% if i > 1 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
            ("{% if true %}\n  {% if true %}\nx{% endif %}{% endif %}\n", "x"),
            ("{{ bos_token }}{{ ' a '.strip() }}{{ messages[::-1][0].role }}{{ eos_token }}", "<s>auser</s>"),
        ] {
            assert_eq!(render(template).unwrap(), want, "{template}");
        }
    }

    #[test]
    fn bad_templates_are_refused_in_words() {
        let endless = "{% for i in range(99999) %}{% for j in range(99999) %}{{ messages }}{% endfor %}{% endfor %}";
        let doubling = "{% set n = namespace(x='a') %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x | length }}";
        for (template, want) in [
            ("a\n{% if %}", "the model's chat template cannot be read, line 2: unexpected end of block"),
            (
                "{{ strftime_now('%d %b %Y') }}",
                "`talks.jsonl` line 3: the model's chat template asks for today's date (`strftime_now`), so that a run would differ \
                 from day to day",
            ),
            (endless, "`talks.jsonl` line 3: the model's chat template does not come to an end on the conversation"),
            (doubling, "`talks.jsonl` line 3: the model's chat template does not come to an end on the conversation"),
        ] {
            let error = render(template).unwrap_err();
            assert_eq!((error.to_string().as_str(), class_of(&error)), (want, Class::Data), "{template}");
        }
        // Calls without end come to one.
        assert!(render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").is_err());
    }
}
