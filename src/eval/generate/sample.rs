//! Drawing a token by chance, with the filters of Hugging Face transformers in their order:
//!
//! 1. `temperature` T: pᵢ ∝ exp(zᵢ / T) over all logits z.
//! 2. `top_k`: the k likeliest are left.
//! 3. `top_p`: of those, likeliest first, each is left before which less than the share p of their
//!    sum lies: the fewest that make up p, and one at least.
//!
//! A token is drawn from those that are left in proportion to their pᵢ. Of equally likely tokens
//! the one with the lower id comes first, as in the other searches; transformers leaves all that
//! are equal to the k-th.

use anyhow::Result;

use super::Generation;
use crate::eval::finite;
use crate::seed::Stream;

/// Draws the tokens that follow a prompt, from a stream of its own.
#[derive(Debug)]
pub struct TokenSampler {
    temperature: f64,
    top_k: Option<usize>,
    top_p: Option<f64>,
    stream: Stream,
}

impl TokenSampler {
    /// Of the prompt with number `index`; None where the likeliest token is taken.
    pub fn new(how: &Generation, index: usize) -> Option<Self> {
        Some(Self {
            temperature: how.temperature?,
            top_k: how.top_k,
            // All that is likely at all makes up 1.
            top_p: how.top_p.filter(|p| *p < 1.0),
            stream: Stream::new(how.seed, &format!("generate/{index}")),
        })
    }

    /// The next token, after `logits` [V]. Errors (class run) where they are no numbers.
    pub fn draw(&mut self, logits: &[f32]) -> Result<u32> {
        let left = self.filtered(logits)?;
        let total: f64 = left.iter().map(|(_, p)| p).sum();
        let mut at = self.stream.uniform() * total;
        for &(id, p) in &left {
            at -= p;
            if at < 0.0 {
                return Ok(id);
            }
        }
        // `at` was the whole sum but for rounding.
        Ok(left.iter().rfind(|(_, p)| *p > 0.0).map_or(0, |(id, _)| *id))
    }

    /// Ids that are left, each with its probability times a number common to all: in the order of
    /// ids where nothing is filtered, else likeliest first.
    fn filtered(&self, logits: &[f32]) -> Result<Vec<(u32, f64)>> {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |z: f32| ((f64::from(z) - f64::from(top)) / self.temperature).exp();
        let mut left: Vec<(u32, f64)> = (0..).zip(logits.iter().map(|&z| weight(z))).collect();
        finite(left.iter().map(|(_, p)| p).sum())?;
        if let Some(k) = self.top_k {
            likeliest_first(&mut left, k);
        }
        if let Some(p) = self.top_p {
            nucleus(&mut left, p);
        }
        Ok(left)
    }
}

/// Leaves the `most` likeliest, in order.
fn likeliest_first(left: &mut Vec<(u32, f64)>, most: usize) {
    sort_likeliest(left, most);
    left.truncate(most);
}

/// Brings the `most` likeliest to the front, in order.
fn sort_likeliest(all: &mut [(u32, f64)], most: usize) {
    let order = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let most = most.min(all.len());
    if most < all.len() {
        all.select_nth_unstable_by(most, order);
    }
    all[..most].sort_unstable_by(order);
}

