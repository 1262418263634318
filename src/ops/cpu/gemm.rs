//! Matrix products of the CPU twins: f32 through the `gemm` crate, over weights in f32, bf16 or
//! f16.
//!
//! 16-bit weights are widened a block of rows at a time, so that no wide copy of a matrix exists.

use candle_core::{DType, Result, Tensor, bail};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::simd::vectorized;
use super::view::View;

/// A strided f32 matrix.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `columns` numbers each `stride` apart.
    pub fn new(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(
            rows == 0 || columns == 0 || data.len() >= (rows - 1) * stride + columns,
            "matrix larger than its slice"
        );
        Self { data, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// `count` rows from `first` on.
    fn middle_rows(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.rows, "rows beyond a matrix");
        let start = if count == 0 || self.columns == 0 { 0 } else { first * self.row_stride };
        Self { data: &self.data[start..], rows: count, ..self }
    }

    /// The transpose, as a view.
    pub fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Rows of f32 numbers, each `stride` apart, that threads write at disjoint places. Whoever writes
/// to one vouches that the place lies inside the buffer and is nobody else's meanwhile.
#[derive(Clone, Copy)]
pub struct GemmOutput {
    data: *mut f32,
    stride: usize,
}

// SAFETY: writing is unsafe, and whoever does it vouches that threads write disjoint places.
unsafe impl Send for GemmOutput {}
// SAFETY: as above.
unsafe impl Sync for GemmOutput {}

impl GemmOutput {
    pub fn new(buffer: &mut [f32], stride: usize) -> Self {
        Self { data: buffer.as_mut_ptr(), stride }
    }

    /// What begins at a row and a column.
    ///
    /// # Safety
    /// The place lies inside the buffer.
    pub unsafe fn at(self, row: usize, column: usize) -> Self {
        // SAFETY: the caller vouches for the place.
        let data = unsafe { self.data.add(row * self.stride + column) };
        Self { data, ..self }
    }

    /// Writes the first number.
    ///
    /// # Safety
    /// It lies inside the buffer, and nobody else touches it meanwhile.
    pub unsafe fn set(self, value: f32) {
        // SAFETY: the caller vouches for the place.
        unsafe { self.data.write(value) }
    }
}

/// How much of the machine a product may use.
#[derive(Clone, Copy, PartialEq)]
pub enum Threads {
    /// The calling thread alone, inside of what is parallel already.
    One,
    /// The whole pool.
    All,
}

/// Products of fewer multiplications than this are not worth a second thread.
const SMALL: usize = 1 << 19;

/// target = alpha · a·b + beta · target.
///
/// On several threads each computes a block of the target's rows, or of its columns where there are
/// more, with a product of its own: cutting at fixed places keeps results the same from run to run,
/// and no thread waits while another packs for all.
///
/// # Safety
/// The target's a.rows rows of b.columns numbers lie inside its buffer, are initialised where beta
/// is not 0, and nobody else touches them meanwhile.
pub unsafe fn multiply(
    target: GemmOutput,
    a: Matrix,
    b: Matrix,
    alpha: f32,
    beta: f32,
    threads: Threads,
) {
    assert_eq!(a.columns, b.rows, "inner sizes of a product");
    let parts = match threads {
        Threads::All if a.rows * b.columns * a.columns >= SMALL => rayon::current_num_threads(),
        _ => 1,
    };
    let by_rows = a.rows > b.columns;
    let length = if by_rows { a.rows } else { b.columns };
    // Whole vectors a part, so that none works on ragged edges but the last.
    let step = length.div_ceil(parts).next_multiple_of(16);
    let part = |start: usize| {
        let count = step.min(length - start);
        // SAFETY: the parts are disjoint blocks of what the caller vouches for.
        unsafe {
            if by_rows {
                one(target.at(start, 0), a.middle_rows(start, count), b, alpha, beta);
            } else {
                one(target.at(0, start), a, b.t().middle_rows(start, count).t(), alpha, beta);
            }
        }
    };
    if step >= length {
        if length > 0 {
            part(0);
        }
        return;
    }
    (0..length.div_ceil(step)).into_par_iter().for_each(|i| part(i * step));
}

/// A product on the calling thread.
///
/// # Safety
/// As for [`multiply`].
unsafe fn one(target: GemmOutput, a: Matrix, b: Matrix, alpha: f32, beta: f32) {
    if a.rows == 0 || b.columns == 0 {
        return;
    }
    // SAFETY: `a` and `b` lie inside their slices by construction; the caller vouches for `target`.
    // gemm computes alpha·dst + beta·lhs·rhs: its alpha is our beta.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            target.data,
            1,
            target.stride as isize,
            beta != 0.0,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            beta,
            alpha,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// a·b as a new vector, on all threads.
pub fn new(a: Matrix, b: Matrix, alpha: f32) -> Vec<f32> {
    let len = a.rows * b.columns;
    let mut out = Vec::with_capacity(len);
    if a.columns == 0 {
        out.resize(len, 0.0);
        return out;
    }
    // SAFETY: the capacity is exactly the product's size, and with beta 0 all of it is written
    // before `set_len`.
    unsafe {
        let target = GemmOutput { data: out.as_mut_ptr(), stride: b.columns };
        multiply(target, a, b, alpha, 0.0, Threads::All);
        out.set_len(len);
    }
    out
}

/// out += alpha · a·b, where `out` holds a.rows × b.columns numbers.
pub fn add(out: &mut [f32], a: Matrix, b: Matrix, alpha: f32) {
    assert_eq!(out.len(), a.rows * b.columns, "size of a product's target");
    // SAFETY: `out` is ours alone and exactly large enough.
    unsafe { multiply(GemmOutput::new(out, b.columns), a, b, alpha, 1.0, Threads::All) }
}

/// Rows of a 16-bit matrix that are widened at a time: about 4 MB of f32.
fn block_rows(columns: usize) -> usize {
    ((1 << 20) / columns.max(1)).max(16)
}

/// Calls `each(first row, rows as f32)` over a weight matrix [rows, columns]: once for f32, block
/// by block for 16-bit types.
fn over_rows(weight: &Tensor, mut each: impl FnMut(usize, Matrix)) -> Result<()> {
    let (rows, columns) = weight.dims2()?;
    match weight.dtype() {
        DType::F32 => {
            let w = View::<f32>::new(weight)?;
            each(0, Matrix::new(&w, rows, columns, columns));
        }
        DType::BF16 => {
            over_wide_rows(&View::<bf16>::new(weight)?, rows, columns, each, |from, to| {
                vectorized(
                    #[inline(always)]
                    || {
                        to.iter_mut()
                            .zip(from)
                            .for_each(|(t, f)| *t = f32::from_bits(u32::from(f.to_bits()) << 16))
                    },
                );
            })
        }
        DType::F16 => {
            over_wide_rows(&View::<f16>::new(weight)?, rows, columns, each, |from, to| {
                from.convert_to_f32_slice(to)
            })
        }
        other => bail!("CPU products take weights in f32, bf16 or f16, not {other:?}"),
    }
    Ok(())
}

/// Calls `each` over blocks of rows, which `widen` makes f32.
fn over_wide_rows<T: Sync>(
    w: &[T],
    rows: usize,
    columns: usize,
    mut each: impl FnMut(usize, Matrix),
    widen: impl Fn(&[T], &mut [f32]) + Sync,
) {
    let mut wide = vec![0f32; block_rows(columns).min(rows) * columns];
    for (i, block) in w.chunks(wide.len().max(1)).enumerate() {
        wide.par_chunks_mut(1 << 15)
            .zip(block.par_chunks(1 << 15))
            .for_each(|(to, from)| widen(from, &mut to[..from.len()]));
        each(
            i * block_rows(columns),
            Matrix::new(&wide[..block.len()], block.len() / columns, columns, columns),
        );
    }
}

/// y [N, rows] = x [N, columns] · Wᵀ, in `buffer`, whose old content is dropped.
pub fn into_transposed(x: Matrix, weight: &Tensor, mut buffer: Vec<f32>) -> Result<Vec<f32>> {
    let len = x.rows * weight.dim(0)?;
    buffer.clear();
    buffer.reserve_exact(len);
    // SAFETY: the buffer holds `len` numbers, and with beta 0 every block of columns is written
    // before it is read.
    unsafe {
        by_column_blocks(x, weight, buffer.as_mut_ptr(), 0.0)?;
        buffer.set_len(len);
    }
    Ok(buffer)
}

/// y [N, rows] += x [N, columns] · Wᵀ.
pub fn add_transposed(x: Matrix, weight: &Tensor, y: &mut [f32]) -> Result<()> {
    assert_eq!(y.len(), x.rows * weight.dim(0)?, "size of a product's target");
    // SAFETY: `y` is ours, initialised, and exactly as large as the product.
    unsafe { by_column_blocks(x, weight, y.as_mut_ptr(), 1.0) }
}

/// # Safety
/// `data` is valid for N × rows numbers, initialised where beta is not 0.
unsafe fn by_column_blocks(x: Matrix, weight: &Tensor, data: *mut f32, beta: f32) -> Result<()> {
    let target = GemmOutput { data, stride: weight.dim(0)? };
    over_rows(weight, |first, w| {
        // SAFETY: columns first..first+w.rows of the caller's N × rows numbers.
        unsafe { multiply(target.at(0, first), x, w.t(), 1.0, beta, Threads::All) }
    })
}

/// out [N, columns] += dy [N, rows] · W; the first write sets where `out` is None.
pub fn with_weight(dy: &[f32], weight: &Tensor, out: Option<Vec<f32>>) -> Result<Vec<f32>> {
    let (rows, columns) = weight.dims2()?;
    let n = dy.len() / rows;
    let len = n * columns;
    let (mut out, mut beta) = match out {
        Some(out) => (out, 1.0),
        None => (Vec::with_capacity(len), 0.0),
    };
    assert!(out.capacity() >= len, "size of a product's target");
    let target = GemmOutput { data: out.as_mut_ptr(), stride: columns };
    over_rows(weight, |first, w| {
        let part = Matrix {
            data: &dy[first..],
            rows: n,
            columns: w.rows,
            row_stride: rows,
            column_stride: 1,
        };
        // SAFETY: `out` is ours and N × columns large; from the second block on it is initialised.
        unsafe { multiply(target, part, w, 1.0, beta, Threads::All) };
        beta = 1.0;
    })?;
    // SAFETY: a weight has at least one row, so all of `out` was written.
    unsafe { out.set_len(len) };
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::linear::reference::{times, times_transposed};
    use crate::seed::Stream;
    use candle_core::Device;

    #[test]
    fn sixteen_bit_weights_are_multiplied_block_by_block() -> Result<()> {
        [DType::BF16, DType::F16].into_iter().try_for_each(by_blocks)
    }

    fn by_blocks(dtype: DType) -> Result<()> {
        let (n, rows, columns) = (3, 5000, 900);
        let mut stream = Stream::new(0, "blocks");
        let mut normal = |shape: (usize, usize)| {
            let values: Vec<f32> = (0..shape.0 * shape.1).map(|_| stream.normal() as f32).collect();
            Tensor::from_vec(values, shape, &Device::Cpu)
        };
        let (w, x, dy) =
            (normal((rows, columns))?.to_dtype(dtype)?, normal((n, columns))?, normal((n, rows))?);
        assert!(block_rows(columns) < rows);
        let xs = View::<f32>::new(&x)?;
        let y = into_transposed(Matrix::new(&xs, n, columns, columns), &w, Vec::new())?;
        let dx = with_weight(&View::<f32>::new(&dy)?, &w, None)?;
        let close = |got: Vec<f32>, want: Tensor| -> Result<f32> {
            let want = want.flatten_all()?.to_vec1::<f32>()?;
            Ok(got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max))
        };
        assert!(close(y, times_transposed(&x, &w)?)? < 1e-3);
        assert!(close(dx, times(&dy, &w)?)? < 1e-2);
        Ok(())
    }
}
