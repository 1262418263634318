//! Named, counter-based random streams.
//!
//! Every use of chance has a stream of its own, keyed by the run's seed and the use's name, so that
//! initialisation, data order and policies never disturb each other. A stream's state is a seed, a
//! name and a position: it can be written down and taken up again.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

/// A reproducible source of random numbers (ChaCha8).
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream called `name` under `seed`; different names give independent streams.
    pub fn new(seed: u64, name: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(name.as_bytes());
        Self(ChaCha8Rng::from_seed(hash.finalize().into()))
    }

    /// How far the stream has been read, in 32-bit words.
    pub fn position(&self) -> u128 {
        self.0.get_word_pos()
    }

    /// Goes on from a position that [`Stream::position`] gave.
    pub fn seek(&mut self, position: u128) {
        self.0.set_word_pos(position);
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        self.0.random::<f64>()
    }

    /// Uniform in 0..n, without bias; n must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n as u64) as usize
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        self.0.sample(rand_distr::StandardNormal)
    }

    /// A uniform permutation of `items`, in place (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// `k` different indices out of 0..n, uniformly, in the order drawn; k is at most n.
    pub fn choose(&mut self, n: usize, k: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..n).collect();
        for i in 0..k {
            let j = i + self.below(n - i);
            all.swap(i, j);
        }
        all.truncate(k);
        all
    }

    /// `k` different indices, each draw in proportion to the weights of those left (weights finite,
    /// none negative, at least `k` above 0).
    pub fn weighted(&mut self, weights: &[f64], k: usize) -> Vec<usize> {
        let mut left: Vec<usize> = (0..weights.len()).filter(|&i| weights[i] > 0.0).collect();
        let mut out = Vec::with_capacity(k);
        while out.len() < k && !left.is_empty() {
            let total: f64 = left.iter().map(|&i| weights[i]).sum();
            let mut at = self.uniform() * total;
            let mut pick = left.len() - 1;
            for (j, &i) in left.iter().enumerate() {
                at -= weights[i];
                if at < 0.0 {
                    pick = j;
                    break;
                }
            }
            out.push(left.remove(pick));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_named_and_resumable() {
        let mut a = Stream::new(7, "data");
        let first: Vec<f64> = (0..5).map(|_| a.uniform()).collect();
        let position = a.position();
        let next = a.normal();
        let mut again = Stream::new(7, "data");
        assert_eq!(first, (0..5).map(|_| again.uniform()).collect::<Vec<_>>());
        again.seek(position);
        assert_eq!(next, again.normal());
        assert_ne!(first[0], Stream::new(7, "init").uniform());
        assert_ne!(first[0], Stream::new(8, "data").uniform());
    }

    #[test]
    fn choose_is_without_replacement_and_uniform() {
        let mut stream = Stream::new(1, "layers");
        let mut counts = [0usize; 6];
        for _ in 0..6000 {
            let mut picked = stream.choose(6, 2);
            for &i in &picked {
                counts[i] += 1;
            }
            picked.sort_unstable();
            picked.dedup();
            assert_eq!(picked.len(), 2);
        }
        for count in counts {
            assert!((count as f64 - 2000.0).abs() < 5.0 * 37.0, "{counts:?}");
        }
    }

    #[test]
    fn weighted_follows_the_weights_and_skips_zero() {
        let mut stream = Stream::new(1, "weighted");
        let hits = (0..4000).filter(|_| stream.weighted(&[1.0, 3.0, 0.0], 1) == [1]).count();
        assert!((hits as f64 - 3000.0).abs() < 5.0 * 28.0, "{hits}");
        assert_eq!(stream.weighted(&[1.0, 0.0, 2.0], 2).len(), 2);
        assert!(!stream.weighted(&[1.0, 0.0, 2.0], 2).contains(&1));
    }
}
