//! Rotary position embedding: the angles of a pass's tokens.

use candle_core::{DType, Device, Result};

use super::RopeScaling;
use crate::model::tokens::Tokens;
use crate::ops::rope::Angles;

pub struct RotaryEmbedding {
    theta: f64,
    head_dim: usize,
    scaling: RopeScaling,
    /// [E/2], of sequences up to the length at which they change, if they do.
    inv_freq: Vec<f64>,
}

impl RotaryEmbedding {
    pub fn new(theta: f64, head_dim: usize, scaling: RopeScaling) -> Self {
        let inv_freq = scaling.inv_freq(theta, head_dim, 1);
        Self { theta, head_dim, scaling, inv_freq }
    }

    /// Whether sequences of both lengths have the same angles.
    pub fn same(&self, shorter: usize, longer: usize) -> bool {
        self.scaling.same(shorter, longer)
    }

    /// Every token's angles. Where frequencies depend on a sequence's length, that of a segment's
    /// sequence is the position of its last query and one more: keys that a cache holds keep the
    /// angles with which they were written, as in transformers.
    pub fn angles(&self, tokens: &Tokens, compute: DType, device: &Device) -> Result<Angles> {
        let dtype = if compute == DType::F64 { compute } else { DType::F32 };
        let positions = &tokens.positions;
        let mut longer = vec![];
        let mut of = vec![];
        if let Some(boundary) = self.scaling.boundary() {
            of = vec![0; positions.len()];
            for segment in &tokens.segments {
                let last = positions[segment.queries.clone()].iter().max();
                let length = last.map(|last| *last as usize + 1);
                if let Some(length) = length.filter(|length| *length > boundary) {
                    longer.push(self.scaling.inv_freq(self.theta, self.head_dim, length));
                    of[segment.queries.clone()].fill(longer.len());
                }
            }
        }
        let inv_freq = |token: usize| match of.get(token) {
            None | Some(0) => self.inv_freq.as_slice(),
            Some(&number) => &longer[number - 1],
        };
        Angles::scaled(positions, inv_freq, self.scaling.attention(), dtype, device)
    }
}
