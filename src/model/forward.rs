//! Forward passes: hidden states, losses, logits.

use anyhow::Result;
use candle_core::{DType, Tensor};

use super::Model;
use super::adapter::Adapter;
use super::block::Pass;
use super::cache::Cache;
use super::names;
use crate::bail_data;
use crate::ops::attention::{Mask, Segment};
use crate::ops::cross_entropy::{self, Want};
use crate::ops::embedding;
use crate::ops::rope::Angles;

/// A flat run of tokens without padding, and who sees whom.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// [N]
    pub ids: Vec<u32>,
    /// Position of every token in its sequence, [N].
    pub positions: Vec<u32>,
    pub segments: Vec<Segment>,
}

impl Tokens {
    /// Separate sequences with boundaries `starts` (first 0, last N).
    pub fn sequences(ids: Vec<u32>, starts: &[usize]) -> Self {
        let positions = starts.windows(2).flat_map(|w| 0..(w[1] - w[0]) as u32).collect();
        Self { ids, positions, segments: Segment::of_batch(starts) }
    }

    /// One sequence.
    pub fn one(ids: Vec<u32>) -> Self {
        let n = ids.len();
        Self::sequences(ids, &[0, n])
    }

    /// A prompt and several continuations that each see the prompt and themselves: the prompt is
    /// computed once.
    pub fn shared_prompt(prompt: &[u32], continuations: &[Vec<u32>]) -> Self {
        let p = prompt.len();
        let mut tokens = Self {
            ids: prompt.to_vec(),
            positions: (0..p as u32).collect(),
            segments: vec![Segment::alone(0..p)],
        };
        for continuation in continuations {
            let rows = tokens.ids.len()..tokens.ids.len() + continuation.len();
            tokens.ids.extend(continuation);
            tokens.positions.extend(p as u32..(p + continuation.len()) as u32);
            tokens.segments.push(Segment {
                queries: rows.clone(),
                prefix_keys: 0..p,
                self_keys: rows,
            });
        }
        tokens
    }

    /// Lays `other` behind these tokens; neither sees the other.
    pub fn append(&mut self, other: Self) {
        let offset = self.ids.len();
        let shift = |r: std::ops::Range<usize>| r.start + offset..r.end + offset;
        self.ids.extend(other.ids);
        self.positions.extend(other.positions);
        self.segments.extend(other.segments.into_iter().map(|s| Segment {
            queries: shift(s.queries),
            prefix_keys: shift(s.prefix_keys),
            self_keys: shift(s.self_keys),
        }));
    }
}

impl Model {
    /// What all blocks of a pass share. Errors (class data) where a token id is not in the
    /// vocabulary.
    pub(super) fn pass<'a>(&self, tokens: &'a Tokens, adapter: &'a Adapter) -> Result<Pass<'a>> {
        let vocabulary = self.config.vocabulary;
        if let Some((at, id)) =
            tokens.ids.iter().enumerate().find(|(_, id)| **id as usize >= vocabulary)
        {
            bail_data!(
                "token id {id} at position {at} is beyond the model's vocabulary of {vocabulary}"
            );
        }
        let c = &self.config;
        Ok(Pass {
            angles: self.angles(tokens)?,
            segments: &tokens.segments,
            mask: Mask {
                causal: c.causal,
                window: None,
                scale: 1.0 / (c.head_width as f64).sqrt(),
            },
            heads: (c.heads, c.groups, c.head_width),
            adapter,
        })
    }

    /// Every token's angles. Where frequencies depend on a sequence's length, that of a segment's
    /// sequence is the position of its last query and one more: keys that a cache holds keep the
    /// angles with which they were written, as in transformers.
    fn angles(&self, tokens: &Tokens) -> Result<Angles> {
        let dtype = if self.compute == DType::F64 { self.compute } else { DType::F32 };
        let (positions, scale) = (&tokens.positions, self.config.rope_scaling.attention());
        let mut longer = vec![];
        let mut of = vec![];
        if let Some(boundary) = self.config.rope_scaling.boundary() {
            of = vec![0; positions.len()];
            for segment in &tokens.segments {
                let last = positions[segment.queries.clone()].iter().max();
                if let Some(length) =
                    last.map(|last| *last as usize + 1).filter(|length| *length > boundary)
                {
                    longer.push(self.config.frequencies(length));
                    of[segment.queries.clone()].fill(longer.len());
                }
            }
        }
        let frequencies = |token: usize| match of.get(token) {
            None | Some(0) => self.frequencies.as_slice(),
            Some(&number) => &longer[number - 1],
        };
        Ok(Angles::scaled(positions, frequencies, scale, dtype, &self.device)?)
    }

