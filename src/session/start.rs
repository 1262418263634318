//! How a booster begins: along a gradient, or with what an earlier one's optimizer remembers.

use anyhow::Result;

use super::booster::{Booster, BoosterState};
use super::probe::{next_batch, weigh};
use super::set::Set;
use super::{Effects, Session};
use crate::boost::{BoosterKind, probe};
use crate::error::bail;
use crate::seed::Stream;

impl Booster {
    /// Lets A begin along the gradient: its rows become the first right singular vectors of the
    /// gradient of each weight, on the next batch of `sequences` that training on `set` would see.
    /// Errors (class usage): a booster that was trained or merged, or is dense.
    pub fn align(&self, set: &Set, sequences: usize) -> Result<()> {
        let session = self.model().session();
        let mut b = self.state();
        b.untrained("align")?;
        let mut m = self.model().with_weights()?;
        b.materialize(session, &mut m)?;
        let batch = next_batch(session, &m, set, sequences)?;
        weigh(session, &m, &batch, b.learner.adapter.lowest().unwrap_or(0))?;
        b.learner.adapter = probe::aligned(&m.network, &batch, &b.learner.adapter)?;
        b.store(session)
    }

    /// Gives the booster the moments of another one's optimizer, of whose entries each stays with
    /// probability `keep` and is 0 otherwise: 0.001 is ReLoRA's reset. Both train tensors of the
    /// same sizes.
    pub fn inherit(&self, other: &Booster, keep: f64) -> Result<()> {
        if !(0.0..=1.0).contains(&keep) {
            bail!(Usage, "`inherit` keeps a share from 0 to 1, found {keep}");
        }
        if self.number() == other.number() {
            bail!(Usage, "a booster cannot inherit from itself");
        }
        let session = self.model().session();
        let theirs = {
            let mut theirs = other.state();
            theirs.unmerged("inherit from")?;
            theirs.materialize(session, &mut *other.model().with_weights()?)?;
            theirs.learner.clone()
        };
        let mut b = self.state();
        b.untrained("let a trained one inherit:")?;
        if session.assume().is_some() {
            return Ok(b.learner.same_sizes(&theirs)?);
        }
        b.materialize(session, &mut *self.model().with_weights()?)?;
        let mut stream = Stream::new(session.settings.seed, &format!("inherit/{}", b.files.number));
        b.learner.inherit(&theirs, || stream.uniform() < keep)?;
        b.store(session)
    }

    /// Takes over how an earlier process let it begin.
    pub fn recall_start(&self, effects: &Effects) -> Result<()> {
        let text = |key: &str| effects.get(key).and_then(serde_json::Value::as_str);
        let Some(file) = text("file") else { return Ok(()) };
        let sum = text("sha256").map(str::to_owned);
        self.state().left_in(self.model().session(), file, sum)
    }
}

impl BoosterState {
    /// Errors (class usage): a booster that was trained or merged, or is dense.
    fn untrained(&self, what: &str) -> Result<()> {
        self.unmerged(what)?;
        if self.learner.trained.steps > 0 {
            bail!(
                Usage,
                "cannot {what} a booster that was trained already";
                hint: "do it before the first `fit`"
            );
        }
        if self.learner.kind() == BoosterKind::FullRank {
            bail!(Usage, "a dense booster begins as the weights are: it has no factors");
        }
        Ok(())
    }

    /// Writes it as it begins, so that a run that is taken up has it.
    fn store(&mut self, session: &Session) -> Result<()> {
        let (file, path) = self.files.start(session)?;
        let sum = session.keep(|| self.learner.save_state(&path))?;
        session.run.note(|run| run.tells_of(path))?;
        session.call.tell("file", file);
        session.call.tell("sha256", sum);
        Ok(())
    }
}
