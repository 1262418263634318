//! A booster: a weak learner over a model, fitted and then merged.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Result;

use super::Session;
use super::ensemble::compose;
use super::held::lock;
use super::model::{Model, ModelState, file_digest};
use crate::boost::dense::DenseParts;
use crate::boost::{self, DenseSpec, Init, Spec, Update};
use crate::error::{Error, bail, error};
use crate::memory::Uncounted;
use crate::run::Ensemble;
use crate::seed::Stream;
use crate::train::Factor;

/// A booster; copies are the same.
#[derive(Clone)]
pub struct Booster {
    model: Model,
    state: Arc<Uncounted<Mutex<BoosterState>>>,
}

/// What a booster is at the moment.
pub(super) struct BoosterState {
    pub(super) learner: boost::Booster,
    /// The round that merged it.
    pub(super) merged: Option<usize>,
    pub(super) numbers: Numbers,
    pub(super) files: TrainingFiles,
    /// Numbers that its last fit moved; all of a booster that was not fitted.
    pub(super) moved: u64,
    /// Counts its numbers for as long as it is there and not merged.
    held: UnmergedCount,
}

/// A booster's files in training.
pub(super) struct TrainingFiles {
    /// Boosters that the run made before it.
    pub(super) number: usize,
    /// The newest last; older ones go when the journal tells of the newest.
    names: Vec<String>,
}

/// Numbers of boosters that are not merged, over the run.
struct UnmergedCount(Arc<AtomicUsize>, usize);

impl Drop for UnmergedCount {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Where a booster's numbers are.
pub(super) enum Numbers {
    Here,
    /// In a file, since an earlier process trained them, and the file's SHA-256.
    File(PathBuf, Option<String>),
    /// In the file of a merge that an earlier process made.
    Merged(PathBuf),
    /// Still to be copied from the weights as these boosters made them.
    Copies(DenseSpec, Ensemble),
}

/// What a booster is to be.
#[derive(Clone, Debug)]
pub struct BoosterOptions {
    /// Indices of layers; of a dense booster none is needed.
    pub layers: Vec<usize>,
    /// Names of linear modules; all where there is none.
    pub targets: Vec<String>,
    /// Single modules in place of layers × targets.
    pub pairs: Option<Vec<(usize, String)>>,
    pub learner: Learner,
}

/// A kind of weak learner, and what is to be said of it.
#[derive(Clone, Debug)]
pub enum Learner {
    /// Factors A [r, in] and B [out, r], of which `zero` begins as 0. Their product is scaled by
    /// α/r, which is 1 where no `alpha` is given.
    LowRank {
        rank: usize,
        alpha: Option<f64>,
        init: Init,
        zero: Factor,
        /// Whether the head of a classifier is trained beside the factors.
        head: bool,
    },
    /// Whole weights, and more of the model.
    Dense(DenseParts),
}

impl BoosterOptions {
    /// Of low rank over all targets of these layers, as PEFT begins it.
    pub fn low_rank(layers: impl Into<Vec<usize>>, rank: usize) -> Self {
        let (init, zero) = (Init::Kaiming, Factor::B);
        let learner = Learner::LowRank { rank, alpha: None, init, zero, head: false };
        Self { layers: layers.into(), targets: vec![], pairs: None, learner }
    }
}

impl Model {
    /// A fresh booster, which changes nothing until it is fitted.
    pub fn booster(&self, options: &BoosterOptions) -> Result<Booster> {
        let (learner, numbers) = self.learner(options)?;
        let booster = Booster::new(self, learner, numbers)?;
        // One that failed is not counted, since it is not made again either.
        self.state().boosters.made += 1;
        Ok(booster)
    }

