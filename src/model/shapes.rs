//! A model without numbers: everything that its config and its files' headers tell, and tensors
//! that take no memory.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{DType, Device, Shape, Tensor};

use super::block::Dense;
use super::load::{Loaded, prepare};
use super::{Adapter, MergeMode, Model, names};
use crate::error::Error;
use crate::ops::linear::{LoraPair, UnmergedDelta};
use crate::source::{ModelFiles, TensorSource};

/// Opens a model as [`super::load::load`] does, with the same checks and errors, but reads no
/// weights: every tensor is a single zero, seen in the right shape.
pub fn load(files: &ModelFiles, storage: DType) -> Result<Loaded> {
    prepare(files, &mut |config, source| {
        let shape = |name: &str| (name.to_owned(), source.shape(name).unwrap_or_default().to_vec());
        super::load::assemble(
            config,
            &Shapes(source.names().into_iter().map(shape).collect()),
            &Device::Cpu,
            storage,
        )
    })
}

/// A model of that config without numbers. Errors (class data): sizes that cannot be.
pub fn of(config: super::Config, storage: DType) -> Result<Model> {
    config.check()?;
    let tensors = config.tensors().into_iter().collect();
    super::load::assemble(config, &Shapes(tensors), &Device::Cpu, storage)
}

/// A tensor of that shape without numbers.
fn empty(shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
    Ok(Tensor::zeros(1, dtype, &Device::Cpu)?.broadcast_as(shape)?)
}

impl Model {
    /// Lets a model without numbers hold what a merge of `adapter` would leave: see
    /// [`Model::left_bytes`].
    pub fn suppose_merged(&mut self, adapter: &Adapter) -> Result<()> {
        for (&(layer, role), pair) in adapter.pairs() {
            if self.mode != MergeMode::None {
                self.suppose_changed(&names::in_layer(layer, &format!("{}.weight", role.path())))?;
            } else if let Some(dense) =
                self.blocks.get_mut(layer).and_then(|block| block.linear_mut(role))
            {
                let (out, inner) = dense.weight.dims2()?;
                let before = match &dense.unmerged {
                    Some(UnmergedDelta::Sum(_)) => continue,
                    Some(UnmergedDelta::Factors(own)) => own.a.dim(0)?,
                    None => 0,
                };
                let (rank, dtype) = (before + pair.a.dim(0)?, pair.a.dtype());
                dense.unmerged = Some(if Dense::outgrown(rank, out, inner) {
                    UnmergedDelta::Sum(empty((out, inner), dtype)?)
                } else {
                    UnmergedDelta::Factors(LoraPair {
                        a: empty((rank, inner), dtype)?,
                        b: empty((out, rank), dtype)?,
                        scale: 1.0,
                    })
                });
            }
        }
        adapter.dense().keys().try_for_each(|name| self.suppose_changed(name))
    }

    /// The same of a tensor that is changed.
    pub fn suppose_changed(&mut self, name: &str) -> Result<()> {
        let kept = self.mode == MergeMode::Exact
            && self.storage.size_in_bytes() == 2
            && !self.compensation.contains_key(name);
        if let Some(tensor) = self.tensor_mut(name).filter(|_| kept) {
            let rest = empty(tensor.shape(), DType::F32)?;
            self.compensation.insert(name.to_owned(), rest);
        }
        Ok(())
    }
}

/// Names and shapes, and nothing behind them.
struct Shapes(BTreeMap<String, Vec<usize>>);

impl TensorSource for Shapes {
    fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.0.get(name).map(Vec::as_slice)
    }

    fn dtype_name(&self, _: &str) -> Option<String> {
        None
    }

    fn load(&self, name: &str, dtype: DType, _: &Device) -> Result<Tensor> {
        let shape =
            self.shape(name).ok_or_else(|| Error::run(format!("there is no tensor `{name}`")))?;
        empty(shape, dtype)
    }
}
