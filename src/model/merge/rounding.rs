//! Sums rounded into 16 bits, in place, with what rounding leaves of them.

use candle_core::{DType, Result, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;

use crate::ops::cpu::simd::vectorized;
use crate::ops::cpu::view::{self, CpuElement};

/// Numbers that a thread takes at a time.
pub const CHUNK: usize = 1 << 14;
/// And of which it forms the sums at a time.
const BLOCK: usize = 1 << 8;
/// Sums of products are formed in so many parts.
const LANES: usize = 8;

/// What 16-bit weights took up of a change δ of their sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RoundingStats {
    /// ⟨stored change, δ⟩
    pub moved: f64,
    /// ‖δ‖²
    pub added: f64,
}

/// A type of 16 bits, as rounding needs it.
#[derive(Clone, Copy)]
struct FloatFormat {
    /// Bits of an f64's fraction that it does not have.
    behind: u32,
    /// Its smallest normal number.
    smallest: f64,
    largest: f64,
    /// An f64 whose last bit is worth as much as the smallest subnormal number.
    anchor: f64,
}

impl FloatFormat {
    fn of(storage: DType) -> Result<Self> {
        let of = |digits: u32, smallest: f64, largest: f64| Self {
            behind: f64::MANTISSA_DIGITS - digits,
            smallest,
            largest,
            anchor: 1.5 * smallest * (1u64 << (f64::MANTISSA_DIGITS - digits)) as f64,
        };
        match storage {
            DType::BF16 => {
                Ok(of(bf16::MANTISSA_DIGITS, bf16::MIN_POSITIVE.to_f64(), bf16::MAX.to_f64()))
            }
            DType::F16 => {
                Ok(of(f16::MANTISSA_DIGITS, f16::MIN_POSITIVE.to_f64(), f16::MAX.to_f64()))
            }
            other => bail!("{other:?} has no compensation"),
        }
    }

    /// Whether all these numbers are in its normal range.
    #[inline(always)]
    fn is_plain(self, numbers: &[f64]) -> bool {
        let mut plain = true;
        for x in numbers {
            plain &= (self.smallest..=self.largest).contains(&x.abs());
        }
        plain
    }

    /// The nearest to a number in the normal range, the even one of two: bits that the format does
    /// not have are rounded away in integers.
    #[inline(always)]
    fn nearest_plain(self, x: f64) -> f64 {
        let bits = x.to_bits();
        let half = (1 << (self.behind - 1)) - 1 + ((bits >> self.behind) & 1);
        f64::from_bits((bits.wrapping_add(half)) >> self.behind << self.behind)
    }

    /// The nearest to any number. Below the normal range, adding `anchor` rounds to a multiple of
    /// the smallest subnormal.
    #[inline(always)]
    fn nearest(self, x: f64) -> f64 {
        if x.is_nan() {
            return x;
        }
        let small = ((x + self.anchor) - self.anchor).copysign(x);
        let near = if x.abs() < self.smallest { small } else { self.nearest_plain(x) };
        if near.abs() > self.largest { f64::INFINITY.copysign(x) } else { near }
    }
}

/// A type that weights are held in.
trait StoredElement: CpuElement + Send + Sync {
    fn wide(self) -> f32;
    /// Of a number that the type has.
    fn of(wide: f32) -> Self;
}

impl StoredElement for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    fn of(wide: f32) -> Self {
        wide
    }
}

impl StoredElement for bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn of(wide: f32) -> Self {
        Self::from_bits((wide.to_bits() >> 16) as u16)
    }
}

impl StoredElement for f16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        // The exponent is too small by 112 behind the shift, also of a number that has fewer bits.
        let (sign, rest) =
            (u32::from(self.to_bits() & 0x8000) << 16, u32::from(self.to_bits() & 0x7fff) << 13);
        let size = (f32::from_bits(rest) * 2f32.powi(112)).to_bits();
        f32::from_bits(sign | if rest < 0x0f80_0000 { size } else { rest | 0x7f80_0000 })
    }

    #[inline(always)]
    fn of(wide: f32) -> Self {
        let size = (wide.abs() * 2f32.powi(-112)).to_bits() >> 13;
        let size = if wide.is_nan() { 0x7e00 } else { size.min(0x7c00) };
        Self::from_bits((wide.to_bits() >> 16 & 0x8000 | size) as u16)
    }
}

/// Changes sums in f64, of which a CPU tensor holds what was rounded to `storage`, and
/// `compensation`, where there is one, what that left. `change` is given a part of the sums and its
/// place; they are rounded again, in place. `compensation` is f32 and, like the weight, contiguous.
pub fn update(
    weight: &Tensor,
    compensation: Option<&Tensor>,
    storage: DType,
    change: impl Fn(usize, &mut [f64]) + Sync,
) -> Result<RoundingStats> {
    match weight.dtype() {
        DType::F32 => update_as::<f32>(weight, compensation, storage, change),
        DType::BF16 => update_as::<bf16>(weight, compensation, storage, change),
        DType::F16 => update_as::<f16>(weight, compensation, storage, change),
        other => bail!("a weight to be rounded to {storage:?} is in {other:?}"),
    }
}

