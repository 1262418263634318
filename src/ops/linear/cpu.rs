//! Linear modules on f32 slices, over weights in f32, bf16 or f16: products accumulate into one
//! buffer.

use candle_core::{Result, Tensor};

use super::{LinearView, LoraPair};
use crate::ops::cpu::gemm::{self, Matrix};
use crate::ops::cpu::view::{f32s, tensor};

fn rows<'a>(values: &'a [f32], shape: &Tensor) -> Result<Matrix<'a>> {
    let (n, m) = shape.dims2()?;
    Ok(Matrix::new(values, n, m, m))
}

pub fn forward(x: &Tensor, linear: LinearView, residual: Option<&Tensor>) -> Result<Tensor> {
    let (n, out) = (x.dim(0)?, linear.weight.dim(0)?);
    let xs = f32s(x)?;
    let x = rows(&xs, x)?;
    let mut y = match residual {
        Some(residual) => {
            let mut y = f32s(residual)?.to_vec();
            gemm::add_transposed(x, linear.weight, &mut y)?;
            y
        }
        None => gemm::into_transposed(x, linear.weight, Vec::new())?,
    };
    if let Some(bias) = linear.bias {
        let bias = f32s(bias)?;
        y.chunks_exact_mut(out)
            .for_each(|row| row.iter_mut().zip(&*bias).for_each(|(y, b)| *y += b));
    }
    if let Some(sum) = linear.sum() {
        gemm::add_transposed(x, sum, &mut y)?;
    }
    for pair in linear.pairs() {
        let (a, b) = (f32s(&pair.a)?, f32s(&pair.b)?);
        let u = gemm::new(x, rows(&a, &pair.a)?.t(), pair.scale as f32);
        let rank = pair.a.dim(0)?;
        gemm::add(&mut y, Matrix::new(&u, n, rank, rank), rows(&b, &pair.b)?.t(), 1.0);
    }
    tensor(y, (n, out))
}

pub fn input_gradient(parts: &[(&Tensor, LinearView)]) -> Result<Tensor> {
    let mut dx = None;
    let mut shape = (0, 0);
    for (dy, linear) in parts {
        let dys = f32s(dy)?;
        let mut sum = gemm::with_weight(&dys, linear.weight, dx)?;
        if let Some(beside) = linear.sum() {
            sum = gemm::with_weight(&dys, beside, Some(sum))?;
        }
        for pair in linear.pairs() {
            let (a, b) = (f32s(&pair.a)?, f32s(&pair.b)?);
            let back = gemm::new(rows(&dys, dy)?, rows(&b, &pair.b)?, pair.scale as f32);
            let rank = pair.a.dim(0)?;
            let back = Matrix::new(&back, dy.dim(0)?, rank, rank);
            gemm::add(&mut sum, back, rows(&a, &pair.a)?, 1.0);
        }
        shape = (dy.dim(0)?, linear.weight.dim(1)?);
        dx = Some(sum);
    }
    tensor(dx.unwrap_or_default(), shape)
}

pub fn factor_gradients(dy: &Tensor, x: &Tensor, pair: &LoraPair) -> Result<(Tensor, Tensor)> {
    let scale = pair.scale as f32;
    let (dys, xs, a, b) = (f32s(dy)?, f32s(x)?, f32s(&pair.a)?, f32s(&pair.b)?);
    let (n, rank) = (dy.dim(0)?, pair.a.dim(0)?);
    let back = gemm::new(rows(&dys, dy)?, rows(&b, &pair.b)?, scale);
    let da = gemm::new(Matrix::new(&back, n, rank, rank).t(), rows(&xs, x)?, 1.0);
    let u = gemm::new(rows(&xs, x)?, rows(&a, &pair.a)?.t(), scale);
    let db = gemm::new(rows(&dys, dy)?.t(), Matrix::new(&u, n, rank, rank), 1.0);
    Ok((tensor(da, pair.a.shape())?, tensor(db, pair.b.shape())?))
}

pub fn weight_gradient(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    let (dys, xs) = (f32s(dy)?, f32s(x)?);
    let dw = gemm::new(rows(&dys, dy)?.t(), rows(&xs, x)?, 1.0);
    tensor(dw, (dy.dim(1)?, x.dim(1)?))
}
