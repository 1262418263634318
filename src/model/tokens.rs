//! The tokens of a pass: a flat run without padding, and who sees whom.

use crate::ops::attention::Segment;

/// A flat run of tokens without padding, and who sees whom.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// `[N]`
    pub ids: Vec<u32>,
    /// Position of every token in its sequence, `[N]`.
    pub positions: Vec<u32>,
    /// `token_type_ids` `[N]`; empty where all are 0.
    pub types: Vec<u32>,
    pub segments: Vec<Segment>,
}

impl Tokens {
    /// Separate sequences with boundaries `starts` (first 0, last N).
    pub fn sequences(ids: Vec<u32>, starts: &[usize]) -> Self {
        let positions = starts.windows(2).flat_map(|w| 0..(w[1] - w[0]) as u32).collect();
        Self { ids, positions, types: vec![], segments: Segment::of_batch(starts) }
    }

    /// The same with `token_type_ids`, which are empty where all are 0.
    pub fn typed(self, types: Vec<u32>) -> Self {
        Self { types, ..self }
    }

    /// One sequence.
    pub fn one(ids: Vec<u32>) -> Self {
        let n = ids.len();
        Self::sequences(ids, &[0, n])
    }

    /// A prompt and several continuations that each see the prompt and themselves: the prompt is
    /// computed once.
    pub fn shared_prompt(prompt: &[u32], continuations: &[Vec<u32>]) -> Self {
        let p = prompt.len();
        let mut tokens = Self {
            ids: prompt.to_vec(),
            positions: (0..p as u32).collect(),
            types: vec![],
            segments: vec![Segment::alone(0..p)],
        };
        for continuation in continuations {
            let rows = tokens.ids.len()..tokens.ids.len() + continuation.len();
            tokens.ids.extend(continuation);
            tokens.positions.extend(p as u32..(p + continuation.len()) as u32);
            tokens.segments.push(Segment {
                queries: rows.clone(),
                prefix_keys: 0..p,
                self_keys: rows,
            });
        }
        tokens
    }

    /// Lays `other` behind these tokens; neither sees the other.
    pub fn append(&mut self, other: Self) {
        let offset = self.ids.len();
        if !(self.types.is_empty() && other.types.is_empty()) {
            self.types.resize(offset, 0);
            self.types.extend(&other.types);
            self.types.resize(offset + other.ids.len(), 0);
        }
        let shift = |r: std::ops::Range<usize>| r.start + offset..r.end + offset;
        self.ids.extend(other.ids);
        self.positions.extend(other.positions);
        self.segments.extend(other.segments.into_iter().map(|s| Segment {
            queries: shift(s.queries),
            prefix_keys: shift(s.prefix_keys),
            self_keys: shift(s.self_keys),
        }));
    }
}
