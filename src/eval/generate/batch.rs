//! Many prompts through the network in one flat run: every pass holds the next token of all running
//! sequences and, where there is room, new prompts. Who is finished leaves at once.
//!
//! A prompt owns a slot of the cache: rows for its tokens, then rows for the tokens of every beam.

use std::ops::Range;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::beams::Beams;
use super::likeliest::likeliest;
use super::sample::Sampler;
use super::{Behind, Rules};
use crate::bail_usage;
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
    let sees = model.config().max_position_embeddings;
    for (i, prompt) in prompts.iter().enumerate() {
        if prompt.is_empty() {
            bail_usage!("cannot generate from an empty prompt{}", nth(i, prompts.len()));
        }
        if prompt.len().saturating_add(most) > sees {
            let (n, which) = (prompt.len(), nth(i, prompts.len()));
            bail_usage!(
                "the model sees {sees} tokens: too few for a prompt of {n}{which} and {most} new \
                 ones"
            );
        }
    }
    let mut out = vec![Vec::new(); prompts.len()];
    if most == 0 || prompts.is_empty() {
        return Ok(out);
    }
    let beams = rules.how.beams;
    let slot = prompts.iter().map(Vec::len).max().unwrap_or(0) + beams.saturating_mul(most);
    let row = model.cache_bytes();
    let slots = (SEQUENCES / beams)
        .min(CACHE_BYTES / slot.saturating_mul(row).max(1))
        .clamp(1, prompts.len());
    let mut cache = model.cache(slot * slots)?;
    let mut free: Vec<usize> = (0..slots).rev().map(|i| i * slot).collect();

    let mut running: Vec<Running> = vec![];
    let mut waiting = prompts.iter().enumerate();
    let mut done = 0;
    while done < prompts.len() {
        let mut pass = Pass::default();
        running.iter().for_each(|r| r.lay(&mut pass));
        while pass.tokens.ids.len() < BATCH_TOKENS
            && let Some(base) = free.pop()
        {
            let Some((index, prompt)) = waiting.next() else { break };
            let started = Running::new(index, base, prompt, rules)?;
            pass.push(prompt, 0, base, base..base, base);
            running.push(started);
        }
        let logits = model.step(&pass.tokens, &pass.at, &mut cache, &pass.rows, adapter)?;
        let logits = logits.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.contiguous()?;
        let choices = Choices::of(&logits, rules)?;

        let mut first = 0;
        let mut still = Vec::with_capacity(running.len());
        for mut r in running {
            let rows = first..first + r.search.sequences().len();
            first = rows.end;
            if r.advance(&choices, rows, rules, &mut cache)? {
                still.push(r);
            } else {
                free.push(r.base);
                out[r.index] = r.search.best();
                done += 1;
            }
        }
        running = still;
        progress(done)?;
    }
    Ok(out)
}

/// Which of several prompts is meant.
fn nth(index: usize, of: usize) -> String {
    if of == 1 { String::new() } else { format!(" (number {})", index + 1) }
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
}

/// What is looked for after a prompt.
enum Search {
    One { ids: Vec<u32>, sampler: Option<Box<Sampler>> },
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
                let sampler = Sampler::new(rules.how, index).map(Box::new);
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
                let token = match (choices, sampler) {
                    (Choices::Logits(logits, vocabulary), Some(sampler)) => {
                        let first = rows.start * vocabulary;
                        Some(sampler.draw(&logits[first..first + vocabulary])?)
                    }
                    _ => choices
                        .likeliest(rows)
                        .first()
                        .and_then(|row| row.first())
                        .map(|best| best.0),
                };
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
                    anyhow::bail!("more beams than places")
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
