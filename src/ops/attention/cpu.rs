//! Attention on f32 slices. Tasks over (component, key-value head) write every number in a fixed
//! order; see `blocks.rs`.

use std::ops::Range;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::blocks::{HeadTask, KeyRun, ScoreBlock, most_scores, tasks};
use super::{Attended, AttentionGradients, Mask, Segment};
use crate::ops::cpu::gemm::{GemmOutput, Matrix, Threads, multiply};
use crate::ops::cpu::simd::{exp, max, sum_by, vectorized};
use crate::ops::cpu::view::{f32s, tensor};

/// A tensor [rows, heads, E].
#[derive(Clone, Copy)]
struct Heads<'a> {
    data: &'a [f32],
    heads: usize,
    e: usize,
}

impl<'a> Heads<'a> {
    fn new(data: &'a [f32], shape: &Tensor) -> Result<Self> {
        let (_, heads, e) = shape.dims3()?;
        Ok(Self { data, heads, e })
    }

    /// One head of `rows` rows from `row` on, [rows, E].
    fn rows(self, head: usize, row: usize, rows: usize) -> Matrix<'a> {
        let start = (row * self.heads + head) * self.e;
        Matrix::new(&self.data[start..], rows, self.e, self.heads * self.e)
    }

    /// One head of one row, [E].
    fn row(self, head: usize, row: usize) -> &'a [f32] {
        &self.data[(row * self.heads + head) * self.e..][..self.e]
    }

    fn run(self, head: usize, run: KeyRun) -> Matrix<'a> {
        self.rows(head, run.row, run.count)
    }
}

/// What both directions read.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    q: Heads<'a>,
    k: Heads<'a>,
    v: Heads<'a>,
    mask: Mask,
}

impl Inputs<'_> {
    /// The query heads of a key-value head.
    fn heads(&self, group: usize) -> Range<usize> {
        let times = self.q.heads / self.k.heads;
        group * times..(group + 1) * times
    }

    /// Calls `each(block, query head)` over a task, in order.
    fn over(&self, task: &HeadTask, mut each: impl FnMut(&ScoreBlock, usize)) {
        for segment in &task.segments {
            for head in self.heads(task.group) {
                ScoreBlock::of(segment, self.mask).for_each(|block| each(&block, head));
            }
        }
    }
}

/// z = scale · q kᵀ of a block, [rows, keys], where q is the block's.
fn scores(z: &mut [f32], q: Matrix, k: Heads, group: usize, block: &ScoreBlock, scale: f32) {
    assert_eq!(z.len(), block.rows * block.width(), "size of a block's scores");
    let target = GemmOutput::new(z, block.width());
    for run in block.runs() {
        // SAFETY: the run's columns of all rows lie inside `z`, which is ours.
        unsafe {
            let target = target.at(0, run.column);
            multiply(target, q, k.run(group, run).t(), scale, 0.0, Threads::One)
        }
    }
}

pub fn forward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    segments: &[Segment],
    mask: Mask,
) -> Result<Attended> {
    let (qs, ks, vs) = (f32s(q)?, f32s(k)?, f32s(v)?);
    let (q_heads, k_heads) = (Heads::new(&qs, q)?, Heads::new(&ks, k)?);
    let x = Inputs { q: q_heads, k: k_heads, v: Heads::new(&vs, v)?, mask };
    let (n, heads, e) = q.dims3()?;
    let (mut out, mut lse) = (vec![0f32; qs.len()], vec![0f32; n * heads]);
    let (to_out, to_lse) = (GemmOutput::new(&mut out, heads * e), GemmOutput::new(&mut lse, heads));
    tasks(segments, x.k.heads).par_iter().for_each_init(
        || vec![0.0; most_scores(segments)],
        |z, task| {
            x.over(task, |block, head| {
                let z = &mut z[..block.rows * block.width()];
                // SAFETY: the block's rows of this head are this task's.
                unsafe { forward_block(&x, block, (head, task.group), z, to_out, to_lse) }
            })
        },
    );
    Ok(Attended { out: tensor(out, q.shape())?, lse: tensor(lse, (n, heads))? })
}

/// o and lse of a block's queries; `z` is for their scores.
///
/// # Safety
/// The block's rows of the query head in `out` [N, H, E] and `lse` [N, H] are the caller's alone.
unsafe fn forward_block(
    x: &Inputs,
    block: &ScoreBlock,
    (head, group): (usize, usize),
    z: &mut [f32],
    out: GemmOutput,
    lse: GemmOutput,
) {
    let (row, width) = (block.query(), block.width());
    let q = x.q.rows(head, row, block.rows);
    scores(z, q, x.k, group, block, x.mask.scale as f32);
    for (i, z) in z.chunks_exact_mut(width).enumerate() {
        let total = softmax(z, block.seen(i));
        // SAFETY: the caller vouches for row and head.
        unsafe { lse.at(row + i, head).set(total) }
    }
    let mut beta = 0.0;
    for run in block.runs() {
        let p = Matrix::new(&z[run.column..], block.rows, run.count, width);
        // SAFETY: the caller vouches for rows and head; the first run sets them.
        unsafe {
            let target = out.at(row, head * x.q.e);
            multiply(target, p, x.v.run(group, run), 1.0, beta, Threads::One);
        }
        beta = 1.0;
    }
}

