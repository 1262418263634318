//! Many prompts through the network in one flat run: every pass holds the next token of all running
//! sequences and, where there is room, new prompts. Who is finished leaves at once.
//!
//! A prompt owns a slot of the cache: rows for its tokens, then rows for the tokens of every beam.

use std::iter::Enumerate;
use std::ops::Range;
use std::slice::Iter;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::beams::Beams;
use super::likeliest::likeliest;
use super::sample::TokenSampler;
use super::{Behind, Rules};
use crate::error::bail;
use crate::eval::BATCH_TOKENS;
use crate::model::{Adapter, KvCache, Model, Tokens};
use crate::ops::attention::Segment;
use crate::ops::cpu::view::{View, f32s};

/// Sequences that run at a time.
const SEQUENCES: usize = 128;
/// Bytes of a cache beyond which fewer sequences run.
const CACHE_BYTES: usize = 1 << 30;

/// The tokens that follow each prompt.
pub fn run(
    model: &Model,
    adapter: &Adapter,
    prompts: &[Vec<u32>],
    rules: &Rules,
    mut progress: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<Vec<u32>>> {
    let most = rules.how.max_tokens;
    check(prompts, most, model.config().max_position_embeddings)?;
    if most == 0 || prompts.is_empty() {
        return Ok(vec![Vec::new(); prompts.len()]);
    }
    let mut queue = Queue::new(model, prompts, rules)?;
    while queue.done < prompts.len() {
        let pass = queue.pass(rules)?;
        let logits = model.step(&pass.tokens, &pass.at, &mut queue.cache, &pass.rows, adapter)?;
        let logits = logits.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous()?;
        queue.advance(&Choices::of(&logits, rules)?, rules)?;
        progress(queue.done)?;
    }
    Ok(queue.out)
}

/// Errors (class usage) where a prompt is empty, or has no room for `most` tokens behind it in what
/// the model sees.
fn check(prompts: &[Vec<u32>], most: usize, sees: usize) -> Result<()> {
    for (i, prompt) in prompts.iter().enumerate() {
        if prompt.is_empty() {
            bail!(Usage, "cannot generate from an empty prompt{}", nth(i, prompts.len()));
        }
        if prompt.len().saturating_add(most) > sees {
            let (n, which) = (prompt.len(), nth(i, prompts.len()));
            bail!(
                Usage,
                "the model sees {sees} tokens: too few for a prompt of {n}{which} and {most} new \
                 ones"
            );
        }
    }
    Ok(())
}

/// Which of several prompts is meant.
fn nth(index: usize, of: usize) -> String {
    if of == 1 { String::new() } else { format!(" (number {})", index + 1) }
}

/// Prompts that wait, run and are done.
struct Queue<'a> {
    waiting: Enumerate<Iter<'a, Vec<u32>>>,
    running: Vec<Running>,
    /// What follows each prompt that is done.
    out: Vec<Vec<u32>>,
    done: usize,
    cache: KvCache,
    /// The first rows of slots that nobody owns.
    free: Vec<usize>,
}

impl<'a> Queue<'a> {
    fn new(model: &Model, prompts: &'a [Vec<u32>], rules: &Rules) -> Result<Self> {
        let beams = rules.how.beams;
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let slot = longest + beams.saturating_mul(rules.how.max_tokens);
        let slots = (SEQUENCES / beams)
            .min(CACHE_BYTES / slot.saturating_mul(model.cache_bytes()).max(1))
            .clamp(1, prompts.len());
        Ok(Self {
            waiting: prompts.iter().enumerate(),
            running: vec![],
            out: vec![Vec::new(); prompts.len()],
            done: 0,
            cache: model.cache(slot * slots)?,
            free: (0..slots).rev().map(|i| i * slot).collect(),
        })
    }

