//! One contract for all ops, a row each: the plain backward agrees with finite differences in f64,
//! the fast path (CPU twin, CUDA twin where there is one) with the plain one in f32, and bf16
//! inputs stay near the f64 result.

use anyhow::{Result, ensure};
use candle_core::{DType, Device, Tensor};

use super::activation::{self, Activation};
use super::attention::{self, Attended, Mask, Segment};
use super::linear::{self, Linear, LoraPair, UnmergedDelta};
use super::{cross_entropy, embedding, layer_norm, rms_norm, rope};

/// Which version of an op a row runs.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Plain,
    Fast,
}
use Way::{Fast, Plain};

/// Inputs → output.
type Forward = fn(&[Tensor], Way) -> candle_core::Result<Tensor>;
/// (inputs, gradient of the output) → gradients of the inputs.
type Backward = fn(&[Tensor], &Tensor, Way) -> candle_core::Result<Vec<Tensor>>;

struct Row {
    name: &'static str,
    shapes: &'static [&'static [usize]],
    forward: Forward,
    backward: Backward,
}

const EPS: f64 = 1e-5;
const N: usize = 7;

fn angles(x: &Tensor) -> candle_core::Result<rope::Angles> {
    let dtype = if x.dtype() == DType::BF16 { DType::F32 } else { x.dtype() };
    rope::Angles::new(&[0, 1, 2, 3, 0, 1, 2], &[1.0, 0.1], dtype, x.device())
}

/// Two sequences, the second seeing the first as context too.
fn segments() -> Vec<Segment> {
    vec![Segment::alone(0..4), Segment { queries: 4..7, prefix_keys: 0..4, self_keys: 4..7 }]
}

fn attend(x: &[Tensor], way: Way, mask: Mask) -> candle_core::Result<Attended> {
    let f = if way == Plain { attention::reference::forward } else { attention::forward };
    f(&x[0], &x[1], &x[2], &segments(), mask)
}

fn attend_back(x: &[Tensor], d: &Tensor, way: Way, mask: Mask) -> candle_core::Result<Vec<Tensor>> {
    let f = if way == Plain { attention::reference::backward } else { attention::backward };
    let g = f(d, &x[0], &x[1], &x[2], &attend(x, way, mask)?, &segments(), mask)?;
    Ok(vec![g.dq, g.dk, g.dv])
}

const CAUSAL: Mask = Mask { causal: true, window: None, scale: 0.5 };
const FULL: Mask = Mask { causal: false, window: None, scale: 0.5 };
const WINDOW: Mask = Mask { causal: true, window: Some(2), scale: 0.5 };

/// A pair that no gradient is asked for.
fn frozen(x: &[Tensor]) -> candle_core::Result<UnmergedDelta> {
    Ok(UnmergedDelta::Factors(LoraPair {
        a: (x[3].ones_like()? * 0.3)?,
        b: (x[4].ones_like()? * 0.2)?,
        scale: 0.5,
    }))
}

fn overlaid(x: &[Tensor], way: Way) -> candle_core::Result<Tensor> {
    let pair = LoraPair { a: x[3].clone(), b: x[4].clone(), scale: 2.0 };
    let beside = frozen(x)?;
    let linear =
        Linear { weight: &x[1], bias: Some(&x[2]), pair: Some(&pair), unmerged: Some(&beside) };
    let f = if way == Plain { linear::reference::forward } else { linear::forward };
    f(&x[0], linear, Some(&x[5]))
}

fn overlaid_back(x: &[Tensor], d: &Tensor, way: Way) -> candle_core::Result<Vec<Tensor>> {
    let pair = LoraPair { a: x[3].clone(), b: x[4].clone(), scale: 2.0 };
    let beside = frozen(x)?;
    let linear =
        Linear { weight: &x[1], bias: Some(&x[2]), pair: Some(&pair), unmerged: Some(&beside) };
    let (dx, (da, db)) = match way {
        Plain => (
            linear::reference::input_gradient(&[(d, linear)])?,
            linear::reference::factor_gradients(d, &x[0], &pair)?,
        ),
        Fast => {
            (linear::input_gradient(&[(d, linear)])?, linear::factor_gradients(d, &x[0], &pair)?)
        }
    };
    Ok(vec![dx, linear::weight_gradient(d, &x[0])?, linear::bias_gradient(d)?, da, db, d.clone()])
}

/// A second weight that no gradient is asked for.
fn frozen_sum(weight: &Tensor) -> candle_core::Result<UnmergedDelta> {
    let numbers = Tensor::arange(0u32, weight.elem_count() as u32, weight.device())?
        .to_dtype(weight.dtype())?;
    Ok(UnmergedDelta::Sum(((numbers * 0.07)?.sin()? * 0.4)?.reshape(weight.shape())?))
}

/// Two linears that share their input, one of them with a second weight: dx is one sum.
fn shared_input(x: &[Tensor], way: Way) -> candle_core::Result<Tensor> {
    let f = if way == Plain { linear::reference::forward } else { linear::forward };
    let sum = frozen_sum(&x[1])?;
    let of =
        |w, beside| f(&x[0], Linear { weight: w, bias: None, pair: None, unmerged: beside }, None);
    of(&x[1], Some(&sum))? + of(&x[2], None)?
}

