//! Vectorised loops over slices, and what they are made of: sums in a fixed order, maxima, e^x.

pub use super::view::{f32s, update};

/// Runs `body` compiled for the widest vectors this processor has. What it calls must be inlined.
#[inline(always)]
pub fn vectorized<T>(body: impl FnOnce() -> T) -> T {
    pulp::Arch::new().dispatch(body)
}

const LANES: usize = 16;

/// Sum of `term(i)` for i in 0..n, formed in f64 in a fixed order of sixteen lanes.
#[inline(always)]
pub fn sum_by(n: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f64; LANES];
    let whole = n / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f64::from(term(start + lane));
        }
    }
    for i in whole..n {
        lanes[i - whole] += f64::from(term(i));
    }
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0] as f32
}

/// The largest of the values; -inf where there are none. NaN is not seen.
#[inline(always)]
pub fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    chunks
        .remainder()
        .iter()
        .chain(&lanes)
        .fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

/// e^x to about 1 ulp, as code that vectorises: range reduction to ±ln 2 / 2 (Cody and Waite), the
/// polynomial of Cephes' `expf`, the power of two put into the exponent. Below -87.3 it gives about
/// 1e-38.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // 1.5 · 2^23: adding it leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if x < -87.3 { -87.3 } else { x };
    let t = x * std::f32::consts::LOG2_E + ROUND;
    let k = t - ROUND;
    let r = x - k * 0.693_359_4 + k * 2.121_944_4e-4;
    let p = 1.987_569_2e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_6e-1;
    let p = p * r + 0.5;
    let p = p * (r * r) + r + 1.0;
    p * f32::from_bits((t.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close() {
        let mut worst = 0f64;
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            worst = worst.max((exp(x) as f64 / (x as f64).exp() - 1.0).abs());
        }
        assert!(worst < 1.5e-7, "{worst:e}");
        assert!(exp(-1000.0) < 1e-37 && exp(f32::NEG_INFINITY) < 1e-37);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sums_and_maxima_take_the_tail() {
        for n in [0, 1, 15, 16, 17, 33] {
            let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
            assert_eq!(sum_by(n, |i| values[i]), (n * n.saturating_sub(1) / 2) as f32);
            assert_eq!(max(&values), values.last().copied().unwrap_or(f32::NEG_INFINITY));
        }
    }
}
