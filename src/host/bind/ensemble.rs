//! The boosters that a model is the sum of: taken back, left out, weighed, and taken over from an
//! earlier run.

use std::collections::BTreeSet;

use anyhow::Result;
use rhai::plugin::*;
use rhai::{FLOAT, INT, Map, NativeCallContext};
use serde_json::json;

use super::merge::file_digest;
use super::model::{Model, Open};
use super::{Answer, refuse};
use crate::boost::Update;
use crate::error::Error;
use crate::host::context::{Host, host};
use crate::host::door::{self, Effects, Making};
use crate::host::ledger::Event;
use crate::host::options::Options;
use crate::model::restore;
use crate::model::save::Digests;
use crate::run::{Best, Ensemble, Kept, booster_name};
use crate::{bail_data, bail_usage};

#[export_module]
pub(super) mod natives {
    /// Takes back all but the first `rounds` boosters: the weights are again what they were then.
    /// They are read from the base once more and the boosters' files added, so those of low rank
    /// come out bit for bit.
    ///
    /// # Example
    /// ```rhai,no_run
    /// model.truncate(model.best_round());
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn truncate(context: NativeCallContext, model: &mut Model, rounds: INT) -> Answer<()> {
        changed(&context, model, ("truncate", json!({ "rounds": rounds })), |all| {
            all.slice(0, index(rounds)?)
        })
    }

    /// Keeps the boosters from `start` on, before `end`, numbered from 0, as XGBoost's slices.
    #[rhai_fn(return_raw, pure)]
    pub fn slice(
        context: NativeCallContext,
        model: &mut Model,
        start: INT,
        end: INT,
    ) -> Answer<()> {
        changed(&context, model, ("slice", json!({ "start": start, "end": end })), |all| {
            all.slice(index(start)?, index(end)?)
        })
    }

    /// Leaves out the booster `number`, counted from 0; those behind it move up.
    #[rhai_fn(name = "drop", return_raw, pure)]
    pub fn leave_out(context: NativeCallContext, model: &mut Model, number: INT) -> Answer<()> {
        changed(&context, model, ("drop", json!({ "number": number })), |all| {
            all.without(index(number)?)
        })
    }

    /// Multiplies what the booster `number`, counted from 0, added to the weights by `eta`; 1 is as
    /// it was merged.
    ///
    /// # Example
    /// ```rhai,no_run
    /// model.scale(0, 0.5);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn scale(
        context: NativeCallContext,
        model: &mut Model,
        number: INT,
        eta: FLOAT,
    ) -> Answer<()> {
        changed(&context, model, ("scale", json!({ "number": number, "eta": eta })), |all| {
            all.scaled(index(number)?, eta)
        })
    }

    /// The list of boosters that the model is the sum of, to go back to with `restore`.
    ///
    /// # Example
    /// ```rhai,no_run
    /// let before = model.snapshot();
    /// model.scale(0, 0.5);
    /// if model.evaluate(task.validation).accuracy < 0.5 { model.restore(before); }
    /// ```
    #[rhai_fn(pure)]
    pub fn snapshot(model: &mut Model) -> Snapshot {
        model.with(|m| Snapshot { model: m.index, all: m.ensemble.clone() })
    }

    /// Makes the model the sum of the boosters that it had when `snapshot` was taken, with their
    /// weights then; bit for bit, as `truncate`.
    ///
    /// # Example
    /// ```rhai,no_run
    /// let before = model.snapshot();
    /// model.truncate(1);
    /// model.restore(before);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn restore(
        context: NativeCallContext,
        model: &mut Model,
        snapshot: Snapshot,
    ) -> Answer<()> {
        let all = &snapshot.all;
        let members = serde_json::to_vec(all.members()).unwrap_or_default();
        let own = model.with(|m| m.index) == snapshot.model;
        changed(
            &context,
            model,
            ("restore", json!({ "rounds": all.rounds(), "sha256": crate::run::digest(&members) })),
            |_| match own {
                true => Ok(all.clone()),
                false => bail_usage!("the snapshot is of another model"),
            },
        )
    }

    /// How many boosters the model had.
    #[rhai_fn(get = "round", pure)]
    pub fn snapshot_round(snapshot: &mut Snapshot) -> INT {
        snapshot.all.rounds() as INT
    }

    /// Forms the weights again: the base, and all boosters from their files.
    #[rhai_fn(return_raw, pure)]
    pub fn replay(context: NativeCallContext, model: &mut Model) -> Answer<()> {
        changed(&context, model, ("replay", json!({})), |all| Ok(all.clone()))
    }

    /// SHA-256 of the weights, as `weights_digest` in `summary.json`.
    #[rhai_fn(return_raw, pure)]
    pub fn digest(context: NativeCallContext, model: &mut Model) -> Answer<String> {
        let host = host(&context)?;
        let arguments = json!({ "model": model.with(|m| m.index) });
        door::call(&context, &host, "model.digest", arguments).answer(|| match host.outlook() {
            Some(_) => Ok(String::new()),
            None => model.live(|m| m.network.digest()),
        })
    }

    /// The round whose evaluation of `validation` had the highest accuracy, the earliest of equals.
    #[rhai_fn(return_raw, pure)]
    pub fn best_round(context: NativeCallContext, model: &mut Model) -> Answer<INT> {
        best(&context, model, Map::new())
    }

    /// The round whose evaluation of `validation` was best, and what the summary calls so. Options:
    /// `metric` (accuracy), `direction` ("max", "min").
    ///
    /// # Example
    /// ```rhai,no_run
    /// model.truncate(model.best_round(#{ metric: "nll", direction: "min" }));
    /// ```
    #[rhai_fn(name = "best_round", return_raw, pure)]
    pub fn best_round_by(
        context: NativeCallContext,
        model: &mut Model,
        options: Map,
    ) -> Answer<INT> {
        best(&context, model, options)
    }
}

