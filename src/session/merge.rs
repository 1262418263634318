//! A booster becomes part of the weights, and a file of the run.

use anyhow::Result;
use serde_json::Value;

use super::Effects;
use super::booster::{Booster, BoosterState, Numbers};
use super::dry_run::Event;
use super::model::{Model, ModelState};
use crate::boost::Update;
use crate::error::bail;
use crate::run::{Merge, booster_name};

impl Model {
    /// Merges the booster with step weight `eta` (paper Eq. 8): W ← W + η·s·BA; of a dense booster
    /// W ← W + η (W' − W). The run keeps it as a file below `boosters/`.
    ///
    /// Errors (class usage): a booster that was merged already or is of another model, an `eta`
    /// that is no finite number.
    pub fn merge(&self, booster: &Booster, eta: f64) -> Result<()> {
        if !eta.is_finite() {
            bail!(Usage, "the step weight of a merge must be a finite number, found {eta}");
        }
        let session = self.session();
        let mut b = booster.state();
        b.unmerged("merge")?;
        self.owns(booster.model())?;
        if b.learner.adapter.full().keys().any(|id| !id.is_task_head()) {
            self.state().network.takes_full_tensors()?;
        }
        let mut m = self.with_weights()?;
        b.materialize(session, &mut m)?;
        let update = Update::of(&m.network, &b.learner, m.round(), eta)?;
        let (folder, file) = (m.folder(session)?, booster_name(m.boosters.kept));
        let path = folder.join(&file);
        let sum = session.keep(|| update.save(&path))?;
        m.boosters.kept += 1;
        m.network.retained_fraction();
        // What is read from the file later, so that the weights are the same bits then.
        let start = session.guard.elapsed();
        update.add(&mut m.network)?;
        let merge_seconds = (session.guard.elapsed() - start).as_secs_f64();
        let left = session.merges_left(m.index, &m.network);
        let merge = record(&update, &b, &mut m)?;
        m.boosters.merged.push(file);
        b.set_merged(m.round());
        session.call.tell_all(Effects::from_iter([
            ("model".into(), m.index.into()),
            ("rounds".into(), m.round().into()),
            ("sha256".into(), sum.into()),
            ("merge".into(), serde_json::to_value(&merge)?),
        ]));
        let seconds = session.guard.elapsed().as_secs_f64();
        session.run.with(|run| {
            run.tells_of(path);
            run.lists(folder, &m.boosters.merged);
            run.states.note_merge();
            run.merged(&merge, seconds, merge_seconds)
        })?;
        session.console.merged(&merge, m.network.layers());
        session.watch(|watch| watch.merged(m.index, merge.round, merge.gain))?;
        session.observe(|| Event::Merge { left })
    }

    /// Takes over a merge of an earlier process, whose file is added when the weights are needed.
    pub fn recall_merge(&self, booster: &Booster, effects: &Effects) -> Result<()> {
        let field = |name: &str| effects.get(name).cloned().unwrap_or_default();
        // A merge that failed changed nothing.
        let Ok(merge) = serde_json::from_value::<Merge>(field("merge")) else { return Ok(()) };
        let (session, mut m) = (self.session(), self.state());
        let file = booster_name(m.boosters.kept);
        let path = m.folder(session)?.join(&file);
        if let Value::String(sum) = field("sha256") {
            m.boosters.sums.insert(file.clone(), sum);
        }
        m.boosters.merged.push(file);
        m.boosters.kept += 1;
        m.defer_merges(session)?;
        let mut b = booster.state();
        b.set_merged(m.round());
        b.numbers = Numbers::Merged(path);
        session.console.recalled(&merge, m.network.layers());
        session.run.note(|run| {
            run.states.note_merge();
            run.watched(|watch| watch.merged(m.index, merge.round, merge.gain));
        })
    }
}

/// What is told of a merge that was just made.
fn record(update: &Update, b: &BoosterState, m: &mut ModelState) -> Result<Merge> {
    Ok(Merge {
        round: update.round,
        kind: update.kind().name().into(),
        layers: b.learner.layers(),
        parameters: b.moved,
        steps: b.learner.trained.steps,
        eta: update.eta,
        gain: b.learner.trained.gain,
        captured: m.network.retained_fraction(),
        update_norms: if m.network.is_meta() { Default::default() } else { update.norms()? },
    })
}

impl Booster {
    /// Removes what was kept of its training, now that it is merged.
    pub fn forget(&self) {
        self.state().files.tidy(self.model().session(), true);
    }
}
