//! What a policy may ask of a model before it chooses: norms of gradients and weights, and which
//! items it gets wrong.

use rhai::plugin::*;
use rhai::{INT, Map, NativeCallContext};
use serde_json::{Value, json};

use super::fit_options::MOST_SEQUENCES;
use super::model::{Model, Open};
use super::set::Set;
use super::{Answer, dynamic, refuse, told_map};
use crate::boost::probe::{self, Norms};
use crate::data::Batch;
use crate::error::Error;
use crate::eval::choices;
use crate::host::context::{Host, host};
use crate::host::door;
use crate::host::ledger::{Event, Outlook};
use crate::host::options::Options;
use crate::model::cost::Work;
use crate::model::{Adapter, Tokens};
use crate::train::memory::step_bytes;

#[export_module]
pub(super) mod natives {
    /// Norms of the gradient on the next batch that training on `set` would see, which stays the
    /// next: `layers` (a number for each layer of the model, 0 of those not asked for), `targets`
    /// (a map of such arrays by target) and `loss` (nats a token). Nothing is trained.
    ///
    /// Options: `batch` (sequences, 8), `layers` (to look at; all).
    ///
    /// # Example
    /// ```rhai,no_run
    /// let seen = model.probe(task.train, #{ batch: 16 });
    /// let weights = seen.layers.map(|norm| norm * norm);
    /// let layers = sampler("layers").weighted(model.layers, weights, 2);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn probe(
        context: NativeCallContext,
        model: &mut Model,
        set: Set,
        options: Map,
    ) -> Answer<Map> {
        let host = host(&context)?;
        let mut arguments = told_map(&options);
        arguments["set"] = set.told();
        arguments["model"] = model.with(|m| m.index.into());
        let asked = asked(options).map_err(refuse)?;
        let found = door::call(&context, &host, "model.probe", arguments)
            .answer(|| probed(&context, &host, model, &set, &asked))?;
        Ok(to_map(&found))
    }

    /// As `probe(set, options)` with a batch of 8 and all layers.
    #[rhai_fn(name = "probe", return_raw, pure)]
    pub fn probe_all(context: NativeCallContext, model: &mut Model, set: Set) -> Answer<Map> {
        probe(context, model, set, Map::new())
    }

    /// Frobenius norms of the weights as they are: `layers` (over all targets of a layer),
    /// `targets` (a map of arrays by target), `embedding`, `head` (of tied weights the same).
    ///
    /// # Example
    /// ```rhai,no_run
    /// let skew = model.norms().embedding / model.norms().layers[0];
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn norms(context: NativeCallContext, model: &mut Model) -> Answer<Map> {
        let host = host(&context)?;
        let arguments = json!({ "model": model.with(|m| m.index) });
        let found = door::call(&context, &host, "model.norms", arguments).answer(|| match host
            .outlook()
        {
            Some(outlook) => model.with(|m| Ok(weights(supposed(m, outlook), 1.0, 1.0, m))),
            None => model.live(|m| {
                let embedding = probe::norm(&m.network, m.network.embedding())?.unwrap_or_default();
                let head = probe::norm(&m.network, m.network.head())?.unwrap_or_default();
                Ok(weights(probe::weight_norms(&m.network)?, embedding, head, m))
            }),
        })?;
        Ok(to_map(&found))
    }

    /// The items of `set` that the model gets wrong by choices, as a set to train on (as BoostLoRA
    /// does); of each task the first `items` are looked at, 0 for all.
    ///
    /// # Example
    /// ```rhai,no_run
    /// let hard = model.wrong(task.train, 200);
    /// if hard.len > 0 { booster.fit(hard, #{ steps: 8, optimizer: adamw(#{ lr: 1e-3 }) }); }
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn wrong(
        context: NativeCallContext,
        model: &mut Model,
        set: Set,
        items: INT,
    ) -> Answer<Set> {
        let host = host(&context)?;
        let most = usize::try_from(items).map_err(|_| {
            refuse(Error::usage(format!("`wrong` looks at 0 items or more, found {items}")))
        })?;
        let arguments =
            json!({ "set": set.told(), "model": model.with(|m| m.index), "items": items });
        let indices: Vec<Vec<usize>> = door::call(&context, &host, "model.wrong", arguments)
            .answer(|| {
                model.live(|m| missed(&context, &host, m, &set, Some(most).filter(|&n| n > 0)))
            })?;
        let mut indices = indices.into_iter();
        Ok(set.pick(0, "wrong", |_, _| indices.next().unwrap_or_default()))
    }
}

/// What is asked of a probe.
struct Asked {
    batch: usize,
    layers: Option<Vec<usize>>,
}

fn asked(map: Map) -> Result<Asked, Error> {
    let mut o = Options::new("probe", map, &["batch", "layers"])?;
    let batch = o.take_or("batch", 8)?;
    o.check("batch", (1..=MOST_SEQUENCES).contains(&batch), "from 1 to 65536", batch)?;
    Ok(Asked { batch, layers: o.take_opt("layers")? })
}

fn to_map(found: &serde_json::Map<String, Value>) -> Map {
    found.iter().map(|(key, value)| (key.as_str().into(), dynamic(value))).collect()
}

