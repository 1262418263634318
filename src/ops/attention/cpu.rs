//! Attention on f32 slices. A task owns one key-value head of one component (segments that share
//! key rows), so that every number is written by one task, in a fixed order.

use std::ops::Range;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{Attended, Gradients, Mask, Segment};
use crate::ops::cpu::gemm::{Matrix, Target, Threads, multiply};
use crate::ops::cpu::simd::{exp, max, sum_by, vectorized};
use crate::ops::cpu::view::{f32s, tensor};

/// Query rows whose scores exist at a time.
const BLOCK: usize = 64;

/// A buffer that tasks write at disjoint places.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: tasks write disjoint (row, head) places, see `tasks`.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// # Safety
    /// `offset` lies inside the buffer.
    unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: the caller vouches for the offset.
        unsafe { self.0.add(offset) }
    }
}

/// Sizes of the tensors.
#[derive(Clone, Copy)]
struct Sizes {
    heads: usize,
    groups: usize,
    e: usize,
}

impl Sizes {
    fn new(q: &Tensor, k: &Tensor) -> Result<Self> {
        let (_, heads, e) = q.dims3()?;
        Ok(Self { heads, groups: k.dim(1)?, e })
    }
    fn q_stride(self) -> usize {
        self.heads * self.e
    }
    fn k_stride(self) -> usize {
        self.groups * self.e
    }
    fn query<'a>(self, data: &'a [f32], head: usize) -> Head<'a> {
        Head { data, head, e: self.e, stride: self.q_stride() }
    }
    fn key<'a>(self, data: &'a [f32], head: usize) -> Head<'a> {
        Head { data, head, e: self.e, stride: self.k_stride() }
    }
    fn heads_of(self, group: usize) -> Range<usize> {
        let times = self.heads / self.groups;
        group * times..(group + 1) * times
    }
}

/// Segments that share key rows belong to one component: the index lists, in order.
fn components(segments: &[Segment]) -> Vec<Vec<usize>> {
    let mut out: Vec<(Vec<usize>, Vec<Range<usize>>)> = Vec::new();
    let touch = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
    for (i, segment) in segments.iter().enumerate() {
        let mine = [segment.prefix_keys.clone(), segment.self_keys.clone()];
        let (mut members, mut ranges) = (vec![], mine.to_vec());
        out.retain_mut(|(other, theirs)| {
            let joined = theirs.iter().any(|a| mine.iter().any(|b| touch(a, b)));
            if joined {
                members.append(other);
                ranges.append(theirs);
            }
            !joined
        });
        members.push(i);
        members.sort_unstable();
        out.push((members, ranges));
    }
    out.into_iter().map(|(members, _)| members).collect()
}

/// (component, key-value head) of every task, the largest component first.
fn tasks(segments: &[Segment], sizes: Sizes) -> Vec<(Vec<usize>, usize)> {
    let mut parts = components(segments);
    let work = |part: &Vec<usize>| {
        part.iter()
            .map(|&i| {
                segments[i].queries.len()
                    * (segments[i].self_keys.len() + segments[i].prefix_keys.len())
            })
            .sum::<usize>()
    };
    parts.sort_by_key(|part| std::cmp::Reverse(work(part)));
    parts.iter().flat_map(|part| (0..sizes.groups).map(|g| (part.clone(), g))).collect()
}

/// One block of query rows of one head: which keys it needs and where they lie.
struct Block {
    /// First query row inside the segment.
    first: usize,
    rows: usize,
    /// Keys seen by some row, counted through context then own.
    keys: Range<usize>,
}

fn blocks(segment: &Segment, mask: Mask) -> impl Iterator<Item = Block> + '_ {
    let n = segment.queries.len();
    (0..n).step_by(BLOCK).map(move |first| {
        let rows = BLOCK.min(n - first);
        let keys = mask.visible(segment, first).start..mask.visible(segment, first + rows - 1).end;
        Block { first, rows, keys }
    })
}

