//! A split of one task: where its items are, and what tokenizers make of them.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use super::Session;
use super::dry_run::Event;
use super::held::lock;
use super::reads::Reads;
use super::watched::Watched;
use crate::data::advice::advice;
use crate::data::template;
use crate::data::{
    ChoiceItem, ChoiceReport, Encode, EncodeOptions, Encoded, Example, Examples, GenerationItem,
    Item, Joined, Mapping, Masked, Published, Split, Template, encode_choices, encode_questions,
    formats::LineFile,
};
use crate::error::{Error, did_you_mean, error};
use crate::eval::Protocol;
use crate::source::Tokenizer;

/// How rows and items of a task are worded for a model.
pub struct PromptFormat {
    pub template: Template,
    pub options: EncodeOptions,
    /// The template that the recipe itself gives, for rows.
    pub mapping: Option<Arc<Mapping>>,
}

impl PromptFormat {
    /// What a template's name stands for: a wording of questions, and of records that have their
    /// columns, what makes questions of them. Errors (class usage): an unknown name.
    pub fn named(name: &str) -> anyhow::Result<(Template, Option<Arc<Mapping>>)> {
        match Published::find(name) {
            Some(published) => Ok((Template::None, Some(Arc::new(Mapping::published(published)?)))),
            None => match Template::parse(name) {
                Ok(template) => Ok((template, None)),
                Err(_) => Err(unknown(name).into()),
            },
        }
    }

    /// An item as the templates take it: a row becomes what the recipe's template makes of it.
    pub fn convert(&self, item: Item) -> anyhow::Result<Item> {
        match (&self.mapping, item) {
            (Some(mapping), Item::Row(row)) => mapping.item(&row),
            (_, item) => Ok(item),
        }
    }

    pub fn name(&self) -> &'static str {
        match &self.mapping {
            Some(mapping) => mapping.known().map_or("recipe", |published| published.name),
            None => self.template.name(),
        }
    }

    /// Names of the columns of tables without a header, where the template knows them.
    pub fn columns(mapping: Option<&Mapping>) -> Option<Vec<String>> {
        let columns = mapping?.known()?.columns;
        (!columns.is_empty()).then(|| columns.iter().map(|name| (*name).to_owned()).collect())
    }

    /// Whether tasks are subjects of MMLU.
    pub fn is_mmlu(&self) -> bool {
        let known = self.mapping.as_ref().and_then(|mapping| mapping.known());
        known.is_some_and(Published::is_mmlu)
    }

    /// The same with other limits.
    pub fn limited(&self, options: EncodeOptions) -> Arc<Self> {
        Arc::new(Self { options, mapping: self.mapping.clone(), template: self.template })
    }
}

/// The error for a template that has neither kind of name.
fn unknown(name: &str) -> Error {
    let all: Vec<&str> = template::NAMES.into_iter().chain(Published::names()).collect();
    let near = did_you_mean(name, all.iter().copied());
    error!(Usage, "unknown template `{name}`{near}"; hint: "templates are {}", all.join(", "))
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
                Err(error!(Run, "row {i} of a set of {} was asked for", self.len()).into())
            }
        }
    }

    /// The items of these indices.
    pub(super) fn pick(&self, indices: Vec<usize>) -> Self {
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
    encoded: Arc<Mutex<ByReads<EncodedPart>>>,
    /// What was said of items that were scored: not again with every measurement.
    reported: Arc<Mutex<Option<ChoiceReport>>>,
}

/// Examples, and how many items were left out of them.
type EncodedPart = (Arc<Vec<Example>>, usize);

/// Something made for a model, found again by what it reads.
pub(super) type ByReads<T> = Vec<(Arc<Reads>, T)>;

