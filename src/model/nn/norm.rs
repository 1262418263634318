//! A normalisation with its weights, which are kept in the compute type.

use candle_core::{Result, Tensor};

use super::{ForwardContext, GradRequest, Gradients};
use crate::model::params::ParamId;
use crate::ops::{layer_norm, rms_norm};

/// Which normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    Rms,
    Layer,
}

pub struct Norm {
    /// `[D]`
    pub weight: ParamId,
    /// `[D]`, of a layer norm; an RMSNorm has none.
    pub bias: Option<ParamId>,
    pub eps: f64,
}

impl Norm {
    /// x [..., D] → [..., D].
    pub fn forward(&self, x: &Tensor, ctx: &ForwardContext) -> Result<Tensor> {
        let weight = ctx.tensor(&self.weight);
        match &self.bias {
            None => rms_norm::forward(x, weight, self.eps),
            Some(bias) => layer_norm::forward(x, weight, ctx.tensor(bias), self.eps),
        }
    }

    /// Whether anything of it is trained.
    pub fn trained(&self, request: &GradRequest) -> bool {
        request.wants(&self.weight) || self.bias.as_ref().is_some_and(|bias| request.wants(bias))
    }

    /// dx [..., D] from dy and the forward's input; gradients of its own go to `out`.
    pub fn backward(
        &self,
        dy: &Tensor,
        x: &Tensor,
        ctx: &ForwardContext,
        request: &GradRequest,
        out: &mut Gradients,
    ) -> Result<Tensor> {
        let weight = ctx.tensor(&self.weight);
        let Some(bias) = &self.bias else {
            let dx = rms_norm::backward(dy, x, weight, self.eps)?;
            if request.wants(&self.weight) {
                out.add(&self.weight, rms_norm::weight_gradient(dy, x, self.eps)?)?;
            }
            return Ok(dx);
        };
        let g = layer_norm::backward(dy, x, weight, self.eps)?;
        for (id, gradient) in [(&self.weight, g.dw), (bias, g.db)] {
            if request.wants(id) {
                out.add(id, gradient)?;
            }
        }
        Ok(g.dx)
    }
}
