//! A model for other programs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::model::Model;
use crate::boost::{Booster, BoosterKind, Stack, Update, adapter};
use crate::data::Template;
use crate::error::bail;
use crate::model::Adapter;
use crate::model::gguf_save::{self, Storage};
use crate::model::save;

impl Model {
    /// Writes weights, tokenizer and what came along with the base as a Hugging Face folder, in
    /// files of at most `shard` bytes; `template` says how what it was trained on was worded.
    pub fn export_folder(&self, folder: &Path, shard: usize, template: Option<&str>) -> Result<()> {
        let m = self.with_weights()?;
        let template = template.and_then(|name| Template::parse(name).ok().map(|t| (name, t)));
        let told = template.map(|(name, t)| {
            format!("{:#}\n", json!({ "name": name, "text": t.text(m.tokenizer.as_ref()) }))
        });
        let more: Vec<(&str, &[u8])> =
            told.iter().map(|text| ("template.json", text.as_bytes())).collect();
        save::save(&m.network, &m.tokenizer, &m.extras, &more, shard, folder)
    }

    /// Writes a GGUF file.
    pub fn export_gguf(&self, file: &Path, storage: Storage) -> Result<()> {
        let m = self.with_weights()?;
        gguf_save::save(&m.network, &m.tokenizer, self.name(), storage, file)
    }

    /// Writes the boosters in files, each multiplied by its weight, as one PEFT adapter. Errors
    /// (class usage): a dense booster, or none.
    pub fn export_adapter(&self, folder: &Path, boosters: &[(PathBuf, f64)]) -> Result<()> {
        let (mut stack, mut heads) = (Stack::default(), BTreeSet::new());
        let m = self.with_weights()?;
        for (path, weight) in boosters {
            let update = Update::load(path, &m.network)?.scaled(*weight)?;
            if update.kind() == BoosterKind::FullRank {
                bail!(
                    Usage,
                    "`{}` is a dense booster, which is no adapter; export with `--merged`",
                    path.display()
                );
            }
            stack.push(&update)?;
            heads.extend(update.head().cloned());
        }
        let Some(adapter) = stack.adapter()? else {
            bail!(Usage, "an adapter of no boosters has no factors to hold")
        };
        // The head as they left it.
        let full = m.network.copies(&heads)?;
        let adapter = Adapter::new(adapter.pairs().clone(), full);
        adapter::save(&Booster::from_adapter(adapter), &m.network, folder, self.name())
    }
}
