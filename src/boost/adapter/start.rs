//! Starts that are taken out of the weights: PiSSA (Meng et al. 2024) and OLoRA (Büyükakyüz 2024).
//!
//! PEFT lets the factors begin as components of W and leaves W − s B₀A₀ below them. So an adapter s
//! BA of that kind adds s (BA − B₀A₀) to W, which is one of twice the rank: what PEFT's own
//! conversion makes of it.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use crate::boost::vectors::{dot, length, orthogonal};
use crate::ops::linear::LoraPair;
use crate::seed::Stream;

/// A Ritz pair's error, against the largest eigenvalue.
const CLOSE: f64 = 1e-13;

/// The pair behind which `(b, a)` with the same scale is taken away: [A; A₀] and [B, −B₀].
pub(super) fn without(pair: &LoraPair, (b, a): (Tensor, Tensor)) -> Result<LoraPair> {
    let like = |t: Tensor| t.to_dtype(pair.a.dtype())?.to_device(pair.a.device());
    let (a, b) =
        (Tensor::cat(&[&pair.a, &like(a)?], 0)?, Tensor::cat(&[&pair.b, &like(b)?.neg()?], 1)?);
    Ok(LoraPair { a, b: b.contiguous()?, scale: pair.scale })
}

/// B₀ [out, r] and A₀ [r, in] of W [out, in]: of W = QR the first columns of Q and rows of R.
/// `None` where the first columns of W depend on each other, so that Q is not determined.
pub(super) fn olora(weight: &Tensor, rank: usize) -> Result<Option<(Tensor, Tensor)>> {
    let weight = weight.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    let mut rows: Vec<Vec<f64>> = weight.narrow(1, 0, rank)?.t()?.contiguous()?.to_vec2()?;
    for i in 0..rank {
        let (before, rest) = rows.split_at_mut(i);
        let whole = length(&rest[0]);
        let left = orthogonal(&mut rest[0], before);
        if left <= 1e-6 * whole || !left.is_normal() {
            return Ok(None);
        }
        rest[0].iter_mut().for_each(|x| *x /= left);
    }
    let q = Tensor::new(rows.concat(), &Device::Cpu)?.reshape((rank, weight.dim(0)?))?;
    Ok(Some((q.t()?.contiguous()?, q.matmul(&weight)?)))
}

/// B₀ [out, r] and A₀ [r, in] of W [out, in] with s B₀A₀ = the sum of its first r singular
/// components, the singular values shared evenly. `scale`, s, is above 0.
pub(super) fn pissa(weight: &Tensor, rank: usize, scale: f64) -> Result<(Tensor, Tensor)> {
    let weight = weight.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    let (out, inner) = weight.dims2()?;
    let wide = out <= inner;
    let small = if wide { weight.clone() } else { weight.t()?.contiguous()? };
    // Left singular vectors of the matrix with its smaller side first, as rows.
    let left = leading(&small, rank)?;
    let right = left.matmul(&small)?;
    let values = right.sqr()?.sum(1)?.sqrt()?.to_vec1::<f64>()?;
    let each = |power: f64| {
        values
            .iter()
            .map(|&v| if v > 0.0 { (v / scale).sqrt() * v.powf(power) } else { 0.0 })
            .collect::<Vec<f64>>()
    };
    let (left, right) = (scaled(&left, each(0.0))?, scaled(&right, each(-1.0))?);
    let (b, a) = if wide { (left, right) } else { (right, left) };
    Ok((b.t()?.contiguous()?, a))
}

/// Rows times numbers.
fn scaled(rows: &Tensor, by: Vec<f64>) -> Result<Tensor> {
    rows.broadcast_mul(&Tensor::new(by, &Device::Cpu)?.unsqueeze(1)?)
}