    /// Embedded tokens [N, D].
    pub(super) fn embed(&self, ids: &[u32], adapter: &Adapter) -> Result<Tensor> {
        let table = adapter.or(names::EMBEDDING, &self.embedding);
        Ok(embedding::forward(&Tensor::new(ids, &self.device)?, table, self.compute)?)
    }

    /// The head's weight [V, D]: that of the embedding where they are tied.
    pub(super) fn head<'a>(&'a self, adapter: &'a Adapter) -> &'a Tensor {
        match &self.head {
            Some(head) => adapter.or(names::HEAD, head),
            None => adapter.or(names::EMBEDDING, &self.embedding),
        }
    }

    /// The final norm of rows of the last block's output [N, D], [S, D].
    fn normed(&self, hidden: &Tensor, rows: &[usize], adapter: &Adapter) -> Result<Tensor> {
        Ok(adapter.norm(names::NORM, &self.norm).forward(&Self::select(hidden, rows)?)?)
    }

    /// Rows of the last block's output [N, D].
    pub(super) fn select(x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        let rows: Vec<u32> = rows.iter().map(|&r| r as u32).collect();
        Ok(x.index_select(&Tensor::new(rows, x.device())?, 0)?)
    }

    /// The last block's output [N, D], before the final norm.
    pub fn hidden(&self, tokens: &Tokens, adapter: &Adapter) -> Result<Tensor> {
        let pass = self.pass(tokens, adapter)?;
        let mut x = self.embed(&tokens.ids, adapter)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            x = block.forward(layer, &x, &pass, None)?.0;
        }
        Ok(x)
    }

    /// Negative log-likelihood in nats of targets[i] after the token of rows[i], [S].
    pub fn nll(
        &self,
        tokens: &Tokens,
        rows: &[usize],
        targets: &[u32],
        adapter: &Adapter,
    ) -> Result<Vec<f64>> {
        let h = self.normed(&self.hidden(tokens, adapter)?, rows, adapter)?;
        Ok(cross_entropy::forward_backward(&h, self.head(adapter), targets, 1.0, Want::default())?
            .nll)
    }

    /// Logits [S, V] after the tokens of `rows`.
    pub fn logits(&self, tokens: &Tokens, rows: &[usize], adapter: &Adapter) -> Result<Tensor> {
        self.project(&self.hidden(tokens, adapter)?, rows, adapter)
    }

    fn project(&self, hidden: &Tensor, rows: &[usize], adapter: &Adapter) -> Result<Tensor> {
        let h = self.normed(hidden, rows, adapter)?;
        let head = crate::ops::linear::Linear {
            weight: self.head(adapter),
            bias: None,
            pair: None,
            unmerged: None,
        };
        Ok(crate::ops::linear::forward(&h, head, None)?)
    }

    /// A cache of so many tokens, for [`Model::step`].
    pub fn cache(&self, tokens: usize) -> Result<Cache> {
        let c = &self.config;
        Ok(Cache::new(c.layers, (tokens, c.groups, c.head_width), self.compute, &self.device)?)
    }

    /// Goes on from what the cache holds, for any number of sequences at once: keys and values of
    /// token i go into its row `at[i]`, and the keys of a segment, its own included, are rows of
    /// the cache. The logits [S, V] after the tokens of `rows`.
    pub fn step(
        &self,
        tokens: &Tokens,
        at: &[usize],
        cache: &mut Cache,
        rows: &[usize],
        adapter: &Adapter,
    ) -> Result<Tensor> {
        let pass = self.pass(tokens, adapter)?;
        let mut x = self.embed(&tokens.ids, adapter)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            x = block.forward(layer, &x, &pass, Some((cache, at)))?.0;
        }
        self.project(&x, rows, adapter)
    }
}
