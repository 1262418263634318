//! Whole tensors of an adapter: modules that were saved, embeddings of a grown vocabulary, biases,
//! rows of single tokens, and what all of it means where embedding and head are one.

use std::collections::BTreeSet;

use anyhow::Result;

use super::carry::{Carry, same, some};
use super::config::Rows;
use super::{HEAD, embedding};
use crate::error::{bail, error};
use crate::model::arch::HEAD as HEAD_WEIGHT;
use crate::source::TensorSource;

impl Carry<'_> {
    /// Adds tensors that stand in for the model's, as PEFT loads them: those of `modules_to_save`,
    /// and any other that the model has. One that holds the model's own numbers is none.
    pub fn whole_tensors(&mut self) -> Result<()> {
        for (name, whole) in &self.stored.whole {
            let Some((module, _)) =
                name.rsplit_once('.').filter(|_| self.shapes.contains_key(name))
            else {
                return Err(unknown(&whole.name));
            };
            if whole.below != self.config.targets.has(module)? {
                let is = if whole.below { "no" } else { "a" };
                bail!(
                    Data,
                    "it has a tensor `{}`, which PEFT does not load: `{module}` is {is} module \
                     with factors",
                    whole.name
                );
            }
            let done = self.dense.contains_key(name)
                || (whole.below
                    && name.ends_with(".weight")
                    && self.stored.factors.contains_key(module));
            if done {
                continue;
            }
            let tensor = self.load(&whole.name, name)?;
            let tied = self.model.tied() && self.is_table(name);
            if tied || self.saved(module) || !self.is_own(name, &tensor) {
                self.dense.insert(name.clone(), tensor);
            }
        }
        self.all_saved()
    }

    /// Whether `modules_to_save` names a module, or one that it lies in.
    fn saved(&self, module: &str) -> bool {
        self.config.modules_to_save.iter().any(|name| within(module, name))
    }

    /// Errors (class data): `modules_to_save` names what the model or the file does not have.
    fn all_saved(&self) -> Result<()> {
        for saved in &self.config.modules_to_save {
            let module =
                |name: &str| name.rsplit_once('.').is_some_and(|(module, _)| within(module, saved));
            let meant: Vec<&String> = self.shapes.keys().filter(|name| module(name)).collect();
            if meant.is_empty() && self.config.names_any_head(saved) {
                continue;
            }
            if meant.is_empty() {
                bail!(Data, "`modules_to_save` names `{saved}`, which the model does not have");
            }
            let follows =
                |name: &str| self.model.tied() && self.config.tying && name == HEAD_WEIGHT;
            let there = |name: &str| self.stored.whole.contains_key(name) || follows(name);
            let missing: Vec<&str> =
                meant.iter().map(|name| name.as_str()).filter(|name| !there(name)).collect();
            if !missing.is_empty() {
                bail!(
                    Data,
                    "`modules_to_save` names `{saved}`, but the file does not have {}",
                    some(&missing)
                );
            }
        }
        Ok(())
    }

    /// Adds embedding and head with the rows that `trainable_token_indices` names.
    pub fn rows(&mut self) -> Result<()> {
        self.all_rows()?;
        for (module, stored) in &self.stored.rows {
            let ids = self.stored_ids(module, stored)?;
            if ids.is_empty() {
                continue;
            }
            let name = format!("{module}.weight");
            let own = self.own(&name)?;
            if self.weights != super::Weights::Meta {
                let rows = self.tensors.load(stored, own.dtype(), own.device())?;
                for (row, id) in ids.iter().enumerate() {
                    own.slice_set(&rows.narrow(0, row, 1)?.contiguous()?, 0, *id as usize)?;
                }
            }
            self.dense.insert(name, own);
        }
        Ok(())
    }

    /// The tokens whose rows of a module the tensor `stored` holds. Errors (class data): the config
    /// asks for none or for others, or the model does not have them.
    fn stored_ids(&self, module: &str, stored: &str) -> Result<Vec<i64>> {
        let Some(ids) = self.ids(module) else {
            bail!(
                Data,
                "it has rows of `{module}`, which `trainable_token_indices` does not name: PEFT \
                 would not load them"
            );
        };
        let name = format!("{module}.weight");
        if !self.is_table(&name) || self.dense.contains_key(&name) {
            bail!(
                Data,
                "it has rows of `{module}`, which is no embedding, or is trained as a whole too"
            );
        }
        let (found, shape) = (self.tensors.shape(stored).unwrap_or_default(), &self.shapes[&name]);
        if found != [ids.len(), shape[1]] {
            bail!(
                Data,
                "`{stored}` has shape {found:?}, `trainable_token_indices` asks for [{}, {}]",
                ids.len(),
                shape[1]
            );
        }
        check_ids(&ids, shape[0])?;
        Ok(ids)
    }

    /// The tokens whose rows of a module are trained.
    fn ids(&self, module: &str) -> Option<Vec<i64>> {
        match self.config.rows.as_ref()? {
            Rows::Embedding(ids) => (module == embedding(self.model)).then(|| ids.clone()),
            Rows::Of(all) => all
                .iter()
                .find(|(name, _)| module.ends_with(name.as_str()))
                .map(|(_, ids)| ids.clone()),
        }
    }

    /// Errors (class data): `trainable_token_indices` names a module whose rows the file does not
    /// have, or that the model ties to another with other rows.
    fn all_rows(&self) -> Result<()> {
        let tables = [embedding(self.model), HEAD];
        let embedding = self.ids(tables[0]);
        for module in tables {
            let Some(ids) = self.ids(module) else { continue };
            let follows = self.model.tied() && module == HEAD && embedding.as_ref() == Some(&ids);
            if self.model.tied() && module == HEAD && !follows {
                return Err(self.untied(HEAD));
            }
            if !(follows || ids.is_empty() || self.stored.rows.contains_key(module)) {
                bail!(
                    Data,
                    "`trainable_token_indices` names tokens, but the file has no rows of `{module}`"
                );
            }
        }
        if let Some(Rows::Of(all)) = &self.config.rows
            && let Some(name) =
                all.keys().find(|name| !tables.iter().any(|module| module.ends_with(name.as_str())))
        {
            bail!(
                Data,
                "`trainable_token_indices` names `{name}`, which is no embedding of the model"
            );
        }
        Ok(())
    }

    /// Of a model whose embedding serves as head: what stands in for the one stands in for the
    /// other. Errors (class data): what would part them.
    pub fn tie(&mut self) -> Result<()> {
        if !self.model.tied() {
            return Ok(());
        }
        let (module, name) = (embedding(self.model), self.model.embedding().name.clone());
        let head = self.dense.remove(HEAD_WEIGHT);
        let embedding = self.dense.remove(&name);
        let meta = self.weights == super::Weights::Meta;
        let (one, alone) = match (embedding, head) {
            (None, None) => return Ok(()),
            (Some(embedding), Some(head)) if meta || same(&embedding, &head) => (embedding, None),
            (Some(_), Some(_)) => return Err(self.untied(HEAD)),
            // Rows of an embedding are those of the head too.
            (Some(embedding), None) => {
                (embedding, Some(module).filter(|module| self.saved(module) && !self.config.tying))
            }
            (None, Some(head)) => (head, Some(HEAD).filter(|module| self.saved(module))),
        };
        let own = self.is_own(&name, &one);
        match alone {
            _ if own && !meta => Ok(()),
            Some(module) => Err(self.untied(module)),
            None => {
                if !(meta && !self.saved(module) && self.stored.rows.is_empty()) {
                    self.dense.insert(name, one);
                }
                Ok(())
            }
        }
    }
}

