//! Sums and products number by number, in place where the CPU holds them in f32: what an optimiser
//! does to gradients.
//!
//! Work is cut into chunks of a fixed length, so results do not depend on the number of threads.

use candle_core::{DType, Result, Tensor};
use rayon::prelude::*;

use super::cpu::simd::fast;
use super::cpu::view::{f32s, update};

/// Numbers that a thread takes at a time.
const CHUNK: usize = 1 << 14;

/// Changes each number of an f32 tensor in place, with the number at its place in `other`.
pub fn zip(tensor: &Tensor, other: &[f32], change: impl Fn(&mut f32, f32) + Sync) -> Result<()> {
    update(tensor, |x| {
        let chunks = x.par_chunks_mut(CHUNK).zip(other.par_chunks(CHUNK));
        chunks.for_each(|(x, other)| {
            x.iter_mut().zip(other).for_each(|(x, &other)| change(x, other))
        });
    })
}

/// x + y, in the place of x where it can be: nobody else may hold x.
pub fn add(x: Tensor, y: &Tensor) -> Result<Tensor> {
    add_scaled(x, y, 1.0)
}

/// x + scale · y, in the place of x where it can be: nobody else may hold x.
pub fn add_scaled(x: Tensor, y: &Tensor, scale: f64) -> Result<Tensor> {
    if fast(&[&x, y]) && x.shape() == y.shape() {
        let scale = scale as f32;
        zip(&x, &f32s(y)?, |x, y| *x += scale * y)?;
        return Ok(x);
    }
    if scale == 1.0 { x + y } else { x + (y * scale)? }
}

/// scale · x, in the place of x where it can be: nobody else may hold x.
pub fn scale(x: Tensor, scale: f64) -> Result<Tensor> {
    if fast(&[&x]) {
        let factor = scale as f32;
        update(&x, |x| {
            x.par_chunks_mut(CHUNK).for_each(|x| x.iter_mut().for_each(|x| *x *= factor))
        })?;
        return Ok(x);
    }
    x * scale
}

/// Σ x², formed in f64 and in order.
pub fn squares(x: &Tensor) -> Result<f64> {
    if fast(&[x]) {
        let x = f32s(x)?;
        let of = |part: &[f32]| {
            let mut lanes = [0f64; 8];
            for eight in part.chunks(8) {
                lanes
                    .iter_mut()
                    .zip(eight)
                    .for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
            }
            lanes.iter().sum::<f64>()
        };
        let parts: Vec<f64> = x.par_chunks(CHUNK).map(of).collect();
        return Ok(parts.iter().sum());
    }
    x.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()
}

/// Σ xy, summed in f64.
pub fn dot(x: &Tensor, y: &Tensor) -> Result<f64> {
    if fast(&[x, y]) {
        let (x, y) = (f32s(x)?, f32s(y)?);
        let of = |(x, y): (&[f32], &[f32])| {
            x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>()
        };
        let parts: Vec<f64> = x.par_chunks(CHUNK).zip(y.par_chunks(CHUNK)).map(of).collect();
        return Ok(parts.iter().sum());
    }
    (x.to_dtype(DType::F64)? * y.to_dtype(DType::F64)?)?.sum_all()?.to_scalar()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn in_place_is_what_tensors_give() -> Result<()> {
        let n = CHUNK + 13;
        let values = |step: f64| -> Vec<f64> {
            (0..n).map(|i| ((i * 7919) % 1000) as f64 * step - 1.0).collect()
        };
        let of = |dtype| -> Result<_> {
            let t = |step| Tensor::from_vec(values(step), n, &Device::Cpu)?.to_dtype(dtype);
            let sum = add(t(0.25)?, &t(0.5)?)?;
            let scaled = scale(add_scaled(t(0.25)?, &t(0.5)?, -0.5)?, 3.0)?;
            Ok((
                sum.to_dtype(DType::F64)?.to_vec1::<f64>()?,
                scaled.to_dtype(DType::F64)?.to_vec1::<f64>()?,
                squares(&sum)?,
            ))
        };
        let (fast, plain) = (of(DType::F32)?, of(DType::F64)?);
        assert_eq!(fast.0, plain.0);
        assert_eq!(fast.1, plain.1);
        assert!((fast.2 / plain.2 - 1.0).abs() < 1e-12);
        Ok(())
    }
}
