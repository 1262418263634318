//! The rows of the contract: each op with shapes of its inputs, forward and backward.

use candle_core::{DType, Result, Tensor};

use crate::ops::Backend::{self, Reference};
use crate::ops::activation::{self, Activation};
use crate::ops::attention::{self, Attended, Mask, Segment};
use crate::ops::linear::{self, LinearView, LoraPair, UnmergedDelta};
use crate::ops::{cross_entropy, embedding, layer_norm, rms_norm, rope};

/// An op's function by its reference, or else as its inputs have it.
macro_rules! by {
    ($backend:expr, $op:ident::$function:ident) => {
        if $backend == Reference { $op::reference::$function } else { $op::$function }
    };
}

/// Inputs → output.
pub type Forward = Box<dyn Fn(&[Tensor], Backend) -> Result<Tensor>>;
/// (inputs, gradient of the output) → gradients of the inputs.
pub type Backward = Box<dyn Fn(&[Tensor], &Tensor, Backend) -> Result<Vec<Tensor>>>;

/// An op under the contract.
pub struct OpCase {
    pub name: &'static str,
    pub shapes: &'static [&'static [usize]],
    pub forward: Forward,
    pub backward: Backward,
}

const EPS: f64 = 1e-5;
const N: usize = 7;

fn angles(x: &Tensor) -> Result<rope::Angles> {
    let dtype = if x.dtype() == DType::BF16 { DType::F32 } else { x.dtype() };
    rope::Angles::scaled(&[0, 1, 2, 3, 0, 1, 2], |_| &[1.0, 0.1], 1.0, dtype, x.device())
}

/// Two sequences, the second seeing the first as a prefix too.
fn segments() -> Vec<Segment> {
    vec![Segment::alone(0..4), Segment { queries: 4..7, prefix_keys: 0..4, self_keys: 4..7 }]
}

fn attend(x: &[Tensor], on: Backend, mask: Mask) -> Result<Attended> {
    by!(on, attention::forward)(&x[0], &x[1], &x[2], &segments(), mask)
}

fn attend_back(x: &[Tensor], d: &Tensor, on: Backend, mask: Mask) -> Result<Vec<Tensor>> {
    let attended = attend(x, on, mask)?;
    let f = by!(on, attention::backward);
    let g = f(d, &x[0], &x[1], &x[2], &attended, &segments(), mask)?;
    Ok(vec![g.dq, g.dk, g.dv])
}

const CAUSAL: Mask = Mask { causal: true, window: None, scale: 0.5 };
const FULL: Mask = Mask { causal: false, window: None, scale: 0.5 };
const WINDOW: Mask = Mask { causal: true, window: Some(2), scale: 0.5 };

/// A pair that no gradient is asked for.
fn frozen(x: &[Tensor]) -> Result<UnmergedDelta> {
    Ok(UnmergedDelta::Factors(LoraPair {
        a: (x[3].ones_like()? * 0.3)?,
        b: (x[4].ones_like()? * 0.2)?,
        scale: 0.5,
    }))
}

fn adapted(x: &[Tensor], on: Backend) -> Result<Tensor> {
    let pair = LoraPair { a: x[3].clone(), b: x[4].clone(), scale: 2.0 };
    let unmerged = frozen(x)?;
    let linear = LinearView {
        weight: &x[1],
        bias: Some(&x[2]),
        pair: Some(&pair),
        unmerged: Some(&unmerged),
    };
    by!(on, linear::forward)(&x[0], linear, Some(&x[5]))
}

fn adapted_back(x: &[Tensor], d: &Tensor, on: Backend) -> Result<Vec<Tensor>> {
    let pair = LoraPair { a: x[3].clone(), b: x[4].clone(), scale: 2.0 };
    let unmerged = frozen(x)?;
    let linear = LinearView {
        weight: &x[1],
        bias: Some(&x[2]),
        pair: Some(&pair),
        unmerged: Some(&unmerged),
    };
    let dx = by!(on, linear::input_gradient)(&[(d, linear)])?;
    let (da, db) = by!(on, linear::factor_gradients)(d, &x[0], &pair)?;
    let dw = by!(on, linear::weight_gradient)(d, &x[0])?;
    Ok(vec![dx, dw, linear::bias_gradient(d)?, da, db, d.clone()])
}

/// A second weight that no gradient is asked for.
fn frozen_sum(weight: &Tensor) -> Result<UnmergedDelta> {
    let numbers = Tensor::arange(0u32, weight.elem_count() as u32, weight.device())?
        .to_dtype(weight.dtype())?;
    Ok(UnmergedDelta::Sum(((numbers * 0.07)?.sin()? * 0.4)?.reshape(weight.shape())?))
}

/// Two linears that share their input, one of them with a second weight: dx is one sum.
fn shared_input(x: &[Tensor], on: Backend) -> Result<Tensor> {
    let sum = frozen_sum(&x[1])?;
    let of = |weight, unmerged| {
        by!(on, linear::forward)(
            &x[0],
            LinearView { weight, bias: None, pair: None, unmerged },
            None,
        )
    };
    of(&x[1], Some(&sum))? + of(&x[2], None)?
}

fn shared_input_back(x: &[Tensor], d: &Tensor, on: Backend) -> Result<Vec<Tensor>> {
    let sum = frozen_sum(&x[1])?;
    let of = |weight, unmerged| (d, LinearView { weight, bias: None, pair: None, unmerged });
    let dx = by!(on, linear::input_gradient)(&[of(&x[1], Some(&sum)), of(&x[2], None)])?;
    let dw = by!(on, linear::weight_gradient)(d, &x[0])?;
    Ok(vec![dx, dw.clone(), dw])
}

