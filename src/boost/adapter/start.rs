//! Starts that are taken out of the weights: PiSSA (Meng et al. 2024) and OLoRA (Büyükakyüz 2024).
//!
//! PEFT lets the factors begin as components of W and leaves W − s B₀A₀ below them. So an adapter s
//! BA of that kind adds s (BA − B₀A₀) to W, which is one of twice the rank: what PEFT's own
//! conversion makes of it.

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

/// The first left singular vectors of a matrix [n, m], as rows [r, n]: Lanczos steps on M Mᵀ with
/// all vectors kept at right angles, until those wanted do not move any more, at most n steps.
fn leading(matrix: &Tensor, rank: usize) -> Result<Tensor> {
    let n = matrix.dim(0)?;
    let mut stream = Stream::new(0, "adapter/pissa");
    let turned = matrix.t()?;
    let product = |v: &[f64]| -> Result<Vec<f64>> {
        Tensor::from_slice(v, (1, n), &Device::Cpu)?
            .matmul(matrix)?
            .matmul(&turned)?
            .flatten_all()?
            .to_vec1()
    };
    let mut basis: Vec<Vec<f64>> = vec![];
    let (mut diagonal, mut beside) = (vec![], vec![]);
    let mut next = drawn(n, &[], &mut stream);
    let mut look = (2 * rank + 8).min(n);
    loop {
        let mut w = product(&next)?;
        diagonal.push(dot(&next, &w));
        basis.push(next);
        let left = orthogonal(&mut w, &basis);
        let scale = diagonal.iter().fold(0.0f64, |most, d| most.max(d.abs()));
        let done = basis.len() == n;
        if basis.len() == look || done {
            let (values, vectors) = eigen(&diagonal, &beside);
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
            order.truncate(rank);
            let close =
                order.iter().all(|&i| (left * vectors[basis.len() - 1][i]).abs() <= CLOSE * scale);
            if done || close {
                let row = |&i: &usize| {
                    let mut sum = vec![0.0; n];
                    for (vector, weights) in basis.iter().zip(&vectors) {
                        sum.iter_mut().zip(vector).for_each(|(s, v)| *s += weights[i] * v);
                    }
                    sum
                };
                let rows: Vec<f64> = order.iter().flat_map(row).collect();
                return Tensor::from_vec(rows, (rank, n), &Device::Cpu);
            }
            look = (look + look / 4 + 8).min(n);
        }
        // What the steps reached is a space of its own: go on outside.
        if left <= 1e-14 * scale || !left.is_normal() {
            beside.push(0.0);
            next = drawn(n, &basis, &mut stream);
        } else {
            beside.push(left);
            w.iter_mut().for_each(|x| *x /= left);
            next = w;
        }
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

/// Eigenvalues of the symmetric tridiagonal matrix with that diagonal and what lies beside it, and
/// the eigenvectors as columns: QL steps with implicit shifts.
fn eigen(diagonal: &[f64], beside: &[f64]) -> (Vec<f64>, Vec<Vec<f64>>) {
    /// Steps a value; two or three are the rule.
    const MOST: usize = 60;
    let n = diagonal.len();
    let mut d = diagonal.to_vec();
    let mut e: Vec<f64> = beside.iter().copied().chain([0.0]).collect();
    e.truncate(n);
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
            let g = (d[l + 1] - d[l]) / (2.0 * e[l]);
            let mut g = d[m] - d[l] + e[l] / (g + g.hypot(1.0).copysign(g));
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut whole = true;
            for i in (l..m).rev() {
                let (f, b) = (s * e[i], c * e[i]);
                let r = f.hypot(g);
                e[i + 1] = r;
                if r == 0.0 {
                    d[i + 1] -= p;
                    e[m] = 0.0;
                    whole = false;
                    break;
                }
                (s, c) = (f / r, g / r);
                g = d[i + 1] - p;
                let r = (d[i] - g) * s + 2.0 * c * b;
                p = s * r;
                d[i + 1] = g + p;
                g = c * r - b;
                for row in &mut z {
                    let f = row[i + 1];
                    row[i + 1] = s * row[i] + c * f;
                    row[i] = c * row[i] - s * f;
                }
            }
            if whole {
                d[l] -= p;
                e[l] = g;
                e[m] = 0.0;
            }
        }
    }
    (d, z)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::random;

    fn apart(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    fn product(parts: &(Tensor, Tensor), scale: f64) -> Tensor {
        (parts.0.matmul(&parts.1).unwrap() * scale).unwrap()
    }

    /// The sum of all components is the matrix; the first r leave a rest at right angles to them,
    /// and none of it is larger.
    #[test]
    fn singular_components_are_the_first() {
        let mut stream = Stream::new(1, "test");
        for (out, inner) in [(12, 7), (7, 12), (40, 40), (90, 60)] {
            let w = random(&[out, inner], 1.0, &mut stream).unwrap();
            let small = out.min(inner);
            assert!(apart(&product(&pissa(&w, small, 0.5).unwrap(), 0.5), &w) < 1e-11);
            for rank in [1, 3, 5] {
                let (b, a) = pissa(&w, rank, 2.0).unwrap();
                let first = product(&(b.clone(), a.clone()), 2.0);
                let rest = (&w - &first).unwrap();
                let zero = first.t().unwrap().matmul(&rest).unwrap();
                assert!(
                    zero.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap() < 1e-9,
                    "{out} {inner} {rank}"
                );
                let (next, last) =
                    (pissa(&rest, 1, 1.0).unwrap(), pissa(&first, rank, 1.0).unwrap());
                let length =
                    |t: &Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
                let last = last.1.narrow(0, rank - 1, 1).unwrap();
                assert!(length(&next.1) <= length(&last) * (1.0 + 1e-9));
                // Both factors have the same lengths, as in PEFT.
                assert!((length(&b) - length(&a)).abs() < 1e-9 * length(&a));
            }
        }
        let zero = Tensor::zeros((5, 4), DType::F64, &Device::Cpu).unwrap();
        assert_eq!(apart(&product(&pissa(&zero, 2, 1.0).unwrap(), 1.0), &zero), 0.0);
        let one = Tensor::ones((9, 6), DType::F64, &Device::Cpu).unwrap();
        assert!(apart(&product(&pissa(&one, 3, 1.0).unwrap(), 1.0), &one) < 1e-12);
    }

    #[test]
    fn the_first_columns_of_q_and_rows_of_r() {
        let mut stream = Stream::new(2, "test");
        let w = random(&[9, 6], 1.0, &mut stream).unwrap();
        let parts = olora(&w, 4).unwrap().unwrap();
        let sum = product(&parts, 1.0);
        assert!(apart(&sum.narrow(1, 0, 4).unwrap(), &w.narrow(1, 0, 4).unwrap()) < 1e-12);
        assert!(
            apart(
                &parts.0.t().unwrap().matmul(&parts.0).unwrap(),
                &Tensor::eye(4, DType::F64, &Device::Cpu).unwrap()
            ) < 1e-12
        );
        assert!(
            olora(&Tensor::ones((9, 6), DType::F64, &Device::Cpu).unwrap(), 2).unwrap().is_none()
        );
        let pair = LoraPair { a: parts.1.clone(), b: parts.0.clone(), scale: 1.5 };
        let nothing = without(&pair, parts).unwrap();
        assert!(
            nothing
                .b
                .matmul(&nothing.a)
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f64>()
                .unwrap()
                < 1e-12
        );
    }
}
