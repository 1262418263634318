//! Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) as `torch.optim.Muon`:
//! m ← μ m + (1 − μ) g; u = g + μ (m − g), or m without Nesterov's momentum;
//! p ← p (1 − lr·decay) − lr·√max(1, rows/columns) · NS(u).
//!
//! NS brings the singular values of u near 1, by steps X ← a X + (b XXᵀ + c (XXᵀ)²) X. PyTorch
//! takes them in bf16; here they are in f32 (f64 of f64 parameters), so numbers agree to bf16's
//! precision only.

use candle_core::{DType, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::{Parameters, Setting, StepInfo, UpdateRule, parts};
use crate::ops::{elementwise, matmul};

/// a, b, c of the published iteration, chosen for a steep slope at 0.
const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];

/// The least norm that a matrix is divided by.
const EPS: f64 = 1e-7;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Muon {
    pub momentum: f64,
    pub nesterov: bool,
    pub ns_steps: usize,
    pub weight_decay: f64,
}

impl UpdateRule for Muon {
    const NAME: &'static str = "muon";
    const ABOUT: &'static str = "\
Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon), as PyTorch's: momentum, made
orthogonal by `ns_steps` steps of Newton and Schulz and scaled by √max(1, rows/columns). Those are
taken in f32 (PyTorch: bf16), and without `weight_decay` there is none (PyTorch: 0.1). For dense
boosters of matrices inside layers: vectors, embedding, head and factors of low rank are refused.";
    const EXAMPLE: &'static str = "lr: 0.02";
    const OPTIONS: &'static [(&'static str, Setting)] = &[
        ("momentum", Setting::Fraction(0.95)),
        ("nesterov", Setting::Flag(true)),
        ("ns_steps", Setting::Count(5)),
        ("weight_decay", Setting::NonNegative(0.0)),
    ];
    const STATE: &'static [&'static str] = &["momentum_buffer"];
    const PARAMETERS: Parameters = Parameters::HiddenMatrices;

    fn step(&self, p: &Tensor, g: &Tensor, state: &mut [Tensor], at: StepInfo) -> Result<Tensor> {
        let Self { momentum, nesterov, ns_steps, weight_decay } = *self;
        let [momentum_buffer] = parts(state)?;
        let &[rows, columns] = p.dims() else {
            bail!("`muon` steps matrices only, not a tensor of shape {:?}", p.dims())
        };
        *momentum_buffer = (&*momentum_buffer + ((g - &*momentum_buffer)? * (1.0 - momentum))?)?;
        let update = if nesterov {
            (g + ((&*momentum_buffer - g)? * momentum)?)?
        } else {
            momentum_buffer.clone()
        };
        let update = orthogonalized(&update, ns_steps)?;
        let rate = at.lr * (rows as f64 / columns as f64).max(1.0).sqrt();
        (p * (1.0 - at.lr * weight_decay))? - (update * rate)?
    }
}

