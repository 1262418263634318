//! Heads: what a network says of its last hidden states.

use candle_core::{Result, Tensor};

use super::{ForwardContext, GradRequest, Gradients, Norm};
use crate::model::params::ParamId;
use crate::ops::activation::{self, Activation};
use crate::ops::cross_entropy::{self, Want};
use crate::ops::later::Later;
use crate::ops::linear;
use crate::ops::logits::{self, Targets};

/// The head of a network.
pub enum Head {
    /// Of the next token.
    Lm(LmHead),
    /// Of a token itself.
    MaskedLm(MaskedLmHead),
    /// Of a sequence, by one of its tokens.
    Sequence(SequenceHead),
    /// Hidden states alone.
    None,
}

impl Head {
    /// h [S, D] → logits [S, V] or [S, classes].
    pub fn forward(&self, h: &Tensor, ctx: &ForwardContext) -> Result<Tensor> {
        match self {
            Self::Lm(head) => head.forward(h, ctx),
            Self::MaskedLm(head) => Ok(head.forward(h, ctx)?.0),
            Self::Sequence(head) => Ok(head.forward(h, ctx)?.0),
            Self::None => candle_core::bail!("the model has no head"),
        }
    }

    /// Losses `[S]`, in nats, or squared differences of numbers.
    pub fn loss(&self, h: &Tensor, targets: Targets, ctx: &ForwardContext) -> Result<Later> {
        match (self, targets) {
            (Self::Lm(head), Targets::Classes(targets)) => head.loss(h, targets, ctx),
            (Self::MaskedLm(head), Targets::Classes(targets)) => head.loss(h, targets, ctx),
            _ => Ok(logits::loss(&self.forward(h, ctx)?, targets, 1.0)?.0),
        }
    }

    /// The losses, and of Σ weight · loss dh [S, D] where it is wanted; the gradients of its own
    /// numbers go to `out`.
    pub fn loss_backward(
        &self,
        h: &Tensor,
        (targets, weight): (Targets, f64),
        both: (&ForwardContext, &GradRequest),
        wanted: bool,
        out: &mut Gradients,
    ) -> Result<(Later, Option<Tensor>)> {
        match (self, targets) {
            (Self::Lm(head), Targets::Classes(targets)) => {
                head.loss_backward(h, (targets, weight), both, wanted, out)
            }
            (Self::Lm(_), _) => candle_core::bail!("a language model's head wants tokens"),
            (Self::MaskedLm(head), Targets::Classes(targets)) => {
                head.loss_backward(h, (targets, weight), both, wanted, out)
            }
            (Self::MaskedLm(_), _) => candle_core::bail!("a head of masked tokens wants tokens"),
            (Self::Sequence(head), _) => {
                let (z, saved) = head.forward(h, both.0)?;
                let (loss, dz) = logits::loss(&z, targets, weight)?;
                Ok((loss, head.backward(&dz, h, &saved, both, wanted, out)?))
            }
            (Self::None, _) => candle_core::bail!("the model has no head"),
        }
    }
}

/// The head of a language model: logits of the next token, or their loss.
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

/// A linear module of a head, y = x Wᵀ + b, which no booster lays factors over.
pub struct HeadLinear {
    /// [out, in]
    pub weight: ParamId,
    /// `[out]`
    pub bias: Option<ParamId>,
}

impl HeadLinear {
    fn view<'a>(&self, ctx: &ForwardContext<'a>) -> linear::LinearView<'a> {
        linear::LinearView {
            weight: ctx.tensor(&self.weight),
            bias: self.bias.as_ref().map(|bias| ctx.tensor(bias)),
            pair: None,
            unmerged: None,
        }
    }

    fn forward(&self, x: &Tensor, ctx: &ForwardContext) -> Result<Tensor> {
        linear::forward(x, self.view(ctx), None)
    }

    fn trained(&self, request: &GradRequest) -> bool {
        request.wants(&self.weight) || self.bias.as_ref().is_some_and(|bias| request.wants(bias))
    }

    /// The gradients of its own numbers, and dx where it is wanted.
    fn backward(
        &self,
        dy: &Tensor,
        x: &Tensor,
        (ctx, request): (&ForwardContext, &GradRequest),
        wanted: bool,
        out: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        if request.wants(&self.weight) {
            out.add(&self.weight, linear::weight_gradient(dy, x)?)?;
        }
        if let Some(bias) = self.bias.as_ref().filter(|bias| request.wants(bias)) {
            out.add(bias, linear::bias_gradient(dy)?)?;
        }
        if !wanted {
            return Ok(None);
        }
        linear::input_gradient(&[(dy, self.view(ctx))]).map(Some)
    }
}

/// The function between two linears of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadActivation {
    Tanh,
    Other(Activation),
}

impl HeadActivation {
    fn forward(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Tanh => x.tanh(),
            Self::Other(f) => activation::forward(f, x, None),
        }
    }

    /// dx from dy and the forward's input.
    fn backward(self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Tanh => dy * (1.0 - x.tanh()?.sqr()?)?,
            Self::Other(f) => Ok(activation::backward(f, dy, x, None)?.0),
        }
    }
}

