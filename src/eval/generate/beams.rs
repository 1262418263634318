//! Beam search after one prompt, as `GenerationMixin._beam_search` of Hugging Face transformers
//! does it with `early_stopping` false and `length_penalty` 1: of all continuations of the running
//! beams those with the largest sums are candidates; a candidate among the first `width` that ends
//! is a finished hypothesis, scored by its sum a token (the end token counts); the first `width`
//! that do not end run on. The search is over when no running beam can run, or `width` hypotheses
//! are finished and the best running sum a token is not above the worst of them.

use anyhow::Result;

use super::{Behind, Rules};

/// A sequence that runs.
#[derive(Clone, Debug)]
pub struct Beam {
    pub ids: Vec<u32>,
    /// Sum of its log-probabilities, in nats.
    sum: f64,
}

/// The state of a search.
#[derive(Debug)]
pub struct Beams {
    width: usize,
    /// By their sum, best first.
    pub running: Vec<Beam>,
    /// (score, tokens without the end token), best first.
    finished: Vec<(f64, Vec<u32>)>,
}

impl Beams {
    pub fn new(width: usize) -> Self {
        Self { width, running: vec![Beam { ids: vec![], sum: 0.0 }], finished: vec![] }
    }

    /// Continuations that are looked at: enough that `width` run on even where each beam's end
    /// tokens come first.
    pub fn candidates(width: usize, ends: usize) -> usize {
        width.saturating_mul((1 + ends).max(2))
    }

    /// Takes the likeliest tokens after each running beam. The parents of those that run now; none
    /// where the search is over.
    pub fn advance(
        &mut self,
        likeliest: &[Vec<(u32, f64)>],
        rules: &Rules,
        behind: Option<&Behind>,
    ) -> Result<Vec<usize>> {
        let candidates = self.continued(likeliest, rules.ends.len());
        let length = self.running.first().map_or(0, |beam| beam.ids.len()) + 1;
        let (mut running, mut parents) = (Vec::new(), Vec::new());
        for (rank, (parent, token, sum)) in candidates.into_iter().enumerate() {
            if running.len() == self.width && rank >= self.width {
                break;
            }
            let mut ids = self.running[parent].ids.clone();
            let ended = rules.ends.contains(&token);
            if !ended {
                ids.push(token);
            }
            if ended || rules.over(&ids, behind)? {
                if rank < self.width {
                    self.finished.push((sum / length as f64, ids));
                }
            } else if running.len() < self.width {
                running.push(Beam { ids, sum });
                parents.push(parent);
            }
        }
        // Stable: of equals the older stays.
        self.finished.sort_by(|a, b| b.0.total_cmp(&a.0));
        self.finished.truncate(self.width);
        self.running = running;
        if !self.improvable(length) {
            parents.clear();
        }
        Ok(parents)
    }

    /// The candidates: parent, token and sum, best first.
    fn continued(&self, likeliest: &[Vec<(u32, f64)>], ends: usize) -> Vec<(usize, u32, f64)> {
        let mut candidates: Vec<(usize, u32, f64)> = Vec::new();
        for (parent, (beam, tokens)) in self.running.iter().zip(likeliest).enumerate() {
            candidates.extend(tokens.iter().map(|&(token, p)| (parent, token, beam.sum + p)));
        }
        candidates.sort_by(|a, b| b.2.total_cmp(&a.2));
        candidates.truncate(Self::candidates(self.width, ends));
        candidates
    }

    /// Whether a beam runs that may become better than the worst of enough finished hypotheses.
    fn improvable(&self, length: usize) -> bool {
        let full = self.finished.len() == self.width;
        let worst = self.finished.last().filter(|_| full).map(|f| f.0);
        self.running
            .first()
            .is_some_and(|best| worst.is_none_or(|worst| best.sum / length as f64 > worst))
    }

    /// The best hypothesis, once the search is over.
    pub fn best(self) -> Vec<u32> {
        self.finished.into_iter().next().map(|f| f.1).unwrap_or_default()
    }
}
