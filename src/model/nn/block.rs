//! A transformer block: attention and feed-forward part, each around a residual, with norms before
//! the parts (Xiong et al. 2020) or behind the sums (Vaswani et al. 2017).
//!
//! ```text
//! pre     x₂ = x + attention(norm₁(x))        y = x₂ + mlp(norm₂(x₂))
//! post    x₂ = norm₁(x + attention(x))        y = norm₂(x₂ + mlp(x₂))
//! ```

use candle_core::{DType, Result, Tensor};

use super::attention::AttentionActivations;
use super::mlp::MlpActivations;
use super::{Attention, ForwardContext, GradRequest, Gradients, Mlp, Norm};

/// Where a block's norms stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormOrder {
    Pre,
    Post,
}

pub struct TransformerBlock {
    pub order: NormOrder,
    pub norm1: Norm,
    pub attention: Attention,
    pub norm2: Norm,
    pub mlp: Mlp,
}

/// What backward needs; norms are formed again.
pub struct BlockActivations {
    /// Input [N, D].
    x: Tensor,
    attention: AttentionActivations,
    /// The sum between the two parts [N, D]: x₂, or what norm₁ makes it of.
    between: Tensor,
    mlp: MlpActivations,
    /// What norm₂ makes y of [N, D], behind the parts.
    last: Option<Tensor>,
}

/// What a token and a pair cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BlockCost {
    /// Weights: a multiplication and an addition of a token each.
    pub weights: usize,
    /// Multiplications of a pair of a query and a key in q·k, and as many in p v.
    pub pair_products: usize,
    /// Numbers that [`BlockActivations`] keeps of a token beside the input, in the compute type.
    pub saved: usize,
    /// Log-sum-exps of a token, in f32.
    pub sums: usize,
}

impl BlockCost {
    /// Bytes that [`BlockActivations`] keeps of a token, beside the input.
    pub fn saved_bytes(&self, compute: DType) -> usize {
        self.saved * compute.size_in_bytes() + self.sums * 4
    }
}

impl TransformerBlock {
    /// x [N, D] → y [N, D] and what backward needs.
    pub fn forward(&self, x: &Tensor, ctx: &ForwardContext) -> Result<(Tensor, BlockActivations)> {
        if self.order == NormOrder::Post {
            let (between, attention) = self.attention.forward(x.clone(), ctx, x)?;
            let x2 = self.norm1.forward(&between, ctx)?;
            let (last, mlp) = self.mlp.forward(x2.clone(), ctx, &x2)?;
            let y = self.norm2.forward(&last, ctx)?;
            let (x, last) = (x.clone(), Some(last));
            return Ok((y, BlockActivations { x, attention, between, mlp, last }));
        }
        let n1 = self.norm1.forward(x, ctx)?;
        let (x2, attention) = self.attention.forward(n1, ctx, x)?;
        let n2 = self.norm2.forward(&x2, ctx)?;
        let (y, mlp) = self.mlp.forward(n2, ctx, &x2)?;
        Ok((y, BlockActivations { x: x.clone(), attention, between: x2, mlp, last: None }))
    }

    /// From dy [N, D] the gradients asked for; dx [N, D] where it is wanted. It stops as soon as
    /// nothing below is.
    pub fn backward(
        &self,
        dy: Tensor,
        s: &BlockActivations,
        both: (&ForwardContext, &GradRequest),
        wanted: bool,
        out: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        match &s.last {
            None => self.pre_backward(dy, s, both, wanted, out),
            Some(last) => self.post_backward(&dy, (s, last), both, wanted, out),
        }
    }

    fn pre_backward(
        &self,
        dy: Tensor,
        s: &BlockActivations,
        both: (&ForwardContext, &GradRequest),
        wanted: bool,
        out: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        let (ctx, request) = both;
        let into_norm1 = wanted || self.norm1.trained(request);
        let into_attention = into_norm1 || self.attention.trained(request);
        let into_norm2 = into_attention || self.norm2.trained(request);

        let n2 = || self.norm2.forward(&s.between, ctx);
        let Some(dn2) = self.mlp.backward(&dy, &s.mlp, n2, both, into_norm2, out)? else {
            return Ok(None);
        };
        let dx2 = self.norm2.backward(&dn2, &s.between, ctx, request, out)?;
        if !into_attention {
            return Ok(None);
        }
        let dx2 = (dy + dx2)?;

        let n1 = || self.norm1.forward(&s.x, ctx);
        let dn1 = self.attention.backward(&dx2, &s.attention, n1, both, into_norm1, out)?;
        let Some(dn1) = dn1 else { return Ok(None) };
        let dx = self.norm1.backward(&dn1, &s.x, ctx, request, out)?;
        Ok(if wanted { Some((dx2 + dx)?) } else { None })
    }

    fn post_backward(
        &self,
        dy: &Tensor,
        (s, last): (&BlockActivations, &Tensor),
        both: (&ForwardContext, &GradRequest),
        wanted: bool,
        out: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        let (ctx, request) = both;
        let into_attention = wanted || self.attention.trained(request);
        let into_norm1 = into_attention || self.norm1.trained(request);
        if !(into_norm1 || self.mlp.trained(request) || self.norm2.trained(request)) {
            return Ok(None);
        }

        let dlast = self.norm2.backward(dy, last, ctx, request, out)?;
        let x2 = || self.norm1.forward(&s.between, ctx);
        let dmlp = self.mlp.backward(&dlast, &s.mlp, x2, both, into_norm1, out)?;
        let Some(dmlp) = dmlp else { return Ok(None) };
        let dbetween = self.norm1.backward(&(dlast + dmlp)?, &s.between, ctx, request, out)?;
        if !into_attention {
            return Ok(None);
        }

        let x = || Ok(s.x.clone());
        let dx = self.attention.backward(&dbetween, &s.attention, x, both, wanted, out)?;
        let Some(dx) = dx else { return Ok(None) };
        Ok(if wanted { Some((dbetween + dx)?) } else { None })
    }

    /// What it costs, of hidden states of `hidden_size` numbers.
    pub fn cost(&self, hidden_size: usize) -> BlockCost {
        let sums = if self.order == NormOrder::Post { 2 } else { 1 };
        BlockCost {
            weights: self.attention.weights() + self.mlp.weights(),
            pair_products: self.attention.pair_products(),
            saved: self.attention.saved() + sums * hidden_size + self.mlp.saved(),
            sums: self.attention.num_heads,
        }
    }
}
