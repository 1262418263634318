//! What follows prompts.

use anyhow::Result;

use super::dry_run::Event;
use super::model::Model;
use crate::data::opened;
use crate::eval::generate::{Generation, generate};
use crate::model::Adapter;

impl Model {
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