/// Which token of a sequence stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooled {
    First,
    Last,
}

/// Classes, or a number, of a sequence: out(f(dense(h))), or out(h), with h that of one token.
pub struct SequenceHead {
    pub pooled: Pooled,
    pub dense: Option<(HeadLinear, HeadActivation)>,
    /// [classes, D]
    pub out: HeadLinear,
}

/// What backward needs of the first linear: its output, and what the function makes of it.
pub struct SequenceSaved(Option<(Tensor, Tensor)>);

impl SequenceHead {
    fn forward(&self, h: &Tensor, ctx: &ForwardContext) -> Result<(Tensor, SequenceSaved)> {
        let Some((dense, f)) = &self.dense else {
            return Ok((self.out.forward(h, ctx)?, SequenceSaved(None)));
        };
        let u = dense.forward(h, ctx)?;
        let a = f.forward(&u)?;
        Ok((self.out.forward(&a, ctx)?, SequenceSaved(Some((u, a)))))
    }

    fn backward(
        &self,
        dz: &Tensor,
        h: &Tensor,
        saved: &SequenceSaved,
        both: (&ForwardContext, &GradRequest),
        wanted: bool,
        out: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        let (Some((dense, f)), SequenceSaved(Some((u, a)))) = (&self.dense, saved) else {
            return self.out.backward(dz, h, both, wanted, out);
        };
        let into_dense = wanted || dense.trained(both.1);
        let Some(da) = self.out.backward(dz, a, both, into_dense, out)? else { return Ok(None) };
        dense.backward(&f.backward(&da, u)?, h, both, wanted, out)
    }
}

/// Logits of the token itself: norm(f(dense(h))) times the embedding, and a bias.
pub struct MaskedLmHead {
    pub dense: HeadLinear,
    pub activation: Activation,
    pub norm: Norm,
    /// [V, D], the embedding, with a bias `[V]`.
    pub decoder: HeadLinear,
}

/// What backward needs: the first linear's output, the norm's input and its output.
pub struct MaskedLmSaved([Tensor; 3]);

impl MaskedLmHead {
    fn forward(&self, h: &Tensor, ctx: &ForwardContext) -> Result<(Tensor, MaskedLmSaved)> {
        let u = self.dense.forward(h, ctx)?;
        let a = activation::forward(self.activation, &u, None)?;
        let n = self.norm.forward(&a, ctx)?;
        Ok((self.decoder.forward(&n, ctx)?, MaskedLmSaved([u, a, n])))
    }

    /// The rows of `h` [S, D] with their targets, a chunk of logits at a time.
    fn chunks<'a>(
        &'a self,
        h: &'a Tensor,
        targets: &'a [u32],
        ctx: &ForwardContext,
    ) -> Result<impl Iterator<Item = Result<(Tensor, Targets<'a>)>>> {
        let rows = cross_entropy::chunk_rows(ctx.tensor(&self.decoder.weight).dim(0)?);
        let chunk = move |(i, targets): (usize, &'a [u32])| {
            Ok((h.narrow(0, i * rows, targets.len())?, Targets::Classes(targets)))
        };
        Ok(targets.chunks(rows).enumerate().map(chunk))
    }

    fn loss(&self, h: &Tensor, targets: &[u32], ctx: &ForwardContext) -> Result<Later> {
        let mut losses = vec![];
        for chunk in self.chunks(h, targets, ctx)? {
            let (h, targets) = chunk?;
            losses.push(logits::loss(&self.forward(&h, ctx)?.0, targets, 1.0)?.0);
        }
        Later::joined(losses)
    }

    fn loss_backward(
        &self,
        h: &Tensor,
        (targets, weight): (&[u32], f64),
        both: (&ForwardContext, &GradRequest),
        wanted: bool,
        out: &mut Gradients,
    ) -> Result<(Later, Option<Tensor>)> {
        let (mut losses, mut dh) = (vec![], vec![]);
        for chunk in self.chunks(h, targets, both.0)? {
            let (h, targets) = chunk?;
            let (z, saved) = self.forward(&h, both.0)?;
            let (loss, dz) = logits::loss(&z, targets, weight)?;
            losses.push(loss);
            dh.extend(self.backward(&dz, &h, &saved, both, wanted, out)?);
        }
        let dh = if dh.is_empty() { None } else { Some(Tensor::cat(&dh, 0)?) };
        Ok((Later::joined(losses)?, dh))
    }

    fn backward(
        &self,
        dz: &Tensor,
        h: &Tensor,
        MaskedLmSaved([u, a, n]): &MaskedLmSaved,
        both: (&ForwardContext, &GradRequest),
        wanted: bool,
        out: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        let (ctx, request) = both;
        let into_dense = wanted || self.dense.trained(request);
        let into_norm = into_dense || self.norm.trained(request);
        let Some(dn) = self.decoder.backward(dz, n, both, into_norm, out)? else {
            return Ok(None);
        };
        let da = self.norm.backward(&dn, a, ctx, request, out)?;
        let (du, _) = activation::backward(self.activation, &da, u, None)?;
        self.dense.backward(&du, h, both, wanted, out)
    }
}
