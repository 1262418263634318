//! Scaled dot-product attention (Vaswani et al. 2017) with grouped key-value heads, sequence by
//! sequence over a flat batch without padding:
//!
//! ```text
//! o = Σ_j p_j v_j        p = softmax(z)        z_j = s · q·k_j        lse = ln Σ_j e^z_j
//! ```
//!
//! A query row i of a [`Segment`] sees the segment's prefix keys, and of its own keys those up to
//! its own (causal) or all. Backward, of one query, summed over all that see a key for dk and dv:
//!
//! ```text
//! dv = p · do
//! dz = p · (do·v − do·o)
//! dq = s · Σ_j dz_j k_j
//! dk = s · dz · q
//! ```
//!
//! Memory grows with N, not N² (Dao et al. 2022): twins hold a block of score rows at a time, and
//! backward forms them again from the row's lse.

mod blocks;
pub mod cpu;

use std::ops::Range;

use candle_core::{Result, Tensor};

use super::Backend;

/// A run of queries and the keys it sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Rows of q.
    pub queries: Range<usize>,
    /// Rows of k and v that every query sees.
    pub prefix_keys: Range<usize>,
    /// Rows of k and v of the queries' own sequence: the last belong to the queries themselves,
    /// those before them, as a cache holds, to tokens that went before.
    pub self_keys: Range<usize>,
}

impl Segment {
    /// A sequence that sees itself only.
    pub fn alone(rows: Range<usize>) -> Self {
        Self { queries: rows.clone(), prefix_keys: 0..0, self_keys: rows }
    }

    /// Segments of a flat batch with boundaries `starts` (first 0, last N).
    pub fn of_batch(starts: &[usize]) -> Vec<Self> {
        starts.windows(2).map(|w| Self::alone(w[0]..w[1])).collect()
    }
}

/// Which keys are seen, and the scale of the scores.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    pub causal: bool,
    /// Sliding window: a causal query at distance `window` or more from a key does not see it.
    pub window: Option<usize>,
    /// s, usually 1/√E.
    pub scale: f64,
}

impl Mask {
    /// The first (inclusive) and last (exclusive) of the keys that query i sees, counted through
    /// prefix then own.
    fn visible(&self, segment: &Segment, i: usize) -> Range<usize> {
        let keys = segment.prefix_keys.len() + segment.self_keys.len();
        let end = if self.causal { keys - segment.queries.len() + i + 1 } else { keys };
        let start = match self.window {
            Some(window) if self.causal => end.saturating_sub(window),
            _ => 0,
        };
        start..end
    }
}

/// o [N, H, E] and lse [N, H] of every query.
pub struct Attended {
    pub out: Tensor,
    pub lse: Tensor,
}

/// dq [N, H, E], dk and dv [M, G, E].
pub struct AttentionGradients {
    pub dq: Tensor,
    pub dk: Tensor,
    pub dv: Tensor,
}

/// q [N, H, E], k and v [M, G, E], with H a multiple of G. Segments' queries must not overlap.
pub fn forward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    segments: &[Segment],
    mask: Mask,
) -> Result<Attended> {
    match Backend::of(&[q, k, v]) {
        Backend::Cpu => cpu::forward(q, k, v, segments, mask),
        _ => reference::forward(q, k, v, segments, mask),
    }
}

/// The gradients from do [N, H, E], the forward's inputs and its results.
pub fn backward(
    dout: &Tensor,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    a: &Attended,
    segments: &[Segment],
    mask: Mask,
) -> Result<AttentionGradients> {
    match Backend::of(&[dout, q, k, v, &a.out, &a.lse]) {
        Backend::Cpu => cpu::backward(dout, q, k, v, a, segments, mask),
        _ => reference::backward(dout, q, k, v, a, segments, mask),
    }
}

/// The definition, on tensors of any device: whole score matrices, a segment at a time.
pub mod reference {
    use candle_core::{D, DType, Device};

    use super::*;
    use crate::ops::{accumulator, matmul};

    /// One segment's tensors in the accumulator type, heads first; k and v repeated to H heads.
    struct HeadFirst {
        q: Tensor,
        k: Tensor,
        v: Tensor,
        /// 0 or -inf, [rows, keys].
        bias: Tensor,
    }

    fn rows(x: &Tensor, range: &Range<usize>) -> Result<Tensor> {
        x.narrow(0, range.start, range.len())
    }

    fn keys(x: &Tensor, segment: &Segment) -> Result<Tensor> {
        match segment.prefix_keys.is_empty() {
            true => rows(x, &segment.self_keys),
            false => {
                Tensor::cat(&[rows(x, &segment.prefix_keys)?, rows(x, &segment.self_keys)?], 0)
            }
        }
    }

    fn heads_first(x: &Tensor, dtype: DType) -> Result<Tensor> {
        x.to_dtype(dtype)?.transpose(0, 1)?.contiguous()
    }

    fn repeat(x: &Tensor, times: usize) -> Result<Tensor> {
        let (g, m, e) = x.dims3()?;
        x.unsqueeze(1)?.expand((g, times, m, e))?.reshape((g * times, m, e))
    }