fn update_as<T: StoredElement>(
    weight: &Tensor,
    compensation: Option<&Tensor>,
    storage: DType,
    change: impl Fn(usize, &mut [f64]) + Sync,
) -> Result<RoundingStats> {
    let (format, mut all) = (FloatFormat::of(storage)?, RoundingStats::default());
    match compensation {
        Some(compensation) if compensation.elem_count() != weight.elem_count() => {
            bail!("a compensation of {:?} behind {:?}", compensation.shape(), weight.shape())
        }
        Some(compensation) => {
            let mut inner = Ok(());
            view::update_as::<T>(weight, |numbers| {
                inner = view::update(compensation, |compensations| {
                    all = slices(format, numbers, Some(compensations), &change);
                });
            })?;
            inner?;
        }
        None => view::update_as::<T>(weight, |numbers| {
            all = slices(format, numbers, None, &change);
        })?,
    }
    Ok(all)
}

/// The same of slices, in chunks that threads take.
fn slices<T: StoredElement>(
    format: FloatFormat,
    numbers: &mut [T],
    compensations: Option<&mut [f32]>,
    change: &(impl Fn(usize, &mut [f64]) + Sync),
) -> RoundingStats {
    let chunks = numbers.len().div_ceil(CHUNK);
    let compensations: Vec<Option<&mut [f32]>> = match compensations {
        Some(compensations) => compensations.chunks_mut(CHUNK).map(Some).collect(),
        None => (0..chunks).map(|_| None).collect(),
    };
    let of = |(at, (numbers, compensations)): (usize, (&mut [T], Option<&mut [f32]>))| {
        vectorized(
            #[inline(always)]
            || chunk(format, numbers, compensations, at * CHUNK, change),
        )
    };
    let found: Vec<RoundingStats> =
        numbers.par_chunks_mut(CHUNK).zip(compensations).enumerate().map(of).collect();
    // In order, so that the sum does not depend on the number of threads.
    let sum = |of: fn(&RoundingStats) -> f64| found.iter().map(of).sum();
    RoundingStats { moved: sum(|t| t.moved), added: sum(|t| t.added) }
}

#[inline(always)]
fn chunk<T: StoredElement>(
    format: FloatFormat,
    numbers: &mut [T],
    mut compensations: Option<&mut [f32]>,
    from: usize,
    change: &impl Fn(usize, &mut [f64]),
) -> RoundingStats {
    let (mut none, mut sums, mut lanes) = ([0f32; BLOCK], [0f64; BLOCK], Lanes::default());
    for (block, own) in numbers.chunks_mut(BLOCK).enumerate() {
        let sums = &mut sums[..own.len()];
        let compensation = match &mut compensations {
            Some(compensations) => &mut compensations[block * BLOCK..][..own.len()],
            None => {
                none.fill(0.0);
                &mut none[..own.len()]
            }
        };
        for ((sum, own), compensation) in sums.iter_mut().zip(&*own).zip(&*compensation) {
            *sum = f64::from(own.wide()) + f64::from(*compensation);
        }
        change(from + block * BLOCK, sums);
        if format.is_plain(sums) {
            lanes.keep_all(own, compensation, sums, |sum| format.nearest_plain(sum));
        } else {
            lanes.keep_all(own, compensation, sums, |sum| format.nearest(sum));
        }
    }
    RoundingStats { moved: lanes.moved.iter().sum(), added: lanes.added.iter().sum() }
}

/// What was taken up, in lanes.
#[derive(Default)]
struct Lanes {
    moved: [f64; LANES],
    added: [f64; LANES],
}

impl Lanes {
    /// Puts the rounded sums of numbers next to each other, and what is left of them, in the place
    /// of those before.
    #[inline(always)]
    fn keep<T: StoredElement>(
        &mut self,
        own: &mut [T],
        compensation: &mut [f32],
        sums: &[f64],
        nearest: impl Fn(f64) -> f64,
    ) {
        let n = own.len().min(LANES);
        for lane in 0..n {
            let (was, sum) = (f64::from(own[lane].wide()), sums[lane]);
            let (now, delta) = (nearest(sum), sum - (was + f64::from(compensation[lane])));
            self.moved[lane] += (now - was) * delta;
            self.added[lane] += delta * delta;
            own[lane] = T::of(now as f32);
            compensation[lane] = (sum - now) as f32;
        }
    }

