//! Sums and products on f32 slices, in place. Work is cut into chunks of a fixed length, so results
//! do not depend on the number of threads.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use crate::ops::cpu::view::{f32s, update};

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

pub fn add_scaled(x: Tensor, y: &Tensor, scale: f64) -> Result<Tensor> {
    let scale = scale as f32;
    zip(&x, &f32s(y)?, |x, y| *x += scale * y)?;
    Ok(x)
}

pub fn scale(x: Tensor, scale: f64) -> Result<Tensor> {
    let factor = scale as f32;
    update(&x, |x| x.par_chunks_mut(CHUNK).for_each(|x| x.iter_mut().for_each(|x| *x *= factor)))?;
    Ok(x)
}

pub fn squares(x: &Tensor) -> Result<f64> {
    let of = |part: &[f32]| {
        let mut lanes = [0f64; 8];
        for eight in part.chunks(8) {
            lanes.iter_mut().zip(eight).for_each(|(sum, &x)| *sum += f64::from(x) * f64::from(x));
        }
        lanes.iter().sum::<f64>()
    };
    let parts: Vec<f64> = f32s(x)?.par_chunks(CHUNK).map(of).collect();
    Ok(parts.iter().sum())
}

pub fn dot(x: &Tensor, y: &Tensor) -> Result<f64> {
    let of = |(x, y): (&[f32], &[f32])| {
        x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>()
    };
    let (x, y) = (f32s(x)?, f32s(y)?);
    let parts: Vec<f64> = x.par_chunks(CHUNK).zip(y.par_chunks(CHUNK)).map(of).collect();
    Ok(parts.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::{reference, squares_of_each};
    use candle_core::{DType, Device};

    #[test]
    fn in_place_is_what_tensors_give() -> Result<()> {
        let n = CHUNK + 13;
        let tensor = |step: f64, dtype| {
            let values: Vec<f64> =
                (0..n).map(|i| ((i * 7919) % 1000) as f64 * step - 1.0).collect();
            Tensor::from_vec(values, n, &Device::Cpu)?.to_dtype(dtype)
        };
        let f64s = |x: Tensor| x.to_dtype(DType::F64)?.to_vec1::<f64>();
        let narrow = |step| tensor(step, DType::F32);
        let wide = |step| tensor(step, DType::F64);
        for s in [1.0, -0.5] {
            let got = add_scaled(narrow(0.25)?, &narrow(0.5)?, s)?;
            assert_eq!(f64s(got)?, f64s(reference::add_scaled(wide(0.25)?, &wide(0.5)?, s)?)?);
        }
        assert_eq!(f64s(scale(narrow(0.25)?, 3.0)?)?, f64s(reference::scale(wide(0.25)?, 3.0)?)?);
        let near = |got: f64, want: f64| assert!((got / want - 1.0).abs() < 1e-12);
        near(squares(&narrow(0.25)?)?, reference::squares(&wide(0.25)?)?);
        let each = squares_of_each(&[&narrow(0.25)?, &wide(0.25)?, &wide(0.5)?])?.wait()?;
        assert_eq!(each[0], squares(&narrow(0.25)?)?);
        assert_eq!(each[1], reference::squares(&wide(0.25)?)?);
        assert_eq!(each[2], reference::squares(&wide(0.5)?)?);
        near(dot(&narrow(0.25)?, &narrow(0.5)?)?, reference::dot(&wide(0.25)?, &wide(0.5)?)?);
        Ok(())
    }
}