impl Part {
    pub fn new(task: &str, source: ItemSource, wording: Arc<PromptFormat>) -> Self {
        Self {
            task: task.to_owned(),
            source,
            wording,
            encoded: Arc::default(),
            reported: Arc::default(),
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

    /// Whether solved examples stand before its questions.
    pub fn has_shots(&self) -> bool {
        let ItemSource::Memory(items) = &self.source else { return false };
        items.iter().any(|item| matches!(item, Item::Instruction(item) if item.shots.is_some()))
    }

    /// Examples to be measured, at most the first `most`, and how many items were left out. Of a
    /// file on disk only so many rows are read.
    pub fn measured(
        &self,
        session: &Session,
        split: Split,
        reads: &Arc<Reads>,
        most: Option<usize>,
    ) -> anyhow::Result<EncodedPart> {
        let (examples, left_out) = match &self.source {
            ItemSource::Memory(_) => self.examples(session, split, reads)?,
            ItemSource::Files { .. } => {
                let out = self.encode(session, reads, most)?;
                (Arc::new(out.examples), out.report.dropped)
            }
        };
        let examples = match most {
            Some(most) if most < examples.len() => Arc::new(examples[..most].to_vec()),
            _ => examples,
        };
        Ok((self.masked(examples, split, reads)?, left_out))
    }

    /// Examples for a head of masked tokens: the same tokens are masked in every measurement,
    /// whatever the run's seed.
    fn masked(
        &self,
        examples: Arc<Vec<Example>>,
        split: Split,
        reads: &Reads,
    ) -> anyhow::Result<Arc<Vec<Example>>> {
        let Some(masking) = reads.masking()? else { return Ok(examples) };
        let name = format!("measured/{}/{}", self.task, split.name());
        let all = Masked { examples, masking, seed: 0, name };
        let drawn = (0..all.count()).filter_map(|i| all.get(i, 0).transpose());
        Ok(Arc::new(drawn.collect::<anyhow::Result<_>>()?))
    }

    /// The items, at most the first `most`, as examples for training.
    fn encode(
        &self,
        session: &Session,
        reads: &Reads,
        most: Option<usize>,
    ) -> anyhow::Result<Encoded> {
        let PromptFormat { template, options, .. } = &*self.wording;
        let tokenizer = watched(session, &reads.tokenizer);
        reads.encode(&self.items(most)?, &tokenizer, (*template, options))
    }

    /// All examples in memory, and how many items were left out; what was cut or left out is told
    /// once.
    fn examples(
        &self,
        session: &Session,
        split: Split,
        reads: &Arc<Reads>,
    ) -> anyhow::Result<EncodedPart> {
        let mut encoded = lock(&self.encoded);
        if let Some((_, known)) = encoded.iter().find(|(own, _)| Arc::ptr_eq(own, reads)) {
            return Ok(known.clone());
        }
        let out = self.encode(session, reads, None)?;
        if reads.task()?.is_none() {
            self.advise(session, split, &reads.tokenizer)?;
        }
        session.console.note(&format!("{} {}: {}", self.task, split.name(), out.report));
        let made = (Arc::new(out.examples), out.report.dropped);
        encoded.push((reads.clone(), made.clone()));
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
        let worth = report.scored != report.items
            || report.fewer_shots > 0
            || report.joined != Joined::default();
        let first = lock(&self.reported).replace(report) != Some(report);
        if first {
            self.advise(session, split, tokenizer)?;
        }
        if worth && first {
            session.console.note(&format!("{} {}: {report}", self.task, split.name()));
        }
        Ok((choices, report.items - report.scored))
    }

    /// Warns where a recipe's own template leaves prompt and answer in a way that tokenizers see
    /// otherwise.
    fn advise(&self, session: &Session, split: Split, tokenizer: &Tokenizer) -> anyhow::Result<()> {
        for line in self.advice(&watched(session, tokenizer))? {
            let line = format!("{} {}: {line}", self.task, split.name());
            session.console.note(&line);
            session.observe(|| Event::Advice(line))?;
        }
        Ok(())
    }

    /// Those warnings; none where the template is not the recipe's.
    pub(super) fn advice(&self, tokenizer: &dyn Encode) -> anyhow::Result<Vec<String>> {
        /// Items that are enough to see it.
        const ENOUGH: usize = 200;
        match &self.wording.mapping {
            Some(mapping) if mapping.known().is_none() => {
                advice(&self.items(Some(ENOUGH))?, self.wording.template, tokenizer)
            }
            _ => Ok(vec![]),
        }
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
        if questions.len() != report.items || report.fewer_shots > 0 {
            session.console.note(&format!("{} {}: {report}", self.task, split.name()));
        }
        let left_out = report.items - questions.len();
        Ok((questions, left_out))
    }

    /// What training draws from.
    pub(super) fn feedable(
        &self,
        session: &Session,
        split: Split,
        reads: &Arc<Reads>,
    ) -> anyhow::Result<Arc<dyn Examples>> {
        let examples: Arc<dyn Examples> = match &self.source {
            ItemSource::Memory(_) => self.examples(session, split, reads)?.0,
            source => Arc::new(Lazy {
                source: source.clone(),
                wording: self.wording.clone(),
                reads: reads.clone(),
            }),
        };
        let (seed, name) = (session.settings.seed, format!("mask/{}/{}", self.task, split.name()));
        Ok(match reads.masking()? {
            Some(masking) => Arc::new(Masked { examples, masking, seed, name }),
            None => examples,
        })
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
    reads: Arc<Reads>,
}

impl Examples for Lazy {
    fn count(&self) -> usize {
        self.source.len()
    }

    fn get(&self, i: usize, _: u64) -> anyhow::Result<Option<Example>> {
        let PromptFormat { template, options, .. } = &*self.wording;
        self.reads.encode_one(&self.source.get(i, &self.wording)?, (*template, options))
    }
}
