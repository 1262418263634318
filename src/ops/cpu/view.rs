//! Slices under tensors of the CPU, to read and to change in place.

use std::cell::RefCell;
use std::ops::Deref;

use candle_core::{CpuStorage, Result, Storage, Tensor, WithDType, bail};

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

/// A CPU tensor that takes over `values`.
pub fn tensor(values: Vec<f32>, shape: impl Into<candle_core::Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &candle_core::Device::Cpu)
}

/// A type of numbers whose CPU storage can be changed.
pub trait CpuElement: WithDType {
    fn numbers(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

macro_rules! stored {
    ($($kind:ty, $storage:ident);*) => {$(
        impl CpuElement for $kind {
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
pub fn update_as<T: CpuElement>(tensor: &Tensor, change: impl FnMut(&mut [T])) -> Result<()> {
    // candle hands an operation out as shared, though it runs it once.
    struct InPlace<F, T>(RefCell<F>, std::marker::PhantomData<T>);
    impl<T: CpuElement, F: FnMut(&mut [T])> candle_core::InplaceOp1 for InPlace<F, T> {
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
    tensor.inplace_op1(&InPlace(RefCell::new(change), std::marker::PhantomData))
}
