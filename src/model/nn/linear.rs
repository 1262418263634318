//! A linear module y = x Wᵀ + b, with what boosters lay over it and merges leave beside it.

use candle_core::{Result, Tensor};

use super::{ForwardContext, GradRequest, Gradients};
use crate::model::params::{LinearId, ParamId};
use crate::ops::linear;

pub struct Linear {
    pub id: LinearId,
    /// [out, in], in the storage type.
    pub weight: ParamId,
    /// `[out]`, in the compute type.
    pub bias: Option<ParamId>,
}

impl Linear {
    /// The module as the ops see it.
    fn view<'a>(&self, ctx: &ForwardContext<'a>) -> linear::LinearView<'a> {
        linear::LinearView {
            weight: ctx.tensor(&self.weight),
            bias: self.bias.as_ref().map(|bias| ctx.tensor(bias)),
            pair: ctx.adapter.pair(&self.id),
            unmerged: ctx.params.unmerged(&self.id),
        }
    }

    /// x [N, in] → y [N, out], plus `residual` [N, out] where given.
    pub fn forward(
        &self,
        x: &Tensor,
        ctx: &ForwardContext,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        linear::forward(x, self.view(ctx), residual)
    }

    /// Whether anything of it is trained.
    pub fn trained(&self, request: &GradRequest) -> bool {
        request.adapter.pair(&self.id).is_some()
            || request.wants(&self.weight)
            || self.bias.as_ref().is_some_and(|bias| request.wants(bias))
    }

    /// The gradients of its own numbers from dy [N, out] and the forward's input [N, in].
    pub fn backward(
        &self,
        dy: &Tensor,
        x: &Tensor,
        request: &GradRequest,
        out: &mut Gradients,
    ) -> Result<()> {
        if let Some(pair) = request.adapter.pair(&self.id) {
            out.pairs.insert(self.id.clone(), linear::factor_gradients(dy, x, pair)?);
        }
        if request.wants(&self.weight) {
            out.add(&self.weight, linear::weight_gradient(dy, x)?)?;
        }
        if let Some(bias) = self.bias.as_ref().filter(|bias| request.wants(bias)) {
            out.add(bias, linear::bias_gradient(dy)?)?;
        }
        Ok(())
    }

    /// Weights: a multiplication and an addition of a token each.
    pub fn weights(&self) -> usize {
        self.id.out * self.id.inner
    }
}

/// Backward of linears that share their input, each with its dy [N, out]: the gradients of their
/// own numbers, and dx [N, in] where it is wanted. `input` forms the forward's input again.
pub fn backward_shared(
    parts: &[(&Tensor, &Linear)],
    input: impl FnOnce() -> Result<Tensor>,
    (ctx, request): (&ForwardContext, &GradRequest),
    wanted: bool,
    out: &mut Gradients,
) -> Result<Option<Tensor>> {
    if parts.iter().any(|(_, linear)| linear.trained(request)) {
        let x = input()?;
        for (dy, linear) in parts {
            linear.backward(dy, &x, request, out)?;
        }
    }
    if wanted { input_gradient(parts, ctx).map(Some) } else { Ok(None) }
}

/// dx [N, in]: what linears that share their input send back to it, each with its dy [N, out].
pub fn input_gradient(parts: &[(&Tensor, &Linear)], ctx: &ForwardContext) -> Result<Tensor> {
    let parts: Vec<_> = parts.iter().map(|(dy, linear)| (*dy, linear.view(ctx))).collect();
    linear::input_gradient(&parts)
}
