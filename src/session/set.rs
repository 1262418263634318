//! `set`: one split of a task or of several, as training and measuring take it.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::Session;
use super::held::lock;
use super::watched::Watched;
use crate::data::{
    self, ChoiceItem, ChoiceReport, DataLoader, DataLoaderState, EncodeOptions, Example, Examples,
    GenerationItem, Item, Joined, Mapping, Split, Template, encode_choices, encode_questions,
    encode_train, formats::LineFile,
};
use crate::error::Error;
use crate::eval::Protocol;
use crate::memory::Uncounted;
use crate::seed::Stream;
use crate::source::Tokenizer;

/// How rows and items of a task are worded for a model.
pub struct PromptFormat {
    pub template: Template,
    pub options: EncodeOptions,
    /// The template that the recipe itself gives, for rows.
    pub mapping: Option<Mapping>,
}

impl PromptFormat {
    /// An item as the templates take it: a row becomes what the recipe's template makes of it.
    pub fn convert(&self, item: Item) -> anyhow::Result<Item> {
        match (&self.mapping, item) {
            (Some(mapping), Item::Row(row)) => mapping.item(&row),
            (_, item) => Ok(item),
        }
    }

    pub fn name(&self) -> &'static str {
        if self.mapping.is_some() { "recipe" } else { self.template.name() }
    }
}

/// Where a part's items are.
#[derive(Clone)]
pub enum ItemSource {
    Memory(Arc<Vec<Item>>),
    /// In their files, read when they are asked for; with an order, those rows in this order.
    Files {
        lines: Arc<Vec<LineFile>>,
        order: Option<Arc<Vec<usize>>>,
    },
}

