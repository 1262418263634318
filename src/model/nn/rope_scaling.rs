//! Rotary frequencies: how they are stretched for longer contexts, as transformers'
//! `modeling_rope_utils.py` does it.

use std::f64::consts::PI;

/// How rotary frequencies are stretched for longer contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    None,
    /// All frequencies divided by a factor.
    Linear(f64),
    /// Llama 3.1's: low frequencies divided, high ones kept, a smooth step between.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
    /// A larger base for sequences longer than `original`, by their length.
    Dynamic {
        factor: f64,
        original: usize,
    },
    Yarn(Yarn),
    Longrope(Longrope),
    /// Each frequency divided by a factor of its own: what GGUF files hold. An infinite one stands
    /// for no rotation.
    Factors(Vec<f64>),
}

/// YaRN (Peng et al. 2023): high frequencies kept, low ones divided, a ramp between; attention
/// scaled.
#[derive(Clone, Debug, PartialEq)]
pub struct Yarn {
    pub factor: f64,
    /// Tokens of a sequence before the stretching.
    pub original: f64,
    /// What cos and sin are multiplied with.
    pub attention: f64,
    /// Turns over `original` above which a frequency is kept, and below which it is divided.
    pub fast: f64,
    pub slow: f64,
    /// Whether the ends of the ramp are rounded outwards.
    pub truncate: bool,
}

/// LongRoPE (Ding et al. 2024): a factor for each frequency, of two sets by the sequence's length.
#[derive(Clone, Debug, PartialEq)]
pub struct Longrope {
    /// Of sequences of up to `original` tokens.
    pub short: Vec<f64>,
    pub long: Vec<f64>,
    pub original: f64,
    /// What cos and sin are multiplied with.
    pub attention: f64,
}

/// The inverse frequencies θ^(-2i/E), [E/2].
pub fn unscaled(theta: f64, e: usize) -> Vec<f64> {
    (0..e / 2).map(|i| theta.powf(-2.0 * i as f64 / e as f64)).collect()
}

impl RopeScaling {
    /// The inverse frequencies of a sequence of `length` tokens, [E/2].
    pub fn inv_freq(&self, theta: f64, e: usize, length: usize) -> Vec<f64> {
        let each = |factors: &[f64]| {
            unscaled(theta, e).into_iter().zip(factors).map(|(f, factor)| f / factor).collect()
        };
        match self {
            Self::None => unscaled(theta, e),
            Self::Linear(factor) => unscaled(theta, e).into_iter().map(|f| f / factor).collect(),
            Self::Llama3 { factor, low, high, original } => unscaled(theta, e)
                .into_iter()
                .map(|f| llama3(f, *factor, *low, *high, *original))
                .collect(),
            Self::Dynamic { original, .. } if length <= *original => unscaled(theta, e),
            Self::Dynamic { factor, original } => {
                let grown = factor * length as f64 / *original as f64 - (factor - 1.0);
                unscaled(theta * grown.powf(e as f64 / (e as f64 - 2.0)), e)
            }
            Self::Yarn(yarn) => yarn.inv_freq(theta, e),
            Self::Longrope(rope) if length as f64 > rope.original => each(&rope.long),
            Self::Longrope(rope) => each(&rope.short),
            Self::Factors(factors) => each(factors),
        }
    }

    /// What cos and sin are multiplied with.
    pub fn attention(&self) -> f64 {
        match self {
            Self::Yarn(yarn) => yarn.attention,
            Self::Longrope(rope) => rope.attention,
            _ => 1.0,
        }
    }

    /// The length in tokens up to which all sequences have the same frequencies; None where longer
    /// ones have them too.
    pub fn boundary(&self) -> Option<usize> {
        match self {
            Self::Dynamic { original, .. } => Some(*original),
            Self::Longrope(rope) if rope.short != rope.long => Some(rope.original as usize),
            _ => None,
        }
    }

    /// Whether sequences of both lengths have the same frequencies.
    pub fn same(&self, shorter: usize, longer: usize) -> bool {
        let Some(boundary) = self.boundary() else { return true };
        longer <= boundary
            || shorter == longer
            || (shorter > boundary && !matches!(self, Self::Dynamic { .. }))
    }

