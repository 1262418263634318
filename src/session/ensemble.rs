//! The boosters that a model is the sum of: taken back, left out, weighed.

use std::collections::BTreeSet;

use anyhow::Result;

use super::model::{Model, ModelState};
use super::{Effects, Session};
use crate::boost::Update;
use crate::error::bail;
use crate::model::restore;
use crate::run::{Best, Ensemble};

/// The boosters of a model as they were.
#[derive(Clone)]
pub struct Snapshot {
    model: usize,
    all: Ensemble,
}

impl Snapshot {
    /// How many boosters the model had.
    pub fn round(&self) -> usize {
        self.all.rounds()
    }

    /// SHA-256 of the list.
    pub fn digest(&self) -> String {
        let members = serde_json::to_vec(self.all.members()).unwrap_or_default();
        crate::run::digest(&members)
    }
}

impl Model {
    /// Takes back all but the first `rounds` boosters: the weights are again what they were then.
    /// They are read from the base once more and the boosters' files added, so those of low rank
    /// come out bit for bit.
    pub fn truncate(&self, rounds: usize) -> Result<()> {
        self.recompose(|all| all.slice(0, rounds))
    }

    /// Keeps the boosters from `start` on, before `end`, numbered from 0.
    pub fn slice(&self, start: usize, end: usize) -> Result<()> {
        self.recompose(|all| all.slice(start, end))
    }

    /// Leaves out the booster `number`, counted from 0; those behind it move up.
    pub fn leave_out(&self, number: usize) -> Result<()> {
        self.recompose(|all| all.without(number))
    }

    /// Multiplies what the booster `number`, counted from 0, added to the weights by `eta`.
    pub fn scale(&self, number: usize, eta: f64) -> Result<()> {
        self.recompose(|all| all.scaled(number, eta))
    }

    /// Forms the weights again: the base, and all boosters from their files.
    pub fn replay(&self) -> Result<()> {
        self.recompose(|all| Ok(all.clone()))
    }

    /// The list of boosters that the model is the sum of, to go back to with `restore`.
    pub fn snapshot(&self) -> Snapshot {
        let m = self.state();
        Snapshot { model: m.index, all: m.boosters.merged.clone() }
    }

    /// Makes the model the sum of the boosters that it had then, with their weights then; bit for
    /// bit, as [`Model::truncate`].
    pub fn restore(&self, snapshot: &Snapshot) -> Result<()> {
        if self.index() != snapshot.model {
            bail!(Usage, "the snapshot is of another model");
        }
        self.recompose(|_| Ok(snapshot.all.clone()))
    }

    /// Makes the model the sum of what `choose` makes of its boosters.
    fn recompose(&self, choose: impl FnOnce(&Ensemble) -> Result<Ensemble>) -> Result<()> {
        let (session, mut m) = (self.session(), self.state());
        let wanted = choose(&m.boosters.merged)?;
        m.base()?;
        m.materialize()?;
        compose(session, &mut m, &wanted)?;
        let folder = m.folder(session)?;
        session.run.with(|run| {
            run.lists(folder, &wanted);
            run.composed(&wanted)
        })?;
        session.call.tell("boosters", serde_json::to_value(wanted.members())?);
        m.boosters.merged = wanted;
        Ok(())
    }

    /// Takes over the boosters that an earlier process made it the sum of, whose files are added
    /// when the weights are needed.
    pub fn recall_composition(&self, effects: &Effects) -> Result<()> {
        let Some(members) = effects.get("boosters") else { return Ok(()) };
        let mut m = self.state();
        m.boosters.merged = Ensemble::new(serde_json::from_value(members.clone())?);
        m.defer_merges(self.session())
    }

    /// The round whose evaluation of `validation` was best, and what the summary calls so; on
    /// shapes the last one. Errors (class usage): there is none.
    pub fn best_round(&self, by: &Best) -> Result<usize> {
        let (session, m) = (self.session(), self.state());
        session.run.with(|run| {
            let Some(round) = run.evaluations.best_round_of(by, m.index, run.sweep.current())
            else {
                bail!(
                    Usage,
                    "no round is best: `validation` was never evaluated with this model, or has no \
                     `{}`",
                    by.metric;
                    hint: "evaluate in the loop: `model.evaluate(task.validation);`"
                );
            };
            run.best = by.clone();
            Ok(if m.network.is_meta() { m.round() } else { round })
        })
    }

    /// Takes over what an earlier process called best.
    pub fn recall_best(&self, by: &Best) -> Result<()> {
        self.session().run.note(|run| run.best = by.clone())
    }
}

/// Gives the network the sum of its base and the boosters `wanted`; [`Boosters::merged`] stays. A
/// model without numbers has no sum.
///
/// [`Boosters::merged`]: super::model::Boosters
pub(super) fn compose(session: &Session, m: &mut ModelState, wanted: &Ensemble) -> Result<()> {
    if m.network.is_meta() {
        return Ok(());
    }
    let folder = m.folder(session)?;
    // All files are read before any weight is touched: one that is damaged leaves the model as it
    // is.
    let mut names = BTreeSet::new();
    let files = m.boosters.merged.files(&folder).into_iter().chain(wanted.files(&folder));
    for (path, _) in files {
        names.extend(Update::load(&path, &m.network)?.params(&m.network));
        session.guard.check()?;
    }
    m.restore_base(&names)?;
    Update::add_files(&wanted.files(&folder), &mut m.network)?;
    session.merges_left(m.index, &m.network);
    Ok(())
}

impl ModelState {
    fn restore_base(&mut self, names: &BTreeSet<crate::model::ParamId>) -> Result<()> {
        self.base()?;
        let Some(base) = &self.base else { return Ok(()) };
        restore::restore(&mut self.network, &base.files, &base.digests, names)
    }
}
