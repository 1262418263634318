//! `set`: one split of a task or of several, as training and measuring take it.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::Session;
use super::held::lock;
use super::part::{ByReads, Part, PromptFormat};
use super::reads::Reads;
use crate::data::{DataLoader, DataLoaderState, Split};
use crate::error::{Error, error};
use crate::memory::Uncounted;
use crate::seed::Stream;

/// One split; copies are the same, and share their place in the data.
#[derive(Clone)]
pub struct Set(Arc<Uncounted<SetInner>>);

struct SetInner {
    split: Split,
    parts: Vec<Part>,
    /// Given to `data::mix`, one for each part.
    weights: Option<Vec<f64>>,
    /// What was picked out of the task's own items, and how.
    picked: Vec<String>,
    /// Where training goes on, from booster to booster, for each model: it has its own.
    loaders: Mutex<ByReads<Arc<Mutex<DataLoader>>>>,
    /// Where it went on in an earlier process, for those that have no loader yet.
    places: Mutex<ByReads<DataLoaderState>>,
}

impl Set {
    pub fn new(split: Split, parts: Vec<Part>, weights: Option<Vec<f64>>) -> Self {
        Self::picked(split, parts, weights, vec![])
    }

    fn picked(
        split: Split,
        parts: Vec<Part>,
        weights: Option<Vec<f64>>,
        picked: Vec<String>,
    ) -> Self {
        let (loaders, places) = Default::default();
        Self(Arc::new(Uncounted::new(SetInner { split, parts, weights, picked, loaders, places })))
    }

    /// As the journal tells it from others.
    pub fn to_journal(&self) -> Value {
        let SetInner { split, parts, weights, picked, .. } = &**self.0;
        let tasks: Vec<&str> = parts.iter().map(|part| part.task.as_str()).collect();
        json!({
            "split": split.name(), "tasks": tasks, "items": self.len(), "weights": weights,
            "picked": picked,
        })
    }

    pub fn split(&self) -> Split {
        self.0.split
    }

    pub fn parts(&self) -> &[Part] {
        &self.0.parts
    }

    pub fn weights(&self) -> Option<&[f64]> {
        self.0.weights.as_deref()
    }

    /// How each task is worded, by name.
    pub fn wording(&self) -> Vec<(String, Arc<PromptFormat>)> {
        self.0.parts.iter().map(|part| (part.task.clone(), part.wording.clone())).collect()
    }

    pub fn len(&self) -> usize {
        self.0.parts.iter().map(|p| p.source.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part of item `i` over all parts, and its index there. Errors (class usage) beyond the
    /// end.
    pub fn find(&self, i: i64) -> Result<(&Part, usize), Error> {
        let mut left = usize::try_from(i).unwrap_or(usize::MAX);
        for part in &self.0.parts {
            if left < part.source.len() {
                return Ok((part, left));
            }
            left -= part.source.len();
        }
        Err(error!(Usage, "there is no item {i}; the set has {}, from 0 on", self.len()))
    }

    /// The first `n` items of each task in the set.
    pub fn take(&self, n: usize) -> Self {
        self.pick(0, "take", |len, _| (0..n.min(len)).collect())
    }

    /// `n` items of each task in the set, drawn without replacement, in the order of their files.
    pub fn sample(&self, seed: u64, n: usize) -> Self {
        self.pick(seed, "sample", |len, stream| {
            let mut chosen = stream.choose(len, n.min(len));
            chosen.sort_unstable();
            chosen
        })
    }

    /// The items of each task in a random order.
    pub fn shuffled(&self, seed: u64) -> Self {
        self.pick(seed, "shuffle", |len, stream| {
            let mut order: Vec<usize> = (0..len).collect();
            stream.shuffle(&mut order);
            order
        })
    }

    /// Of each part the items of these indices, found by `verb`.
    pub fn of_parts(&self, verb: &str, indices: Vec<Vec<usize>>) -> Self {
        let mut indices = indices.into_iter();
        self.pick(0, verb, |_, _| indices.next().unwrap_or_default())
    }

    /// A set of the items that `choose` names, given the number of items and a stream for each
    /// part.
    fn pick(
        &self,
        seed: u64,
        verb: &str,
        mut choose: impl FnMut(usize, &mut Stream) -> Vec<usize>,
    ) -> Self {
        let parts = self.0.parts.iter().map(|part| {
            let mut stream =
                Stream::new(seed, &format!("{verb}/{}/{}", part.task, self.0.split.name()));
            Part::new(
                &part.task,
                part.source.pick(choose(part.source.len(), &mut stream)),
                part.wording.clone(),
            )
        });
        let (mut parts, mut picked, mut weights) =
            (parts.collect::<Vec<_>>(), self.0.picked.clone(), self.0.weights.clone());
        picked
            .push(format!("{verb} {}", parts.iter().map(|part| part.source.len()).sum::<usize>()));
        // A task of which nothing is left has nothing to train on or to measure, unless none has.
        let left: Vec<bool> = parts.iter().map(|part| !part.source.is_empty()).collect();
        if left.contains(&true) {
            let mut keep = left.iter();
            parts.retain(|_| keep.next() == Some(&true));
            if let Some(weights) = &mut weights {
                let mut keep = left.iter();
                weights.retain(|_| keep.next() == Some(&true));
            }
        }
        Self::picked(self.0.split, parts, weights, picked)
    }

    /// Notes where training went on in an earlier process.
    pub fn remember(&self, reads: &Arc<Reads>, place: DataLoaderState) {
        let mut places = lock(&self.0.places);
        places.retain(|(t, _)| !Arc::ptr_eq(t, reads));
        places.push((reads.clone(), place));
    }

    /// Where training goes on, with the items as a model reads them.
    pub(super) fn loader(
        &self,
        session: &Session,
        reads: &Arc<Reads>,
    ) -> anyhow::Result<Arc<Mutex<DataLoader>>> {
        let is_own = |t: &Arc<Reads>| Arc::ptr_eq(t, reads);
        let mut loaders = lock(&self.0.loaders);
        let known = loaders.iter().find(|(t, _)| is_own(t)).map(|(_, loader)| loader.clone());
        let loader = match known {
            Some(loader) => loader,
            None => {
                let loader = Arc::new(Mutex::new(self.new_loader(session, reads)?));
                loaders.push((reads.clone(), loader.clone()));
                loader
            }
        };
        let mut places = lock(&self.0.places);
        if let Some(place) = places.iter().position(|(t, _)| is_own(t)) {
            lock(&loader).resume(&places.remove(place).1)?;
        }
        Ok(loader)
    }

    fn new_loader(&self, session: &Session, reads: &Arc<Reads>) -> anyhow::Result<DataLoader> {
        let SetInner { split, parts, weights, .. } = &**self.0;
        let examples = parts
            .iter()
            .map(|p| p.feedable(session, *split, reads))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let names: Vec<&str> = parts.iter().map(|p| p.task.as_str()).collect();
        let name = format!("data/{}/{}", names.join("+"), split.name());
        match weights {
            None => DataLoader::pooled(session.settings.seed, &name, examples),
            Some(weights) => {
                let names = names.iter().enumerate().map(|(i, n)| format!("{i}/{n}"));
                DataLoader::weighted(
                    session.settings.seed,
                    &name,
                    names.zip(examples).collect(),
                    weights,
                )
            }
        }
    }
}
