//! Self-attention: o(attention(q, k, v)), causal or in both directions, with grouped key-value
//! heads.
//!
//! ```text
//! q, k, v = linears(x), or one fused    q, k = rotary(q_norm(q), k_norm(k))
//! y = residual + o(softmax(q kᵀ / √E) v)
//! ```

use candle_core::{Result, Tensor};

use super::linear::{backward_shared, input_gradient};
use super::{ForwardContext, GradRequest, Gradients, Linear, Norm};
use crate::ops::attention::{self, Attended, Mask};
use crate::ops::rope;

/// The linears that queries, keys and values come from.
pub enum Qkv {
    Separate {
        q: Linear,
        k: Linear,
        v: Linear,
    },
    /// One linear, whose output is q, then k, then v.
    Fused(Linear),
}

pub struct Attention {
    pub layer: usize,
    pub qkv: Qkv,
    /// Norms of every query head and every key head.
    pub qk_norm: Option<(Norm, Norm)>,
    pub o: Linear,
    /// H
    pub num_heads: usize,
    /// G
    pub num_kv_heads: usize,
    /// E
    pub head_dim: usize,
    /// Whether a token sees those before it alone.
    pub causal: bool,
    /// Sliding window, in tokens.
    pub window: Option<usize>,
}

/// What backward needs: q [N, H, E], k and v [N, G, E].
pub struct AttentionActivations {
    /// q and k before their norms, where there are some.
    before_norms: Option<(Tensor, Tensor)>,
    /// After the rotation.
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attended: Attended,
}

impl Attention {
    fn mask(&self) -> Mask {
        let scale = 1.0 / (self.head_dim as f64).sqrt();
        Mask { causal: self.causal, window: self.window, scale }
    }

    /// Sizes of a token's q, k and v.
    fn sizes(&self) -> (usize, usize) {
        (self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim)
    }

    /// q [N, H, E], k and v [N, G, E] of x [N, D].
    fn project(&self, x: &Tensor, ctx: &ForwardContext) -> Result<(Tensor, Tensor, Tensor)> {
        let (n, (hq, hkv)) = (x.dim(0)?, self.sizes());
        let (q, k, v) = match &self.qkv {
            Qkv::Separate { q, k, v } => {
                (q.forward(x, ctx, None)?, k.forward(x, ctx, None)?, v.forward(x, ctx, None)?)
            }
            Qkv::Fused(qkv) => {
                let y = qkv.forward(x, ctx, None)?;
                let part = |start, length| y.narrow(1, start, length)?.contiguous();
                (part(0, hq)?, part(hq, hkv)?, part(hq + hkv, hkv)?)
            }
        };
        let heads = |t: Tensor, count| t.reshape((n, count, self.head_dim));
        Ok((heads(q, self.num_heads)?, heads(k, self.num_kv_heads)?, heads(v, self.num_kv_heads)?))
    }

    /// x [N, D] → residual + o(…), and what backward needs. With a cache the tokens' keys and
    /// values go into its rows, and the segments' keys are rows of the cache.
    pub fn forward(
        &self,
        x: Tensor,
        ctx: &ForwardContext,
        residual: &Tensor,
    ) -> Result<(Tensor, AttentionActivations)> {
        let n = x.dim(0)?;
        let (mut q, mut k, v) = self.project(&x, ctx)?;
        drop(x);
        let mut before_norms = None;
        if let Some((q_norm, k_norm)) = &self.qk_norm {
            let (normed_q, normed_k) = (q_norm.forward(&q, ctx)?, k_norm.forward(&k, ctx)?);
            before_norms =
                Some((std::mem::replace(&mut q, normed_q), std::mem::replace(&mut k, normed_k)));
        }
        if let Some(angles) = &ctx.angles {
            q = rope::forward(&q, angles)?;
            k = rope::forward(&k, angles)?;
        }
        let attended = self.attend(&q, &k, &v, ctx)?;
        let heads = attended.out.reshape((n, self.sizes().0))?;
        let y = self.o.forward(&heads, ctx, Some(residual))?;
        Ok((y, AttentionActivations { before_norms, q, k, v, attended }))
    }