    fn learner(&self, options: &BoosterOptions) -> Result<(boost::Booster, Numbers)> {
        let BoosterOptions { layers, targets, pairs, learner } = options;
        let session = self.session();
        let mut m = self.state();
        match *learner {
            Learner::LowRank { rank, alpha, init, zero, head } => {
                let alpha = alpha.unwrap_or(rank as f64);
                let spec = match pairs {
                    Some(pairs) => Spec::of_pairs(&m.network, pairs, rank, alpha, init)?,
                    None => Spec::new(&m.network, layers, targets, rank, alpha, init)?,
                };
                let name = format!("init/{}", m.boosters.made);
                let mut stream = Stream::new(session.settings.seed, &name);
                let spec = Spec { zero, ..spec };
                let factors = boost::Booster::new(&m.network, &spec, &mut stream)?;
                if !head {
                    return Ok((factors, Numbers::Here));
                }
                let spec = DenseSpec::head(&m.network)?;
                let (whole, numbers) = whole(session, &mut m, spec)?;
                Ok((factors.beside(&whole), numbers))
            }
            Learner::Dense(parts) => {
                let spec = DenseSpec::new(&m.network, layers, targets, parts)?;
                whole(session, &mut m, spec)
            }
        }
    }

    /// The PEFT LoRA adapter in the folder at `path`, as a booster of this model. What the adapter
    /// changes as a whole (DoRA, modules that were saved, embedding and head) are whole tensors of
    /// the booster, and the model must be the base still. Without its head it may be of another
    /// task.
    pub fn load_adapter(&self, path: &str, with_head: bool) -> Result<Booster> {
        let learner = self.read_adapter(path, with_head)?;
        Ok(Booster::new(self, learner, Numbers::Here)?)
    }
}

impl Booster {
    /// Errors (class usage): with it, boosters that are not merged would hold more than four
    /// models' numbers.
    fn new(model: &Model, learner: boost::Booster, numbers: Numbers) -> Result<Self, Error> {
        /// What the smallest models may have beside them.
        const LEAST: usize = 16 << 20;
        let session = model.session();
        let own = learner.adapter.parameters();
        let most = LEAST.max(4 * model.parameters());
        let unmerged = &session.counts.unmerged;
        let before = unmerged.fetch_add(own, Ordering::Relaxed);
        let held = UnmergedCount(unmerged.clone(), own);
        if before.saturating_add(own) > most {
            return Err(error!(
                Usage,
                "boosters that are not merged would hold {} numbers; at most {most} are allowed",
                before + own;
                hint: "merge a booster, or let its variable go out of scope, before making the next"
            ));
        }
        let files = TrainingFiles { number: session.next_booster(), names: vec![] };
        let (merged, moved) = (None, own as u64);
        let state = BoosterState { learner, merged, numbers, files, moved, held };
        Ok(Self { model: model.clone(), state: Arc::new(Uncounted::new(Mutex::new(state))) })
    }

    /// The model that it is a booster of.
    pub fn model(&self) -> &Model {
        &self.model
    }

    pub(super) fn state(&self) -> MutexGuard<'_, BoosterState> {
        lock(&self.state)
    }

    /// Boosters that the run made before it.
    pub fn number(&self) -> usize {
        self.state().files.number
    }

    /// Layers it trains, ascending.
    pub fn layers(&self) -> Vec<usize> {
        self.state().learner.layers()
    }

    /// Numbers that it trains.
    pub fn parameters(&self) -> usize {
        self.state().learner.adapter.parameters()
    }
}

impl TrainingFiles {
    /// The path of a new one.
    pub(super) fn add(&mut self, session: &Session, name: &str) -> Result<PathBuf> {
        let path = session.run.with(|run| run.keep_state(name))?;
        self.names.push(name.to_owned());
        Ok(path)
    }

    /// Name and path of the one that holds it after so many steps.
    pub(super) fn after(&mut self, session: &Session, steps: u64) -> Result<(String, PathBuf)> {
        let name = format!("{:05}-{steps}.safetensors", self.number);
        Ok((name.clone(), self.add(session, &name)?))
    }

    /// Name and path of one that holds it before it is trained. Each start has a file of its own,
    /// which the journal tells of: one is never written over.
    pub(super) fn start(&mut self, session: &Session) -> Result<(String, PathBuf)> {
        let name = format!("{:05}-start-{}.safetensors", self.number, self.names.len());
        Ok((name.clone(), self.add(session, &name)?))
    }

