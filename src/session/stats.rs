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
        // A head reads a text by itself.
        let head = model.state().reads.task()?.is_some();
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
            let mut stats = inspect::stats(&splits, format.template, &watched, &format.options)?;
            for (split, set) in self.sets() {
                for part in set.parts().iter().filter(|p| p.task == *name) {
                    let advice = if head { vec![] } else { part.advice(&watched)? };
                    if let Some(figures) = stats.get_mut(*split).filter(|_| !advice.is_empty()) {
                        figures["warnings"] = advice.into();
                    }
                }
            }
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
        let mut out = inspect::show(&item, format.template, tokenizer.as_ref(), &format.options)?;
        let head = model.state().reads.task()?.is_some();
        for line in if head { vec![] } else { part.advice(tokenizer.as_ref())? } {
            out += &format!("warning: {line}\n");
        }
        Ok(out)
    }
}