    fn heads(
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        segment: &Segment,
        mask: Mask,
    ) -> Result<HeadFirst> {
        let dtype = accumulator(q.dtype());
        let times = q.dim(1)? / k.dim(1)?;
        let (n, m) = (segment.queries.len(), segment.prefix_keys.len() + segment.self_keys.len());
        Ok(HeadFirst {
            q: heads_first(&rows(q, &segment.queries)?, dtype)?,
            k: repeat(&heads_first(&keys(k, segment)?, dtype)?, times)?,
            v: repeat(&heads_first(&keys(v, segment)?, dtype)?, times)?,
            bias: bias(segment, mask, (n, m), q.device())?.to_dtype(dtype)?,
        })
    }

    /// 0 where a query sees a key, -inf elsewhere [n, m], formed on the device from each query's
    /// first and last key.
    fn bias(
        segment: &Segment,
        mask: Mask,
        (n, m): (usize, usize),
        device: &Device,
    ) -> Result<Tensor> {
        let seen = (0..n).map(|i| mask.visible(segment, i));
        let (first, end): (Vec<u32>, Vec<u32>) =
            seen.map(|keys| (keys.start as u32, keys.end as u32)).unzip();
        let row = |bounds: Vec<u32>| Tensor::new(bounds, device)?.unsqueeze(1);
        let key = Tensor::arange(0, m as u32, device)?.unsqueeze(0)?;
        let seen = (key.broadcast_ge(&row(first)?)? * key.broadcast_lt(&row(end)?)?)?;
        let zeros = Tensor::zeros((n, m), DType::F32, device)?;
        seen.where_cond(&zeros, &Tensor::full(f32::NEG_INFINITY, (n, m), device)?)
    }

    fn scores(h: &HeadFirst, mask: Mask) -> Result<Tensor> {
        (matmul(&h.q, &h.k.t()?)? * mask.scale)?.broadcast_add(&h.bias)
    }

    pub fn forward(
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        segments: &[Segment],
        mask: Mask,
    ) -> Result<Attended> {
        let dtype = accumulator(q.dtype());
        let out = Tensor::zeros(q.shape(), q.dtype(), q.device())?;
        let lse = Tensor::zeros((q.dim(0)?, q.dim(1)?), dtype, q.device())?;
        for segment in segments {
            let h = heads(q, k, v, segment, mask)?;
            let z = scores(&h, mask)?;
            let top = z.max_keepdim(D::Minus1)?;
            let e = z.broadcast_sub(&top)?.exp()?;
            let sum = e.sum_keepdim(D::Minus1)?;
            let o = matmul(&e.broadcast_div(&sum)?, &h.v)?.transpose(0, 1)?.contiguous()?;
            out.slice_set(&o.to_dtype(q.dtype())?, 0, segment.queries.start)?;
            let l = (sum.log()? + top)?.squeeze(D::Minus1)?.t()?.contiguous()?;
            lse.slice_set(&l, 0, segment.queries.start)?;
        }
        Ok(Attended { out, lse })
    }

    pub fn backward(
        dout: &Tensor,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        a: &Attended,
        segments: &[Segment],
        mask: Mask,
    ) -> Result<AttentionGradients> {
        let dtype = accumulator(q.dtype());
        let dq = Tensor::zeros(q.shape(), q.dtype(), q.device())?;
        let mut dk = Tensor::zeros(k.shape(), dtype, k.device())?;
        let mut dv = Tensor::zeros(v.shape(), dtype, v.device())?;
        for segment in segments {
            let h = heads(q, k, v, segment, mask)?;
            let d = heads_first(&rows(dout, &segment.queries)?, dtype)?;
            let o = heads_first(&rows(&a.out, &segment.queries)?, dtype)?;
            let lse = rows(&a.lse, &segment.queries)?.t()?.unsqueeze(D::Minus1)?;
            let p = scores(&h, mask)?.broadcast_sub(&lse)?.exp()?;
            let delta = (&d * &o)?.sum_keepdim(D::Minus1)?;
            let dz = ((&p * matmul(&d, &h.v.t()?)?.broadcast_sub(&delta)?)? * mask.scale)?;
            let back = matmul(&dz, &h.k)?.transpose(0, 1)?.contiguous()?;
            dq.slice_set(&back.to_dtype(q.dtype())?, 0, segment.queries.start)?;
            dk = accumulate(dk, &matmul(&dz.t()?, &h.q)?, segment)?;
            dv = accumulate(dv, &matmul(&p.t()?, &d)?, segment)?;
        }
        Ok(AttentionGradients { dq, dk: dk.to_dtype(k.dtype())?, dv: dv.to_dtype(v.dtype())? })
    }

    /// Adds per-head gradients [H, keys, E] to the key rows [M, G, E] of a segment.
    fn accumulate(sum: Tensor, per_head: &Tensor, segment: &Segment) -> Result<Tensor> {
        let (heads, m, e) = per_head.dims3()?;
        let groups = sum.dim(1)?;
        let grouped = per_head
            .reshape((groups, heads / groups, m, e))?
            .sum(1)?
            .transpose(0, 1)?
            .contiguous()?;
        let index: Vec<u32> = segment
            .prefix_keys
            .clone()
            .chain(segment.self_keys.clone())
            .map(|i| i as u32)
            .collect();
        sum.index_add(&Tensor::new(index, sum.device())?, &grouped, 0)
    }
}
