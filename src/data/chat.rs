//! Conversations, worded by the model's own chat template: Jinja, rendered as transformers does.

use anyhow::Result;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde_json::{Value, json};

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

impl ChatTemplate {
    /// The template of the model behind `tokenizer`. Errors (class data) where it has none, or none that is valid.
    pub fn of(tokenizer: &dyn Encode) -> Result<Self> {
        let Some(text) = tokenizer.chat_template() else {
            return Err(Error::data("the model has no chat template")
                .hint("other templates are `alpaca`, `llm-adapters` and `none`")
                .into());
        };
        let damaged = |e: minijinja::Error| Error::data(format!("the model's chat template cannot be read: {e}"));
        let mut environment = Environment::new();
        // As transformers sets them.
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(damaged)?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(NAME, text.to_owned()).map_err(damaged)?;
        let token = |id: Option<u32>| id.and_then(|id| tokenizer.token(id)).unwrap_or_default();
        Ok(Self { environment, bos: token(tokenizer.bos()), eos: token(tokenizer.eos()) })
    }

    /// The conversation as a text; with `ask`, up to where the assistant begins to speak.
    ///
    /// Errors (class data): what the template refuses, such as turns out of order, at `place`.
    pub fn render(&self, messages: &[Message], ask: bool, place: &Place) -> Result<String> {
        let messages: Vec<Value> = messages.iter().map(|m| json!({ "role": m.role, "content": m.content })).collect();
        let rendered = self.environment.get_template(NAME).and_then(|template| {
            template.render(
                context! { messages => Serde(&messages), add_generation_prompt => ask, bos_token => &*self.bos, eos_token => &*self.eos },
            )
        });
        Ok(rendered.map_err(|e| {
            let reason = e.detail().map_or_else(|| e.kind().to_string(), str::to_owned);
            Error::data(format!("{place}: the model's chat template refuses the conversation: {reason}"))
        })?)
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
            if said.trim() == message.content.trim() {
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
