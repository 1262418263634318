//! One contract for all ops, a row each: the reference's backward agrees with finite differences in
//! f64, every backend with the reference, and bf16 inputs stay near the f64 result.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};

use super::Backend::{self, Reference};

mod rows;

use rows::{OpCase, rows};

/// Seeded inputs of a row, as f64 on the CPU.
fn inputs(row: &OpCase) -> Result<Vec<Tensor>> {
    let mut stream = crate::seed::Stream::new(11, row.name);
    let mut random = |shape: &[usize]| -> candle_core::Result<Tensor> {
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| stream.normal()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    };
    Ok(row.shapes.iter().map(|s| random(s)).collect::<candle_core::Result<_>>()?)
}

/// A gradient of the output that no symmetry hides behind.
fn direction(like: &Tensor) -> Result<Tensor> {
    let values: Vec<f64> = (0..like.elem_count()).map(|i| (0.7 * i as f64 + 0.3).sin()).collect();
    Ok(Tensor::from_vec(values, like.shape(), &Device::Cpu)?
        .to_dtype(like.dtype())?
        .to_device(like.device())?)
}

fn values(t: &Tensor) -> Result<Vec<f64>> {
    Ok(t.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// Largest difference over the largest size.
fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    ensure!(a.shape() == b.shape(), "shapes {:?} and {:?}", a.shape(), b.shape());
    let (a, b) = (values(a)?, values(b)?);
    let size = b.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
    let worst = a
        .iter()
        .zip(&b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |m: f64, x| if x.is_nan() { f64::NAN } else { m.max(x) });
    Ok(worst / size)
}

/// The slope of `f` along an entry of an input, from both sides.
#[cfg(test)]
fn slope(
    f: impl Fn(&[Tensor]) -> Result<f64>,
    x: &[Tensor],
    which: usize,
    entry: usize,
) -> Result<f64> {
    const H: f64 = 1e-5;
    let side = |step: f64| -> Result<f64> {
        let (mut moved, mut x) = (values(&x[which])?, x.to_vec());
        moved[entry] += step;
        x[which] = Tensor::from_vec(moved, x[which].shape(), &Device::Cpu)?;
        f(&x)
    };
    Ok((side(H)? - side(-H)?) / (2.0 * H))
}

#[test]
fn the_backward_of_references_agrees_with_finite_differences() -> Result<()> {
    for row in rows() {
        let x = inputs(&row)?;
        let d = direction(&(row.forward)(&x, Reference)?)?;
        let weights = values(&d)?;
        let objective = |x: &[Tensor]| -> Result<f64> {
            let y = values(&(row.forward)(x, Reference)?)?;
            Ok(y.iter().zip(&weights).map(|(a, b)| a * b).sum())
        };
        for (which, gradient) in (row.backward)(&x, &d, Reference)?.iter().enumerate() {
            let (got, count, name) = (values(gradient)?, x[which].elem_count(), row.name);
            ensure!(
                got.len() == count,
                "{name}: gradient {which} has {} entries, not {count}",
                got.len()
            );
            for (i, got) in got.iter().enumerate() {
                let slope = slope(objective, &x, which, i)?;
                let error = (got - slope).abs() / slope.abs().max(1.0);
                ensure!(error < 1e-7, "{name}: input {which}, entry {i}: {got} against {slope}");
            }
        }
    }
    Ok(())
}

/// All results of a row: the output, then the gradients.
fn results(row: &OpCase, x: &[Tensor], on: Backend) -> Result<Vec<Tensor>> {
    let y = (row.forward)(x, on)?;
    let d = direction(&y)?;
    let mut out = vec![y];
    out.extend((row.backward)(x, &d, on)?);
    Ok(out)
}

/// The largest error of a row's results on `backend`, of inputs in a type and on a device that have
/// it, against those of the reference in f64 on the CPU.
fn error_of(row: &OpCase, dtype: DType, device: &Device, backend: Backend) -> Result<f64> {
    let exact = inputs(row)?;
    let x: Vec<Tensor> = exact
        .iter()
        .map(|t| t.to_dtype(dtype)?.to_device(device))
        .collect::<candle_core::Result<_>>()?;
    ensure!(backend == Reference || Backend::of(&x.iter().collect::<Vec<_>>()) == backend);
    let truth = results(row, &exact, Reference)?;
    let mut worst = 0.0;
    for (got, want) in results(row, &x, backend)?.iter().zip(&truth) {
        let apart = distance(got, want)?;
        worst = if apart.is_nan() { apart } else { f64::max(worst, apart) };
    }
    Ok(worst)
}

/// What a GPU is held to in f32 and in 16 bits.
#[cfg(any(test, feature = "cuda"))]
const BOUNDS: [(DType, f64); 3] = [(DType::F32, 1e-4), (DType::BF16, 0.06), (DType::F16, 0.01)];

/// Every op in every type on `device`, by its twin and by its reference: names and what was found.
#[cfg(feature = "cuda")]
pub fn rows_on(device: &Device) -> Vec<(String, Result<String>)> {
    let twin = if device.is_cuda() { Backend::Cuda } else { Backend::Cpu };
    let mut found = vec![];
    for row in rows() {
        for (dtype, bound) in BOUNDS {
            for backend in [twin, Reference] {
                if backend == Backend::Cpu && dtype != DType::F32 {
                    continue;
                }
                let name = format!("{} {} {backend:?}", row.name, dtype.as_str());
                let apart = error_of(&row, dtype, device, backend).and_then(|apart| {
                    ensure!(apart < bound, "off by {apart:.1e}, bound {bound:.0e}");
                    Ok(format!("off by {apart:.1e}"))
                });
                found.push((name, apart));
            }
        }
    }
    found
}

#[cfg(test)]
fn compare(dtype: DType, device: &Device, backend: Backend, bound: f64) -> Result<()> {
    for row in rows() {
        let apart = error_of(&row, dtype, device, backend)?;
        ensure!(apart < bound, "{} in {dtype:?} is off by {apart:e}", row.name);
    }
    Ok(())
}

#[test]
fn the_cpu_agrees_with_the_definition() -> Result<()> {
    compare(DType::F32, &Device::Cpu, Backend::Cpu, 2e-5)?;
    compare(DType::F32, &Device::Cpu, Reference, 2e-5)
}

/// On the CPU, too, what a GPU does where it has no twin.
#[test]
fn references_in_16_bits_stay_within_their_bounds() -> Result<()> {
    BOUNDS.into_iter().try_for_each(|(dtype, bound)| compare(dtype, &Device::Cpu, Reference, bound))
}
