//! The head of a language model: logits of the next token, or their loss.

use candle_core::{Result, Tensor};

use super::{ForwardContext, GradRequest, Gradients};
use crate::model::params::ParamId;
use crate::ops::cross_entropy::{self, Want};
use crate::ops::later::Later;
use crate::ops::linear;

pub struct LmHead {
    /// [V, D]: its own, or the embedding that it is tied to.
    pub weight: ParamId,
}

impl LmHead {
    /// h [S, D] → logits [S, V].
    pub fn forward(&self, h: &Tensor, ctx: &ForwardContext) -> Result<Tensor> {
        let weight = ctx.tensor(&self.weight);
        let view = linear::LinearView { weight, bias: None, pair: None, unmerged: None };
        linear::forward(h, view, None)
    }

    /// Negative log-likelihoods `[S]` of `targets`, in nats.
    pub fn loss(&self, h: &Tensor, targets: &[u32], ctx: &ForwardContext) -> Result<Later> {
        let weight = ctx.tensor(&self.weight);
        Ok(cross_entropy::forward_backward(h, weight, targets, 1.0, Want::default())?.nll)
    }

    /// The losses, and of Σ weight · loss dh [S, D] where it is wanted; the gradient of its own
    /// numbers goes to `out`.
    pub fn loss_backward(
        &self,
        h: &Tensor,
        (targets, weight): (&[u32], f64),
        (ctx, request): (&ForwardContext, &GradRequest),
        wanted: bool,
        out: &mut Gradients,
    ) -> Result<(Later, Option<Tensor>)> {
        let want = Want { input: wanted, weight: request.wants(&self.weight) };
        let matrix = ctx.tensor(&self.weight);
        let loss = cross_entropy::forward_backward(h, matrix, targets, weight, want)?;
        if let Some(dw) = loss.dw {
            out.add(&self.weight, dw)?;
        }
        Ok((loss.nll, loss.dh))
    }
}
