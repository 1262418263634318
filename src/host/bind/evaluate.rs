//! `model.evaluate`: each task of a set by a protocol, and the average.

use std::time::Instant;

use rhai::{Map, NativeCallContext};
use serde_json::Value;

use super::booster::Booster;
use super::model::{Model, Open};
use super::set::{Part, Set};
use super::{Answer, dynamic, told_map};
use crate::data::Split;
use crate::error::Error;
use crate::eval::{Encoded, Protocol, average};
use crate::host::console::Progress;
use crate::host::context::Host;
use crate::host::door::{self, Effects};
use crate::host::ledger::{Event, Outlook};
use crate::host::options::Options;
use crate::model::Adapter;
use crate::model::cost::Work;
use crate::run::{Evaluation, EvaluationTiming};
use crate::train::memory::step_bytes;

/// What is asked of an evaluation.
struct Asked {
    /// The first so many of each task.
    items: Option<usize>,
    booster: Option<Booster>,
    /// η, by which the booster's product is multiplied.
    eta: f64,
    /// What suits the items, where nobody says.
    protocol: Option<Protocol>,
}

pub(super) fn measure(
    context: &NativeCallContext,
    host: &Host,
    model: &Model,
    set: &Set,
    options: Map,
) -> Answer<Map> {
    let mut arguments = told_map(&options);
    arguments["set"] = set.told();
    arguments["model"] = model.with(|m| m.index.into());
    let asked = asked(options).map_err(|e| door::to_script(&e))?;
    let split = set.split();
    let recall = |effects: &Effects| {
        // Of a booster that is laid over, nothing is recorded.
        let Some(evaluation) = effects.get("evaluation") else { return Ok(()) };
        let evaluation: Evaluation = serde_json::from_value(evaluation.clone())?;
        host.console.evaluated(&evaluation);
        host.note_in_run(|run| run.evaluations.push(evaluation))
    };
    let metrics =
        door::call(context, host, "model.evaluate", arguments).change(recall, |doing| {
            let adapter = match &asked.booster {
                Some(booster) => booster.with(|b| {
                    b.fresh("evaluate with")?;
                    model.owns(&b.model)?;
                    model.live(|m| b.numbers(host, m))?;
                    weighed(&b.booster.adapter, asked.eta)
                })?,
                None => Adapter::default(),
            };
            let started = Instant::now();
            let (round, index, metrics, works) = model.live(|m| {
                let (mut tasks, mut works) = (vec![], vec![]);
                for part in set.parts() {
                    let several = if set.parts().len() > 1 { part.task.as_str() } else { "" };
                    tasks.push((
                        part.task.clone(),
                        task(host, m, split, part, several, (&asked, &adapter), &mut works)?,
                    ));
                }
                let metrics = if tasks.len() == 1 { tasks.remove(0).1 } else { average(&tasks) };
                anyhow::Ok((m.round, m.index, metrics, works))
            })?;
            if host.outlook().is_some() {
                let (work, largest) =
                    works.iter().fold(Default::default(), |(all, most): (Work, Work), &w| {
                        (all.and(w), most.or(w))
                    });
                let items =
                    metrics.get("items").and_then(Value::as_u64).unwrap_or_default() as usize;
                host.note(
                    context,
                    Event::Evaluate {
                        split: split.name().into(),
                        items,
                        passes: works.len(),
                        work,
                        largest,
                    },
                )?;
                return Ok(metrics);
            }
            if set.parts().len() > 1 {
                host.console.note(&format!(
                    "round {round}: {} average: {}",
                    split.name(),
                    shown(&metrics)
                ));
            }
            if asked.booster.is_none() {
                let split = split.name().to_string();
                let timing = EvaluationTiming { seconds: started.elapsed().as_secs_f64() };
                let evaluation =
                    Evaluation { split, round, model: index, metrics: metrics.clone() };
                host.console.evaluated(&evaluation);
                doing.effects.insert("evaluation".into(), serde_json::to_value(&evaluation)?);
                host.with_run(|run| run.evaluated(evaluation, timing))?;
            }
            Ok(metrics)
        })?;
    Ok(metrics.iter().map(|(k, v)| (k.as_str().into(), dynamic(v))).collect())
}

