//! How a booster begins: along a gradient, or with what an earlier one's optimiser remembers.

use rhai::plugin::*;
use rhai::{FLOAT, Map, NativeCallContext};
use serde_json::json;

use super::booster::{Booster, Numbers, State};
use super::fit_options::MOST_SEQUENCES;
use super::probe::{next_batch, weigh};
use super::set::Set;
use super::{Answer, refuse, told_map};
use crate::boost::{BoosterKind, probe};
use crate::error::Error;
use crate::host::context::{Host, host};
use crate::host::door::{self, Effects};
use crate::host::options::Options;
use crate::seed::Stream;

#[export_module]
pub(super) mod natives {
    /// Lets A begin along the gradient: its rows become the first right singular vectors of the
    /// gradient of each weight, on the next batch that training on `set` would see. With B = 0 the
    /// first steps then fall fastest. For boosters that were not trained yet. Options: `batch`
    /// (sequences, 8).
    ///
    /// # Example
    /// ```rhai,no_run
    /// booster.align(task.train, #{ batch: 16 });
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn align(
        context: NativeCallContext,
        booster: &mut Booster,
        set: Set,
        options: Map,
    ) -> Answer<()> {
        let host = host(&context)?;
        let mut arguments = told_map(&options);
        arguments["booster"] = booster.number().into();
        arguments["set"] = set.told();
        let size = batch_of(options).map_err(refuse)?;
        let recall = |effects: &Effects| begun_before(&host, booster, effects);
        door::call(&context, &host, "booster.align", arguments).change(recall, |doing| {
            booster.with(|state| {
                untrained(state, "align")?;
                state.model.clone().live(|m| {
                    state.numbers(&host, m)?;
                    let batch = next_batch(&host, m, &set, size)?;
                    weigh(&context, &host, m, &batch, state.booster.adapter.lowest().unwrap_or(0))?;
                    if host.outlook().is_none() {
                        state.booster.adapter =
                            probe::aligned(&m.network, &batch, &state.booster.adapter)?;
                        store(&host, state, &mut doing.effects)?;
                    }
                    Ok(())
                })
            })
        })
    }

    /// Gives the booster the moments of another one's optimiser, of whose entries each stays with
    /// probability `keep` and is 0 otherwise: 0.001 is ReLoRA's reset. Both train tensors of the
    /// same sizes. Take them before the other is merged.
    ///
    /// # Example
    /// ```rhai,no_run
    /// let next = model.booster(#{ layers: model.layers, rank: 8 });
    /// next.inherit(booster, 0.001);
    /// model.merge(booster);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn inherit(
        context: NativeCallContext,
        booster: &mut Booster,
        other: Booster,
        keep: FLOAT,
    ) -> Answer<()> {
        let host = host(&context)?;
        if !(0.0..=1.0).contains(&keep) {
            return Err(refuse(Error::usage(format!(
                "`inherit` keeps a share from 0 to 1, found {keep}"
            ))));
        }
        let arguments =
            json!({ "booster": booster.number(), "other": other.number(), "keep": keep });
        let recall = |effects: &Effects| begun_before(&host, booster, effects);
        door::call(&context, &host, "booster.inherit", arguments).change(recall, |doing| {
            if booster.number() == other.number() {
                return Err(Error::usage("a booster cannot inherit from itself").into());
            }
            let theirs = other.with(|state| {
                state.fresh("inherit from")?;
                state.model.clone().live(|m| state.numbers(&host, m))?;
                anyhow::Ok(state.booster.clone())
            })?;
            booster.with(|state| {
                untrained(state, "let a trained one inherit:")?;
                if host.outlook().is_some() {
                    return state.booster.same_sizes(&theirs).map_err(anyhow::Error::from);
                }
                state.model.clone().live(|m| state.numbers(&host, m))?;
                let mut stream =
                    Stream::new(host.settings.seed, &format!("inherit/{}", state.number()));
                state.booster.inherit(&theirs, || stream.uniform() < keep)?;
                store(&host, state, &mut doing.effects)
            })
        })
    }
}

fn batch_of(map: Map) -> Result<usize, Error> {
    let mut o = Options::new("align", map, &["batch"])?;
    let batch = o.take_or("batch", 8)?;
    o.check("batch", (1..=MOST_SEQUENCES).contains(&batch), "from 1 to 65536", batch)?;
    Ok(batch)
}

/// Errors (class usage): a booster that was trained or merged, or is dense.
fn untrained(state: &State, what: &str) -> anyhow::Result<()> {
    state.fresh(what)?;
    if state.booster.trained.steps > 0 {
        return Err(Error::usage(format!("cannot {what} a booster that was trained already"))
            .hint("do it before the first `fit`")
            .into());
    }
    if state.booster.kind() == BoosterKind::FullRank {
        return Err(
            Error::usage("a dense booster begins as the weights are: it has no factors").into()
        );
    }
    Ok(())
}

/// Writes the booster as it begins, so that a run that is taken up has it.
fn store(host: &Host, state: &mut State, effects: &mut Effects) -> anyhow::Result<()> {
    // Each start has a file of its own, which the journal tells of: one is never written over.
    let file = format!("{:05}-start-{}.safetensors", state.number(), state.kept.len());
    let path = host.with_run(|run| run.keep_state(&file))?;
    let sum = host.keeping(|| state.booster.save_state(&path))?;
    state.kept.push(file.clone());
    host.note_in_run(|run| run.tells_of(path))?;
    effects.insert("file".into(), file.into());
    effects.insert("sha256".into(), sum.into());
    Ok(())
}

/// What an earlier process made of it.
fn begun_before(host: &Host, booster: &Booster, effects: &Effects) -> anyhow::Result<()> {
    let Some(file) = effects.get("file").and_then(serde_json::Value::as_str) else { return Ok(()) };
    booster.with(|state| {
        let sum = effects.get("sha256").and_then(serde_json::Value::as_str).map(str::to_owned);
        state.numbers = Numbers::File(host.with_run(|run| run.keep_state(file))?, sum);
        state.kept.push(file.to_owned());
        Ok(())
    })
}