impl ItemSource {
    pub fn len(&self) -> usize {
        match self {
            Self::Memory(items) => items.len(),
            Self::Files { order: Some(order), .. } => order.len(),
            Self::Files { lines, order: None } => lines.iter().map(LineFile::len).sum(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Item `i`, which must be there.
    pub fn get(&self, i: usize, wording: &PromptFormat) -> anyhow::Result<Item> {
        match self {
            Self::Memory(items) => Ok(items[i].clone()),
            Self::Files { lines, order } => {
                let mut row = order.as_ref().map_or(i, |order| order[i]);
                for file in lines.iter() {
                    if row < file.len() {
                        return wording.convert(file.get(row)?);
                    }
                    row -= file.len();
                }
                Err(Error::run(format!("row {i} of a set of {} was asked for", self.len())).into())
            }
        }
    }

    /// The items of these indices.
    fn pick(&self, indices: Vec<usize>) -> Self {
        match self {
            Self::Memory(items) => {
                Self::Memory(Arc::new(indices.into_iter().map(|i| items[i].clone()).collect()))
            }
            Self::Files { lines, order } => {
                let order = indices
                    .into_iter()
                    .map(|i| order.as_ref().map_or(i, |order| order[i]))
                    .collect();
                Self::Files { lines: lines.clone(), order: Some(Arc::new(order)) }
            }
        }
    }
}

/// A split of one task.
#[derive(Clone)]
pub struct Part {
    pub task: String,
    pub source: ItemSource,
    pub wording: Arc<PromptFormat>,
    /// What tokenizers made of the items so far, and how many they left out.
    encoded: Arc<Mutex<ByTokenizer<EncodedPart>>>,
    /// What was said of items that were scored: not again with every measurement.
    told: Arc<Mutex<Option<ChoiceReport>>>,
}

/// Examples, and how many items were left out of them.
type EncodedPart = (Arc<Vec<Example>>, usize);

/// Something made with a tokenizer, found again by it.
type ByTokenizer<T> = Vec<(Arc<Tokenizer>, T)>;

impl Part {
    pub fn new(task: &str, source: ItemSource, wording: Arc<PromptFormat>) -> Self {
        Self {
            task: task.to_owned(),
            source,
            wording,
            encoded: Arc::default(),
            told: Arc::default(),
        }
    }

    /// The items, at most the first `most`.
    pub fn items(&self, most: Option<usize>) -> anyhow::Result<Cow<'_, [Item]>> {
        let most = most.unwrap_or(usize::MAX).min(self.source.len());
        match &self.source {
            ItemSource::Memory(items) => Ok(Cow::Borrowed(&items[..most])),
            files => Ok(Cow::Owned(
                (0..most).map(|i| files.get(i, &self.wording)).collect::<anyhow::Result<_>>()?,
            )),
        }
    }

    /// Whether its items name choices, at least one; of a file on disk, one of the first thousand,
    /// and of the first `most`.
    pub fn has_choices(&self, most: Option<usize>) -> anyhow::Result<bool> {
        if let ItemSource::Memory(items) = &self.source {
            return Ok(items.iter().any(Item::is_scorable));
        }
        for i in 0..self.source.len().min(1000).min(most.unwrap_or(1000)) {
            if self.source.get(i, &self.wording)?.is_scorable() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Examples to be measured, at most the first `most`, and how many items were left out. Of a
    /// file on disk only so many rows are read.
    pub fn measured(
        &self,
        session: &Session,
        split: Split,
        tokenizer: &Arc<Tokenizer>,
        most: Option<usize>,
    ) -> anyhow::Result<EncodedPart> {
        let (examples, left_out) = match &self.source {
            ItemSource::Memory(_) => self.examples(session, split, tokenizer)?,
            ItemSource::Files { .. } => {
                let out = encode_train(
                    &self.items(most)?,
                    self.wording.template,
                    &watched(session, tokenizer),
                    &self.wording.options,
                )?;
                (Arc::new(out.examples), out.report.dropped)
            }
        };
        Ok(match most {
            Some(most) if most < examples.len() => (Arc::new(examples[..most].to_vec()), left_out),
            _ => (examples, left_out),
        })
    }

    /// All examples in memory, and how many items were left out; what was cut or left out is told
    /// once.
    fn examples(
        &self,
        session: &Session,
        split: Split,
        tokenizer: &Arc<Tokenizer>,
    ) -> anyhow::Result<EncodedPart> {
        let mut encoded = lock(&self.encoded);
        if let Some((_, known)) = encoded.iter().find(|(t, _)| Arc::ptr_eq(t, tokenizer)) {
            return Ok(known.clone());
        }
        let out = encode_train(
            &self.items(None)?,
            self.wording.template,
            &watched(session, tokenizer),
            &self.wording.options,
        )?;
        session.console.note(&format!("{} {}: {}", self.task, split.name(), out.report));
        let made = (Arc::new(out.examples), out.report.dropped);
        encoded.push((tokenizer.clone(), made.clone()));
        Ok(made)
    }

    /// Items to be scored, at most the first `most`, and how many were left out; what was left out,
    /// or tokenised as one text with its prompt, is told.
    pub fn choices(
        &self,
        session: &Session,
        split: Split,
        tokenizer: &Tokenizer,
        most: Option<usize>,
        positions: usize,
    ) -> anyhow::Result<(Vec<ChoiceItem>, usize)> {
        let (choices, report) = encode_choices(
            &self.items(most)?,
            self.wording.template,
            &watched(session, tokenizer),
            positions,
        )?;
        let worth = report.scored != report.items || report.joined != Joined::default();
        if worth && lock(&self.told).replace(report) != Some(report) {
            session.console.note(&format!("{} {}: {report}", self.task, split.name()));
        }
        Ok((choices, report.items - report.scored))
    }

    /// Items to be answered by generation, at most the first `most`, and how many were left out,
    /// which is told.
    pub fn questions(
        &self,
        session: &Session,
        split: Split,
        tokenizer: &Tokenizer,
        most: Option<usize>,
        positions: usize,
    ) -> anyhow::Result<(Vec<GenerationItem>, usize)> {
        let longest = positions.saturating_sub(Protocol::NEW_TOKENS);
        let (questions, report) = encode_questions(
            &self.items(most)?,
            self.wording.template,
            &watched(session, tokenizer),
            longest,
        )?;
        if questions.len() != report.items {
            session.console.note(&format!("{} {}: {report}", self.task, split.name()));
        }
        let left_out = report.items - questions.len();
        Ok((questions, left_out))
    }

    /// What training draws from.
    fn feedable(
        &self,
        session: &Session,
        split: Split,
        tokenizer: &Arc<Tokenizer>,
    ) -> anyhow::Result<Arc<dyn Examples>> {
        match &self.source {
            ItemSource::Memory(_) => {
                let examples: Arc<dyn Examples> = self.examples(session, split, tokenizer)?.0;
                Ok(examples)
            }
            source => Ok(Arc::new(Lazy {
                source: source.clone(),
                wording: self.wording.clone(),
                tokenizer: tokenizer.clone(),
            })),
        }
    }
}

/// The tokenizer, for as long as the run may go on.
fn watched<'a>(session: &'a Session, tokenizer: &'a Tokenizer) -> Watched<'a> {
    Watched { guard: &session.guard, tokenizer }
}

/// Examples that are made when they are asked for: for files larger than memory.
struct Lazy {
    source: ItemSource,
    wording: Arc<PromptFormat>,
    tokenizer: Arc<Tokenizer>,
}

impl Examples for Lazy {
    fn count(&self) -> usize {
        self.source.len()
    }

    fn get(&self, i: usize) -> anyhow::Result<Option<Example>> {
        let item = self.source.get(i, &self.wording)?;
        data::encode_one(
            &item,
            self.wording.template,
            self.tokenizer.as_ref(),
            &self.wording.options,
        )
    }
}

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
    /// Where training goes on, from booster to booster, for each tokenizer: a model has its own.
    loaders: Mutex<ByTokenizer<Arc<Mutex<DataLoader>>>>,
    /// Where it went on in an earlier process, for those that have no loader yet.
    places: Mutex<ByTokenizer<DataLoaderState>>,
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
        Err(Error::usage(format!("there is no item {i}; the set has {}, from 0 on", self.len())))
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
    pub fn remember(&self, tokenizer: &Arc<Tokenizer>, place: DataLoaderState) {
        let mut places = lock(&self.0.places);
        places.retain(|(t, _)| !Arc::ptr_eq(t, tokenizer));
        places.push((tokenizer.clone(), place));
    }

    /// Where training goes on, with the items as `tokenizer` has them.
    pub(super) fn loader(
        &self,
        session: &Session,
        tokenizer: &Arc<Tokenizer>,
    ) -> anyhow::Result<Arc<Mutex<DataLoader>>> {
        let is_own = |t: &Arc<Tokenizer>| Arc::ptr_eq(t, tokenizer);
        let mut loaders = lock(&self.0.loaders);
        let known = loaders.iter().find(|(t, _)| is_own(t)).map(|(_, loader)| loader.clone());
        let loader = match known {
            Some(loader) => loader,
            None => {
                let loader = Arc::new(Mutex::new(self.new_loader(session, tokenizer)?));
                loaders.push((tokenizer.clone(), loader.clone()));
                loader
            }
        };
        let mut places = lock(&self.0.places);
        if let Some(place) = places.iter().position(|(t, _)| is_own(t)) {
            lock(&loader).resume(&places.remove(place).1)?;
        }
        Ok(loader)
    }

    fn new_loader(
        &self,
        session: &Session,
        tokenizer: &Arc<Tokenizer>,
    ) -> anyhow::Result<DataLoader> {
        let SetInner { split, parts, weights, .. } = &**self.0;
        let examples = parts
            .iter()
            .map(|p| p.feedable(session, *split, tokenizer))
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