fn shared_input_back(x: &[Tensor], d: &Tensor, way: Way) -> candle_core::Result<Vec<Tensor>> {
    let f = if way == Plain { linear::reference::input_gradient } else { linear::input_gradient };
    let sum = frozen_sum(&x[1])?;
    let of = |w, beside| (d, Linear { weight: w, bias: None, pair: None, unmerged: beside });
    Ok(vec![
        f(&[of(&x[1], Some(&sum)), of(&x[2], None)])?,
        linear::weight_gradient(d, &x[0])?,
        linear::weight_gradient(d, &x[0])?,
    ])
}

const TARGETS: [u32; N] = [0, 4, 2, 2, 1, 3, 4];

fn loss(
    x: &[Tensor],
    way: Way,
    want: cross_entropy::Want,
) -> candle_core::Result<cross_entropy::Loss> {
    let f = if way == Plain {
        cross_entropy::reference::forward_backward
    } else {
        cross_entropy::forward_backward
    };
    f(&x[0], &x[1], &TARGETS, 0.3, want)
}

fn glu(x: &[Tensor], way: Way, f: Activation) -> candle_core::Result<Tensor> {
    if way == Plain {
        activation::reference::forward(f, &x[0], x.get(1))
    } else {
        activation::forward(f, &x[0], x.get(1))
    }
}

fn glu_back(x: &[Tensor], d: &Tensor, way: Way, f: Activation) -> candle_core::Result<Vec<Tensor>> {
    let g = if way == Plain {
        activation::reference::backward(f, d, &x[0], x.get(1))
    } else {
        activation::backward(f, d, &x[0], x.get(1))
    };
    let (dgate, dup) = g?;
    Ok([Some(dgate), dup].into_iter().flatten().collect())
}

fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "rms_norm",
            shapes: &[&[N, 20], &[20]],
            forward: |x, way| {
                if way == Plain {
                    rms_norm::reference::forward(&x[0], &x[1], EPS)
                } else {
                    rms_norm::forward(&x[0], &x[1], EPS)
                }
            },
            backward: |x, d, way| {
                let f =
                    if way == Plain { rms_norm::reference::backward } else { rms_norm::backward };
                Ok(vec![f(d, &x[0], &x[1], EPS)?, rms_norm::weight_gradient(d, &x[0], EPS)?])
            },
        },
        Row {
            name: "layer_norm",
            shapes: &[&[N, 6], &[6], &[6]],
            forward: |x, _| layer_norm::forward(&x[0], &x[1], &x[2], EPS),
            backward: |x, d, _| {
                let g = layer_norm::backward(d, &x[0], &x[1], EPS)?;
                Ok(vec![g.dx, g.dw, g.db])
            },
        },
        Row {
            name: "rope",
            shapes: &[&[N, 3, 4]],
            forward: |x, way| {
                if way == Plain {
                    rope::reference::rotate(&x[0], &angles(&x[0])?, 1.0)
                } else {
                    rope::forward(&x[0], &angles(&x[0])?)
                }
            },
            backward: |x, d, way| {
                let angles = angles(&x[0])?;
                Ok(vec![if way == Plain {
                    rope::reference::rotate(d, &angles, -1.0)?
                } else {
                    rope::backward(d, &angles)?
                }])
            },
        },
        Row {
            name: "linear",
            shapes: &[&[N, 5], &[6, 5], &[6], &[2, 5], &[6, 2], &[N, 6]],
            forward: overlaid,
            backward: overlaid_back,
        },
        Row {
            name: "linear, shared input",
            shapes: &[&[N, 5], &[6, 5], &[6, 5]],
            forward: shared_input,
            backward: shared_input_back,
        },
        Row {
            name: "attention, causal",
            shapes: &[&[N, 4, 6], &[N, 2, 6], &[N, 2, 6]],
            forward: |x, way| Ok(attend(x, way, CAUSAL)?.out),
            backward: |x, d, way| attend_back(x, d, way, CAUSAL),
        },
        Row {
            name: "attention, full",
            shapes: &[&[N, 4, 6], &[N, 2, 6], &[N, 2, 6]],
            forward: |x, way| Ok(attend(x, way, FULL)?.out),
            backward: |x, d, way| attend_back(x, d, way, FULL),
        },
        Row {
            name: "attention, window",
            shapes: &[&[N, 4, 6], &[N, 4, 6], &[N, 4, 6]],
            forward: |x, way| Ok(attend(x, way, WINDOW)?.out),
            backward: |x, d, way| attend_back(x, d, way, WINDOW),
        },
        Row {
            name: "swiglu",
            shapes: &[&[N, 9], &[N, 9]],
            forward: |x, way| glu(x, way, Activation::Silu),
            backward: |x, d, way| glu_back(x, d, way, Activation::Silu),
        },
        Row {
            name: "gelu",
            shapes: &[&[N, 9]],
            forward: |x, way| glu(x, way, Activation::Gelu),
            backward: |x, d, way| glu_back(x, d, way, Activation::Gelu),
        },
        Row {
            name: "gelu, tanh, gated",
            shapes: &[&[N, 9], &[N, 9]],
            forward: |x, way| glu(x, way, Activation::GeluTanh),
            backward: |x, d, way| glu_back(x, d, way, Activation::GeluTanh),
        },
        Row {
            name: "relu",
            shapes: &[&[N, 9]],
            forward: |x, way| glu(x, way, Activation::Relu),
            backward: |x, d, way| glu_back(x, d, way, Activation::Relu),
        },
        Row {
            name: "cross_entropy",
            shapes: &[&[N, 4], &[5, 4]],
            forward: |x, way| {
                let nll: f64 = loss(x, way, cross_entropy::Want::default())?.nll.iter().sum();
                Tensor::new(nll * 0.3, x[0].device())?.to_dtype(x[0].dtype())?.reshape(1)
            },
            backward: |x, d, way| {
                let g = loss(x, way, cross_entropy::Want { input: true, weight: true })?;
                [g.dh, g.dw]
                    .into_iter()
                    .flatten()
                    .map(|t| t.broadcast_mul(&d.to_dtype(t.dtype())?))
                    .collect()
            },
        },
        Row {
            name: "embedding",
            shapes: &[&[5, 4]],
            forward: |x, _| {
                embedding::forward(&Tensor::new(&TARGETS, x[0].device())?, &x[0], x[0].dtype())
            },
            backward: |x, d, _| {
                Ok(vec![embedding::backward(&Tensor::new(&TARGETS, x[0].device())?, d, 5)?])
            },
        },
    ]
}