    /// o [N, H, E] over the pass's own keys and values, or over those of its cache.
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, ctx: &ForwardContext) -> Result<Attended> {
        let Some((cache, at)) = ctx.cache else {
            return attention::forward(q, k, v, ctx.segments, self.mask());
        };
        cache.write(self.layer, k, v, at)?;
        let (keys, values) = cache.layer(self.layer);
        attention::forward(q, keys, values, ctx.segments, self.mask())
    }

    fn reads_input(&self) -> Vec<&Linear> {
        match &self.qkv {
            Qkv::Separate { q, k, v } => vec![q, k, v],
            Qkv::Fused(qkv) => vec![qkv],
        }
    }

    /// Whether q, k or v, or their norms, are trained.
    fn inner_trained(&self, request: &GradRequest) -> bool {
        let norms = self.qk_norm.iter().flat_map(|(q, k)| [q, k]);
        self.reads_input().iter().any(|linear| linear.trained(request))
            || norms.into_iter().any(|norm| norm.trained(request))
    }

    /// Whether anything of it is trained.
    pub fn trained(&self, request: &GradRequest) -> bool {
        self.o.trained(request) || self.inner_trained(request)
    }

    /// dx [N, D], where it is wanted; `input` forms the forward's input again.
    pub fn backward(
        &self,
        dy: &Tensor,
        s: &AttentionActivations,
        input: impl FnOnce() -> Result<Tensor>,
        (ctx, request): (&ForwardContext, &GradRequest),
        wanted: bool,
        out: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        let n = dy.dim(0)?;
        if self.o.trained(request) {
            let heads = s.attended.out.reshape((n, self.sizes().0))?;
            self.o.backward(dy, &heads, request, out)?;
        }
        if !wanted && !self.inner_trained(request) {
            return Ok(None);
        }
        let dout = input_gradient(&[(dy, &self.o)], ctx)?;
        let dout = dout.reshape((n, self.num_heads, self.head_dim))?;
        let parts = self.attended_backward(&dout, s, (ctx, request), out)?;
        let parts: Vec<(&Tensor, &Linear)> = parts.iter().zip(self.reads_input()).collect();
        backward_shared(&parts, input, (ctx, request), wanted, out)
    }

    /// From do [N, H, E] the gradients of what the linears gave, one for each of them.
    fn attended_backward(
        &self,
        dout: &Tensor,
        s: &AttentionActivations,
        (ctx, request): (&ForwardContext, &GradRequest),
        out: &mut Gradients,
    ) -> Result<Vec<Tensor>> {
        let (n, (hq, hkv)) = (dout.dim(0)?, self.sizes());
        let g =
            attention::backward(dout, &s.q, &s.k, &s.v, &s.attended, ctx.segments, self.mask())?;
        let (mut dq, mut dk) = (g.dq, g.dk);
        if let Some(angles) = &ctx.angles {
            (dq, dk) = (rope::backward(&dq, angles)?, rope::backward(&dk, angles)?);
        }
        if let (Some((q_norm, k_norm)), Some((q, k))) = (&self.qk_norm, &s.before_norms) {
            dq = q_norm.backward(&dq, q, ctx, request, out)?;
            dk = k_norm.backward(&dk, k, ctx, request, out)?;
        }
        let all = [dq.reshape((n, hq))?, dk.reshape((n, hkv))?, g.dv.reshape((n, hkv))?];
        Ok(match &self.qkv {
            Qkv::Separate { .. } => all.into(),
            Qkv::Fused(_) => vec![Tensor::cat(&all, 1)?],
        })
    }

    /// Weights: a multiplication and an addition of a token each.
    pub fn weights(&self) -> usize {
        self.reads_input().into_iter().chain([&self.o]).map(Linear::weights).sum()
    }

    /// Multiplications of a pair of a query and a key in q·k, and as many in p v.
    pub fn pair_products(&self) -> usize {
        self.num_heads * self.head_dim
    }

    /// Numbers a token that [`AttentionActivations`] keeps, but for the log-sum-exps.
    pub fn saved(&self) -> usize {
        let (q, kv) = self.sizes();
        let before = if self.qk_norm.is_some() { q + kv } else { 0 };
        before + (q + kv) + kv + q
    }
}