/// Turns the seen scores of a row into probabilities, the others into 0, and gives the log-sum-exp.
fn softmax(z: &mut [f32], seen: Range<usize>) -> f32 {
    vectorized(
        #[inline(always)]
        || {
            z[..seen.start].fill(0.0);
            z[seen.end..].fill(0.0);
            let z = &mut z[seen];
            let top = max(z);
            for z in z.iter_mut() {
                *z = exp(*z - top);
            }
            let sum = sum_by(z.len(), |i| z[i]);
            let inv = 1.0 / sum;
            for z in z.iter_mut() {
                *z *= inv;
            }
            top + sum.ln()
        },
    )
}

/// What backward reads beside the forward's inputs.
#[derive(Clone, Copy)]
struct Outputs<'a> {
    dout: Heads<'a>,
    out: Heads<'a>,
    /// [N, H]
    lse: &'a [f32],
}

/// Where backward writes, in the shapes of q, k and v.
#[derive(Clone, Copy)]
struct GradientOutputs {
    dq: GemmOutput,
    dk: GemmOutput,
    dv: GemmOutput,
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
    let (qs, ks, vs) = (f32s(q)?, f32s(k)?, f32s(v)?);
    let (ds, os, ls) = (f32s(dout)?, f32s(&a.out)?, f32s(&a.lse)?);
    let (q_heads, k_heads) = (Heads::new(&qs, q)?, Heads::new(&ks, k)?);
    let x = Inputs { q: q_heads, k: k_heads, v: Heads::new(&vs, v)?, mask };
    let y = Outputs { dout: Heads::new(&ds, q)?, out: Heads::new(&os, q)?, lse: &ls };
    let zeros = |like: &[f32]| vec![0f32; like.len()];
    let (mut dq, mut dk, mut dv) = (zeros(&qs), zeros(&ks), zeros(&vs));
    let (q_stride, k_stride) = (x.q.heads * x.q.e, x.k.heads * x.k.e);
    let to = GradientOutputs {
        dq: GemmOutput::new(&mut dq, q_stride),
        dk: GemmOutput::new(&mut dk, k_stride),
        dv: GemmOutput::new(&mut dv, k_stride),
    };
    let most = most_scores(segments);
    tasks(segments, x.k.heads).par_iter().for_each_init(
        || (vec![0.0; most], vec![0.0; most]),
        |(p, dz), task| {
            x.over(task, |block, head| {
                let size = block.rows * block.width();
                let scratch = (&mut p[..size], &mut dz[..size]);
                // SAFETY: the block's query rows of this head, and the component's key rows of the
                // task's head, are this task's; dk and dv start at 0.
                unsafe { backward_block(&x, &y, block, (head, task.group), scratch, to) }
            })
        },
    );
    Ok(AttentionGradients {
        dq: tensor(dq, q.shape())?,
        dk: tensor(dk, k.shape())?,
        dv: tensor(dv, v.shape())?,
    })
}

/// dq of a block's queries, and what they add to dk and dv.
///
/// # Safety
/// The block's rows of the query head in `to.dq`, and its key rows of the key-value head in `to.dk`
/// and `to.dv`, which hold numbers, are the caller's alone.
unsafe fn backward_block(
    x: &Inputs,
    y: &Outputs,
    block: &ScoreBlock,
    (head, group): (usize, usize),
    (p, dz): (&mut [f32], &mut [f32]),
    to: GradientOutputs,
) {
    let (row, width, scale) = (block.query(), block.width(), x.mask.scale as f32);
    let q = x.q.rows(head, row, block.rows);
    let d = y.dout.rows(head, row, block.rows);
    scores(p, q, x.k, group, block, scale);
    scores(dz, d, x.v, group, block, 1.0);
    let rows = p.chunks_exact_mut(width).zip(dz.chunks_exact_mut(width));
    for (i, (p, dz)) in rows.enumerate() {
        let (d, o) = (y.dout.row(head, row + i), y.out.row(head, row + i));
        let lse = y.lse[(row + i) * x.q.heads + head];
        score_gradients(p, dz, block.seen(i), d, o, lse, scale);
    }
    let mut beta = 0.0;
    for run in block.runs() {
        let p = Matrix::new(&p[run.column..], block.rows, run.count, width);
        let dz = Matrix::new(&dz[run.column..], block.rows, run.count, width);
        // SAFETY: the caller vouches for rows and heads; dq is set by the first run.
        unsafe {
            let dq = to.dq.at(row, head * x.q.e);
            let (dk, dv) = (to.dk.at(run.row, group * x.k.e), to.dv.at(run.row, group * x.k.e));
            multiply(dq, dz, x.k.run(group, run), 1.0, beta, Threads::One);
            multiply(dk, dz.t(), q, 1.0, 1.0, Threads::One);
            multiply(dv, p.t(), d, 1.0, 1.0, Threads::One);
        }
        beta = 1.0;
    }
}

/// From scores z and dp = do·v of a row: p in place of z, s · dz in place of dp; 0 where nothing is
/// seen.
fn score_gradients(
    p: &mut [f32],
    dz: &mut [f32],
    seen: Range<usize>,
    d: &[f32],
    o: &[f32],
    lse: f32,
    scale: f32,
) {
    vectorized(
        #[inline(always)]
        || {
            for part in [&mut *p, &mut *dz] {
                part[..seen.start].fill(0.0);
                part[seen.end..].fill(0.0);
            }
            let delta = sum_by(d.len(), |i| d[i] * o[i]);
            let (p, dz) = (&mut p[seen.clone()], &mut dz[seen]);
            for i in 0..p.len() {
                p[i] = exp(p[i] - lse);
                dz[i] = p[i] * (dz[i] - delta) * scale;
            }
        },
    );
}
