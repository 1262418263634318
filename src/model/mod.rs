//! Decoders of the Llama family: config, weights, forward and backward.
//!
//! A [`Model`] is a network only; [`load::Loaded`] adds the tokenizer and where it came from.

pub mod adapter;
mod backward;
pub mod block;
mod cache;
pub mod config;
mod config_fields;
mod config_keys;
pub mod cost;
pub mod create;
pub mod ends;
mod forward;
mod generation_keys;
mod gguf;
mod gguf_keys;
pub mod gguf_save;
pub mod load;
mod merge;
pub mod names;
pub mod restore;
mod rope;
mod rope_config;
pub mod save;
pub mod shapes;
mod stored;
mod windows;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

pub use adapter::Adapter;
pub use backward::{Gradients, Request};
pub use cache::Cache;
pub use config::Config;
pub use forward::Tokens;
pub use names::Role;

use crate::ops::linear::UnmergedDelta;

use block::{Block, Norm};
use merge::{RoundingStats, WeightUpdate};

/// What a merge does with the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MergeMode {
    /// 16-bit weights are the sum of all merges, rounded once.
    #[default]
    Exact,
    /// Each merge is rounded into 16-bit weights, as is common practice.
    Naive,
    /// Weights stay as they are; factors of low rank are stacked beside them, or their sum where
    /// that is smaller.
    None,
}