/// The matrix with singular values near 1, in its own type.
fn orthogonalized(matrix: &Tensor, steps: usize) -> Result<Tensor> {
    let (rows, columns) = matrix.dims2()?;
    let wide = if matrix.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let mut x = matrix.to_dtype(wide)?;
    // XXᵀ is smaller along the shorter side.
    if rows > columns {
        x = x.t()?.contiguous()?;
    }
    x = (&x / elementwise::squares(&x)?.sqrt().max(EPS))?;
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..steps {
        let gram = matmul(&x, &x.t()?)?;
        let polynomial = ((&gram * b)? + (matmul(&gram, &gram)? * c)?)?;
        x = ((&x * a)? + matmul(&polynomial, &x)?)?;
    }
    if rows > columns {
        x = x.t()?.contiguous()?;
    }
    x.to_dtype(matrix.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    use crate::train::optim::Optimizer;
    use crate::train::optim::tests::numbers;

    const WIDE: [f64; 6] = [1.0, 0.5, -1.0, -2.0, 3.0, 0.25];
    const TALL: [f64; 6] = [1.0, -2.0, 0.5, 3.0, -1.0, 0.25];

    /// Four steps along p + t, t = 0, 1, 2, 3, at a rate of 0.1.
    fn run(nesterov: bool, p: &[f64; 6], shape: (usize, usize), dtype: DType) -> Result<Vec<f64>> {
        let mut p = Tensor::new(p, &Device::Cpu)?.reshape(shape)?.to_dtype(dtype)?;
        let rule = Muon { momentum: 0.95, nesterov, ns_steps: 5, weight_decay: 0.01 };
        let mut optimizer = Optimizer::new(rule);
        for t in 0..4 {
            let g = (&p + t as f64)?;
            p = optimizer.step(&[&p], &[Some((g, 0.1))])?.remove(0);
        }
        numbers(&p)
    }

    fn apart(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }

    /// The formula in f64, and what `torch` 2.15 gives, whose matrices are in bf16.
    #[test]
    fn muon_is_the_formulas_and_nearly_torchs() -> Result<()> {
        let cases = [
            (
                (true, TALL, (3, 2)),
                [0.5480353, -1.809979, 0.3419786, 2.6850763, -0.8885872, 0.1567297],
                [0.550254, -1.809529, 0.341506, 2.682764, -0.888777, 0.157108],
            ),
            (
                (true, WIDE, (2, 3)),
                [0.6303481, 0.370281, -0.9066131, -1.8430885, 2.7410471, 0.1735246],
                [0.630488, 0.370027, -0.90632, -1.841258, 2.737997, 0.172116],
            ),
            (
                (false, TALL, (3, 2)),
                [0.5475411, -1.8126144, 0.3221935, 2.6901066, -0.8656884, 0.1666867],
                [0.551677, -1.808565, 0.326457, 2.686591, -0.864301, 0.165829],
            ),
            (
                (false, WIDE, (2, 3)),
                [0.6297016, 0.3541588, -0.8880333, -1.8452135, 2.7450178, 0.1816586],
                [0.628527, 0.35325, -0.8879, -1.844766, 2.743855, 0.181482],
            ),
        ];
        for ((nesterov, p, shape), formula, torch) in cases {
            let double = run(nesterov, &p, shape, DType::F64)?;
            assert!(apart(&double, &formula) < 1e-7, "{double:?} is not {formula:?}");
            let single = run(nesterov, &p, shape, DType::F32)?;
            assert!(apart(&single, &formula) < 1e-5, "{single:?} is not {formula:?}");
            assert!(apart(&single, &torch) < 6e-3, "{single:?} is far from {torch:?}");
        }
        Ok(())
    }

    #[test]
    fn singular_values_come_near_1() -> Result<()> {
        let values: Vec<f32> = (0..48).map(|i| ((i * 29) % 47) as f32 / 23.0 - 1.0).collect();
        for shape in [(4, 12), (12, 4)] {
            let matrix = Tensor::from_slice(&values, shape, &Device::Cpu)?;
            let x = orthogonalized(&matrix, 5)?;
            assert_eq!(x.dims2()?, shape);
            let gram = if shape.0 < shape.1 { x.matmul(&x.t()?)? } else { x.t()?.matmul(&x)? };
            for (i, row) in gram.to_vec2::<f32>()?.iter().enumerate() {
                for (j, value) in row.iter().enumerate() {
                    let want = f32::from(u8::from(i == j));
                    assert!((value - want).abs() < 0.55, "{i}, {j}: {value}");
                }
            }
        }
        let zero = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        assert_eq!(numbers(&orthogonalized(&zero, 5)?)?, [0.0; 6]);
        Ok(())
    }

    #[test]
    fn vectors_are_refused() -> Result<()> {
        let p = Tensor::zeros(3, DType::F32, &Device::Cpu)?;
        let rule = Muon { momentum: 0.95, nesterov: true, ns_steps: 5, weight_decay: 0.0 };
        let error = Optimizer::new(rule).step(&[&p], &[Some((p.clone(), 0.1))]).unwrap_err();
        let said = "`muon` steps matrices only, not a tensor of shape [3]";
        assert!(error.to_string().starts_with(said), "{error}");
        Ok(())
    }
}