/// Leaves the fewest that make up the share `p` of the sum, likeliest first.
fn nucleus(left: &mut Vec<(u32, f64)>, p: f64) {
    let wanted = p * left.iter().map(|(_, p)| p).sum::<f64>();
    // Mostly few are enough, and the others need no order.
    let mut sorted = 64;
    loop {
        sort_likeliest(left, sorted);
        let mut before = 0.0;
        let count = left[..sorted.min(left.len())]
            .iter()
            .take_while(|(_, p)| {
                let needed = before < wanted;
                before += p;
                needed
            })
            .count();
        if count < sorted {
            return left.truncate(count);
        }
        sorted *= 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f64, top_k: Option<usize>, top_p: Option<f64>) -> TokenSampler {
        let how =
            Generation { temperature: Some(temperature), top_k, top_p, ..Generation::default() };
        TokenSampler::new(&how, 0).unwrap()
    }

    fn logits(probabilities: &[f64]) -> Vec<f32> {
        probabilities.iter().map(|p| p.ln() as f32).collect()
    }

    /// Ids that are left, in their order.
    fn left(logits: &[f32], top_k: Option<usize>, top_p: Option<f64>) -> Vec<u32> {
        let left = sampler(1.0, top_k, top_p).filtered(logits).unwrap();
        left.into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        const DRAWS: usize = 20_000;
        let p = [0.1, 0.0, 0.4, 0.2, 0.05, 0.25];
        for (temperature, top_k, top_p, want) in [
            (1.0, None, None, p),
            (0.5, None, None, [0.01, 0.0, 0.16, 0.04, 0.0025, 0.0625]),
            (1.0, Some(3), None, [0.0, 0.0, 0.4, 0.2, 0.0, 0.25]),
            (1.0, None, Some(0.9), [0.1, 0.0, 0.4, 0.2, 0.0, 0.25]),
            (1.0, Some(4), Some(0.6), [0.0, 0.0, 0.4, 0.0, 0.0, 0.25]),
        ] {
            let mut sampler = sampler(temperature, top_k, top_p);
            let mut counts = [0; 6];
            for _ in 0..DRAWS {
                counts[sampler.draw(&logits(&p)).unwrap() as usize] += 1;
            }
            let total: f64 = want.iter().sum();
            for (count, want) in counts.into_iter().zip(want) {
                let share = want / total;
                let expected = DRAWS as f64 * share;
                let deviation = (expected * (1.0 - share)).sqrt();
                assert!(
                    (f64::from(count) - expected).abs() <= 5.0 * deviation,
                    "{temperature} {top_k:?} {top_p:?}: {counts:?}"
                );
            }
        }
    }

    #[test]
    fn filters_leave_what_they_say() {
        let z = logits(&[0.1, 0.4, 0.2, 0.2, 0.1]);
        assert_eq!(left(&z, None, None), [0, 1, 2, 3, 4]);
        assert_eq!(left(&z, None, Some(1.0)), [0, 1, 2, 3, 4]);
        // Of equals the lower id.
        assert_eq!(left(&z, Some(2), None), [1, 2]);
        assert_eq!(left(&z, Some(9), None), [1, 2, 3, 0, 4]);
        assert_eq!(left(&z, None, Some(1e-9)), [1]);
        assert_eq!(left(&z, None, Some(0.3)), [1]);
        assert_eq!(left(&z, None, Some(0.5)), [1, 2]);
        assert_eq!(left(&z, None, Some(0.95)), [1, 2, 3, 0, 4]);
        // The share is one of what `top_k` has left: 0.6 of 0.8.
        assert_eq!(left(&z, Some(3), Some(0.74)), [1, 2]);
        assert_eq!(left(&z, Some(3), Some(0.76)), [1, 2, 3]);
    }

    #[test]
    fn many_tokens_make_up_a_share() {
        let flat = [0.0; 1000];
        for (p, count) in [(0.05, 50), (0.064, 64), (0.5, 500), (0.999, 999)] {
            let want: Vec<u32> = (0..count).collect();
            assert_eq!(left(&flat, None, Some(p)), want);
        }
        let mut stream = Stream::new(5, "filters");
        let z: Vec<f32> = (0..3000).map(|_| (2.0 * stream.normal()) as f32).collect();
        let all = left(&z, Some(3000), None);
        assert!(all.windows(2).all(|w| z[w[0] as usize] >= z[w[1] as usize]));
        for p in [0.1, 0.7, 0.99] {
            let few = left(&z, None, Some(p));
            assert_eq!(few, all[..few.len()]);
            let sum =
                |ids: &[u32]| ids.iter().map(|&i| f64::from(z[i as usize]).exp()).sum::<f64>();
            let (share, less) = (sum(&few) / sum(&all), sum(&few[..few.len() - 1]) / sum(&all));
            assert!(less < p && p <= share, "{less} {p} {share}");
        }
    }

    #[test]
    fn a_prompt_draws_from_a_stream_of_its_own() {
        let z = vec![0.0; 100];
        let drawn = |seed, index| -> Vec<u32> {
            let how = Generation { temperature: Some(1.0), seed, ..Generation::default() };
            let mut sampler = TokenSampler::new(&how, index).unwrap();
            (0..8).map(|_| sampler.draw(&z).unwrap()).collect()
        };
        assert_eq!(drawn(1, 0), drawn(1, 0));
        assert!(drawn(1, 0) != drawn(1, 1) && drawn(1, 0) != drawn(2, 0));
        assert!(TokenSampler::new(&Generation::default(), 0).is_none());
    }

    #[test]
    fn logits_that_are_no_numbers_are_told() {
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(sampler(1.0, None, None).draw(&[0.0, bad, 1.0]).is_err());
        }
        assert!(sampler(1.0, None, None).draw(&[f32::NEG_INFINITY; 3]).is_err());
        let mut one = sampler(1e-3, None, None);
        assert_eq!(one.draw(&[f32::NEG_INFINITY, 1.0, 0.0]).unwrap(), 1);
    }
}
