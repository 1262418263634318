//! The feed-forward part: down(f(gate(x)) ∘ up(x)), or down(f(up(x))) without a gate.

use candle_core::{Result, Tensor};

use super::linear::{backward_shared, input_gradient};
use super::{ForwardContext, GradRequest, Gradients, Linear};
use crate::ops::activation::{self, Activation};

pub struct Mlp {
    pub gate: Option<Linear>,
    pub up: Linear,
    pub down: Linear,
    pub activation: Activation,
}

/// What backward needs: [N, F] each.
pub struct MlpActivations {
    gate: Option<Tensor>,
    up: Tensor,
}

impl Mlp {
    /// x [N, D] → residual + mlp(x), and what backward needs.
    pub fn forward(
        &self,
        x: Tensor,
        ctx: &ForwardContext,
        residual: &Tensor,
    ) -> Result<(Tensor, MlpActivations)> {
        let gate = self.gate.as_ref().map(|gate| gate.forward(&x, ctx, None)).transpose()?;
        let up = self.up.forward(&x, ctx, None)?;
        drop(x);
        let saved = MlpActivations { gate, up };
        let y = self.down.forward(&self.activate(&saved)?, ctx, Some(residual))?;
        Ok((y, saved))
    }

    fn activate(&self, s: &MlpActivations) -> Result<Tensor> {
        match &s.gate {
            Some(gate) => activation::forward(self.activation, gate, Some(&s.up)),
            None => activation::forward(self.activation, &s.up, None),
        }
    }

    fn reads_input(&self) -> impl Iterator<Item = &Linear> {
        self.gate.iter().chain([&self.up])
    }

    /// Whether anything of it is trained.
    pub fn trained(&self, request: &GradRequest) -> bool {
        self.down.trained(request) || self.reads_input().any(|linear| linear.trained(request))
    }

    /// dx [N, D], where it is wanted; `input` forms the forward's input again.
    pub fn backward(
        &self,
        dy: &Tensor,
        s: &MlpActivations,
        input: impl FnOnce() -> Result<Tensor>,
        (ctx, request): (&ForwardContext, &GradRequest),
        wanted: bool,
        out: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        if self.down.trained(request) {
            self.down.backward(dy, &self.activate(s)?, request, out)?;
        }
        if !wanted && !self.reads_input().any(|linear| linear.trained(request)) {
            return Ok(None);
        }
        let dh = input_gradient(&[(dy, &self.down)], ctx)?;
        let parts = self.activate_backward(dh, s)?;
        let parts: Vec<(&Tensor, &Linear)> = parts.iter().zip(self.reads_input()).collect();
        backward_shared(&parts, input, (ctx, request), wanted, out)
    }

    /// From dh [N, F] the gradients of what the linears gave, one for each of them.
    fn activate_backward(&self, dh: Tensor, s: &MlpActivations) -> Result<Vec<Tensor>> {
        let Some(gate) = &s.gate else {
            return Ok(vec![activation::backward(self.activation, &dh, &s.up, None)?.0]);
        };
        let (dgate, dup) = activation::backward(self.activation, &dh, gate, Some(&s.up))?;
        Ok(vec![dgate, dup.unwrap_or(dh)])
    }

    /// Weights: a multiplication and an addition of a token each.
    pub fn weights(&self) -> usize {
        self.reads_input().chain([&self.down]).map(Linear::weights).sum()
    }

    /// Numbers a token that [`MlpActivations`] keeps.
    pub fn saved(&self) -> usize {
        self.reads_input().map(|linear| linear.id.out).sum()
    }
}
