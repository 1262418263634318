//! The booster's factors lying over unchanged weights during training: (layer, target) → (A, B, scale).

use std::collections::BTreeMap;

use candle_core::{DType, Result, Tensor};

use super::names::Role;
use crate::ops::linear::Pair;
use crate::ops::product::{self, Matrix};
use crate::ops::slice;

/// Low-rank pairs by layer and target.
#[derive(Clone, Debug, Default)]
pub struct Overlay {
    pairs: BTreeMap<(usize, Role), Pair>,
}

impl Overlay {
    pub fn new(pairs: BTreeMap<(usize, Role), Pair>) -> Self {
        Self { pairs }
    }

    pub fn pairs(&self) -> &BTreeMap<(usize, Role), Pair> {
        &self.pairs
    }

    pub fn get(&self, layer: usize, role: Role) -> Option<&Pair> {
        self.pairs.get(&(layer, role))
    }

    /// The lowest layer with a pair.
    pub fn lowest(&self) -> Option<usize> {
        self.pairs.keys().map(|&(layer, _)| layer).min()
    }

    /// Numbers in all factors.
    pub fn parameters(&self) -> usize {
        self.pairs.values().map(|p| p.a.elem_count() + p.b.elem_count()).sum()
    }
}

/// weight [out, in] += step · s · B A, in place; on the CPU in f32 without a temporary of the weight's size.
pub(super) fn add_product(weight: &Tensor, pair: &Pair, step: f64) -> Result<()> {
    let scale = step * pair.scale;
    let (out, inner) = weight.dims2()?;
    let rank = pair.a.dim(0)?;
    if slice::fast(&[weight, &pair.a, &pair.b]) {
        let (a, b) = (slice::f32s(&pair.a)?, slice::f32s(&pair.b)?);
        return slice::update(weight, |w| {
            product::add(w, Matrix::new(&b, out, rank, rank), Matrix::new(&a, rank, inner, inner), scale as f32)
        });
    }
    let wide = if weight.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let delta = (pair.b.to_dtype(wide)?.matmul(&pair.a.to_dtype(wide)?)? * scale)?;
    weight.slice_set(&(weight.to_dtype(wide)? + delta)?.to_dtype(weight.dtype())?, 0, 0)
}