    /// Removes all but the newest; those of a booster that is `merged`, all.
    pub(super) fn tidy(&mut self, session: &Session, merged: bool) {
        let gone = self.names.len().saturating_sub(usize::from(!merged));
        let gone: Vec<String> = self.names.drain(..gone).collect();
        let dropped =
            session.run.note(|run| gone.iter().for_each(|name| run.drop_state(name, merged)));
        // Files that stay take space, no more.
        drop(dropped);
    }
}

impl BoosterState {
    /// Notes that it is merged, as round `round`: its numbers are no longer counted.
    pub(super) fn set_merged(&mut self, round: usize) {
        self.merged = Some(round);
        self.held = UnmergedCount(Arc::default(), 0);
    }

    /// Errors (class usage) once it has been merged.
    pub(super) fn unmerged(&self, what: &str) -> Result<(), Error> {
        match self.merged {
            None => Ok(()),
            Some(round) => Err(error!(
                Usage,
                "cannot {what} a booster that was merged already, as round {round}";
                hint: "make a new one with `model.booster(…)`"
            )),
        }
    }

    /// Notes that an earlier process left its numbers in the file in training called `file`.
    pub(super) fn left_in(
        &mut self,
        session: &Session,
        file: &str,
        sha256: Option<String>,
    ) -> Result<()> {
        self.numbers = Numbers::File(self.files.add(session, file)?, sha256);
        Ok(())
    }

    /// Gets its numbers, where an earlier process made or trained it. That they cannot be had is no
    /// event of the run, so a script cannot catch it.
    pub(super) fn materialize(&mut self, session: &Session, m: &mut ModelState) -> Result<()> {
        self.get_numbers(session, m).map_err(|e| Error::fatal(&e).into())
    }

    fn get_numbers(&mut self, session: &Session, m: &mut ModelState) -> Result<()> {
        match &self.numbers {
            Numbers::Here => return Ok(()),
            Numbers::File(path, sum) => {
                check_sum(path, sum.as_deref())?;
                self.learner.load_state(path)?;
            }
            Numbers::Merged(path) => {
                let update = Update::load(path, &m.network)?;
                if update.head().next().is_some() {
                    bail!(
                        Usage,
                        "a booster with a head was merged before the run was taken up, and the \
                         head that it had is not kept";
                        hint: "save a booster before `model.merge(…)`, or export the run"
                    );
                }
                if let Some(adapter) = update.adapter() {
                    self.learner.adapter = adapter.clone();
                }
            }
            Numbers::Copies(spec, then) => {
                let whole = copies(session, m, spec, then)?;
                self.learner = self.learner.clone().beside(&whole);
            }
        }
        self.numbers = Numbers::Here;
        Ok(())
    }
}

/// A booster of whole tensors, as the weights are now.
fn whole(
    session: &Session,
    m: &mut ModelState,
    spec: DenseSpec,
) -> Result<(boost::Booster, Numbers)> {
    // Of a run that is taken up, the weights are those of the base still.
    if session.call.is_again() {
        let learner = boost::Booster::meta(&m.network, &spec)?;
        return Ok((learner, Numbers::Copies(spec, m.boosters.merged.clone())));
    }
    m.materialize()?;
    Ok((boost::Booster::dense(&m.network, &spec)?, Numbers::Here))
}

/// Errors (class data) where the file of a booster in training is not what was kept.
fn check_sum(path: &Path, sum: Option<&str>) -> Result<()> {
    let Some(sum) = sum else { return Ok(()) };
    if file_digest(path)? == sum {
        return Ok(());
    }
    Err(error!(
        Data,
        "the booster in training in `{}` is damaged: it is not what was kept",
        path.display();
        hint: "`--from-round N` goes on from the boosters that were merged before it"
    )
    .into())
}

/// A dense booster of the weights as the boosters `then` made them.
fn copies(
    session: &Session,
    m: &mut ModelState,
    spec: &DenseSpec,
    then: &Ensemble,
) -> Result<boost::Booster> {
    let now = m.boosters.merged.clone();
    if *then == now {
        return boost::Booster::dense(&m.network, spec);
    }
    compose(session, m, then)?;
    m.boosters.merged = then.clone();
    let copies = boost::Booster::dense(&m.network, spec);
    compose(session, m, &now)?;
    m.boosters.merged = now;
    copies
}