/// The boosters of a model as they were.
#[derive(Clone)]
pub struct Snapshot {
    model: usize,
    all: Ensemble,
}

/// A number of a script as an index.
fn index(number: INT) -> Result<usize> {
    match usize::try_from(number) {
        Ok(number) => Ok(number),
        Err(_) => bail_usage!("boosters are numbered from 0, found {number}"),
    }
}

fn best(context: &NativeCallContext, model: &Model, options: Map) -> Answer<INT> {
    let host = host(context)?;
    let asked = best_options(options).map_err(refuse)?;
    let index = model.with(|m| m.index);
    let mut arguments = json!({ "metric": asked.metric, "larger": asked.larger });
    if index > 0 {
        arguments["model"] = index.into();
    }
    let recall = |_: &Effects| host.note_in_run(|run| run.best = asked.clone());
    door::call(context, &host, "model.best_round", arguments).change(recall, |_| {
        if host.outlook().is_some() {
            return Ok(model.with(|m| m.round) as INT);
        }
        host.with_run(|run| {
            let found = run.evaluations.best_round(&asked, Some(index));
            let Some(round) = found else {
                return Err(Error::usage(format!(
                    "no round is best: `validation` was never evaluated with this model, or has no \
                     `{}`",
                    asked.metric
                ))
                .hint("evaluate in the loop: `model.evaluate(task.validation);`")
                .into());
            };
            run.best = asked.clone();
            Ok(round as INT)
        })
    })
}

fn best_options(map: Map) -> Result<Best, Error> {
    let mut o = Options::new("best_round", map, &["metric", "direction"])?;
    let metric = o.take_or("metric", Best::default().metric)?;
    let direction: String = o.take_or("direction", "max".into())?;
    o.check(
        "direction",
        ["max", "min"].contains(&direction.as_str()),
        "\"max\" or \"min\"",
        format!("{direction:?}"),
    )?;
    Ok(Best { metric, larger: direction == "max" })
}

