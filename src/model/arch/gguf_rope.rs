//! Rotary embedding in GGUF files, as llama.cpp understands the metadata and the factors.

use anyhow::Result;
use candle_core::quantized::gguf_file;
use candle_core::{DType, Device};

use super::gguf_keys::Metadata;
use crate::error::bail;
use crate::model::nn::rope_scaling::{Longrope, RopeScaling, Yarn};
use crate::source::{GgufValue, TensorSource};

/// Llama 3.1's and 3.2's rope scaling: GGUF keeps only the resulting factors.
const LLAMA3: [f64; 2] = [8.0, 32.0];

/// What is rotated, and for how long.
pub(super) struct Rope {
    pub theta: f64,
    pub head_dim: usize,
    /// The longest sequence, in tokens.
    pub positions: usize,
}

impl Rope {
    /// The inverse frequencies of a short sequence, stretched by `scaling`.
    fn inv_freq(&self, scaling: &RopeScaling) -> Vec<f64> {
        scaling.inv_freq(self.theta, self.head_dim, 1)
    }
}

/// How rotary frequencies are stretched, as llama.cpp understands the metadata and the factors.
pub(super) fn read(m: &Metadata, rope: &Rope) -> Result<RopeScaling> {
    let (shown, factor) = (m.gguf.path().display(), factor(m)?);
    let key = m.key("rope.scaling.type");
    let kind = m.gguf.optional(&key, GgufValue::as_str)?.unwrap_or("linear");
    let own = rope_factors(m, rope)?;
    match (kind, own) {
        ("none", own) | ("linear", own) if kind == "none" || factor == 1.0 => {
            Ok(own.unwrap_or(RopeScaling::None))
        }
        ("linear", None) => Ok(RopeScaling::Linear(factor)),
        ("yarn", None) => Ok(RopeScaling::Yarn(yarn(m, factor, rope)?)),
        ("longrope", None) if factor == 1.0 => Ok(RopeScaling::Longrope(longrope(m, rope)?)),
        ("linear" | "yarn" | "longrope", _) => bail!(
            Data,
            "`{shown}`: a rope scaling `{kind}` by {factor} beside factors of its own is not known"
        ),
        (other, _) => bail!(
            Data,
            "`{shown}`: unknown rope scaling `{other}`; known are none, linear, yarn, longrope"
        ),
    }
}

fn number(m: &Metadata, name: &str) -> Result<Option<f64>> {
    m.number(&format!("rope.scaling.{name}"))
}

/// By how much a scaling stretches, 1 where nothing says it.
fn factor(m: &Metadata) -> Result<f64> {
    let factor = match number(m, "factor")? {
        Some(factor) => Some(factor),
        None => m.number("rope.scale_linear")?,
    };
    // Zero stands for none.
    let factor = factor.filter(|factor| *factor != 0.0).unwrap_or(1.0);
    if !(factor > 0.0 && factor.is_finite()) {
        bail!(Data, "`{}`: a rope scaling by {factor} cannot be", m.gguf.path().display());
    }
    Ok(factor)
}

/// The length before the stretching.
fn original(m: &Metadata, rope: &Rope) -> Result<f64> {
    let stated = number(m, "original_context_length")?;
    Ok(stated.unwrap_or(rope.positions as f64))
}

/// A longrope's parameters and factors.
fn longrope(m: &Metadata, rope: &Rope) -> Result<Longrope> {
    let original = original(m, rope)?;
    let of = |name: &str| match read_factors(m, name, rope)? {
        Some(factors) => anyhow::Ok(factors),
        None => bail!(Data, "`{}`: a longrope without `{name}`", m.gguf.path().display()),
    };
    Ok(Longrope {
        short: of("rope_factors_short.weight")?,
        long: of("rope_factors_long.weight")?,
        original,
        attention: number(m, "attn_factor")?.unwrap_or(1.0),
    })
}

/// A yarn's parameters.
fn yarn(m: &Metadata, factor: f64, rope: &Rope) -> Result<Yarn> {
    for (name, usual) in
        [("yarn_ext_factor", 1.0), ("yarn_log_multiplier", 0.0), ("yarn_attn_factor", 1.0)]
    {
        if let Some(x) = number(m, name)?.filter(|x| *x != usual) {
            let key = m.key(&format!("rope.scaling.{name}"));
            bail!(Data, "`{}`: `{key}` is {x}, which is not known", m.gguf.path().display());
        }
    }
    Ok(Yarn {
        factor,
        original: original(m, rope)?,
        attention: number(m, "attn_factor")?.unwrap_or(1.0) * Yarn::mscale(factor, 1.0),
        fast: number(m, "yarn_beta_fast")?.unwrap_or(32.0),
        slow: number(m, "yarn_beta_slow")?.unwrap_or(1.0),
        truncate: true,
    })
}

