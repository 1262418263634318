//! What a run notes in `run.json` on its way.

use std::path::{Component, Path};

use anyhow::Result;

use super::Run;

impl Run {
    /// Notes the SHA-256 of something that was read, in `run.json`.
    pub fn note_digest(
        &mut self,
        name: impl Into<String>,
        digest: impl Into<String>,
    ) -> Result<()> {
        self.manifest.digests.insert(name.into(), digest.into());
        self.manifest.save(&self.folder)
    }

    /// Notes where the file or folder `name` lies, in `run.json`; one that is noted stays unless it
    /// was `moved`.
    pub fn note_place(&mut self, name: &str, path: &Path, moved: bool) -> Result<()> {
        let Some(begun) = &mut self.manifest.begun else { return Ok(()) };
        if begun.places.contains_key(name) && !moved {
            return Ok(());
        }
        // Where that cannot be said, the name has to do.
        let above = path.components().any(|part| part == Component::ParentDir);
        let place = if above { path.canonicalize() } else { std::path::absolute(path) };
        let Some(place) = place.ok().and_then(|place| place.to_str().map(str::to_owned)) else {
            return Ok(());
        };
        begun.places.insert(name.to_owned(), place);
        self.manifest.save(&self.folder)
    }

    /// Notes a model that was loaded, and the SHA-256 of its weights, in `run.json`; its index, 0
    /// for the run's own.
    pub fn note_model(&mut self, name: &str, digest: impl Into<String>) -> Result<usize> {
        self.manifest.models.push(name.into());
        self.note_digest(name, digest)?;
        Ok(self.manifest.models.len() - 1)
    }

    /// Notes what merges do with the weights, in `run.json`.
    pub fn note_merge_mode(&mut self, mode: &str) -> Result<()> {
        self.manifest.merge_mode = mode.to_owned();
        self.manifest.save(&self.folder)
    }

    /// Notes which head the run's own model got, in `run.json`.
    pub fn note_head(&mut self, head: serde_json::Value) -> Result<()> {
        self.manifest.head = Some(head);
        self.manifest.save(&self.folder)
    }

    /// Notes the rule by which the tokenizer of the run's own model splits texts, in `run.json`.
    pub fn note_pre_tokenizer(&mut self, name: &str) -> Result<()> {
        self.manifest.pre_tokenizer = Some(name.to_owned());
        self.manifest.save(&self.folder)
    }

    /// The run's own model, by the name that the recipe gave it.
    pub fn model(&self) -> Option<&str> {
        self.manifest.models.first().map(String::as_str)
    }

    /// Notes the template of what is trained on, in `run.json`.
    pub fn note_template(&mut self, name: &str) -> Result<()> {
        if self.manifest.template.as_deref() == Some(name) {
            return Ok(());
        }
        self.manifest.template = Some(name.into());
        self.manifest.save(&self.folder)
    }
}
