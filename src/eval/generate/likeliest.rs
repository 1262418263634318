//! The likeliest tokens of a row of logits, without sorting it.

use anyhow::Result;

use crate::ops::cpu::simd::{exp, max, sum_by, vectorized};

/// Logits looked at together: a block with no number above the worst kept is passed over.
const BLOCK: usize = 64;

/// The `most` likeliest tokens with their log-probabilities in nats, best first; of equals the
/// lower id. Errors (class run) where a logit is no number.
pub fn likeliest(logits: &[f32], most: usize) -> Result<Vec<(u32, f64)>> {
    let total = log_sum_exp(logits);
    crate::eval::finite(total)?;
    let mut best: Vec<(u32, f32)> = Vec::with_capacity(most + 1);
    for (block, values) in logits.chunks(BLOCK).enumerate() {
        let full = best.len() == most;
        let worst = best.last().map_or(f32::NEG_INFINITY, |b| b.1);
        let below = full
            && vectorized(
                #[inline(always)]
                || max(values),
            ) <= worst;
        if below {
            continue;
        }
        for (i, &value) in values.iter().enumerate() {
            if best.len() == most && best.last().is_none_or(|b| value <= b.1) {
                continue;
            }
            let place = best.partition_point(|b| b.1 >= value);
            best.insert(place, ((block * BLOCK + i) as u32, value));
            best.truncate(most);
        }
    }
    Ok(best.into_iter().map(|(id, value)| (id, f64::from(value) - total)).collect())
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let top = vectorized(
        #[inline(always)]
        || max(logits),
    );
    let sum = vectorized(
        #[inline(always)]
        || sum_by(logits.len(), |i| exp(logits[i] - top)),
    );
    f64::from(top) + f64::from(sum).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Stream;

    #[test]
    fn it_is_what_sorting_gives() -> Result<()> {
        let mut stream = Stream::new(3, "likeliest");
        for n in [1, 5, 64, 1000] {
            // Few different values, so that there are equals; no negative zero.
            let logits: Vec<f32> =
                (0..n).map(|_| (stream.normal() * 8.0).round() as f32 + 0.0).collect();
            let total = logits.iter().map(|&z| f64::from(z).exp()).sum::<f64>().ln();
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|&i, &j| logits[j].total_cmp(&logits[i]));
            for most in [1, 8, 2000] {
                let got = likeliest(&logits, most)?;
                assert_eq!(got.len(), most.min(n));
                for (&i, (id, p)) in order.iter().zip(got) {
                    assert_eq!(i, id as usize);
                    assert!((f64::from(logits[i]) - total - p).abs() < 1e-6);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_no_number_is_told() {
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(likeliest(&[0.0, bad, 1.0], 2).is_err());
        }
    }
}
