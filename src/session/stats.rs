//! A look at data as a model gets them.

use anyhow::Result;
use serde_json::{Map, Value};

use super::data::Task;
use super::model::Model;
use super::set::Set;
use super::watched::Watched;
use crate::data::{Item, inspect};

impl Task {
    /// Lengths in tokens, shares cut and supervised, counts of labels, and duplicates between
    /// splits, by task and split, as `model` would be trained.
    pub fn stats(&self, model: &Model) -> Result<Map<String, Value>> {
        let tokenizer = model.tokenizer();
        let mut out = Map::new();
        for name in self.tasks() {
            let (mut splits, mut format) = (vec![], None);
            for (split, set) in self.sets() {
                for part in set.parts().iter().filter(|p| p.task == *name) {
                    splits.push((*split, part.items(None)?));
                    format = Some(part.wording.clone());
                }
            }
            let Some(format) = format else { continue };
            let splits: Vec<(&str, &[Item])> =
                splits.iter().map(|(split, items)| (*split, items.as_ref())).collect();
            let watched = Watched { guard: &model.session().guard, tokenizer: tokenizer.as_ref() };
            let stats = inspect::stats(&splits, format.template, &watched, &format.options)?;
            out.insert(name.clone(), Value::Object(stats));
        }
        Ok(out)
    }
}

impl Set {
    /// Item `i` as `model` is fed it: its text with the supervised part marked, and its tokens.
    pub fn show(&self, model: &Model, i: i64) -> Result<String> {
        let (part, at) = self.find(i)?;
        let item = part.source.get(at, &part.wording)?;
        let tokenizer = model.tokenizer();
        let format = &part.wording;
        inspect::show(&item, format.template, tokenizer.as_ref(), &format.options)
    }
}