/// Whether a module's name, or that of one that it lies in, ends as `saved` does.
pub(super) fn within(module: &str, saved: &str) -> bool {
    let ends = module.match_indices('.').map(|(at, _)| at).chain([module.len()]);
    !saved.is_empty() && ends.map(|end| &module[..end]).any(|part| part.ends_with(saved))
}

/// Errors (class data): token ids beyond the vocabulary, or one named twice.
fn check_ids(ids: &[i64], vocabulary: usize) -> Result<()> {
    let beyond = |id: &&i64| !usize::try_from(**id).is_ok_and(|id| id < vocabulary);
    if let Some(id) = ids.iter().find(beyond) {
        bail!(
            Data,
            "`trainable_token_indices` names the token {id}; the vocabulary has {vocabulary} tokens"
        );
    }
    if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
        bail!(Data, "`trainable_token_indices` names a token twice");
    }
    Ok(())
}

/// The error for a tensor that the model does not have.
fn unknown(stored: &str) -> anyhow::Error {
    let error = error!(Data, "it has a tensor `{stored}`, which the model does not have");
    let head =
        ["score", "classifier", "v_head", "qa_outputs"].iter().any(|head| stored.contains(head));
    let hint = if head {
        "that is the head of another task"
    } else {
        "is the adapter for another base model?"
    };
    error.hint(hint).into()
}
