//! What a policy may ask of a model before it chooses: norms of gradients and weights, and which
//! items it gets wrong.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::Session;
use super::dry_run::Event;
use super::evaluate::expect_forward;
use super::model::{Model, ModelState};
use super::part::Part;
use super::set::Set;
use crate::boost::probe::{self, Norms};
use crate::data::Batch;
use crate::error::bail;
use crate::eval::choices;
use crate::model::cost::Work;
use crate::train;
use crate::train::memory::step_bytes;

impl Model {
    /// Norms of the gradient on the next batch of `sequences` that training on `set` would see,
    /// which stays the next: `layers` (a number for each layer of the model, 0 of those that are
    /// not in `layers`), `targets` (such lists by target) and `loss` (nats a token).
    pub fn probe(
        &self,
        set: &Set,
        sequences: usize,
        layers: Option<&[usize]>,
    ) -> Result<Map<String, Value>> {
        let session = self.session();
        let m = self.with_weights()?;
        let count = m.network.layers();
        let layers = layers.map_or_else(|| (0..count).collect(), <[usize]>::to_vec);
        if let Some(layer) = layers.iter().find(|&&layer| layer >= count) {
            bail!(
                Usage,
                "layer {layer} does not exist";
                hint: "the model has layers 0 to {}",
                count - 1
            );
        }
        let batch = next_batch(session, &m, set, sequences)?;
        weigh(session, &m, &batch, layers.iter().copied().min().unwrap_or(count))?;
        let (loss, norms) = probe::gradient_norms(&m.network, &batch, &layers)?;
        let mut found = by_layer_and_target(&norms, &m);
        found.insert("loss".into(), json!(loss));
        Ok(found)
    }

    /// Frobenius norms of the weights as they are: `layers` (over all targets of a layer),
    /// `targets` (lists by target), `embedding`, `head` (of tied weights the same).
    pub fn norms(&self) -> Result<Map<String, Value>> {
        let m = self.with_weights()?;
        let of = |id| Ok::<_, anyhow::Error>(probe::norm(&m.network, id)?.unwrap_or_default());
        let (embedding, head) = (of(m.network.embedding())?, m.network.head().map(of).transpose()?);
        let mut found = by_layer_and_target(&probe::weight_norms(&m.network)?, &m);
        found.extend([("embedding".into(), json!(embedding)), ("head".into(), json!(head))]);
        Ok(found)
    }

    /// Of each task of `set` the items that the model gets wrong by choices, by their index; of
    /// each the first `most` are looked at.
    pub fn wrong(&self, set: &Set, most: Option<usize>) -> Result<Vec<Vec<usize>>> {
        let m = self.with_weights()?;
        set.parts().iter().map(|part| self.wrong_of(&m, set, part, most)).collect()
    }

    fn wrong_of(
        &self,
        m: &ModelState,
        set: &Set,
        part: &Part,
        most: Option<usize>,
    ) -> Result<Vec<usize>> {
        let session = self.session();
        m.reads.next("scoring choices by their likelihood")?;
        let positions = m.network.config().max_position_embeddings;
        let (items, _) = part.choices(session, set.split(), &m.tokenizer, most, positions)?;
        let works = choices::work(&m.network, &items);
        expect_forward(session, m, &works);
        session.observe(|| Event::Evaluate {
            split: set.split().name().into(),
            items: items.len(),
            passes: works.len(),
            work: works.iter().copied().fold(Work::default(), Work::and),
            largest: works.iter().copied().fold(Work::default(), Work::or),
        })?;
        choices::wrong(&m.network, &items, |_| Ok(session.guard.check()?))
    }
}

/// The next batch of a set, which stays the next.
pub(super) fn next_batch(
    session: &Session,
    m: &ModelState,
    set: &Set,
    sequences: usize,
) -> Result<Batch> {
    let loader = set.loader(session, &m.reads)?;
    let mut loader = super::held::lock(&loader);
    let place = loader.state();
    let batch = Batch::pack(&loader.next(sequences)?.iter().collect::<Vec<_>>())?;
    loader.resume(&place)?;
    Ok(batch)
}

/// Notes and expects what a pass forward and back over a batch takes, down to layer `lowest`.
pub(super) fn weigh(session: &Session, m: &ModelState, batch: &Batch, lowest: usize) -> Result<()> {
    let (network, rows) = (&m.network, batch.rows.len());
    session.observe(|| {
        let work = Work::of(&train::tokens(batch), rows);
        Event::Evaluate {
            split: "probe".into(),
            items: batch.starts.len() - 1,
            passes: 3,
            // Backward is two passes more.
            work: work.and(work).and(work),
            largest: work,
        }
    })?;
    let cost = network.cost();
    let layer = cost.blocks.iter().map(|block| block.weights).max().unwrap_or(0);
    let gradients = layer * network.factor_dtype().size_in_bytes();
    let step = step_bytes(&cost, network.compute(), batch.ids.len(), rows, lowest, true);
    session.expect(m.index, network, step + gradients);
    Ok(())
}

fn by_layer_and_target(norms: &Norms, m: &ModelState) -> Map<String, Value> {
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
    let targets: Map<String, Value> =
        m.network.targets().into_iter().map(|t| (t.to_owned(), json!(of(t)))).collect();
    let layers: Vec<f64> = layers.clone().map(|layer| squares(layer).sqrt()).collect();
    Map::from_iter([("layers".into(), json!(layers)), ("targets".into(), targets.into())])
}
