//! Slices under tensors, and the vectorised loops over them that the CPU twins share.

use std::cell::RefCell;
use std::ops::Deref;

use candle_core::{CpuStorage, DType, Result, Storage, Tensor, WithDType, bail};

/// A contiguous CPU tensor's numbers, readable as a slice while this lives.
pub struct View<'a, T> {
    guard: Box<dyn Deref<Target = Storage> + 'a>,
    start: usize,
    end: usize,
    kind: std::marker::PhantomData<T>,
}

impl<'a, T: WithDType> View<'a, T> {
    /// Errors where the tensor is not contiguous, not on the CPU or of another type.
    pub fn new(tensor: &'a Tensor) -> Result<Self> {
        let (guard, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("a CPU kernel wants a contiguous tensor, not {layout:?}")
        };
        match &*guard {
            Storage::Cpu(cpu) => cpu.as_slice::<T>()?,
            _ => bail!("a CPU kernel was given a tensor of another device"),
        };
        Ok(Self { guard: Box::new(guard), start, end, kind: std::marker::PhantomData })
    }
}

impl<T: WithDType> Deref for View<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &**self.guard {
            Storage::Cpu(cpu) => {
                cpu.as_slice::<T>().map(|s| &s[self.start..self.end]).unwrap_or_default()
            }
            _ => &[],
        }
    }
}

/// The f32 numbers under a tensor.
pub fn f32s(tensor: &Tensor) -> Result<View<'_, f32>> {
    View::new(tensor)
}

/// True where the CPU twins apply: all tensors on the CPU, contiguous, f32.
pub fn fast(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| t.device().is_cpu() && t.dtype() == DType::F32 && t.is_contiguous())
}

/// A CPU tensor that takes over `values`.
pub fn tensor(values: Vec<f32>, shape: impl Into<candle_core::Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &candle_core::Device::Cpu)
}

/// A type of numbers whose CPU storage can be changed.
pub trait Stored: WithDType {
    fn numbers(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

macro_rules! stored {
    ($($kind:ty, $storage:ident);*) => {$(
        impl Stored for $kind {
            fn numbers(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                match storage {
                    CpuStorage::$storage(numbers) => Some(numbers),
                    _ => None,
                }
            }
        }
    )*};
}

stored!(f32, F32; half::bf16, BF16; half::f16, F16);

/// Changes the f32 numbers under a contiguous CPU tensor in place. Whoever shares them sees it.
pub fn update(tensor: &Tensor, change: impl FnMut(&mut [f32])) -> Result<()> {
    update_as(tensor, change)
}

/// The same of numbers of another type.
pub fn update_as<T: Stored>(tensor: &Tensor, change: impl FnMut(&mut [T])) -> Result<()> {
    // candle hands an operation out as shared, though it runs it once.
    struct Update<F, T>(RefCell<F>, std::marker::PhantomData<T>);
    impl<T: Stored, F: FnMut(&mut [T])> candle_core::InplaceOp1 for Update<F, T> {
        fn name(&self) -> &'static str {
            "update"
        }
        fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &candle_core::Layout) -> Result<()> {
            match (T::numbers(storage), layout.contiguous_offsets()) {
                (Some(values), Some((start, end))) => {
                    (self.0.borrow_mut())(&mut values[start..end])
                }
                _ => bail!("update wants a contiguous tensor of {:?}", T::DTYPE),
            }
            Ok(())
        }
    }
    tensor.inplace_op1(&Update(RefCell::new(change), std::marker::PhantomData))
}

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
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it leaves the nearest integer in the low bits
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