/// The one or two contiguous runs of key rows behind a block's keys: (column in the scores, key
/// row, count).
fn runs(segment: &Segment, keys: &Range<usize>) -> impl Iterator<Item = (usize, usize, usize)> {
    let c = segment.prefix_keys.len();
    let context = keys.start.min(c)..keys.end.min(c);
    let own = keys.start.max(c)..keys.end.max(c);
    let first = (0, segment.prefix_keys.start + context.start, context.len());
    let second = (context.len(), segment.self_keys.start + own.start - c, own.len());
    [first, second].into_iter().filter(|r| r.2 > 0)
}

/// One head of a tensor [rows, heads, E].
#[derive(Clone, Copy)]
struct Head<'a> {
    data: &'a [f32],
    head: usize,
    e: usize,
    stride: usize,
}

impl<'a> Head<'a> {
    /// `rows` rows from `row` on, [rows, E].
    fn rows(self, row: usize, rows: usize) -> Matrix<'a> {
        Matrix::new(&self.data[row * self.stride + self.head * self.e..], rows, self.e, self.stride)
    }
}

/// z = scale · q kᵀ of a block, [rows, keys].
fn scores(z: &mut [f32], q: Matrix, k: Head, segment: &Segment, block: &Block, scale: f32) {
    let width = block.keys.len();
    for (column, row, count) in runs(segment, &block.keys) {
        let keys = k.rows(row, count);
        // SAFETY: columns column..column+count of the block's rows lie inside `z`, which is ours.
        unsafe {
            multiply(
                Target { data: z.as_mut_ptr().add(column), stride: width },
                q,
                keys.t(),
                scale,
                0.0,
                Threads::One,
            )
        }
    }
}

/// The columns of a block's score row that query `i` sees.
fn seen(mask: Mask, segment: &Segment, block: &Block, i: usize) -> Range<usize> {
    let visible = mask.visible(segment, block.first + i);
    visible.start - block.keys.start..visible.end - block.keys.start
}

/// Scores one block needs at most.
fn scratch(segments: &[Segment]) -> Vec<f32> {
    vec![
        0.0;
        BLOCK * segments.iter().map(|s| s.prefix_keys.len() + s.self_keys.len()).max().unwrap_or(0)
    ]
}