/// Seeded inputs of a row, as f64 on the CPU.
fn inputs(row: &Row) -> Result<Vec<Tensor>> {
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

#[test]
fn plain_backward_agrees_with_finite_differences() -> Result<()> {
    const H: f64 = 1e-5;
    for row in rows() {
        let x = inputs(&row)?;
        let y = (row.forward)(&x, Plain)?;
        let d = direction(&y)?;
        let weights = values(&d)?;
        let objective = |x: &[Tensor]| -> Result<f64> {
            Ok(values(&(row.forward)(x, Plain)?)?.iter().zip(&weights).map(|(a, b)| a * b).sum())
        };
        for (which, gradient) in (row.backward)(&x, &d, Plain)?.iter().enumerate() {
            let (base, got) = (values(&x[which])?, values(gradient)?);
            ensure!(
                got.len() == base.len(),
                "{}: gradient {which} has {} entries, not {}",
                row.name,
                got.len(),
                base.len()
            );
            for i in 0..base.len() {
                let mut sides = [0.0; 2];
                for (side, step) in sides.iter_mut().zip([H, -H]) {
                    let mut moved = base.clone();
                    moved[i] += step;
                    let mut x = x.clone();
                    x[which] = Tensor::from_vec(moved, x[which].shape(), &Device::Cpu)?;
                    *side = objective(&x)?;
                }
                let slope = (sides[0] - sides[1]) / (2.0 * H);
                let error = (got[i] - slope).abs() / slope.abs().max(1.0);
                ensure!(
                    error < 1e-7,
                    "{}: input {which}, entry {i}: {} against {slope}",
                    row.name,
                    got[i]
                );
            }
        }
    }
    Ok(())
}

/// All results of a row: the output, then the gradients.
fn results(row: &Row, x: &[Tensor], way: Way) -> Result<Vec<Tensor>> {
    let y = (row.forward)(x, way)?;
    let d = direction(&y)?;
    let mut out = vec![y];
    out.extend((row.backward)(x, &d, way)?);
    Ok(out)
}

fn compare(dtype: DType, device: &Device, way: Way, bound: f64) -> Result<()> {
    for row in rows() {
        let exact = inputs(&row)?;
        let x: Vec<Tensor> = exact
            .iter()
            .map(|t| t.to_dtype(dtype)?.to_device(device))
            .collect::<candle_core::Result<_>>()?;
        let truth = results(&row, &exact, Plain)?;
        for (i, (got, want)) in results(&row, &x, way)?.iter().zip(&truth).enumerate() {
            let apart = distance(got, want)?;
            ensure!(apart < bound, "{} in {dtype:?}: result {i} is off by {apart:e}", row.name);
        }
    }
    Ok(())
}

#[test]
fn cpu_twins_agree_with_the_definition() -> Result<()> {
    compare(DType::F32, &Device::Cpu, Fast, 2e-5)?;
    compare(DType::F32, &Device::Cpu, Plain, 2e-5)
}

#[test]
fn bf16_stays_within_its_bound() -> Result<()> {
    compare(DType::BF16, &Device::Cpu, Plain, 0.06)
}

#[test]
fn cuda_agrees_with_the_definition() -> Result<()> {
    if !candle_core::utils::cuda_is_available() {
        eprintln!("skipped: built without CUDA");
        return Ok(());
    }
    let device = Device::new_cuda(0)?;
    compare(DType::F32, &device, Fast, 1e-4)?;
    compare(DType::BF16, &device, Fast, 0.06)
}
