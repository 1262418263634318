//! Models: parameters, modules with forward and backward, and the architectures made of them.
//!
//! A [`Model`] is a network only; [`load::Loaded`] adds the tokenizer and where it came from.

pub mod adapter;
pub mod arch;
mod backward;
pub mod cost;
pub mod create;
pub mod ends;
mod forward;
mod generation_keys;
mod gguf;
pub mod gguf_save;
mod kv_cache;
pub mod load;
pub mod merge;
pub mod meta;
pub mod nn;
pub mod params;
pub mod restore;
pub mod save;
mod stored;
pub mod task_head;
mod tokens;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

pub use adapter::Adapter;
pub use arch::{Architecture, CommonConfig, HeadConfig, SequenceConfig};
pub use backward::EachLayer;
pub use kv_cache::KvCache;
pub use merge::MergeMode;
pub use nn::{GradRequest, Gradients, Pooled};
pub use params::{LinearId, ParamId, ParamKind};
pub use tokens::Tokens;

use merge::RoundingStats;
use meta::Assume;
use nn::{Embeddings, Head, Norm, RotaryEmbedding, TransformerBlock};
use params::ModelParams;

/// The modules of a decoder or an encoder.
pub struct Network {
    pub embeddings: Embeddings,
    pub blocks: Vec<TransformerBlock>,
    /// Of the last block's output, where blocks do not end with one.
    pub norm: Option<Norm>,
    pub head: Head,
    pub rotary: Option<RotaryEmbedding>,
}

/// A network with its numbers: weights in the storage type, computed with in the compute type.
pub struct Model {
    architecture: Box<dyn Architecture>,
    network: Network,
    params: ModelParams,
    device: Device,
    storage: DType,
    compute: DType,
    mode: MergeMode,
    /// Of what was added to 16-bit weights since somebody asked.
    rounding: RoundingStats,
    /// The start of a head's tensors that its files do not hold.
    fresh: BTreeMap<ParamId, Tensor>,
    /// Of a model without numbers.
    assume: Option<Assume>,
}

impl Model {
    pub fn architecture(&self) -> &dyn Architecture {
        &*self.architecture
    }

    pub fn config(&self) -> &CommonConfig {
        self.architecture.common()
    }

    /// Number of transformer blocks, L.
    pub fn layers(&self) -> usize {
        self.network.blocks.len()
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The type of activations.
    pub fn compute(&self) -> DType {
        self.compute
    }

    /// The type of master factors and optimizer state: f32, or f64 in an f64 model.
    pub fn factor_dtype(&self) -> DType {
        if self.compute == DType::F64 { DType::F64 } else { DType::F32 }
    }

    /// Number of weights, tied ones counted once.
    pub fn parameters(&self) -> usize {
        self.params.iter().map(|(_, t)| t.elem_count()).sum()
    }

    /// The token embedding.
    pub fn embedding(&self) -> &ParamId {
        &self.network.embeddings.tokens
    }

    /// The weight of a language model's head, which may be the embedding.
    pub fn head(&self) -> Option<&ParamId> {
        match &self.network.head {
            Head::Lm(head) => Some(&head.weight),
            _ => None,
        }
    }

    /// Whether the embedding serves as head.
    pub fn tied(&self) -> bool {
        self.head() == Some(self.embedding())
    }

    /// Which token of a sequence the head reads, where it reads one.
    pub fn pooled(&self) -> Option<Pooled> {
        match &self.network.head {
            Head::Sequence(head) => Some(head.pooled),
            _ => None,
        }
    }

    /// Whether it says what token comes next.
    pub fn is_causal_lm(&self) -> bool {
        matches!(self.network.head, Head::Lm(_))
    }

    /// The linear modules that a booster can target, layer by layer as they compute.
    pub fn linears(&self) -> impl Iterator<Item = &LinearId> {
        self.params.linears()
    }

    /// The linear module of a layer with that target's name.
    pub fn linear(&self, layer: usize, target: &str) -> Option<&LinearId> {
        self.linears().find(|linear| linear.layer == layer && linear.target == target)
    }

    /// The names of targets, as a layer computes them.
    pub fn targets(&self) -> Vec<&'static str> {
        self.linears().filter(|linear| linear.layer == 0).map(|linear| linear.target).collect()
    }

    /// The weight of a linear module, if the model has it.
    pub fn weight(&self, linear: &LinearId) -> Option<&ParamId> {
        self.params.weight(linear)
    }

    /// All parameters, in the order of the network.
    pub fn params(&self) -> impl Iterator<Item = (&ParamId, &Tensor)> {
        self.params.iter()
    }

    /// The parameter of that published name.
    pub fn param(&self, name: &str) -> Option<&ParamId> {
        self.params.find(name)
    }

    /// The numbers of a parameter, if the model has it.
    pub fn tensor(&self, id: &ParamId) -> Option<&Tensor> {
        self.params.get(id)
    }

    /// Builds a model whose numbers `builder` gives.
    pub(crate) fn build(
        architecture: Box<dyn Architecture>,
        mut builder: arch::Builder,
    ) -> Result<Self> {
        let network = architecture.build(&mut builder)?;
        let arch::BuiltParams { params, device, storage, compute } = builder.finish();
        Ok(Self {
            architecture,
            network,
            params,
            device,
            storage,
            compute,
            mode: MergeMode::Exact,
            rounding: RoundingStats::default(),
            fresh: BTreeMap::new(),
            assume: None,
        })
    }
}