/// Makes the model the sum of what `choose` makes of its boosters.
fn changed(
    context: &NativeCallContext,
    model: &Model,
    (name, arguments): (&str, serde_json::Value),
    choose: impl FnOnce(&Ensemble) -> Result<Ensemble>,
) -> Answer<()> {
    let host = host(context)?;
    let mut arguments = arguments;
    arguments["model"] = model.with(|m| m.index.into());
    let recall = |effects: &Effects| {
        let Some(members) = effects.get("boosters") else { return Ok(()) };
        let wanted = Ensemble::new(serde_json::from_value(members.clone())?);
        model.with(|m| {
            let folder = host.with_run(|run| run.folder.boosters(m.index))?;
            m.round = wanted.rounds();
            m.ensemble = wanted;
            m.owe(&host, folder)
        })
    };
    door::call(context, &host, &format!("model.{name}"), arguments).change(recall, |doing| {
        model.with(|m| {
            let wanted = choose(&m.ensemble)?;
            m.based()?;
            if host.outlook().is_none() {
                m.pay()?;
                compose(&host, m, &wanted)?;
                let folder = host.with_run(|run| run.folder.boosters(m.index))?;
                host.with_run(|run| {
                    run.lists(folder, &wanted);
                    run.composed(&wanted)
                })?;
                doing.effects.insert("boosters".into(), serde_json::to_value(wanted.members())?);
            }
            m.round = wanted.rounds();
            m.ensemble = wanted;
            Ok(())
        })
    })
}

/// Gives the network the sum of its base and the boosters `wanted`; [`Open::ensemble`] stays.
pub(super) fn compose(host: &Host, m: &mut Open, wanted: &Ensemble) -> Result<()> {
    let files = m.based()?.clone();
    let folder = host.with_run(|run| run.folder.boosters(m.index))?;
    // All files are read before any weight is touched: one that is damaged leaves the model as it
    // is.
    let mut names = BTreeSet::new();
    for (path, _) in m.ensemble.files(&folder).into_iter().chain(wanted.files(&folder)) {
        names.extend(Update::load(&path, &m.network)?.params(&m.network));
        host.guard.check()?;
    }
    restore::restore(&mut m.network, &files, &m.digests, &names)?;
    Update::add_files(&wanted.files(&folder), &mut m.network)?;
    host.merges_left(m.index, &m.network);
    Ok(())
}

/// Errors (class data) where the base of a run that is to be gone on with is not `network`, whose
/// digests are `now`, or a booster is damaged.
pub(super) fn check(
    host: &Host,
    network: &crate::model::Model,
    now: &Digests,
    kept: &Kept,
) -> Result<()> {
    if host.outlook().is_none() {
        let then = kept.manifest.digests.get(kept.model()?);
        if then.is_some_and(|then| *then != now.digest) {
            bail_data!(
                "`{}` is not the model that the run began with: its weights are others",
                kept.model()?
            );
        }
    }
    for (path, _) in kept.boosters() {
        host.guard.check()?;
        Update::load(&path, network)?;
    }
    Ok(())
}

/// Gives a model, just loaded, the boosters of the run that `kept` describes; their files become
/// this run's.
pub(super) fn take_over(
    context: &NativeCallContext,
    host: &Host,
    m: &mut Open,
    kept: &Kept,
    making: &mut Making,
) -> Result<()> {
    if host.outlook().is_none() {
        let folder = host.with_run(|run| run.folder.boosters(m.index))?;
        let (mut all, again) = (vec![], making.again);
        for (number, (path, weight)) in kept.boosters().into_iter().enumerate() {
            host.guard.check()?;
            let update = Update::load(&path, &m.network)?.scaled(weight)?;
            if !again {
                update.add(&mut m.network)?;
            }
            let file = booster_name(number);
            making.effects.insert(format!("the booster `{file}`"), file_digest(&path)?.into());
            std::fs::copy(&path, folder.join(&file)).map_err(anyhow::Error::from)?;
            all.push(crate::run::Member { file, weight });
        }
        let all = Ensemble::new(all);
        making.effects.insert("boosters".into(), serde_json::to_value(all.members())?);
        m.ensemble = all;
        host.merges_left(m.index, &m.network);
        if again {
            m.owe(host, folder)?;
        } else {
            host.with_run(|run| {
                run.lists(folder, &m.ensemble);
                run.composed(&m.ensemble)
            })?;
        }
    } else {
        for (path, _) in kept.boosters() {
            Update::load(&path, &m.network)?.suppose_added(&mut m.network)?;
        }
        host.note(context, Event::Took { left: host.merges_left(m.index, &m.network) })?;
        m.ensemble = kept.ensemble.clone();
    }
    m.round = m.ensemble.rounds();
    m.kept = m.ensemble.rounds();
    // Boosters made from here on start from draws of their own.
    m.boosters = m.ensemble.rounds();
    Ok(())
}