/// The first left singular vectors of a matrix [n, m], as rows [r, n]: Lanczos steps on M Mᵀ until
/// those wanted do not move any more, at most n steps.
fn leading(matrix: &Tensor, rank: usize) -> Result<Tensor> {
    let n = matrix.dim(0)?;
    let mut stream = Stream::new(0, "adapter/pissa");
    let mut next = drawn(n, &[], &mut stream);
    let mut lanczos = Lanczos::default();
    let mut look = (2 * rank + 8).min(n);
    loop {
        let (rest, left) = lanczos.step(matrix, next)?;
        let scale = lanczos.diagonal.iter().fold(0.0f64, |most, d| most.max(d.abs()));
        if lanczos.basis.len() == look {
            let vectors = largest(&lanczos.diagonal, &lanczos.beside, rank);
            let close = |vector: &Vec<f64>| (left * vector[look - 1]).abs() <= CLOSE * scale;
            if look == n || vectors.iter().all(close) {
                let rows: Vec<f64> = vectors.iter().flat_map(|v| lanczos.combined(v)).collect();
                return Tensor::from_vec(rows, (rank, n), &Device::Cpu);
            }
            look = (look + look / 4 + 8).min(n);
        }
        // What the steps reached is a space of its own: go on outside.
        let closed = left <= 1e-14 * scale || !left.is_normal();
        lanczos.beside.push(if closed { 0.0 } else { left });
        next = if closed {
            drawn(n, &lanczos.basis, &mut stream)
        } else {
            rest.iter().map(|x| x / left).collect()
        };
    }
}

/// Steps on M Mᵀ with all vectors kept at right angles: a basis in which it is tridiagonal, its
/// diagonal and what lies beside that.
#[derive(Default)]
struct Lanczos {
    basis: Vec<Vec<f64>>,
    diagonal: Vec<f64>,
    beside: Vec<f64>,
}

impl Lanczos {
    /// Adds `v` to the basis; what M Mᵀ v has outside of it, and the length of that.
    fn step(&mut self, matrix: &Tensor, v: Vec<f64>) -> Result<(Vec<f64>, f64)> {
        let row = Tensor::from_slice(&v, (1, v.len()), &Device::Cpu)?;
        let mut product =
            row.matmul(matrix)?.matmul(&matrix.t()?)?.flatten_all()?.to_vec1::<f64>()?;
        self.diagonal.push(dot(&v, &product));
        self.basis.push(v);
        let left = orthogonal(&mut product, &self.basis);
        Ok((product, left))
    }

    /// The sum of the basis, weighted.
    fn combined(&self, weights: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; self.basis[0].len()];
        for (vector, weight) in self.basis.iter().zip(weights) {
            sum.iter_mut().zip(vector).for_each(|(s, v)| *s += weight * v);
        }
        sum
    }
}

/// A drawn vector of length 1 at right angles to `others`.
fn drawn(n: usize, others: &[Vec<f64>], stream: &mut Stream) -> Vec<f64> {
    loop {
        let mut v: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        let left = orthogonal(&mut v, others);
        if left > 1e-9 {
            v.iter_mut().for_each(|x| *x /= left);
            return v;
        }
    }
}

/// Eigenvectors of the symmetric tridiagonal matrix with that diagonal and what lies beside it, to
/// its largest eigenvalues.
fn largest(diagonal: &[f64], beside: &[f64], count: usize) -> Vec<Vec<f64>> {
    let (values, vectors) = eigen(diagonal, beside);
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    let column = |&i: &usize| vectors.iter().map(|row| row[i]).collect();
    order.iter().take(count).map(column).collect()
}

