//! Modules of a transformer: each one's forward beside its backward, and what both cost.
//!
//! A module holds ids of its parameters and options; numbers come from the [`ForwardContext`]:
//! those of the model, or of the adapter that lies over it. Backward gives the gradients that a
//! [`GradRequest`] asks for and stops where nothing below is wanted.

pub mod attention;
pub mod block;
pub mod embeddings;
pub mod head;
pub mod linear;
pub mod mlp;
pub mod norm;
pub mod rope_scaling;
pub mod rotary;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use candle_core::{Result, Tensor};

use super::adapter::Adapter;
use super::kv_cache::KvCache;
use super::params::{LinearId, ModelParams, ParamId};
use crate::ops::attention::Segment;
use crate::ops::elementwise;
use crate::ops::rope::Angles;

pub use attention::{Attention, Qkv};
pub use block::{NormOrder, TransformerBlock};
pub use embeddings::Embeddings;
pub use head::{Head, HeadActivation, HeadLinear, LmHead, MaskedLmHead, Pooled, SequenceHead};
pub use linear::Linear;
pub use mlp::Mlp;
pub use norm::{Norm, NormKind};
pub use rope_scaling::RopeScaling;
pub use rotary::RotaryEmbedding;

/// What all modules share in a pass.
pub struct ForwardContext<'a> {
    pub params: &'a ModelParams,
    pub adapter: &'a Adapter,
    pub segments: &'a [Segment],
    /// Of a model with rotary embeddings.
    pub angles: Option<Angles>,
    /// Where keys and values go, and the row of each token's; the segments' keys are rows of it.
    pub cache: Option<(&'a KvCache, &'a [usize])>,
}

impl<'a> ForwardContext<'a> {
    /// What stands for a parameter: the adapter's tensor, or the model's.
    pub fn tensor(&self, id: &ParamId) -> &'a Tensor {
        self.adapter.or(id, self.params.tensor(id))
    }
}

/// Which gradients a pass is to give.
pub struct GradRequest<'a> {
    /// Those of all its pairs.
    pub adapter: &'a Adapter,
    /// Parameters whose own gradient is wanted.
    pub full: &'a BTreeSet<ParamId>,
    /// Whether activations are formed again in backward, from each block's input.
    pub gradient_checkpointing: bool,
}

impl GradRequest<'_> {
    /// Whether the gradient of a parameter is wanted.
    pub fn wants(&self, id: &ParamId) -> bool {
        !self.full.is_empty() && self.full.contains(id)
    }
}

/// Gradients of Σ weight · nll.
#[derive(Default)]
pub struct Gradients {
    /// (dA, dB) of every pair.
    pub pairs: BTreeMap<LinearId, (Tensor, Tensor)>,
    pub full: BTreeMap<ParamId, Tensor>,
}

impl Gradients {
    /// The sum of two passes with the same request.
    pub fn plus(mut self, other: Self) -> Result<Self> {
        for (key, (da, db)) in other.pairs {
            let sum = match self.pairs.remove(&key) {
                Some((a, b)) => (elementwise::add(a, &da)?, elementwise::add(b, &db)?),
                None => (da, db),
            };
            self.pairs.insert(key, sum);
        }
        for (id, gradient) in other.full {
            self.add(&id, gradient)?;
        }
        Ok(self)
    }

    /// Adds to the gradient of a parameter.
    pub fn add(&mut self, id: &ParamId, gradient: Tensor) -> Result<()> {
        let sum = match self.full.remove(id) {
            Some(before) => elementwise::add(before, &gradient)?,
            None => gradient,
        };
        self.full.insert(id.clone(), sum);
        Ok(())
    }

    /// The gradients of an adapter's tensors, in the order of [`Adapter::tensors`]. Errors where
    /// one is missing.
    pub fn in_order(mut self, adapter: &Adapter) -> anyhow::Result<Vec<Tensor>> {
        let mut out = vec![];
        for linear in adapter.pairs().keys() {
            let (da, db) =
                self.pairs.remove(linear).with_context(|| format!("no gradient of {linear}"))?;
            out.extend([da, db]);
        }
        for id in adapter.full().keys() {
            let gradient =
                self.full.remove(id).with_context(|| format!("no gradient of `{}`", id.name))?;
            out.push(gradient);
        }
        Ok(out)
    }
}
