//! A model without numbers: everything that its config and its files' headers tell, and tensors that take no memory.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::Model;
use super::load::{Loaded, prepare};
use crate::error::Error;
use crate::source::{ModelFiles, TensorSource};

/// Opens a model as [`super::load::load`] does, with the same checks and errors, but reads no weights: every tensor is a
/// single zero, seen in the right shape.
pub fn load(files: &ModelFiles, storage: DType) -> Result<Loaded> {
    prepare(files, &mut |config, source| {
        let shape = |name: &str| (name.to_owned(), source.shape(name).unwrap_or_default().to_vec());
        super::load::assemble(config, &Shapes(source.names().into_iter().map(shape).collect()), &Device::Cpu, storage)
    })
}

/// A model of that config without numbers. Errors (class data): sizes that cannot be.
pub fn of(config: super::Config, storage: DType) -> Result<Model> {
    config.check()?;
    let tensors = config.tensors().into_iter().collect();
    super::load::assemble(config, &Shapes(tensors), &Device::Cpu, storage)
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
        let shape = self.shape(name).ok_or_else(|| Error::run(format!("there is no tensor `{name}`")))?;
        Ok(Tensor::zeros(1, dtype, &Device::Cpu)?.broadcast_as(shape)?)
    }
}