pub fn forward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    segments: &[Segment],
    mask: Mask,
) -> Result<Attended> {
    let sizes = Sizes::new(q, k)?;
    let (qs, ks, vs) = (f32s(q)?, f32s(k)?, f32s(v)?);
    let (qs, ks, vs) = (&*qs, &*ks, &*vs);
    let n = q.dim(0)?;
    let mut out = vec![0f32; qs.len()];
    let mut lse = vec![0f32; n * sizes.heads];
    let (o, l) = (Shared(out.as_mut_ptr()), Shared(lse.as_mut_ptr()));
    tasks(segments, sizes).par_iter().for_each_init(
        || scratch(segments),
        |z, (part, group)| {
            let (o, l) = (o, l);
            for segment in part.iter().map(|&i| &segments[i]) {
                for head in sizes.heads_of(*group) {
                    for block in blocks(segment, mask) {
                        let row = segment.queries.start + block.first;
                        let width = block.keys.len();
                        let z = &mut z[..block.rows * width];
                        let query = sizes.query(qs, head).rows(row, block.rows);
                        scores(z, query, sizes.key(ks, *group), segment, &block, mask.scale as f32);
                        for (i, z) in z.chunks_exact_mut(width).enumerate() {
                            let total = softmax(z, seen(mask, segment, &block, i));
                            // SAFETY: row and head are this task's.
                            unsafe { *l.at((row + i) * sizes.heads + head) = total }
                        }
                        let mut beta = 0.0;
                        for (column, key, count) in runs(segment, &block.keys) {
                            let p = Matrix::new(&z[column..], block.rows, count, width);
                            let value = sizes.key(vs, *group).rows(key, count);
                            // SAFETY: the block's rows of this head belong to this task; the first
                            // run sets them.
                            unsafe {
                                let data = o.at(row * sizes.q_stride() + head * sizes.e);
                                multiply(
                                    Target { data, stride: sizes.q_stride() },
                                    p,
                                    value,
                                    1.0,
                                    beta,
                                    Threads::One,
                                );
                            }
                            beta = 1.0;
                        }
                    }
                }
            }
        },
    );
    Ok(Attended { out: tensor(out, q.shape())?, lse: tensor(lse, (n, sizes.heads))? })
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

pub fn backward(
    dout: &Tensor,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    a: &Attended,
    segments: &[Segment],
    mask: Mask,
) -> Result<Gradients> {
    let sizes = Sizes::new(q, k)?;
    let (ds, qs, ks, vs, os, ls) =
        (f32s(dout)?, f32s(q)?, f32s(k)?, f32s(v)?, f32s(&a.out)?, f32s(&a.lse)?);
    let (ds, qs, ks, vs, os, ls) = (&*ds, &*qs, &*ks, &*vs, &*os, &*ls);
    let (mut dq, mut dk, mut dv) =
        (vec![0f32; qs.len()], vec![0f32; ks.len()], vec![0f32; vs.len()]);
    let (dq_at, dk_at, dv_at) =
        (Shared(dq.as_mut_ptr()), Shared(dk.as_mut_ptr()), Shared(dv.as_mut_ptr()));
    let (e, q_stride, k_stride) = (sizes.e, sizes.q_stride(), sizes.k_stride());
    tasks(segments, sizes).par_iter().for_each_init(
        || (scratch(segments), scratch(segments)),
        |(p, dz), (part, group)| {
            let (dq_at, dk_at, dv_at) = (dq_at, dk_at, dv_at);
            for segment in part.iter().map(|&i| &segments[i]) {
                for head in sizes.heads_of(*group) {
                    for block in blocks(segment, mask) {
                        let row = segment.queries.start + block.first;
                        let width = block.keys.len();
                        let (p, dz) = (&mut p[..block.rows * width], &mut dz[..block.rows * width]);
                        let query = sizes.query(qs, head).rows(row, block.rows);
                        let d = sizes.query(ds, head).rows(row, block.rows);
                        scores(p, query, sizes.key(ks, *group), segment, &block, mask.scale as f32);
                        scores(dz, d, sizes.key(vs, *group), segment, &block, 1.0);
                        for (i, (p, dz)) in
                            p.chunks_exact_mut(width).zip(dz.chunks_exact_mut(width)).enumerate()
                        {
                            let at = (row + i) * q_stride + head * e;
                            let (d, o) = (&ds[at..at + e], &os[at..at + e]);
                            let lse = ls[(row + i) * sizes.heads + head];
                            score_gradients(
                                p,
                                dz,
                                seen(mask, segment, &block, i),
                                d,
                                o,
                                lse,
                                mask.scale as f32,
                            );
                        }
                        let (p, dz) = (&*p, &*dz);
                        let mut beta = 0.0;
                        for (column, key, count) in runs(segment, &block.keys) {
                            let keys = sizes.key(ks, *group).rows(key, count);
                            let p = Matrix::new(&p[column..], block.rows, count, width);
                            let dz = Matrix::new(&dz[column..], block.rows, count, width);
                            // SAFETY: the block's query rows of this head, and this component's key
                            // rows of this group, belong to this task alone; dk and dv start at 0,
                            // dq is set by the first run.
                            unsafe {
                                let to_q = Target {
                                    data: dq_at.at(row * q_stride + head * e),
                                    stride: q_stride,
                                };
                                let to_k = Target {
                                    data: dk_at.at(key * k_stride + group * e),
                                    stride: k_stride,
                                };
                                let to_v = Target {
                                    data: dv_at.at(key * k_stride + group * e),
                                    stride: k_stride,
                                };
                                multiply(to_q, dz, keys, 1.0, beta, Threads::One);
                                multiply(to_k, dz.t(), query, 1.0, 1.0, Threads::One);
                                multiply(to_v, p.t(), d, 1.0, 1.0, Threads::One);
                            }
                            beta = 1.0;
                        }
                    }
                }
            }
        },
    );
    Ok(Gradients {
        dq: tensor(dq, q.shape())?,
        dk: tensor(dk, k.shape())?,
        dv: tensor(dv, v.shape())?,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_that_share_keys_are_one_component() {
        let prompt = Segment::alone(0..4);
        let choice = |rows: Range<usize>| Segment {
            queries: rows.clone(),
            prefix_keys: 0..4,
            self_keys: rows,
        };
        let other = Segment::alone(9..12);
        assert_eq!(
            components(&[prompt, choice(4..6), choice(6..9), other]),
            [vec![0, 1, 2], vec![3]]
        );
    }
}