    /// The next token of all that run, and prompts that begin to.
    fn pass(&mut self, rules: &Rules) -> Result<Pass> {
        let mut pass = Pass::default();
        self.running.iter().for_each(|running| running.lay(&mut pass));
        while pass.tokens.ids.len() < BATCH_TOKENS
            && let Some(base) = self.free.pop()
        {
            let Some((index, prompt)) = self.waiting.next() else { break };
            self.running.push(Running::new(index, base, prompt, rules)?);
            pass.push(prompt, 0, base, base..base, base);
        }
        Ok(pass)
    }

    /// Takes what the pass says of all that run; who is finished frees a slot.
    fn advance(&mut self, choices: &Choices, rules: &Rules) -> Result<()> {
        let mut first = 0;
        for mut running in std::mem::take(&mut self.running) {
            let rows = first..first + running.search.sequences().len();
            first = rows.end;
            if running.advance(choices, rows, rules, &mut self.cache)? {
                self.running.push(running);
            } else {
                self.free.push(running.base);
                self.out[running.index] = running.search.best();
                self.done += 1;
            }
        }
        Ok(())
    }
}

/// What goes through the network at once.
#[derive(Default)]
struct Pass {
    tokens: Tokens,
    /// Where each token's keys go.
    at: Vec<usize>,
    /// The last token of every sequence.
    rows: Vec<usize>,
}

impl Pass {
    /// Lays down tokens from `position` on, which see the cache's rows `context` and those from
    /// `own` up to theirs; the first goes into row `at`.
    fn push(&mut self, ids: &[u32], position: usize, own: usize, context: Range<usize>, at: usize) {
        let start = self.tokens.ids.len();
        self.tokens.ids.extend(ids);
        self.tokens.positions.extend((position..position + ids.len()).map(|p| p as u32));
        let queries = start..self.tokens.ids.len();
        self.rows.push(queries.end - 1);
        self.at.extend(at..at + ids.len());
        self.tokens.segments.push(Segment {
            queries,
            prefix_keys: context,
            self_keys: own..at + ids.len(),
        });
    }
}

/// What the rows of a pass say about the next token.
enum Choices<'a> {
    Likeliest(Vec<Vec<(u32, f64)>>),
    /// [S, V] to draw from, and V.
    Logits(View<'a, f32>, usize),
}

impl<'a> Choices<'a> {
    fn of(logits: &'a Tensor, rules: &Rules) -> Result<Self> {
        let vocabulary = logits.dim(1)?;
        if rules.how.temperature.is_some() {
            return Ok(Self::Logits(f32s(logits)?, vocabulary));
        }
        let beams = rules.how.beams;
        let most = if beams == 1 { 1 } else { Beams::candidates(beams, rules.ends.len()) };
        let most = most.min(vocabulary);
        Ok(Self::Likeliest(
            f32s(logits)?
                .par_chunks_exact(vocabulary)
                .map(|row| likeliest(row, most))
                .collect::<Result<_>>()?,
        ))
    }

    fn likeliest(&self, rows: Range<usize>) -> &[Vec<(u32, f64)>] {
        match self {
            Self::Likeliest(all) => &all[rows],
            Self::Logits(..) => &[],
        }
    }

    /// The token after the sequence of `row`: drawn where there is a sampler, else the likeliest.
    fn token(&self, row: usize, sampler: Option<&mut TokenSampler>) -> Result<Option<u32>> {
        if let (Self::Logits(logits, vocabulary), Some(sampler)) = (self, sampler) {
            let first = row * vocabulary;
            return sampler.draw(&logits[first..first + vocabulary]).map(Some);
        }
        let likeliest = self.likeliest(row..row + 1).first().and_then(|tokens| tokens.first());
        Ok(likeliest.map(|best| best.0))
    }
}

/// What is looked for after a prompt.
enum Search {
    One { ids: Vec<u32>, sampler: Option<Box<TokenSampler>> },
    Beams(Beams),
}

