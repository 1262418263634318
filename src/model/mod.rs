//! Decoders of the Llama family: config, weights, forward and backward.
//!
//! A [`Model`] is a network only; [`load::Loaded`] adds the tokenizer and where it came from.

mod backward;
pub mod block;
mod cache;
pub mod config;
pub mod cost;
pub mod create;
mod forward;
mod gguf;
pub mod load;
pub mod names;
pub mod overlay;
pub mod save;
pub mod shapes;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

pub use backward::{Gradients, Request};
pub use cache::Cache;
pub use config::Config;
pub use forward::Tokens;
pub use names::Role;
pub use overlay::Overlay;

use block::{Block, Norm};

/// A network: weights in the storage type, computed with in the compute type.
pub struct Model {
    config: Config,
    /// [V, D]
    embedding: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
    /// [V, D]; None where the embedding serves as head.
    head: Option<Tensor>,
    /// Inverse frequencies of the rotary embedding, [E/2].
    frequencies: Vec<f64>,
    device: Device,
    storage: DType,
    compute: DType,
    /// f32 sums behind 16-bit weights that were merged into: the sum is kept, its rounding is what computes.
    masters: BTreeMap<(usize, Role), Tensor>,
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
            out.extend(block.tensors().into_iter().map(|(name, t)| (names::in_layer(layer, &name), t)));
        }
        out.extend(self.norm.tensors(names::NORM));
        out.extend(self.head.as_ref().map(|h| (names::HEAD.to_string(), h)));
        out
    }

    /// W ← W + step · s · B A on every pair of the overlay (paper Eq. 8). Over 16-bit storage the sum is kept in
    /// f32 and rounded once, however many merges there are.
    pub fn merge(&mut self, overlay: &Overlay, step: f64) -> Result<()> {
        for (&(layer, role), pair) in overlay.pairs() {
            let block = self
                .blocks
                .get_mut(layer)
                .ok_or_else(|| crate::error::Error::run(format!("merge into layer {layer}, which does not exist")))?;
            let Some(linear) = block.linear_mut(role) else { continue };
            match self.storage {
                DType::F32 | DType::F64 => overlay::add_product(&linear.weight, pair, step)?,
                _ => {
                    let master = match self.masters.remove(&(layer, role)) {
                        Some(master) => master,
                        None => linear.weight.to_dtype(DType::F32)?,
                    };
                    overlay::add_product(&master, pair, step)?;
                    linear.weight = master.to_dtype(self.storage)?;
                    self.masters.insert((layer, role), master);
                }
            }
        }
        Ok(())
    }
}
