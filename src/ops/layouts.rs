//! Which layouts candle's products on a GPU take: fewer than those on the CPU. Tests hold every
//! product of a reference to them, so that a view that a GPU refuses is found without one.

use candle_core::{Layout, Tensor};

/// Whether matrices [.., M, K] and [.., K, N] that lie so are multiplied on a GPU.
pub fn taken(a: &Tensor, b: &Tensor) -> bool {
    let (Some((m, k)), Some((_, n))) = (matrix(a.layout()), matrix(b.layout())) else {
        return false;
    };
    rows_or_columns(a.layout(), (m, k))
        && rows_or_columns(b.layout(), (k, n))
        && batched(a.layout())
        && batched(b.layout())
}

fn matrix(layout: &Layout) -> Option<(usize, usize)> {
    let dims = layout.dims();
    Some((*dims.get(dims.len().checked_sub(2)?)?, *dims.last()?))
}

/// Whether a matrix lies row by row or column by column, without gaps.
fn rows_or_columns(layout: &Layout, (rows, columns): (usize, usize)) -> bool {
    let stride = &layout.stride()[layout.stride().len() - 2..];
    let (down, along) = (stride[0], stride[1]);
    (along == 1 || columns == 1) && (down == columns || rows == 1)
        || (along == rows || columns == 1) && (down == 1 || rows == 1)
}

/// Whether matrices lie at one distance from each other.
fn batched(layout: &Layout) -> bool {
    let dims = layout.dims();
    match layout.stride()[..dims.len() - 2] {
        [outer, inner] => outer == inner * dims[1] || dims[0] == 1 || dims[1] == 1,
        [_] | [] => true,
        _ => false,
    }
}

#[test]
fn views_with_gaps_are_not_taken() -> candle_core::Result<()> {
    let x = Tensor::zeros((4, 6), candle_core::DType::F32, &candle_core::Device::Cpu)?;
    let w = Tensor::zeros((5, 6), candle_core::DType::F32, &candle_core::Device::Cpu)?;
    assert!(taken(&x, &w.t()?) && taken(&x.t()?, &x) && taken(&x.narrow(0, 1, 2)?, &w.t()?));
    assert!(!taken(&x.narrow(1, 0, 3)?, &w.narrow(1, 0, 3)?.t()?));
    assert!(!taken(&x.narrow(1, 2, 1)?, &w.narrow(1, 2, 1)?.contiguous()?.t()?));
    Ok(())
}
