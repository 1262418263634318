//! What a booster lays over unchanged weights during training: low-rank factors by (layer, target),
//! whole tensors by published name.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use candle_core::Tensor;

use super::block::Norm;
use super::names::{self, Role};
use crate::ops::linear::LoraPair;

/// Low-rank pairs by layer and target, and tensors that stand in for the model's own.
#[derive(Clone, Debug, Default)]
pub struct Adapter {
    pairs: BTreeMap<(usize, Role), LoraPair>,
    dense: BTreeMap<String, Tensor>,
}

impl Adapter {
    pub fn new(pairs: BTreeMap<(usize, Role), LoraPair>) -> Self {
        Self { pairs, dense: BTreeMap::new() }
    }

    /// Tensors by published name, each of the shape of the one that it stands in for.
    pub fn replacing(dense: BTreeMap<String, Tensor>) -> Self {
        Self { pairs: BTreeMap::new(), dense }
    }

    /// Both; no pair is on a tensor that is replaced.
    pub fn of(pairs: BTreeMap<(usize, Role), LoraPair>, dense: BTreeMap<String, Tensor>) -> Self {
        Self { pairs, dense }
    }

    pub fn pairs(&self) -> &BTreeMap<(usize, Role), LoraPair> {
        &self.pairs
    }

    pub fn get(&self, layer: usize, role: Role) -> Option<&LoraPair> {
        self.pairs.get(&(layer, role))
    }

    /// Tensors that stand in for the model's own, by published name.
    pub fn dense(&self) -> &BTreeMap<String, Tensor> {
        &self.dense
    }

    /// All that is trained: A and B of every pair, then whole tensors.
    pub fn tensors(&self) -> Vec<&Tensor> {
        self.pairs.values().flat_map(|p| [&p.a, &p.b]).chain(self.dense.values()).collect()
    }

    /// The same adapter with other numbers, in the order of [`Adapter::tensors`].
    pub fn with_tensors(&self, tensors: Vec<Tensor>) -> Self {
        let mut moved = tensors.into_iter();
        let mut next = |old: &Tensor| moved.next().unwrap_or_else(|| old.clone());
        let pairs = self
            .pairs
            .iter()
            .map(|(k, p)| (*k, LoraPair { a: next(&p.a), b: next(&p.b), scale: p.scale }))
            .collect();
        Self { pairs, dense: self.dense.iter().map(|(name, t)| (name.clone(), next(t))).collect() }
    }

    /// The pairs with their products multiplied by `eta`; tensors as they are.
    pub fn scaled(&self, eta: f64) -> Self {
        let pairs = self
            .pairs
            .iter()
            .map(|(key, pair)| (*key, LoraPair { scale: pair.scale * eta, ..pair.clone() }))
            .collect();
        Self { pairs, dense: self.dense.clone() }
    }

    /// The pairs of some layers, and all tensors.
    pub fn only(&self, layers: &BTreeSet<usize>) -> Self {
        let pairs = self
            .pairs
            .iter()
            .filter(|((layer, _), _)| layers.contains(layer))
            .map(|(key, pair)| (*key, pair.clone()));
        Self { pairs: pairs.collect(), dense: self.dense.clone() }
    }

    /// The layers with a pair or a tensor.
    pub fn layers(&self) -> BTreeSet<usize> {
        self.pairs
            .keys()
            .map(|&(layer, _)| layer)
            .chain(self.dense.keys().filter_map(|name| names::layer_of(name)))
            .collect()
    }

    /// The lowest layer that backward has to reach: 0 with the embedding, None where only the final
    /// norm or a head of its own is trained.
    pub fn lowest(&self) -> Option<usize> {
        if self.dense.contains_key(names::EMBEDDING) {
            Some(0)
        } else {
            self.layers().first().copied()
        }
    }

    /// Numbers in all factors and tensors.
    pub fn parameters(&self) -> usize {
        self.tensors().iter().map(|t| t.elem_count()).sum()
    }

    /// What stands for the tensor called `name`: the adapter's, or `own`.
    pub(super) fn or<'a>(&'a self, name: &str, own: &'a Tensor) -> &'a Tensor {
        self.dense.get(name).unwrap_or(own)
    }

    /// As [`Adapter::or`], of a tensor in a layer by its name there.
    pub(super) fn or_in_layer<'a>(
        &'a self,
        layer: usize,
        name: &str,
        own: &'a Tensor,
    ) -> &'a Tensor {
        if self.dense.is_empty() { own } else { self.or(&names::in_layer(layer, name), own) }
    }

    /// The norm called `name` with the adapter's weights.
    pub(super) fn norm<'a>(&self, name: &str, own: &'a Norm) -> Cow<'a, Norm> {
        let part = |part: &str| self.dense.get(&format!("{name}.{part}"));
        match (part("weight"), part("bias")) {
            (None, None) => Cow::Borrowed(own),
            (weight, bias) => {
                let (weight, bias) =
                    (weight.unwrap_or(&own.weight).clone(), bias.unwrap_or(&own.bias).clone());
                Cow::Owned(Norm { kind: own.kind, weight, bias, eps: own.eps })
            }
        }
    }

    /// As [`Adapter::norm`], of a norm in a layer by its name there.
    pub(super) fn norm_in_layer<'a>(
        &self,
        layer: usize,
        name: &str,
        own: &'a Norm,
    ) -> Cow<'a, Norm> {
        if self.dense.is_empty() {
            Cow::Borrowed(own)
        } else {
            self.norm(&names::in_layer(layer, name), own)
        }
    }
}
