//! A model without numbers: everything that its config and its files' headers tell, and tensors
//! that take no memory.
//!
//! What is done with such a model goes the way of any other, but computes nothing: a merge leaves
//! what it would leave, a loss is an assumption.

use anyhow::Result;
use candle_core::{DType, Device, Shape, Tensor};

use super::Model;
use super::arch::{Architecture, Builder};
use super::load::{Loaded, check, prepare};
use crate::source::ModelFiles;

/// What is taken for a value that only numbers could give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assume {
    /// Losses fall, all answers are right, and each measurement is better than the one before.
    Best,
    /// Nothing is learnt.
    Worst,
}

impl Assume {
    /// The loss before a step of so many, in nats a token.
    pub fn loss(self, step: usize, steps: usize) -> f64 {
        match self {
            Self::Best => 1.0 - step as f64 / steps.max(1) as f64,
            Self::Worst => 10.0,
        }
    }
}

/// Opens a model as [`super::load::load`] does, with the same checks and errors, but reads no
/// weights: every tensor is a single zero, seen in the right shape.
pub fn load(files: &ModelFiles, storage: DType, assume: Assume) -> Result<Loaded> {
    prepare(files, &mut |architecture, source| {
        check(&*architecture, source)?;
        build(architecture, storage, assume)
    })
}

/// A model without numbers. Errors (class data): sizes that cannot be.
pub fn of(architecture: Box<dyn Architecture>, storage: DType, assume: Assume) -> Result<Model> {
    architecture.check()?;
    build(architecture, storage, assume)
}

fn build(architecture: Box<dyn Architecture>, storage: DType, assume: Assume) -> Result<Model> {
    let mut model = Model::build(architecture, Builder::meta(storage))?;
    model.assume = Some(assume);
    Ok(model)
}

impl Model {
    /// What is taken for values that this model cannot give; `None` of a model with numbers.
    pub fn assume(&self) -> Option<Assume> {
        self.assume
    }

    /// Whether it has no numbers.
    pub fn is_meta(&self) -> bool {
        self.assume.is_some()
    }
}

/// A tensor of that shape without numbers.
pub(super) fn empty(shape: impl Into<Shape>, dtype: DType) -> candle_core::Result<Tensor> {
    Tensor::zeros(1, dtype, &Device::Cpu)?.broadcast_as(shape)
}