impl MergeMode {
    pub const ALL: [Self; 3] = [Self::Exact, Self::Naive, Self::None];

    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Naive => "naive",
            Self::None => "none",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// A network: weights in the storage type, computed with in the compute type.
pub struct Model {
    config: Config,
    /// [V, D]
    embedding: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
    /// [V, D]; None where the embedding serves as head.
    head: Option<Tensor>,
    /// Inverse frequencies of the rotary embedding, [E/2], of sequences up to the length at which
    /// they change, if they do.
    frequencies: Vec<f64>,
    device: Device,
    storage: DType,
    compute: DType,
    /// Behind 16-bit weights that were merged into, by published name: what rounding left of the
    /// sum, in f32.
    compensation: BTreeMap<String, Tensor>,
    mode: MergeMode,
    /// Of what was added to 16-bit weights since somebody asked: ⟨stored change, δ⟩ and ‖δ‖².
    rounding: RoundingStats,
}

impl Model {
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Number of transformer blocks, L.
    pub fn layers(&self) -> usize {
        self.blocks.len()
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The type of activations.
    pub fn compute(&self) -> DType {
        self.compute
    }

    /// The type of master factors and optimiser state: f32, or f64 in an f64 model.
    pub fn factor_dtype(&self) -> DType {
        if self.compute == DType::F64 { DType::F64 } else { DType::F32 }
    }

    /// Number of weights, tied ones counted once.
    pub fn parameters(&self) -> usize {
        self.tensors().iter().map(|(_, t)| t.elem_count()).sum()
    }

    /// Whether the embedding serves as head.
    pub fn tied(&self) -> bool {
        self.head.is_none()
    }

    /// The linear modules of a layer that a booster can target.
    pub fn roles(&self) -> Vec<Role> {
        Role::ALL.into_iter().filter(|r| self.config.gated || *r != Role::Gate).collect()
    }

    /// (out, in) of a target.
    pub fn target_shape(&self, role: Role) -> (usize, usize) {
        self.config.linear_shape(role)
    }

    /// All tensors by their published names, in the order of the network.
    pub fn tensors(&self) -> Vec<(String, &Tensor)> {
        let mut out = vec![(names::EMBEDDING.to_string(), &self.embedding)];
        for (layer, block) in self.blocks.iter().enumerate() {
            out.extend(
                block.tensors().into_iter().map(|(name, t)| (names::in_layer(layer, &name), t)),
            );
        }
        out.extend(self.norm.tensors(names::NORM));
        out.extend(self.head.as_ref().map(|h| (names::HEAD.to_string(), h)));
        out
    }

    /// Copies of tensors in the factors' type, by published name: of 16-bit weights the sums that
    /// they are rounded from, in f32. Names that the model does not have are left out.
    pub fn copies(&self, wanted: &BTreeSet<String>) -> Result<BTreeMap<String, Tensor>> {
        let of = |(name, own): (String, &Tensor)| {
            let wide = own.to_dtype(self.factor_dtype())?;
            let copy = match self.compensation.get(&name) {
                Some(rest) => (wide + rest)?,
                // A tensor of that type already is shared by the conversion.
                None if own.dtype() == wide.dtype() => wide.copy()?,
                None => wide,
            };
            Ok((name, copy))
        };
        self.tensors().into_iter().filter(|(name, _)| wanted.contains(name)).map(of).collect()
    }

    /// Drops what lies beside the weight called `name`.
    fn clear_unmerged(&mut self, name: &str) {
        let Some(block) = names::layer_of(name).and_then(|layer| self.blocks.get_mut(layer)) else {
            return;
        };
        let role =
            Role::ALL.into_iter().find(|role| name.ends_with(&format!("{}.weight", role.path())));
        if let Some(dense) = role.and_then(|role| block.linear_mut(role)) {
            dense.unmerged = None;
        }
    }

    fn tensor_mut(&mut self, name: &str) -> Option<&mut Tensor> {
        match name {
            names::EMBEDDING => Some(&mut self.embedding),
            names::HEAD => self.head.as_mut(),
            _ => match names::layer_of(name) {
                Some(layer) => self
                    .blocks
                    .get_mut(layer)?
                    .tensor_mut(name.strip_prefix(&names::in_layer(layer, ""))?),
                None => self.norm.tensor_mut(name.strip_prefix(names::NORM)?),
            },
        }
    }

    /// W ← W + step · s · B A on every pair of the adapter (paper Eq. 8), W ← W + step · (W' − W)
    /// on every tensor of it. Over 16-bit storage the sum is formed in f64, kept to 33 bits and
    /// rounded once (on other devices than the CPU through f32), however many merges there are;
    /// [`MergeMode`] says what else may be. Errors (class usage): whole tensors where merges leave
    /// the weights as they are.
    pub fn merge(&mut self, adapter: &Adapter, step: f64) -> Result<()> {
        for (&(layer, role), pair) in adapter.pairs() {
            let name = names::in_layer(layer, &format!("{}.weight", role.path()));
            if self.mode == MergeMode::None {
                match self.blocks.get_mut(layer).and_then(|block| block.linear_mut(role)) {
                    Some(dense) => dense.stack_adapter(pair, step)?,
                    None => return Err(missing(&name)),
                }
                continue;
            }
            self.change(&name, WeightUpdate::Product(pair, step))?;
        }
        for (name, other) in adapter.dense() {
            self.takes_whole_tensors()?;
            self.change(name, WeightUpdate::Lerp(other, step))?;
        }
        Ok(())
    }

    /// W ← W + delta on every tensor named; sums as in [`Model::merge`].
    pub fn add(&mut self, deltas: &BTreeMap<String, Tensor>) -> Result<()> {
        self.takes_whole_tensors()?;
        deltas.iter().try_for_each(|(name, delta)| self.change(name, WeightUpdate::Delta(delta)))
    }

    pub fn merge_mode(&self) -> MergeMode {
        self.mode
    }

    /// What merges do from here on.
    pub fn set_merge_mode(&mut self, mode: MergeMode) {
        self.mode = mode;
    }

    /// Errors (class usage) where merges leave the weights as they are.
    pub fn takes_whole_tensors(&self) -> Result<()> {
        if self.mode != MergeMode::None {
            return Ok(());
        }
        let error = crate::error::Error::usage(
            "a dense booster changes whole weights, which `merge_mode: \"none\"` leaves as they \
             are",
        );
        Err(error
            .hint("load the model with `merge_mode: \"exact\"`, or use boosters of low rank")
            .into())
    }

    /// What was laid beside the weights, by the name of the module, in the order of the network.
    fn unmerged(&self) -> Vec<(String, &UnmergedDelta)> {
        let mut all = vec![];
        for (layer, block) in self.blocks.iter().enumerate() {
            let of = |role: Role| {
                Some((names::in_layer(layer, role.path()), block.linear(role)?.unmerged.as_ref()?))
            };
            all.extend(Role::ALL.into_iter().filter_map(of));
        }
        all
    }

    /// Bytes of what merges left: behind 16-bit weights, and beside weights that stay as they are.
    pub fn left_bytes(&self) -> usize {
        let bytes = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        let beside = |(_, beside): (String, &UnmergedDelta)| match beside {
            UnmergedDelta::Factors(pair) => bytes(&pair.a) + bytes(&pair.b),
            UnmergedDelta::Sum(sum) => bytes(sum),
        };
        self.compensation.values().map(bytes).sum::<usize>()
            + self.unmerged().into_iter().map(beside).sum::<usize>()
    }

    /// The share of what was added since the last question that 16-bit weights took up: ⟨stored
    /// change, δ⟩/‖δ‖². `None` of wider weights, and where nothing was added.
    pub fn retained_fraction(&mut self) -> Option<f64> {
        let RoundingStats { moved, added } = std::mem::take(&mut self.rounding);
        // Of sums that left the type's range nothing can be said.
        (added > 0.0).then(|| moved / added).filter(|share| share.is_finite())
    }

    /// Changes a tensor, or the sum that it is rounded from.
    fn change(&mut self, name: &str, change: WeightUpdate) -> Result<()> {
        let (storage, exact) = (self.storage, self.mode == MergeMode::Exact);
        let kept = self.compensation.get(name).cloned();
        let Some(tensor) = self.tensor_mut(name) else {
            return Err(missing(name));
        };
        if matches!(storage, DType::F32 | DType::F64) {
            return Ok(change.apply(tensor)?);
        }
        let rest = match kept {
            None if exact => Some(Tensor::zeros(tensor.shape(), DType::F32, tensor.device())?),
            kept => kept,
        };
        let taken = change.round(tensor, rest.as_ref(), storage)?;
        self.rounding.moved += taken.moved;
        self.rounding.added += taken.added;
        match rest.filter(|_| exact) {
            Some(rest) => self.compensation.insert(name.to_string(), rest),
            None => self.compensation.remove(name),
        };
        Ok(())
    }
}

fn missing(name: &str) -> anyhow::Error {
    crate::error::Error::run(format!("merge into `{name}`, which the model does not have")).into()
}
