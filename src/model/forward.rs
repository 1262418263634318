//! Forward passes: hidden states, losses, logits.

use anyhow::Result;
use candle_core::Tensor;

use super::adapter::Adapter;
use super::kv_cache::KvCache;
use super::nn::ForwardContext;
use super::tokens::Tokens;
use super::{Model, params::Param};
use crate::error::bail;
use crate::ops::logits::Targets;

impl Model {
    /// What all modules of a pass share. Errors (class data) where a token id is not in the
    /// vocabulary, or a position has no row.
    pub(super) fn context<'a>(
        &'a self,
        tokens: &'a Tokens,
        adapter: &'a Adapter,
    ) -> Result<ForwardContext<'a>> {
        let vocab_size = self.config().vocab_size;
        if let Some((at, id)) =
            tokens.ids.iter().enumerate().find(|(_, id)| **id as usize >= vocab_size)
        {
            bail!(
                Data,
                "token id {id} at position {at} is beyond the model's vocabulary of {vocab_size}"
            );
        }
        let embeddings = &self.network.embeddings;
        let rows = |table: &Param| table.shape[0] - embeddings.position_offset as usize;
        let rows = embeddings.positions.as_deref().map(rows);
        let last = tokens.positions.iter().max().map_or(0, |last| *last as usize + 1);
        if let Some(rows) = rows.filter(|rows| last > *rows) {
            bail!(Data, "a sequence of {last} tokens, and the model has positions for {rows}");
        }
        let types = embeddings.types.as_deref().map_or(u32::MAX, |table| table.shape[0] as u32);
        if let Some(kind) = tokens.types.iter().find(|kind| types > 1 && **kind >= types) {
            bail!(Data, "a token of type {kind}, and the model has {types} types");
        }
        let rotary = self.network.rotary.as_ref();
        let angles = rotary.map(|rotary| rotary.angles(tokens, self.compute, &self.device));
        Ok(ForwardContext {
            params: &self.params,
            adapter,
            segments: &tokens.segments,
            angles: angles.transpose()?,
            cache: None,
        })
    }

    /// Embedded tokens [N, D].
    pub(super) fn embed(&self, tokens: &Tokens, ctx: &ForwardContext) -> Result<Tensor> {
        Ok(self.network.embeddings.forward(tokens, ctx, self.compute)?)
    }

    /// The last block's output [N, D], before the final norm.
    fn hidden(&self, tokens: &Tokens, ctx: &ForwardContext) -> Result<Tensor> {
        let mut x = self.embed(tokens, ctx)?;
        for block in &self.network.blocks {
            x = block.forward(&x, ctx)?.0;
        }
        Ok(x)
    }

    /// The final norm of rows of the last block's output [N, D], [S, D].
    fn normed(&self, hidden: &Tensor, rows: &[usize], ctx: &ForwardContext) -> Result<Tensor> {
        let rows = Self::select(hidden, rows)?;
        Ok(match &self.network.norm {
            Some(norm) => norm.forward(&rows, ctx)?,
            None => rows,
        })
    }

    /// The hidden states [N, D] that a head reads: `last_hidden_state` in transformers.
    pub fn hidden_states(&self, tokens: &Tokens, adapter: &Adapter) -> Result<Tensor> {
        let ctx = self.context(tokens, adapter)?;
        let all: Vec<usize> = (0..tokens.ids.len()).collect();
        self.normed(&self.hidden(tokens, &ctx)?, &all, &ctx)
    }

    /// Rows of the last block's output [N, D].
    pub(super) fn select(x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        let rows: Vec<u32> = rows.iter().map(|&r| r as u32).collect();
        Ok(x.index_select(&Tensor::new(rows, x.device())?, 0)?)
    }

    /// Losses `[S]` of what the head says at `rows`: of a language model the negative
    /// log-likelihood in nats of `targets[i]` after the token of `rows[i]`.
    pub fn nll<'t>(
        &self,
        tokens: &Tokens,
        rows: &[usize],
        targets: impl Into<Targets<'t>>,
        adapter: &Adapter,
    ) -> Result<Vec<f64>> {
        let ctx = self.context(tokens, adapter)?;
        let h = self.normed(&self.hidden(tokens, &ctx)?, rows, &ctx)?;
        Ok(self.network.head.loss(&h, targets.into(), &ctx)?.wait()?)
    }

    /// Logits [S, V], or of another head [S, classes], of the tokens of `rows`.
    pub fn logits(&self, tokens: &Tokens, rows: &[usize], adapter: &Adapter) -> Result<Tensor> {
        self.project(tokens, rows, &self.context(tokens, adapter)?)
    }

    fn project(&self, tokens: &Tokens, rows: &[usize], ctx: &ForwardContext) -> Result<Tensor> {
        let h = self.normed(&self.hidden(tokens, ctx)?, rows, ctx)?;
        Ok(self.network.head.forward(&h, ctx)?)
    }

    /// A cache of so many tokens, for [`Model::step`].
    pub fn cache(&self, tokens: usize) -> Result<KvCache> {
        let shapes = self.network.blocks.iter().map(|block| {
            let attention = &block.attention;
            (tokens, attention.num_kv_heads, attention.head_dim)
        });
        Ok(KvCache::new(shapes, self.compute, &self.device)?)
    }

    /// Bytes of a token in a cache.
    pub fn cache_bytes(&self) -> usize {
        let numbers = |block: &super::nn::TransformerBlock| {
            2 * block.attention.num_kv_heads * block.attention.head_dim
        };
        self.network.blocks.iter().map(numbers).sum::<usize>() * self.compute.size_in_bytes()
    }

    /// Goes on from what the cache holds, for any number of sequences at once: keys and values of
    /// token i go into its row `at[i]`, and the keys of a segment, its own included, are rows of
    /// the cache. The logits [S, V] after the tokens of `rows`.
    pub fn step(
        &self,
        tokens: &Tokens,
        at: &[usize],
        cache: &mut KvCache,
        rows: &[usize],
        adapter: &Adapter,
    ) -> Result<Tensor> {
        let ctx = ForwardContext { cache: Some((cache, at)), ..self.context(tokens, adapter)? };
        self.project(tokens, rows, &ctx)
    }

    /// Whether a sequence of `longer` tokens begins as one of `shorter` does: their positions are
    /// embedded alike.
    pub fn same_positions(&self, shorter: usize, longer: usize) -> bool {
        self.network.rotary.as_ref().is_none_or(|rotary| rotary.same(shorter, longer))
    }
}
