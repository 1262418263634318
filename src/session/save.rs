//! What is saved below the run folder.

use anyhow::Result;
use serde_json::{Value, json};

use super::Session;
use super::booster::Booster;
use super::dry_run::Event;
use super::model::Model;
use super::part::PromptFormat;
use crate::boost::adapter;
use crate::model::save;
use crate::source::Tokenizer;

impl Session {
    /// Notes what was saved before the run was taken up.
    pub fn recall_save(&self, name: &str) -> Result<()> {
        self.run.note(|run| run.has_saved(name))
    }
}

impl Model {
    /// Writes the current weights as a Hugging Face folder called `name`, below the run folder;
    /// `template.json` in it says how the data were worded that it was last trained on.
    pub fn save(&self, name: &str) -> Result<()> {
        let session = self.session();
        self.tokenizer().decided()?;
        let folder = session.run.with(|run| run.saves(name))?;
        session.observe(|| Event::Save { name: name.to_owned() })?;
        let m = self.with_weights()?;
        let template = taught(&m.wording, &m.tokenizer).map(|told| format!("{told:#}\n"));
        let more: Vec<(&str, &[u8])> =
            template.iter().map(|text| ("template.json", text.as_bytes())).collect();
        save::save(&m.network, &m.tokenizer, &m.extras, &more, save::SHARD, &folder)
    }
}

impl Booster {
    /// Writes the factors as a PEFT adapter folder called `name`, below the run folder. Errors
    /// (class usage): a dense booster, which has none.
    pub fn save(&self, name: &str) -> Result<()> {
        let (model, session) = (self.model(), self.model().session());
        let folder = session.run.with(|run| run.saves(name))?;
        let mut b = self.state();
        adapter::check(&b.learner)?;
        session.observe(|| Event::Save { name: name.to_owned() })?;
        b.materialize(session, &mut *model.with_weights()?)?;
        let m = model.state();
        session.write(|| adapter::save(&b.learner, &m.network, &folder, model.name()))
    }
}

/// What `template.json` says: name and text of the template behind the model, or of each task's
/// where they differ.
fn taught(
    wording: &[(String, std::sync::Arc<PromptFormat>)],
    tokenizer: &Tokenizer,
) -> Option<Value> {
    let one = |wording: &PromptFormat| {
        let text = match &wording.mapping {
            Some(mapping) => mapping.text(),
            None => wording.template.text(tokenizer),
        };
        json!({ "name": wording.name(), "text": text })
    };
    let all: Vec<(&String, Value)> =
        wording.iter().map(|(task, wording)| (task, one(wording))).collect();
    let first = all.first()?.1.clone();
    if all.iter().all(|(_, told)| *told == first) {
        return Some(first);
    }
    let of = |(task, told): (&String, Value)| {
        json!({
            "task": task,
            "name": told["name"],
            "text": told["text"],
        })
    };
    Some(json!({ "tasks": all.into_iter().map(of).collect::<Vec<_>>() }))
}
