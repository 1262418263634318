//! A model: a network with its tokenizer, boosted round by round.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Result;

use super::Session;
use super::held::lock;
use super::part::PromptFormat;
use super::reads::Reads;
use crate::boost::Update;
use crate::error::{Error, bail, error};
use crate::memory::Uncounted;
use crate::model::load::Extras;
use crate::model::save::Digests;
use crate::model::{self, MergeMode};
use crate::run::{Ensemble, digest};
use crate::source::{ModelFiles, Tokenizer};

/// A model; copies are the same.
#[derive(Clone)]
pub struct Model {
    session: Session,
    /// As it was named.
    name: Arc<str>,
    state: Arc<Uncounted<Mutex<ModelState>>>,
}

/// What a model is at the moment.
pub(super) struct ModelState {
    /// Models that the run loaded before it.
    pub(super) index: usize,
    pub(super) network: model::Model,
    pub(super) tokenizer: Arc<Tokenizer>,
    /// What sets are encoded for.
    pub(super) reads: Arc<Reads>,
    pub(super) extras: Extras,
    /// Whether the run gave it its head.
    pub(super) headed: bool,
    /// Unless it was made here.
    pub(super) base: Option<Base>,
    pub(super) boosters: Boosters,
    /// How what it was last trained on was worded, by task.
    pub(super) wording: Vec<(String, Arc<PromptFormat>)>,
}

/// Where a model's base lies, and the numbers of it.
pub(super) struct Base {
    pub(super) files: ModelFiles,
    pub(super) digests: Digests,
}

/// The boosters of a model.
#[derive(Default)]
pub(super) struct Boosters {
    /// Those that it is the sum of, besides its base.
    pub(super) merged: Ensemble,
    /// Kept as files so far.
    pub(super) kept: usize,
    /// Made so far: each draws its start from a stream of its own.
    pub(super) made: usize,
    /// Where the files of the merged ones lie, if the run was taken up and they are not added to
    /// the weights yet: the network is then the base.
    pub(super) pending: Option<PathBuf>,
    /// SHA-256 of their files, as the journal tells them.
    pub(super) sums: BTreeMap<String, String>,
}

impl Model {
    /// A model to which nothing was added yet.
    pub(super) fn new(session: &Session, name: &str, state: ModelState) -> Self {
        let state = Arc::new(Uncounted::new(Mutex::new(state)));
        Self { session: session.clone(), name: name.into(), state }
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    /// As it was named.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model; its weights may lack what an earlier process added.
    pub(super) fn state(&self) -> MutexGuard<'_, ModelState> {
        lock(&self.state)
    }

    /// The model, with the weights as they are at the moment.
    pub(super) fn with_weights(&self) -> Result<MutexGuard<'_, ModelState>> {
        let mut state = self.state();
        state.materialize()?;
        Ok(state)
    }

    /// Models that the run loaded before it.
    pub fn index(&self) -> usize {
        self.state().index
    }

    /// Indices of the transformer blocks, 0 at the input.
    pub fn layers(&self) -> Vec<usize> {
        (0..self.state().network.layers()).collect()
    }

    /// Names of the linear modules in a layer that a booster can train.
    pub fn targets(&self) -> Vec<&'static str> {
        self.state().network.targets()
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        self.state().network.parameters()
    }

    /// The most tokens that it sees.
    pub fn max_length(&self) -> usize {
        self.state().network.config().max_position_embeddings
    }

    /// Number of boosters merged.
    pub fn round(&self) -> usize {
        self.state().round()
    }

    pub(super) fn tokenizer(&self) -> Arc<Tokenizer> {
        self.state().tokenizer.clone()
    }

    /// SHA-256 of the weights, as `weights_digest` in `summary.json`; empty where nothing is
    /// computed.
    pub fn digest(&self) -> Result<String> {
        self.with_weights()?.network.digest()
    }

    /// The digest of the weights, and the share of the boosters' sum that they show.
    pub(super) fn final_digest(&self) -> Result<(String, Option<f64>)> {
        let state = self.with_weights()?;
        let retained = |base: &Base| model::restore::retained_fraction(&state.network, &base.files);
        let retained = state.base.as_ref().map(retained).transpose()?;
        Ok((state.network.digest()?, retained.flatten()))
    }

    /// Says what merges do from here on, and notes it of the run's own model.
    pub(super) fn merge_by(&self, mode: MergeMode) -> Result<()> {
        let mut state = self.state();
        state.network.set_merge_mode(mode);
        if state.index > 0 {
            return Ok(());
        }
        self.session.run.begun(|run| run.note_merge_mode(mode.name()))
    }

    /// Errors (class usage) where something was made for another model.
    pub(super) fn owns(&self, other: &Model) -> Result<(), Error> {
        if Arc::ptr_eq(&self.state, &other.state) {
            Ok(())
        } else {
            Err(error!(Usage, "the booster belongs to another model"))
        }
    }
}

impl ModelState {
    pub(super) fn round(&self) -> usize {
        self.boosters.merged.rounds()
    }

    /// Where its boosters' files lie.
    pub(super) fn folder(&self, session: &Session) -> Result<PathBuf> {
        session.run.with(|run| run.folder.boosters(self.index))
    }

    /// The files of the base. Errors (class usage): the model was made by the recipe, so there is
    /// none to go back to.
    pub(super) fn base(&self) -> Result<&Base, Error> {
        self.base.as_ref().ok_or_else(|| {
            error!(
                Usage,
                "a model made by `model::create` has no base to go back to";
                hint: "save it, and load what was saved in another run"
            )
        })
    }

    /// Leaves to [`ModelState::materialize`] what an earlier process added.
    pub(super) fn defer_merges(&mut self, session: &Session) -> Result<()> {
        let folder = self.folder(session)?;
        self.boosters.pending = Some(folder.clone());
        session.run.note(|run| run.lists(folder, &self.boosters.merged))
    }

    /// Adds to the weights what an earlier process added. Errors (class data), which a script
    /// cannot catch: a booster that is missing or damaged.
    pub(super) fn materialize(&mut self) -> Result<()> {
        self.add_pending().map_err(|e| Error::fatal(&e).into())
    }

    fn add_pending(&mut self) -> Result<()> {
        let Boosters { merged, pending, sums, .. } = &mut self.boosters;
        let Some(folder) = pending else { return Ok(()) };
        let files = merged.files(folder);
        // All are looked at before any weight is touched, and not held together.
        for (path, _) in &files {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if let Some(sum) = sums.get(&*name)
                && file_digest(path)? != *sum
            {
                bail!(
                    Data,
                    "the run's booster `{}` is damaged: it is not what was merged",
                    path.display();
                    hint: "`--from-round N` goes on from the boosters before it"
                );
            }
            Update::load(path, &self.network)?;
        }
        Update::add_files(&files, &mut self.network)?;
        *pending = None;
        Ok(())
    }
}

/// SHA-256 of a file.
pub(super) fn file_digest(path: &Path) -> Result<String> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(digest(&bytes)),
        Err(e) => Err(error!(Data, "cannot read `{}`: {e}", path.display()).into()),
    }
}
