//! A model without numbers: everything that its config and its files' headers tell, and tensors
//! that take no memory.

use anyhow::Result;
use candle_core::{DType, Device, Shape, Tensor};

use super::Model;
use super::arch::{Architecture, Builder};
use super::load::{Loaded, check, prepare};
use crate::source::ModelFiles;

/// Opens a model as [`super::load::load`] does, with the same checks and errors, but reads no
/// weights: every tensor is a single zero, seen in the right shape.
pub fn load(files: &ModelFiles, storage: DType) -> Result<Loaded> {
    prepare(files, &mut |architecture, source| {
        check(&*architecture, source)?;
        Model::build(architecture, Builder::meta(storage))
    })
}

/// A model without numbers. Errors (class data): sizes that cannot be.
pub fn of(architecture: Box<dyn Architecture>, storage: DType) -> Result<Model> {
    architecture.check()?;
    Model::build(architecture, Builder::meta(storage))
}

/// A tensor of that shape without numbers.
pub(super) fn empty(shape: impl Into<Shape>, dtype: DType) -> candle_core::Result<Tensor> {
    Tensor::zeros(1, dtype, &Device::Cpu)?.broadcast_as(shape)
}