const TARGETS: [u32; N] = [0, 4, 2, 2, 1, 3, 4];

fn loss(x: &[Tensor], on: Backend, want: cross_entropy::Want) -> Result<cross_entropy::Loss> {
    by!(on, cross_entropy::forward_backward)(&x[0], &x[1], &TARGETS, 0.3, want)
}

fn glu(x: &[Tensor], on: Backend, f: Activation) -> Result<Tensor> {
    by!(on, activation::forward)(f, &x[0], x.get(1))
}

fn glu_back(x: &[Tensor], d: &Tensor, on: Backend, f: Activation) -> Result<Vec<Tensor>> {
    let (dgate, dup) = by!(on, activation::backward)(f, d, &x[0], x.get(1))?;
    Ok([Some(dgate), dup].into_iter().flatten().collect())
}

fn rms_norm() -> OpCase {
    OpCase {
        name: "rms_norm",
        shapes: &[&[N, 20], &[20]],
        forward: Box::new(|x, on| by!(on, rms_norm::forward)(&x[0], &x[1], EPS)),
        backward: Box::new(|x, d, on| {
            let dx = by!(on, rms_norm::backward)(d, &x[0], &x[1], EPS)?;
            Ok(vec![dx, rms_norm::weight_gradient(d, &x[0], EPS)?])
        }),
    }
}

fn layer_norm() -> OpCase {
    OpCase {
        name: "layer_norm",
        shapes: &[&[N, 70], &[70], &[70]],
        forward: Box::new(|x, on| by!(on, layer_norm::forward)(&x[0], &x[1], &x[2], EPS)),
        backward: Box::new(|x, d, on| {
            let g = by!(on, layer_norm::backward)(d, &x[0], &x[1], EPS)?;
            Ok(vec![g.dx, g.dw, g.db])
        }),
    }
}

fn rope() -> OpCase {
    OpCase {
        name: "rope",
        shapes: &[&[N, 3, 4]],
        forward: Box::new(|x, on| by!(on, rope::forward)(&x[0], &angles(&x[0])?)),
        backward: Box::new(|x, d, on| Ok(vec![by!(on, rope::backward)(d, &angles(&x[0])?)?])),
    }
}

fn linear() -> OpCase {
    OpCase {
        name: "linear",
        shapes: &[&[N, 5], &[6, 5], &[6], &[2, 5], &[6, 2], &[N, 6]],
        forward: Box::new(adapted),
        backward: Box::new(adapted_back),
    }
}

fn linears_of_one_input() -> OpCase {
    OpCase {
        name: "linear, shared input",
        shapes: &[&[N, 5], &[6, 5], &[6, 5]],
        forward: Box::new(shared_input),
        backward: Box::new(shared_input_back),
    }
}

fn attention(name: &'static str, shapes: &'static [&'static [usize]], mask: Mask) -> OpCase {
    OpCase {
        name,
        shapes,
        forward: Box::new(move |x, on| Ok(attend(x, on, mask)?.out)),
        backward: Box::new(move |x, d, on| attend_back(x, d, on, mask)),
    }
}

fn activation(name: &'static str, f: Activation, gated: bool) -> OpCase {
    OpCase {
        name,
        shapes: if gated { &[&[N, 9], &[N, 9]] } else { &[&[N, 9]] },
        forward: Box::new(move |x, on| glu(x, on, f)),
        backward: Box::new(move |x, d, on| glu_back(x, d, on, f)),
    }
}

fn cross_entropy() -> OpCase {
    OpCase {
        name: "cross_entropy",
        shapes: &[&[N, 4], &[5, 4]],
        forward: Box::new(|x, on| {
            let nll: f64 = loss(x, on, cross_entropy::Want::default())?.nll.wait()?.iter().sum();
            Tensor::new(nll * 0.3, x[0].device())?.to_dtype(x[0].dtype())?.reshape(1)
        }),
        backward: Box::new(|x, d, on| {
            let g = loss(x, on, cross_entropy::Want { input: true, weight: true })?;
            let scaled = |t: Tensor| t.broadcast_mul(&d.to_dtype(t.dtype())?);
            [g.dh, g.dw].into_iter().flatten().map(scaled).collect()
        }),
    }
}

fn embedding() -> OpCase {
    let ids = |x: &[Tensor]| Tensor::new(&TARGETS, x[0].device());
    OpCase {
        name: "embedding",
        shapes: &[&[5, 4]],
        forward: Box::new(move |x, _| embedding::forward(&ids(x)?, &x[0], x[0].dtype())),
        backward: Box::new(move |x, d, _| Ok(vec![embedding::backward(&ids(x)?, d, 5)?])),
    }
}

/// Two queries to a key.
const GROUPED: &[&[usize]] = &[&[N, 4, 6], &[N, 2, 6], &[N, 2, 6]];
const HEADS: &[&[usize]] = &[&[N, 4, 6], &[N, 4, 6], &[N, 4, 6]];

pub fn rows() -> Vec<OpCase> {
    vec![
        rms_norm(),
        layer_norm(),
        rope(),
        linear(),
        linears_of_one_input(),
        attention("attention, causal", GROUPED, CAUSAL),
        attention("attention, full", GROUPED, FULL),
        attention("attention, window", HEADS, WINDOW),
        activation("swiglu", Activation::Silu, true),
        activation("silu", Activation::Silu, false),
        activation("gelu", Activation::Gelu, false),
        activation("gelu, gated", Activation::Gelu, true),
        activation("gelu, tanh", Activation::GeluTanh, false),
        activation("gelu, tanh, gated", Activation::GeluTanh, true),
        activation("relu", Activation::Relu, false),
        activation("relu, gated", Activation::Relu, true),
        cross_entropy(),
        embedding(),
    ]
}