impl Search {
    /// Tokens of the sequences that run.
    fn sequences(&self) -> Vec<&[u32]> {
        match self {
            Self::One { ids, .. } => vec![ids],
            Self::Beams(beams) => beams.running.iter().map(|beam| beam.ids.as_slice()).collect(),
        }
    }

    fn best(self) -> Vec<u32> {
        match self {
            Self::One { ids, .. } => ids,
            Self::Beams(beams) => beams.best(),
        }
    }
}

/// A prompt whose sequences run.
struct Running {
    /// Among the prompts.
    index: usize,
    /// First row of its slot.
    base: usize,
    /// Tokens of the prompt.
    length: usize,
    /// Rows of a sequence.
    room: usize,
    search: Search,
    /// What stop texts are looked for behind.
    behind: Option<Behind>,
    /// The sequences' places in the slot.
    places: Vec<usize>,
}

impl Running {
    fn new(index: usize, base: usize, prompt: &[u32], rules: &Rules) -> Result<Self> {
        let search = match rules.how.beams {
            1 => {
                let sampler = TokenSampler::new(rules.how, index).map(Box::new);
                Search::One { ids: vec![], sampler }
            }
            width => Search::Beams(Beams::new(width)),
        };
        let (length, room) = (prompt.len(), rules.how.max_tokens);
        Ok(Self {
            index,
            base,
            length,
            room,
            search,
            behind: rules.behind(prompt)?,
            places: vec![0],
        })
    }

    /// First row of a place.
    fn own(&self, place: usize) -> usize {
        self.base + self.length + place * self.room
    }

    /// The last token of every sequence.
    fn lay(&self, pass: &mut Pass) {
        for (ids, &place) in self.search.sequences().into_iter().zip(&self.places) {
            let (own, before) = (self.own(place), ids.len() - 1);
            pass.push(
                &ids[before..],
                self.length + before,
                own,
                self.base..self.base + self.length,
                own + before,
            );
        }
    }

    /// Takes what `rows` of the pass say. False where the search is over.
    fn advance(
        &mut self,
        choices: &Choices,
        rows: Range<usize>,
        rules: &Rules,
        cache: &mut KvCache,
    ) -> Result<bool> {
        match &mut self.search {
            Search::One { ids, sampler } => {
                let token = choices.token(rows.start, sampler.as_deref_mut())?;
                match token.filter(|token| !rules.ends.contains(token)) {
                    Some(token) => ids.push(token),
                    None => return Ok(false),
                }
                Ok(!rules.over(ids, self.behind.as_ref())?)
            }
            Search::Beams(beams) => {
                let parents =
                    beams.advance(choices.likeliest(rows), rules, self.behind.as_ref())?;
                let cached = beams.running.first().map_or(0, |beam| beam.ids.len() - 1);
                self.places = self.inherit(&parents, cached, cache)?;
                Ok(!parents.is_empty())
            }
        }
    }

    /// Places for children: the first of a parent keeps its place, the others get a copy of its
    /// rows.
    fn inherit(&self, parents: &[usize], cached: usize, cache: &mut KvCache) -> Result<Vec<usize>> {
        let mut out = vec![None; parents.len()];
        let mut taken =
            vec![false; parents.len().max(self.places.iter().max().map_or(0, |p| p + 1))];
        for (child, &parent) in out.iter_mut().zip(parents) {
            let place = self.places[parent];
            *child = (!std::mem::replace(&mut taken[place], true)).then_some(place);
        }
        let mut free = (0..taken.len()).filter(|&place| !taken[place]);
        out.into_iter()
            .zip(parents)
            .map(|(kept, &parent)| {
                let Some(place) = kept.or_else(|| free.next()) else {
                    bail!(Run, "more beams than places")
                };
                if kept.is_none() && cached > 0 {
                    let from = self.own(self.places[parent]);
                    cache.copy(from..from + cached, self.own(place))?;
                }
                Ok(place)
            })
            .collect()
    }
}
