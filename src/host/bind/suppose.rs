//! What natives do where a recipe runs on shapes: they take notes and answer with placeholders.

use rhai::NativeCallContext;
use serde_json::{Map, Value, json};

use super::model::Open;
use super::set::Set;
use crate::boost;
use crate::data::Batch;
use crate::host::context::Host;
use crate::host::ledger::{Event, Fit, Opened, Outlook};
use crate::model::Tokens;
use crate::model::cost::Work;
use crate::train::FitOptions;
use crate::train::memory::gradient_bytes;

/// Batches that are looked at; of longer fits these stand for all.
const LOOKED_AT: usize = 2000;

/// Notes a model that was opened.
pub(super) fn opened(
    context: &NativeCallContext,
    host: &Host,
    name: &str,
    open: &Open,
) -> anyhow::Result<()> {
    let network = &open.network;
    let event = Event::Model(Opened {
        name: name.to_owned(),
        architecture: network.architecture().boxed(),
        cost: network.cost(),
        parameters: network.parameters(),
        weight_bytes: host.settings.dtype.size_in_bytes(),
        compute: network.compute(),
        merge_mode: network.merge_mode(),
    });
    host.note(context, event)
}

/// Notes a fit with the very batches that it would train on, and answers as `outlook` says.
pub(super) fn fitted(
    context: &NativeCallContext,
    host: &Host,
    outlook: Outlook,
    booster: &boost::Booster,
    open: &mut Open,
    (set, options): (&Set, &FitOptions),
) -> anyhow::Result<Map<String, Value>> {
    let batches = options.steps.saturating_mul(options.accumulate);
    let looked = batches.min(LOOKED_AT);
    let (mut work, mut largest) = (Work::default(), Work::default());
    set.with_feed(host, &open.tokenizer, |feed| {
        for _ in 0..looked {
            let batch = Batch::pack(&feed.next(options.batch)?.iter().collect::<Vec<_>>())?;
            let rows = batch.rows.len();
            let one = Work::of(&Tokens::sequences(batch.ids, &batch.starts), rows);
            (work, largest) = (work.and(one), largest.or(one));
            host.guard.check()?;
        }
        Ok(())
    })?;
    let scale = |n: usize| (n as f64 * batches as f64 / looked.max(1) as f64) as usize;
    let work =
        Work { tokens: scale(work.tokens), rows: scale(work.rows), pairs: scale(work.pairs) };
    let network = &open.network;
    let dense = booster.adapter.full().values().map(|t| t.elem_count()).sum();
    let gradients =
        gradient_bytes(booster.adapter.parameters(), network.factor_dtype(), options.accumulate);
    let lowest = booster.adapter.lowest().unwrap_or(network.layers());
    let fit = Fit {
        round: open.round,
        layers: booster.layers(),
        parameters: booster.moved(options.freeze),
        dense,
        state: options.optimizer.info().state.len(),
        lowest,
        steps: options.steps,
        batches,
        work,
        largest,
        gradient_checkpointing: options.gradient_checkpointing.decide(
            network,
            largest.tokens,
            largest.rows,
            lowest,
            gradients,
        ),
    };
    host.note(context, Event::Fit(fit))?;
    let (first, last) = match outlook {
        Outlook::Good => (1.0, 0.0),
        Outlook::Bad => (10.0, 10.0),
    };
    let gain = (options.steps > 1).then_some(first - last);
    Ok(Map::from_iter([
        ("first_loss".into(), json!(first)),
        ("last_loss".into(), json!(last)),
        ("mean_loss".into(), json!((first + last) / 2.0)),
        ("gain".into(), json!(gain)),
        ("steps".into(), json!(options.steps)),
        ("tokens".into(), json!(work.tokens)),
    ]))
}
