//! `model.merge`: a booster becomes part of the weights, and a file of the run.

use std::path::Path;

use rhai::NativeCallContext;
use serde_json::json;

use super::booster::Booster;
use super::model::Model;
use super::{Answer, refuse};
use crate::boost::{BoosterKind, Update};
use crate::error::Error;
use crate::host::context::Host;
use crate::host::door::{self, Effects};
use crate::host::ledger::Event;
use crate::run::{Merge, booster_name, digest};

/// Merges `booster` with step weight `eta`.
pub(super) fn merge_by(
    context: &NativeCallContext,
    host: &Host,
    model: &Model,
    booster: &Booster,
    eta: f64,
) -> Answer<()> {
    if !eta.is_finite() {
        return Err(refuse(Error::usage(format!(
            "the step weight of a merge must be a finite number, found {eta}"
        ))));
    }
    let arguments =
        json!({ "model": model.with(|m| m.index), "booster": booster.number(), "eta": eta });
    let recall = |effects: &Effects| {
        let field = |name: &str| effects.get(name).cloned().unwrap_or_default();
        // A merge that failed changed nothing.
        let Ok(merge) = serde_json::from_value::<Merge>(field("merge")) else { return Ok(()) };
        let sum = field("sha256").as_str().unwrap_or_default().to_owned();
        model.with(|m| {
            let (folder, file) =
                (host.with_run(|run| run.folder.boosters(m.index))?, booster_name(m.kept));
            let path = folder.join(&file);
            m.sums.insert(file.clone(), sum);
            m.ensemble.push(file);
            m.owe(host, folder)?;
            (m.kept, m.round) = (m.kept + 1, m.round + 1);
            booster.with(|b| b.was_merged(m.round, path));
            host.console.merged(&merge, m.network.layers());
            host.note_in_run(|run| run.note_merge())
        })
    };
    door::call(context, host, "model.merge", arguments).change(recall, |doing| {
        booster.with(|b| {
            b.fresh("merge")?;
            model.owns(&b.model)?;
            if b.booster.kind() == BoosterKind::FullRank {
                model.with(|m| m.network.takes_full_tensors())?;
            }
            if host.outlook().is_some() {
                let left = model.with(|m| {
                    m.ensemble.push(booster_name(m.kept));
                    (m.kept, m.round) = (m.kept + 1, m.round + 1);
                    m.network.suppose_merged(&b.booster.adapter)?;
                    anyhow::Ok(host.merges_left(m.index, &m.network))
                })?;
                b.merged = Some(model.with(|m| m.round));
                b.let_go();
                return host.note(context, Event::Merge { left });
            }
            model.live(|m| {
                b.numbers(host, m)?;
                let update = Update::of(&m.network, &b.booster, m.round, eta)?;
                let (folder, file) =
                    (host.with_run(|run| run.folder.boosters(m.index))?, booster_name(m.kept));
                let path = folder.join(&file);
                let sum = host.keeping(|| update.save(&path))?;
                m.kept += 1;
                m.network.retained_fraction();
                // What is read from the file later, so that the weights are the same bits then.
                let start = host.guard.elapsed();
                update.add(&mut m.network)?;
                let merge_seconds = (host.guard.elapsed() - start).as_secs_f64();
                host.merges_left(m.index, &m.network);
                m.ensemble.push(file);
                let merge = Merge {
                    round: m.round,
                    kind: update.kind().name().into(),
                    layers: b.booster.layers(),
                    parameters: b.moved,
                    steps: b.booster.trained.steps,
                    eta,
                    gain: b.booster.trained.gain,
                    captured: m.network.retained_fraction(),
                    update_norms: update.norms()?,
                };
                m.round += 1;
                b.merged = Some(m.round);
                b.let_go();
                let seconds = host.guard.elapsed().as_secs_f64();
                doing.effects = Effects::from_iter([
                    ("model".into(), m.index.into()),
                    ("rounds".into(), m.round.into()),
                    ("sha256".into(), sum.into()),
                    ("merge".into(), serde_json::to_value(&merge)?),
                ]);
                host.with_run(|run| {
                    run.tells_of(path);
                    run.lists(folder, &m.ensemble);
                    run.note_merge();
                    run.merged(&merge, seconds, merge_seconds)
                })?;
                host.console.merged(&merge, m.network.layers());
                Ok(())
            })
        })
    })?;
    // Its training is over.
    booster.forget(host);
    Ok(())
}

/// SHA-256 of a file.
pub(super) fn file_digest(path: &Path) -> anyhow::Result<String> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(digest(&bytes)),
        Err(e) => Err(Error::data(format!("cannot read `{}`: {e}", path.display())).into()),
    }
}
