//! Sums and products number by number: what an optimizer does to gradients.
//!
//! ```text
//! add            x + y
//! add_scaled     x + s · y
//! scale          s · x
//! squares        Σ x²
//! dot            Σ x y
//! ```
//!
//! The first three may put their result in the place of x: nobody else may hold it.

pub mod cpu;

use candle_core::{DType, Result, Tensor};

use super::Backend;
use super::later::Later;

/// x + y, in the place of x where it can be.
pub fn add(x: Tensor, y: &Tensor) -> Result<Tensor> {
    add_scaled(x, y, 1.0)
}

/// x + scale · y, in the place of x where it can be.
pub fn add_scaled(x: Tensor, y: &Tensor, scale: f64) -> Result<Tensor> {
    match Backend::of(&[&x, y]) {
        Backend::Cpu if x.shape() == y.shape() => cpu::add_scaled(x, y, scale),
        _ => reference::add_scaled(x, y, scale),
    }
}

/// scale · x, in the place of x where it can be.
pub fn scale(x: Tensor, scale: f64) -> Result<Tensor> {
    match Backend::of(&[&x]) {
        Backend::Cpu => cpu::scale(x, scale),
        _ => reference::scale(x, scale),
    }
}

/// Σ x², formed in f64 and in order.
pub fn squares(x: &Tensor) -> Result<f64> {
    match Backend::of(&[x]) {
        Backend::Cpu => cpu::squares(x),
        _ => reference::squares(x),
    }
}

/// Σ x² of each tensor, all of one device, which is not waited for.
pub fn squares_of_each(tensors: &[&Tensor]) -> Result<Later> {
    let here = |x: &&Tensor| Backend::of(&[x]) == Backend::Cpu;
    if tensors.iter().all(here) {
        return tensors.iter().map(|x| cpu::squares(x)).collect::<Result<_>>().map(Later::Here);
    }
    let one = |x: &&Tensor| match here(x) {
        true => Tensor::new(cpu::squares(x)?, x.device()),
        false => reference::squares_tensor(x),
    };
    let all: Vec<Tensor> = tensors.iter().map(one).collect::<Result<_>>()?;
    Ok(Later::OnDevice(Tensor::stack(&all, 0)?))
}

/// x times a number `[1]` of its device.
pub fn scale_by(x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    x.broadcast_mul(&scale.to_dtype(x.dtype())?)
}

/// Σ x y, formed in f64 and in order.
pub fn dot(x: &Tensor, y: &Tensor) -> Result<f64> {
    match Backend::of(&[x, y]) {
        Backend::Cpu => cpu::dot(x, y),
        _ => reference::dot(x, y),
    }
}

/// The definition, on tensors of any device.
pub mod reference {
    use super::*;

    pub fn add_scaled(x: Tensor, y: &Tensor, scale: f64) -> Result<Tensor> {
        if scale == 1.0 { x + y } else { x + (y * scale)? }
    }

    pub fn scale(x: Tensor, scale: f64) -> Result<Tensor> {
        x * scale
    }

    pub fn squares(x: &Tensor) -> Result<f64> {
        squares_tensor(x)?.to_scalar()
    }

    /// Σ x² as a scalar on the tensor's device.
    pub fn squares_tensor(x: &Tensor) -> Result<Tensor> {
        x.to_dtype(DType::F64)?.sqr()?.sum_all()
    }

    pub fn dot(x: &Tensor, y: &Tensor) -> Result<f64> {
        (x.to_dtype(DType::F64)? * y.to_dtype(DType::F64)?)?.sum_all()?.to_scalar()
    }
}
