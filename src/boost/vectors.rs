//! Vectors at right angles to each other, in f64.

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(super) fn length(v: &[f64]) -> f64 {
    dot(v, v).sqrt()
}

/// Takes what lies along `others`, of length 1, out of a vector; the length of what is left. Twice:
/// once leaves errors of the size of the cancellation.
pub(super) fn orthogonal(v: &mut [f64], others: &[Vec<f64>]) -> f64 {
    for _ in 0..2 {
        for other in others {
            let along = dot(v, other);
            v.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
        }
    }
    length(v)
}