/// The next batch of a set, which stays the next.
pub(super) fn next_batch(host: &Host, m: &Open, set: &Set, size: usize) -> anyhow::Result<Batch> {
    set.with_feed(host, &m.tokenizer, |feed| {
        let place = feed.state();
        let batch = Batch::pack(&feed.next(size)?.iter().collect::<Vec<_>>())?;
        feed.resume(&place)?;
        Ok(batch)
    })
}

/// Notes or expects what a pass forward and back over a batch takes.
pub(super) fn weigh(
    context: &NativeCallContext,
    host: &Host,
    m: &Open,
    batch: &Batch,
    lowest: usize,
) -> anyhow::Result<()> {
    if host.outlook().is_some() {
        let work = Work::of(&Tokens::sequences(batch.ids.clone(), &batch.starts), batch.rows.len());
        let items = batch.starts.len() - 1;
        // Backward is two passes more.
        let all = work.and(work).and(work);
        return host.note(
            context,
            Event::Evaluate { split: "probe".into(), items, passes: 3, work: all, largest: work },
        );
    }
    let cost = m.network.cost();
    let layer = cost.blocks.iter().map(|block| block.weights).max().unwrap_or(0);
    let gradients = layer * m.network.factor_dtype().size_in_bytes();
    host.expect(
        m.index,
        &m.network,
        step_bytes(&cost, m.network.compute(), batch.ids.len(), batch.rows.len(), lowest, true)
            + gradients,
    );
    Ok(())
}

fn probed(
    context: &NativeCallContext,
    host: &Host,
    model: &Model,
    set: &Set,
    asked: &Asked,
) -> anyhow::Result<serde_json::Map<String, Value>> {
    model.live(|m| {
        let count = m.network.layers();
        let layers = asked.layers.clone().unwrap_or_else(|| (0..count).collect());
        if let Some(layer) = layers.iter().find(|&&layer| layer >= count) {
            return Err(Error::usage(format!("layer {layer} does not exist"))
                .hint(format!("the model has layers 0 to {}", count - 1))
                .into());
        }
        let batch = next_batch(host, m, set, asked.batch)?;
        weigh(context, host, m, &batch, layers.iter().copied().min().unwrap_or(count))?;
        let (loss, norms) = match host.outlook() {
            Some(outlook) => (
                1.0,
                supposed(m, outlook)
                    .into_iter()
                    .filter(|(linear, _)| layers.contains(&linear.layer))
                    .collect(),
            ),
            None => probe::gradient_norms(&m.network, &batch, &layers)?,
        };
        let mut found = by_layer_and_target(&norms, m);
        found.insert("loss".into(), json!(loss));
        Ok(found)
    })
}

/// Norms where nothing is computed: all the same, or rising from layer to layer.
fn supposed(m: &Open, outlook: Outlook) -> Norms {
    let norm = |layer: usize| if outlook == Outlook::Good { 1.0 } else { 1.0 + layer as f64 };
    m.network.linears().map(|linear| (linear.clone(), norm(linear.layer))).collect()
}

fn by_layer_and_target(norms: &Norms, m: &Open) -> serde_json::Map<String, Value> {
    let layers = 0..m.network.layers();
    let squares = |layer: usize| {
        norms
            .iter()
            .filter(|(linear, _)| linear.layer == layer)
            .map(|(_, norm)| norm * norm)
            .sum::<f64>()
    };
    let of = |target: &str| {
        let norm = |layer| norms.get(m.network.linear(layer, target)?).copied();
        layers.clone().map(|layer| norm(layer).unwrap_or(0.0)).collect::<Vec<_>>()
    };
    let targets: serde_json::Map<String, Value> =
        m.network.targets().into_iter().map(|t| (t.to_owned(), json!(of(t)))).collect();
    let layers: Vec<f64> = layers.clone().map(|layer| squares(layer).sqrt()).collect();
    serde_json::Map::from_iter([
        ("layers".into(), json!(layers)),
        ("targets".into(), targets.into()),
    ])
}

fn weights(norms: Norms, embedding: f64, head: f64, m: &Open) -> serde_json::Map<String, Value> {
    let mut found = by_layer_and_target(&norms, m);
    found.extend([("embedding".into(), json!(embedding)), ("head".into(), json!(head))]);
    found
}

/// Of each part the items whose likeliest choice is not the right one.
fn missed(
    context: &NativeCallContext,
    host: &Host,
    m: &Open,
    set: &Set,
    most: Option<usize>,
) -> anyhow::Result<Vec<Vec<usize>>> {
    let positions = m.network.config().max_position_embeddings;
    let mut all = vec![];
    for part in set.parts() {
        let items = part.choices(host, set.split(), &m.tokenizer, most, positions)?;
        let works = choices::work(&m.network, &items);
        let largest = works.iter().fold(Work::default(), |most, &work| most.or(work));
        if host.outlook().is_some() {
            let work = works.iter().fold(Work::default(), |all, &work| all.and(work));
            let (split, passes) = (set.split().name().into(), works.len());
            host.note(
                context,
                Event::Evaluate { split, items: items.len(), passes, work, largest },
            )?;
            all.push(items.iter().map(|item| item.index).collect());
            continue;
        }
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
        let scores =
            choices::score(&m.network, &Adapter::default(), &items, |_| Ok(host.guard.check()?))?;
        let wrong =
            scores.largest().into_iter().zip(&items).filter(|(found, item)| *found != item.label);
        all.push(wrong.map(|(_, item)| item.index).collect());
    }
    Ok(all)
}
