//! What follows prompts.

use anyhow::Result;
use serde_json::Value;

use super::Effects;
use super::console::plain;
use super::dry_run::Event;
use super::model::Model;
use crate::data::opened;
use crate::error::bail;
use crate::eval::generate::{Generation, generate};
use crate::model::Adapter;
use crate::run::Sample;

/// The most texts that a run keeps.
const MOST_SAMPLES: usize = 10_000;

impl Model {
    /// Generates as [`Model::generate`], shows the texts, and keeps them under the model's round.
    pub fn sample(&self, prompts: &[String], options: &Generation) -> Result<Vec<String>> {
        let (session, texts) = (self.session(), self.generate(prompts, options)?);
        let (round, model) = (self.round(), self.index());
        session.run.with(|run| {
            if run.samples + texts.len() > MOST_SAMPLES {
                bail!(Usage, "a run keeps at most {MOST_SAMPLES} samples; `generate` keeps none");
            }
            for (prompt, text) in prompts.iter().zip(&texts) {
                session.console.note(&plain(&format!("round {round}: {prompt} ▸{text}")));
                let (prompt, text) = (prompt.clone(), text.clone());
                run.log_kept("sample", &Sample { round, model, prompt, text })?;
            }
            run.samples += texts.len();
            Ok(())
        })?;
        session.call.tell("samples", texts.len());
        Ok(texts)
    }

    /// Takes over the number of texts that an earlier process kept.
    pub fn recall_samples(&self, effects: &Effects) -> Result<()> {
        let count = effects.get("samples").and_then(Value::as_u64).unwrap_or(0);
        self.session().run.note(|run| run.samples += count as usize)
    }

    /// What follows each prompt, which go through the network together.
    pub fn generate(&self, prompts: &[String], options: &Generation) -> Result<Vec<String>> {
        let session = self.session();
        let m = self.with_weights()?;
        m.reads.next("a generated text")?;
        let encode =
            |prompt: &String| Ok(opened(m.tokenizer.as_ref(), m.tokenizer.encode(prompt)?));
        let ids = prompts.iter().map(encode).collect::<Result<Vec<Vec<u32>>>>()?;
        let (none, tokenizer) = (Adapter::default(), m.tokenizer.as_ref());
        let going = |_| Ok(session.guard.check()?);
        let out = generate(&m.network, &none, &ids, tokenizer, options, going)?;
        let (prompts, tokens) = (prompts.len(), options.max_tokens);
        session.observe(|| Event::Generate { prompts, tokens })?;
        Ok(out.into_iter().map(|generated| generated.text).collect())
    }
}
