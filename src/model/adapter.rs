//! What a booster lays over unchanged weights during training: LoRA pairs on linear modules, and
//! full tensors that stand in for the model's own.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Tensor;

use super::params::{LinearId, ParamId, ParamKind};
use crate::ops::linear::LoraPair;

/// LoRA pairs by linear module, and tensors that stand in for the model's own.
#[derive(Clone, Debug, Default)]
pub struct Adapter {
    pairs: BTreeMap<LinearId, LoraPair>,
    full: BTreeMap<ParamId, Tensor>,
}

impl Adapter {
    /// Pairs, and tensors each of the shape of the one that it stands in for. No pair is on a
    /// tensor that is replaced.
    pub fn new(pairs: BTreeMap<LinearId, LoraPair>, full: BTreeMap<ParamId, Tensor>) -> Self {
        Self { pairs, full }
    }

    pub fn of_pairs(pairs: BTreeMap<LinearId, LoraPair>) -> Self {
        Self { pairs, full: BTreeMap::new() }
    }

    pub fn of_full(full: BTreeMap<ParamId, Tensor>) -> Self {
        Self { pairs: BTreeMap::new(), full }
    }

    pub fn pairs(&self) -> &BTreeMap<LinearId, LoraPair> {
        &self.pairs
    }

    pub fn pair(&self, linear: &LinearId) -> Option<&LoraPair> {
        self.pairs.get(linear)
    }

    /// Tensors that stand in for the model's own.
    pub fn full(&self) -> &BTreeMap<ParamId, Tensor> {
        &self.full
    }

    /// All that is trained: A and B of every pair, then full tensors.
    pub fn tensors(&self) -> Vec<&Tensor> {
        self.pairs.values().flat_map(|p| [&p.a, &p.b]).chain(self.full.values()).collect()
    }

    /// The same adapter with other numbers, in the order of [`Adapter::tensors`].
    pub fn with_tensors(&self, tensors: Vec<Tensor>) -> Self {
        let mut moved = tensors.into_iter();
        let mut next = |old: &Tensor| moved.next().unwrap_or_else(|| old.clone());
        let mut pairs = self.pairs.clone();
        for pair in pairs.values_mut() {
            *pair = LoraPair { a: next(&pair.a), b: next(&pair.b), scale: pair.scale };
        }
        let mut full = self.full.clone();
        full.values_mut().for_each(|tensor| *tensor = next(tensor));
        Self { pairs, full }
    }

    /// The pairs with their products multiplied by `eta`; full tensors as they are.
    pub fn scaled(&self, eta: f64) -> Self {
        let mut scaled = self.clone();
        scaled.pairs.values_mut().for_each(|pair| pair.scale *= eta);
        scaled
    }

    /// The pairs of some layers, and all full tensors.
    pub fn only(&self, layers: &BTreeSet<usize>) -> Self {
        let mut some = self.clone();
        some.pairs.retain(|linear, _| layers.contains(&linear.layer));
        some
    }

    /// Whether it holds factors, and beside them no whole tensor but those of a head.
    pub fn is_low_rank(&self) -> bool {
        self.full.is_empty()
            || (!self.pairs.is_empty() && self.full.keys().all(|id| id.is_task_head()))
    }

    /// The layers with a pair or a tensor.
    pub fn layers(&self) -> BTreeSet<usize> {
        let full = self.full.keys().filter_map(|id| id.layer);
        self.pairs.keys().map(|linear| linear.layer).chain(full).collect()
    }

    /// The lowest layer that backward has to reach: 0 with an embedding, None where only the final
    /// norm or a head of its own is trained.
    pub fn lowest(&self) -> Option<usize> {
        if self.full.keys().any(is_embedding) { Some(0) } else { self.layers().first().copied() }
    }

    /// Numbers in all pairs and tensors.
    pub fn parameters(&self) -> usize {
        self.tensors().iter().map(|t| t.elem_count()).sum()
    }

    /// What stands for a parameter: the adapter's tensor, or `own`.
    pub(super) fn or<'a>(&'a self, id: &ParamId, own: &'a Tensor) -> &'a Tensor {
        if self.full.is_empty() { own } else { self.full.get(id).unwrap_or(own) }
    }
}

/// Whether a parameter lies below all layers.
pub(super) fn is_embedding(id: &ParamId) -> bool {
    matches!(
        id.kind,
        ParamKind::Embedding | ParamKind::PositionEmbedding | ParamKind::EmbeddingNorm
    )
}