/// A booster's adapter with its product multiplied by `eta`. Errors (class usage): another weight
/// than 1 of whole tensors.
fn weighed(adapter: &Adapter, eta: f64) -> anyhow::Result<Adapter> {
    if eta == 1.0 {
        return Ok(adapter.clone());
    }
    if !adapter.full().is_empty() {
        return Err(Error::usage("a dense booster is measured as it is; leave out `eta`").into());
    }
    Ok(adapter.scaled(eta))
}

fn asked(map: Map) -> anyhow::Result<Asked> {
    let mut o = Options::new("evaluate", map, &["items", "booster", "eta", "protocol"])?;
    let items = o.take_opt("items")?.filter(|&n: &usize| n > 0);
    let booster: Option<Booster> = o.take_opt("booster")?;
    let eta = o.take_opt("eta")?;
    o.check(
        "eta",
        eta.is_none() || booster.is_some(),
        "left out where no `booster` is laid over the model",
        eta.unwrap_or(1.0),
    )?;
    let protocol =
        o.take_opt::<String>("protocol")?.map(|name| Protocol::parse(&name)).transpose()?;
    Ok(Asked { items, booster, eta: eta.unwrap_or(1.0), protocol })
}

/// Measures one task; `name` stands in messages.
fn task(
    host: &Host,
    m: &Open,
    split: Split,
    part: &Part,
    name: &str,
    (asked, adapter): (&Asked, &Adapter),
    works: &mut Vec<Work>,
) -> anyhow::Result<serde_json::Map<String, Value>> {
    let name = [name, split.name()].join(" ").trim().to_owned();
    let progress = |total: usize| {
        let name = name.clone();
        move |done: usize| {
            let what = format!("round {}: evaluate {name}", m.round);
            host.console.progress(&Progress {
                what,
                done: done as u64,
                total: total as u64,
                detail: String::new(),
            });
            Ok(host.guard.check()?)
        }
    };
    let positions = m.network.config().max_position_embeddings;
    let suits = || {
        anyhow::Ok(if part.has_choices(asked.items)? {
            Protocol::Choices
        } else {
            Protocol::Likelihood
        })
    };
    let (choices, examples, questions);
    let encoded = match asked.protocol.map_or_else(suits, Ok)? {
        Protocol::Choices => {
            choices = part.choices(host, split, &m.tokenizer, asked.items, positions)?;
            Encoded::Choices(&choices)
        }
        Protocol::Likelihood => {
            examples = part.measured(host, split, &m.tokenizer, asked.items)?;
            Encoded::Sequences(&examples)
        }
        Protocol::LlmAdapters => {
            questions = part.questions(host, split, &m.tokenizer, asked.items, positions)?;
            Encoded::Questions(&questions, m.tokenizer.as_ref())
        }
    };
    if let Some(outlook) = host.outlook() {
        works.extend(encoded.work(&m.network)?);
        let mut metrics = encoded.supposed(outlook == Outlook::Good);
        metrics.insert("template".into(), part.wording.name().into());
        return Ok(metrics);
    }
    let largest = encoded.work(&m.network)?.into_iter().fold(Work::default(), Work::or);
    host.expect(
        m.index,
        &m.network,
        step_bytes(
            &m.network.cost(),
            m.network.compute(),
            largest.tokens,
            largest.rows,
            m.network.layers(),
            false,
        ),
    );
    let mut metrics = encoded.measure(&m.network, adapter, progress(encoded.len()))?.metrics;
    metrics.insert("template".into(), part.wording.name().into());
    host.console.note(&format!("round {}: {name}: {}", m.round, shown(&metrics)));
    Ok(metrics)
}

/// Metrics in a line; four digits behind the point are enough to read.
fn shown(metrics: &serde_json::Map<String, Value>) -> String {
    let one = |(key, value): (&String, &Value)| match value {
        Value::String(text) => Some(format!("{key} {text}")),
        Value::Number(n) if n.is_f64() => {
            Some(format!("{key} {:.4}", n.as_f64().unwrap_or(f64::NAN)))
        }
        Value::Number(n) => Some(format!("{key} {n}")),
        _ => None,
    };
    metrics.iter().filter_map(one).collect::<Vec<_>>().join(", ")
}