/// A factor for each frequency.
fn read_factors(m: &Metadata, name: &str, rope: &Rope) -> Result<Option<Vec<f64>>> {
    let (gguf, shown) = (m.gguf, m.gguf.path().display());
    let Some(shape) = gguf.shape(name) else { return Ok(None) };
    if *shape != [rope.head_dim / 2] {
        bail!(
            Data,
            "`{shown}`: `{name}` has the shape {shape:?}, half a head has {} frequencies",
            rope.head_dim / 2
        );
    }
    let factors = gguf.load(name, DType::F64, &Device::Cpu)?.to_vec1::<f64>()?;
    if !factors.iter().all(|f| *f > 0.0 && f.is_finite()) {
        bail!(Data, "`{shown}`: `{name}` holds factors that cannot be");
    }
    Ok(Some(factors))
}

/// The factors in `rope_freqs.weight`: those of a published Llama 3 under its name, any others as
/// they are.
fn rope_factors(m: &Metadata, rope: &Rope) -> Result<Option<RopeScaling>> {
    let Some(factors) = read_factors(m, "rope_freqs.weight", rope)? else { return Ok(None) };
    let plain = rope.inv_freq(&RopeScaling::None);
    for factor in LLAMA3 {
        let scaling = RopeScaling::Llama3 { factor, low: 1.0, high: 4.0, original: 8192.0 };
        let found = rope.inv_freq(&scaling);
        let mut all = plain.iter().zip(found).zip(&factors);
        if all.all(|((f, scaled), s)| (scaled * s / f - 1.0).abs() < 1e-3) {
            return Ok(Some(scaling));
        }
    }
    let none = factors.iter().all(|f| *f == 1.0);
    Ok(Some(if none { RopeScaling::None } else { RopeScaling::Factors(factors) }))
}

/// What `rope_freqs.weight` holds, where a scaling has a factor for each frequency.
pub(super) fn factors(rope: &Rope, scaling: &RopeScaling) -> Option<Vec<f32>> {
    let single = scaling.boundary().is_none() && scaling.attention() == 1.0;
    match scaling {
        RopeScaling::Factors(factors) => Some(factors.iter().map(|f| *f as f32).collect()),
        RopeScaling::Llama3 { .. } | RopeScaling::Longrope(_) if single => {
            let plain = rope.inv_freq(&RopeScaling::None);
            let scaled = rope.inv_freq(scaling);
            Some(plain.iter().zip(scaled).map(|(f, scaled)| (f / scaled) as f32).collect())
        }
        _ => None,
    }
}

/// An entry of the metadata, below the architecture's name.
type KeyValue = (&'static str, gguf_file::Value);

fn scaled_by(kind: &str, factor: f64) -> [KeyValue; 2] {
    [
        ("rope.scaling.type", gguf_file::Value::String(kind.to_owned())),
        ("rope.scaling.factor", gguf_file::Value::F32(factor as f32)),
    ]
}

fn yarn_metadata(yarn: &Yarn) -> Vec<KeyValue> {
    let original = gguf_file::Value::U32(yarn.original as u32);
    let mut entries = scaled_by("yarn", yarn.factor).to_vec();
    entries.push(("rope.scaling.original_context_length", original));
    let more = yarn.attention / Yarn::mscale(yarn.factor, 1.0);
    for (name, value, usual) in [
        ("rope.scaling.attn_factor", more, 1.0),
        ("rope.scaling.yarn_beta_fast", yarn.fast, 32.0),
        ("rope.scaling.yarn_beta_slow", yarn.slow, 1.0),
    ] {
        if (value - usual).abs() > 1e-6 {
            entries.push((name, gguf_file::Value::F32(value as f32)));
        }
    }
    entries
}

/// What the metadata say of the scaling. Errors (class usage): one that llama.cpp does not compute.
pub(super) fn metadata(rope: &Rope, scaling: &RopeScaling) -> Result<Vec<KeyValue>> {
    Ok(match scaling {
        RopeScaling::None | RopeScaling::Llama3 { .. } => vec![],
        RopeScaling::Factors(factors) if factors.iter().all(|f| f.is_finite()) => vec![],
        RopeScaling::Longrope(_) if factors(rope, scaling).is_some() => vec![],
        RopeScaling::Linear(factor) => scaled_by("linear", *factor).into(),
        RopeScaling::Yarn(yarn) if yarn.truncate && yarn.original.fract() == 0.0 => {
            yarn_metadata(yarn)
        }
        RopeScaling::Dynamic { .. } => bail!(
            Usage,
            "GGUF has no words for a `dynamic` rope scaling, which depends on a text's length"
        ),
        RopeScaling::Longrope(_) => bail!(
            Usage,
            "this model's `longrope` has other factors for longer texts, which llama.cpp would \
             choose by its context, not by the text"
        ),
        RopeScaling::Factors(_) => bail!(
            Usage,
            "GGUF has no words for frequencies that do not turn (`proportional` rope scaling)"
        ),
        RopeScaling::Yarn(_) => {
            bail!(Usage, "GGUF has no words for a `yarn` rope scaling with `truncate` false")
        }
    })
}