    /// The most tokens of a sequence that the model is made for, where its files say `positions`.
    pub fn reach(&self, positions: usize) -> usize {
        match self {
            Self::Dynamic { factor, original } => {
                positions.max((factor * *original as f64) as usize)
            }
            Self::Yarn(yarn) => positions.max((yarn.factor * yarn.original) as usize),
            _ => positions,
        }
        .min((1 << 31) - 1)
    }
}

fn llama3(f: f64, factor: f64, low: f64, high: f64, original: f64) -> f64 {
    let wavelength = 2.0 * PI / f;
    if wavelength < original / high {
        f
    } else if wavelength > original / low {
        f / factor
    } else {
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * f / factor + smooth * f
    }
}

impl Yarn {
    /// The usual attention factor, 0.1 · m · ln factor + 1.
    pub fn mscale(factor: f64, m: f64) -> f64 {
        if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 }
    }

    fn inv_freq(&self, theta: f64, e: usize) -> Vec<f64> {
        // The index of the frequency that turns so often over the original length.
        let index =
            |turns: f64| e as f64 * (self.original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
        let (mut low, mut high) = (index(self.fast), index(self.slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(e as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        let stretch = |(i, f): (usize, f64)| {
            let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            f / self.factor * ramp + f * (1.0 - ramp)
        };
        unscaled(theta, e).into_iter().enumerate().map(stretch).collect()
    }
}

impl Longrope {
    /// The usual attention factor, √(1 + ln factor / ln original).
    pub fn usual_attention(factor: f64, original: f64) -> f64 {
        if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: &[f64], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        got.iter()
            .zip(want)
            .for_each(|(a, b)| assert!((a - b).abs() < 1e-6 * b.abs(), "{got:?} are not {want:?}"));
    }

    /// Numbers of transformers 5.24's `ROPE_INIT_FUNCTIONS` for θ 10000, E 8.
    #[test]
    fn frequencies_are_those_of_transformers() {
        let yarn = Yarn {
            factor: 4.0,
            original: 64.0,
            attention: 1.1386294,
            fast: 32.0,
            slow: 1.0,
            truncate: true,
        };
        near(
            &RopeScaling::Yarn(yarn.clone()).inv_freq(10_000.0, 8, 1),
            &[1.0, 0.0625, 0.0025, 0.00025],
        );
        near(
            &RopeScaling::Yarn(Yarn { truncate: false, ..yarn }).inv_freq(10_000.0, 8, 1),
            &[1.0, 0.025595249, 0.0025, 0.00025],
        );
        let dynamic = RopeScaling::Dynamic { factor: 2.0, original: 64 };
        assert_eq!(dynamic.inv_freq(10_000.0, 8, 64), unscaled(10_000.0, 8));
        near(&dynamic.inv_freq(10_000.0, 8, 128), &[1.0, 0.069336124, 0.0048074984, 0.00033333336]);
        let longrope = Longrope {
            short: vec![1.0, 1.0, 2.0, 2.0],
            long: vec![4.0; 4],
            original: 64.0,
            attention: 1.0,
        };
        let longrope = RopeScaling::Longrope(longrope);
        near(&longrope.inv_freq(10_000.0, 8, 64), &[1.0, 0.1, 0.005, 0.0005]);
        near(&longrope.inv_freq(10_000.0, 8, 65), &[0.25, 0.025, 0.0025, 0.00025]);
    }

    #[test]
    fn lengths_share_frequencies_on_one_side_of_the_boundary() {
        let dynamic = RopeScaling::Dynamic { factor: 2.0, original: 64 };
        assert!(
            dynamic.same(3, 64)
                && dynamic.same(70, 70)
                && !dynamic.same(64, 65)
                && !dynamic.same(70, 71)
        );
        let two = Longrope { short: vec![1.0], long: vec![2.0], original: 64.0, attention: 1.0 };
        let same = RopeScaling::Longrope(Longrope { long: vec![1.0], ..two.clone() });
        let two = RopeScaling::Longrope(two);
        assert!(two.same(3, 64) && two.same(65, 90) && !two.same(64, 65) && same.same(64, 65));
        assert!(RopeScaling::Linear(2.0).same(1, 1000));
        assert_eq!((dynamic.reach(64), two.reach(64)), (128, 64));
    }
}