    #[inline(always)]
    fn keep_all<T: StoredElement>(
        &mut self,
        own: &mut [T],
        compensation: &mut [f32],
        sums: &[f64],
        nearest: impl Fn(f64) -> f64,
    ) {
        let (mut owns, mut compensations, whole) = (
            own.chunks_exact_mut(LANES),
            compensation.chunks_exact_mut(LANES),
            sums.chunks_exact(LANES),
        );
        let tail = whole.remainder();
        for ((own, compensation), sums) in (&mut owns).zip(&mut compensations).zip(whole) {
            self.keep(own, compensation, sums, &nearest);
        }
        self.keep(owns.into_remainder(), compensations.into_remainder(), tail, nearest);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The nearest of the numbers around `near`, by trying; the even one of two that are as near.
    /// `beyond` is what would come after the largest.
    fn by_trying(x: f64, wide: impl Fn(u16) -> f64, near: u16, beyond: f64) -> f64 {
        let around =
            [near.wrapping_sub(1), near, near.wrapping_add(1)].map(|bits| (bits, wide(bits)));
        let apart = |y: f64| ((if y.is_infinite() { beyond.copysign(y) } else { y }) - x).abs();
        let numbers = around.into_iter().filter(|(_, y)| !y.is_nan());
        let nearest = numbers
            .min_by(|a, b| apart(a.1).total_cmp(&apart(b.1)).then((a.0 & 1).cmp(&(b.0 & 1))));
        nearest.map_or(f64::NAN, |(_, y)| y)
    }

    pub fn nearest_bf16(x: f64) -> f64 {
        by_trying(
            x,
            |bits| bf16::from_bits(bits).to_f64(),
            bf16::from_f64(x).to_bits(),
            2f64.powi(128),
        )
    }

    fn nearest_f16(x: f64) -> f64 {
        by_trying(x, |bits| f16::from_bits(bits).to_f64(), f16::from_f64(x).to_bits(), 65536.0)
    }

    /// As vectors of code do it, and as `half` does.
    #[test]
    fn every_number_of_16_bits_is_widened_and_narrowed() {
        for bits in 0..=u16::MAX {
            let (b, h) = (bf16::from_bits(bits), f16::from_bits(bits));
            assert!(b.wide().to_bits() == b.to_f32().to_bits() || b.is_nan(), "{b}");
            assert!(
                h.wide().to_bits() == h.to_f32().to_bits() || h.is_nan() && h.wide().is_nan(),
                "{h}"
            );
            assert!(
                <bf16 as StoredElement>::of(b.to_f32()) == b
                    || b.is_nan() && <bf16 as StoredElement>::of(b.to_f32()).is_nan(),
                "{b}"
            );
            assert!(
                <f16 as StoredElement>::of(h.to_f32()).to_bits() == bits
                    || h.is_nan() && <f16 as StoredElement>::of(h.to_f32()).is_nan(),
                "{h}"
            );
        }
    }

    fn formats() -> Result<(FloatFormat, FloatFormat)> {
        Ok((FloatFormat::of(DType::BF16)?, FloatFormat::of(DType::F16)?))
    }

    /// So little that f32 does not hold it beside a tie.
    const LITTLE: f64 = 1.0 / (1u64 << 40) as f64;

    /// A tie of bf16, and a little more or less.
    #[test]
    fn numbers_are_rounded_once() -> Result<()> {
        let (bf16, tie) = (FloatFormat::of(DType::BF16)?, 1.0 + 2f64.powi(-8));
        for (x, want) in [
            (tie, 1.0),
            (tie + LITTLE, 1.0 + 2f64.powi(-7)),
            (tie - LITTLE, 1.0),
            (-tie - LITTLE, -1.0 - 2f64.powi(-7)),
        ] {
            assert_eq!(bf16.nearest(x), want, "{x:?}");
        }
        Ok(())
    }

    /// Every size, those with fewer bits and those that are too large among them; each number and
    /// the ties around it.
    #[test]
    fn numbers_are_rounded_to_the_nearest() -> Result<()> {
        let (b, h) = formats()?;
        for exponent in -140..130 {
            for i in 0..600 {
                let (sign, i) = (if i % 2 == 0 { 1.0 } else { -1.0 }, f64::from(i));
                for fraction in [i / 512.0, i / 4096.0, (i * 0.1).fract(), i / 512.0 + LITTLE] {
                    let x = sign * (1.0 + fraction) * 2f64.powi(exponent);
                    assert_eq!(
                        (b.nearest(x), h.nearest(x)),
                        (nearest_bf16(x), nearest_f16(x)),
                        "{x:?}"
                    );
                    if b.is_plain(&[x]) {
                        assert_eq!(b.nearest_plain(x), nearest_bf16(x), "{x:?}");
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn numbers_out_of_range_are_rounded_as_half_does() -> Result<()> {
        let (b, h) = formats()?;
        let small = [0.0, -0.0, 1e-300, -1e-300, -3e-41];
        let large = [
            65519.0,
            65520.0,
            -65520.0,
            3.39e38,
            3.4e38,
            1e39,
            -1e300,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ];
        for x in small.into_iter().chain(large) {
            assert_eq!(
                (b.nearest(x) as f32).to_bits(),
                bf16::from_f64(x).to_f32().to_bits(),
                "bf16 of {x:e}"
            );
            assert_eq!(
                (h.nearest(x) as f32).to_bits(),
                f16::from_f64(x).to_f32().to_bits(),
                "f16 of {x:e}"
            );
        }
        Ok(())
    }

    #[test]
    fn what_is_no_number_stays_none() -> Result<()> {
        let (b, h) = formats()?;
        for nan in [f64::NAN, f64::from_bits(u64::MAX), f64::from_bits(0x7ff0_0000_0000_0001)] {
            assert!(b.nearest(nan).is_nan() && h.nearest(nan).is_nan());
        }
        Ok(())
    }
}
