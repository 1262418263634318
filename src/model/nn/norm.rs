//! A normalisation with its weights, which are kept in the compute type.

use candle_core::{Result, Tensor};

use super::{ForwardContext, GradRequest, Gradients};
use crate::model::params::ParamId;
use crate::ops::rms_norm;

pub struct Norm {
    /// [D]
    pub weight: ParamId,
    pub eps: f64,
}

impl Norm {
    /// x [..., D] → [..., D].
    pub fn forward(&self, x: &Tensor, ctx: &ForwardContext) -> Result<Tensor> {
        rms_norm::forward(x, ctx.tensor(&self.weight), self.eps)
    }

    /// Whether anything of it is trained.
    pub fn trained(&self, request: &GradRequest) -> bool {
        request.wants(&self.weight)
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
        let dx = rms_norm::backward(dy, x, ctx.tensor(&self.weight), self.eps)?;
        if request.wants(&self.weight) {
            out.add(&self.weight, rms_norm::weight_gradient(dy, x, self.eps)?)?;
        }
        Ok(dx)
    }
}
