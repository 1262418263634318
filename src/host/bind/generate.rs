//! `model.generate`: what follows prompts.

use rhai::plugin::*;
use rhai::{Array, Dynamic, Map, NativeCallContext};
use serde_json::Value;

use super::values::{arguments, list_to_journal};
use super::{Answer, refuse};
use crate::error::{Error, error};
use crate::eval::generate::Generation;
use crate::host::journaled::journaled;
use crate::host::options::{FromOption, Options};
use crate::session::{Effects, Model};

/// Options of `model.generate`.
pub(super) const KEYS: [&str; 6] = ["max_tokens", "beams", "temperature", "top_k", "top_p", "stop"];

#[export_module]
pub(super) mod natives {
    /// The text that follows `prompt`, with the space before its first word where it has one. It
    /// ends with an end token that the model's generation config names, or else its config.
    /// Options: `max_tokens` (32), `beams` (1: each token the likeliest; more: beam search),
    /// `temperature`, `top_k`, `top_p` (tokens are drawn, by the run's seed), `stop` (a list of
    /// texts, before which it ends; a special token such as "<|im_end|>" is one).
    ///
    /// # Example
    /// ```rhai,no_run
    /// let options = #{ max_tokens: 40, temperature: 0.8, top_p: 0.95 };
    /// print(model.generate("Once upon a time", options));
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn generate(
        context: NativeCallContext,
        model: &mut Model,
        prompt: &str,
        options: Map,
    ) -> Answer<String> {
        Ok(texts(&context, model, &[prompt.to_owned()], options)?.pop().unwrap_or_default())
    }

    /// The texts that follow several prompts, which go through the network together. Options as for
    /// a single prompt.
    ///
    /// # Example
    /// ```rhai,no_run
    /// for text in model.generate(["Snow is", "Fire is"], #{ max_tokens: 8, stop: ["."] }) {
    ///     print(text);
    /// }
    /// ```
    #[rhai_fn(name = "generate", return_raw, pure)]
    pub fn generate_all(
        context: NativeCallContext,
        model: &mut Model,
        prompts: Array,
        options: Map,
    ) -> Answer<Array> {
        let prompts = prompts_of("generate", prompts)?;
        Ok(texts(&context, model, &prompts, options)?.into_iter().map(Dynamic::from).collect())
    }

    /// Shows what follows some prompts, and keeps it under the model's round: the report shows, for
    /// each prompt, how the text changed. Answers with the texts. Options as for `generate`.
    ///
    /// # Example
    /// ```rhai,no_run
    /// if model.round % 8 == 0 { model.sample(["Snow is", "Fire is"], #{ max_tokens: 8 }); }
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn sample(
        context: NativeCallContext,
        model: &mut Model,
        prompts: Array,
        options: Map,
    ) -> Answer<Array> {
        let prompts = prompts_of("sample", prompts)?;
        let (arguments, options) = asked("sample", model, &prompts, options)?;
        let recall = |effects: &Effects| model.recall_samples(effects);
        let texts = journaled(&context, "model.sample", arguments)?
            .change(recall, || model.sample(&prompts, &options))?;
        Ok(texts.into_iter().map(Dynamic::from).collect())
    }
}

fn prompts_of(call: &str, prompts: Array) -> Answer<Vec<String>> {
    let what =
        if call == "generate" { "a prompt, or an array of prompts" } else { "an array of prompts" };
    Vec::<String>::from_option(&Dynamic::from_array(prompts), "prompts")
        .map_err(|_| refuse(error!(Usage, "`{call}` takes {what}")))
}

/// What follows each prompt.
fn texts(
    context: &NativeCallContext,
    model: &Model,
    prompts: &[String],
    options: Map,
) -> Answer<Vec<String>> {
    let (arguments, options) = asked("generate", model, prompts, options)?;
    journaled(context, "model.generate", arguments)?.answer(|| model.generate(prompts, &options))
}

/// What tells a call from others, and its options.
fn asked(
    call: &'static str,
    model: &Model,
    prompts: &[String],
    options: Map,
) -> Answer<(Value, Generation)> {
    let told = list_to_journal(prompts.iter().map(|prompt| prompt.as_str().into()).collect());
    let arguments = arguments(&options, [("prompts", told), ("model", model.index().into())]);
    let options = parse(call, model.session().settings.seed, options).map_err(refuse)?;
    Ok((arguments, options))
}

fn parse(call: &'static str, seed: u64, map: Map) -> Result<Generation, Error> {
    let mut o = Options::new(call, map, &KEYS)?;
    Ok(Generation {
        max_tokens: o.take_or("max_tokens", 32)?,
        beams: o.take_or("beams", 1)?,
        temperature: o.take_opt("temperature")?,
        top_k: o.take_opt("top_k")?,
        top_p: o.take_opt("top_p")?,
        stop: o.take_or("stop", vec![])?,
        seed,
    })
}
