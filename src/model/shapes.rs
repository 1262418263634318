//! A model without numbers: everything that its config and its files' headers tell, and tensors that take no memory.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::Model;
use super::load::{Loaded, prepare};
use crate::error::Error;
use crate::source::{self, Grants, TensorSource};

/// Opens the model that `name` stands for as [`super::load::open`] does, with the same checks and errors, but reads no
/// weights: every tensor is a single zero, seen in the right shape.
pub fn open(name: &str, grants: &Grants, storage: DType) -> Result<Loaded> {
    prepare(&source::model(&source::resolve(name, grants)?)?, &mut |config, source| {
        super::load::assemble(config, &Shapes(source), &Device::Cpu, storage)
    })
}

/// A model of that config without numbers.
pub fn of(config: super::Config, storage: DType) -> Result<Model> {
    let tensors = config.tensors();
    super::load::assemble(config, &Listed(tensors), &Device::Cpu, storage)
}

/// A single zero, seen as a tensor of that shape.
fn hollow(shape: &[usize], dtype: DType) -> Result<Tensor> {
    Ok(Tensor::zeros(1, dtype, &Device::Cpu)?.broadcast_as(shape)?)
}

struct Shapes<'a>(&'a dyn TensorSource);

impl TensorSource for Shapes<'_> {
    fn names(&self) -> Vec<&str> {
        self.0.names()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.0.shape(name)
    }

    fn dtype_name(&self, name: &str) -> Option<String> {
        self.0.dtype_name(name)
    }

    fn load(&self, name: &str, dtype: DType, _: &Device) -> Result<Tensor> {
        hollow(self.shape(name).ok_or_else(|| Error::run(format!("there is no tensor `{name}`")))?, dtype)
    }
}

struct Listed(Vec<(String, Vec<usize>)>);

impl TensorSource for Listed {
    fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, shape)| shape.as_slice())
    }

    fn dtype_name(&self, _: &str) -> Option<String> {
        None
    }

    fn load(&self, name: &str, dtype: DType, _: &Device) -> Result<Tensor> {
        hollow(self.shape(name).ok_or_else(|| Error::run(format!("there is no tensor `{name}`")))?, dtype)
    }
}