/// Eigenvalues of the symmetric tridiagonal matrix with that diagonal and what lies beside it, and
/// the eigenvectors as columns: QL steps with implicit shifts.
fn eigen(diagonal: &[f64], beside: &[f64]) -> (Vec<f64>, Vec<Vec<f64>>) {
    /// Steps a value; two or three are the rule.
    const MOST: usize = 60;
    let n = diagonal.len();
    let mut d = diagonal.to_vec();
    let mut e: Vec<f64> = beside.iter().copied().chain([0.0]).collect();
    let mut z: Vec<Vec<f64>> =
        (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for l in 0..n {
        for _ in 0..MOST {
            let m = (l..n - 1)
                .find(|&m| e[m].abs() <= f64::EPSILON * (d[m].abs() + d[m + 1].abs()))
                .unwrap_or(n - 1);
            if m == l {
                break;
            }
            ql_step(&mut d, &mut e, &mut z, l..m);
        }
    }
    (d, z)
}

/// A QL step on the block of rows from the first of `block` to its end, which is coupled to no row
/// behind it: diagonal `d`, `e` beside it, and the rotations in the columns of `z`.
fn ql_step(d: &mut [f64], e: &mut [f64], z: &mut [Vec<f64>], block: Range<usize>) {
    let (l, m) = (block.start, block.end);
    let g = (d[l + 1] - d[l]) / (2.0 * e[l]);
    let mut g = d[m] - d[l] + e[l] / (g + g.hypot(1.0).copysign(g));
    let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
    for i in block.rev() {
        let (f, b) = (s * e[i], c * e[i]);
        let r = f.hypot(g);
        e[i + 1] = r;
        if r == 0.0 {
            d[i + 1] -= p;
            e[m] = 0.0;
            return;
        }
        (s, c) = (f / r, g / r);
        g = d[i + 1] - p;
        let r = (d[i] - g) * s + 2.0 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        for row in z.iter_mut() {
            (row[i], row[i + 1]) = (c * row[i] - s * row[i + 1], s * row[i] + c * row[i + 1]);
        }
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0.0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::random;

    fn largest_entry(t: &Tensor) -> Result<f64> {
        t.abs()?.max_all()?.to_scalar()
    }

    fn apart(a: &Tensor, b: &Tensor) -> Result<f64> {
        largest_entry(&(a - b)?)
    }

    fn squares(t: &Tensor) -> Result<f64> {
        t.sqr()?.sum_all()?.to_scalar()
    }

    fn product((b, a): &(Tensor, Tensor), scale: f64) -> Result<Tensor> {
        b.matmul(a)? * scale
    }

    fn ones() -> Result<Tensor> {
        Tensor::ones((9, 6), DType::F64, &Device::Cpu)
    }

    /// The sum of all components is the matrix; the first r leave a rest at right angles to them,
    /// and none of it is larger.
    #[test]
    fn singular_components_are_the_first() -> anyhow::Result<()> {
        let mut stream = Stream::new(1, "test");
        for (out, inner) in [(12, 7), (7, 12), (40, 40), (90, 60)] {
            let w = random(&[out, inner], 1.0, &mut stream)?;
            let small = out.min(inner);
            assert!(apart(&product(&pissa(&w, small, 0.5)?, 0.5)?, &w)? < 1e-11);
            for rank in [1, 3, 5] {
                let (b, a) = pissa(&w, rank, 2.0)?;
                let first = product(&(b.clone(), a.clone()), 2.0)?;
                let rest = (&w - &first)?;
                let zero = first.t()?.matmul(&rest)?;
                assert!(largest_entry(&zero)? < 1e-9, "{out} {inner} {rank}");
                let (next, last) = (pissa(&rest, 1, 1.0)?.1, pissa(&first, rank, 1.0)?.1);
                let last = last.narrow(0, rank - 1, 1)?;
                assert!(squares(&next)? <= squares(&last)? * (1.0 + 1e-9));
                // Both factors have the same lengths, as in PEFT.
                assert!((squares(&b)? - squares(&a)?).abs() < 1e-9 * squares(&a)?);
            }
        }
        Ok(())
    }

    #[test]
    fn components_that_the_matrix_does_not_have_are_zero() -> Result<()> {
        let zero = Tensor::zeros((5, 4), DType::F64, &Device::Cpu)?;
        assert_eq!(apart(&product(&pissa(&zero, 2, 1.0)?, 1.0)?, &zero)?, 0.0);
        assert!(apart(&product(&pissa(&ones()?, 3, 1.0)?, 1.0)?, &ones()?)? < 1e-12);
        Ok(())
    }

    #[test]
    fn the_first_columns_of_q_and_rows_of_r() -> anyhow::Result<()> {
        let w = random(&[9, 6], 1.0, &mut Stream::new(2, "test"))?;
        let parts = olora(&w, 4)?.unwrap();
        let sum = product(&parts, 1.0)?;
        assert!(apart(&sum.narrow(1, 0, 4)?, &w.narrow(1, 0, 4)?)? < 1e-12);
        let q = &parts.0;
        let one = Tensor::eye(4, DType::F64, &Device::Cpu)?;
        assert!(apart(&q.t()?.matmul(q)?, &one)? < 1e-12);
        assert!(olora(&ones()?, 2)?.is_none());
        let pair = LoraPair { a: parts.1.clone(), b: parts.0.clone(), scale: 1.5 };
        let nothing = without(&pair, parts)?;
        assert!(largest_entry(&nothing.b.matmul(&nothing.a)?)? < 1e-12);
        Ok(())
    }
}
