//! How attention is cut: into tasks that write disjoint places, and these into blocks of queries.

use std::ops::Range;

use super::{Mask, Segment};

/// Query rows whose scores exist at a time.
const ROWS: usize = 64;

/// The segments of one component and one key-value head. Segments that share key rows are of one
/// component, so that the rows of a head's keys and of its queries are one task's alone.
pub struct HeadTask<'a> {
    pub segments: Vec<&'a Segment>,
    pub group: usize,
}

/// All tasks, those of the largest component first.
pub fn tasks(segments: &[Segment], groups: usize) -> Vec<HeadTask<'_>> {
    let mut parts = components(segments);
    let work = |part: &Vec<usize>| {
        part.iter().map(|&i| segments[i].queries.len() * keys(&segments[i])).sum::<usize>()
    };
    parts.sort_by_key(|part| std::cmp::Reverse(work(part)));
    let task = |part: &[usize], group| HeadTask {
        segments: part.iter().map(|&i| &segments[i]).collect(),
        group,
    };
    parts.iter().flat_map(|part| (0..groups).map(move |group| task(part, group))).collect()
}

/// Scores that one block needs at most.
pub fn most_scores(segments: &[Segment]) -> usize {
    ROWS * segments.iter().map(keys).max().unwrap_or(0)
}

fn keys(segment: &Segment) -> usize {
    segment.prefix_keys.len() + segment.self_keys.len()
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

/// Some query rows of one segment, and the keys that they need.
pub struct ScoreBlock<'a> {
    segment: &'a Segment,
    mask: Mask,
    /// First query row inside the segment.
    first: usize,
    /// How many.
    pub rows: usize,
    /// Keys seen by some row, counted through prefix then own.
    keys: Range<usize>,
}

/// Contiguous key rows of a block.
#[derive(Clone, Copy)]
pub struct KeyRun {
    /// First column in the scores.
    pub column: usize,
    /// First row of k and v.
    pub row: usize,
    pub count: usize,
}

impl<'a> ScoreBlock<'a> {
    /// The blocks of a segment, in order.
    pub fn of(segment: &'a Segment, mask: Mask) -> impl Iterator<Item = Self> {
        let n = segment.queries.len();
        (0..n).step_by(ROWS).map(move |first| {
            let rows = ROWS.min(n - first);
            let end = mask.visible(segment, first + rows - 1).end;
            let keys = mask.visible(segment, first).start..end;
            Self { segment, mask, first, rows, keys }
        })
    }

    /// The first row of q.
    pub fn query(&self) -> usize {
        self.segment.queries.start + self.first
    }

    /// Columns of the scores.
    pub fn width(&self) -> usize {
        self.keys.len()
    }

    /// The one or two runs of key rows behind the scores' columns.
    pub fn runs(&self) -> impl Iterator<Item = KeyRun> {
        let (segment, c) = (self.segment, self.segment.prefix_keys.len());
        let prefix = self.keys.start.min(c)..self.keys.end.min(c);
        let own = self.keys.start.max(c)..self.keys.end.max(c);
        let first = KeyRun {
            column: 0,
            row: segment.prefix_keys.start + prefix.start,
            count: prefix.len(),
        };
        let second = KeyRun {
            column: prefix.len(),
            row: segment.self_keys.start + own.start - c,
            count: own.len(),
        };
        [first, second].into_iter().filter(|run| run.count > 0)
    }

    /// The columns of the scores that query `i` of the block sees.
    pub fn seen(&self, i: usize) -> Range<usize> {
        let visible = self.mask.visible(self.segment, self.first + i);
        visible.start - self.keys.start..visible.end - self.keys.start
    }
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
