//! A GGUF file seen as a published model: its metadata as a [`Config`], its tensors under published
//! names.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};

use super::block::NormKind;
use super::config::{Config, RopeScaling};
use super::gguf_keys;
use super::names::{self, Role};
use super::rope::{Longrope, Yarn};
use crate::bail_data;
use crate::ops::activation::Activation;
use crate::source::{Gguf, TensorSource, Value};

/// Architectures that are known, as `general.architecture` names them.
const KNOWN: [&str; 3] = ["llama", "qwen2", "qwen3"];

/// Llama 3.1's and 3.2's rope scaling: GGUF keeps only the resulting factors.
const LLAMA3: [f64; 2] = [8.0, 32.0];

/// The config that a file's metadata describes.
///
/// Errors (class data): an unknown architecture, a missing or impossible value. What a person
/// should know goes into `notes`.
pub fn config(gguf: &Gguf, notes: &mut Vec<String>) -> Result<Config> {
    gguf_keys::check_type(gguf)?;
    let architecture = gguf.required("general.architecture", Value::as_str)?;
    if !KNOWN.contains(&architecture) {
        bail_data!(
            "`{}`: unknown architecture `{architecture}`; known are {}",
            gguf.path().display(),
            KNOWN.join(", ")
        );
    }
    let key = |name: &str| format!("{architecture}.{name}");
    let maybe = |name: &str| -> Result<Option<usize>> {
        gguf_keys::same_in_all_layers(gguf, &key(name))?
            .map(|n| within(gguf, &key(name), n))
            .transpose()
    };
    let size = |name: &str| -> Result<usize> {
        match maybe(name)? {
            Some(n) => Ok(n),
            None => within(gguf, &key(name), gguf.required(&key(name), Value::as_u64)?),
        }
    };
    let (width, heads) = (size("embedding_length")?, size("attention.head_count")?);
    let Some(&[vocabulary, _]) = gguf.shape("token_embd.weight") else {
        bail_data!(
            "`{}` has no tensor `token_embd.weight` of two dimensions",
            gguf.path().display()
        )
    };
    let id = |name: &str| -> Result<Option<u32>> {
        let id = gguf.optional(&format!("tokenizer.ggml.{name}"), Value::as_u64)?;
        Ok(id.and_then(|id| u32::try_from(id).ok()))
    };
    let head_width = match maybe("attention.key_length")? {
        Some(e) => e,
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            bail_data!("`{}`: width {width} is no multiple of {heads} heads", gguf.path().display())
        }
    };
    let mut config = Config {
        model_type: architecture.to_string(),
        width,
        ff: size("feed_forward_length")?,
        layers: size("block_count")?,
        heads,
        groups: maybe("attention.head_count_kv")?.unwrap_or(heads),
        head_width,
        vocabulary,
        max_positions: maybe("context_length")?.unwrap_or(2048),
        rope_theta: gguf.optional(&key("rope.freq_base"), Value::as_f64)?.unwrap_or(10_000.0),
        rope_scaling: RopeScaling::None,
        norm: NormKind::Rms,
        eps: gguf.required(&key("attention.layer_norm_rms_epsilon"), Value::as_f64)?,
        tied: gguf.shape("output.weight").is_none(),
        qkv_bias: gguf.shape("blk.0.attn_q.bias").is_some(),
        o_bias: gguf.shape("blk.0.attn_output.bias").is_some(),
        ff_bias: gguf.shape("blk.0.ffn_up.bias").is_some(),
        head_norms: gguf.shape("blk.0.attn_q_norm.weight").is_some(),
        activation: Activation::Silu,
        gated: true,
        causal: true,
        windows: vec![],
        bos: id("bos_token_id")?,
        eos: id("eos_token_id")?.into_iter().collect(),
    };
    config
        .check()
        .with_context(|| format!("cannot use the model in `{}`", gguf.path().display()))?;
    gguf_keys::check(gguf, architecture, &config, notes)?;
    config.rope_scaling = scaling(gguf, architecture, &config)?;
    config.max_positions = config.rope_scaling.reach(config.max_positions);
    Ok(config)
}

/// A count that fits what a model can have.
fn within(gguf: &Gguf, key: &str, n: u64) -> Result<usize> {
    match usize::try_from(n) {
        Ok(n) if (1..1 << 31).contains(&n) => Ok(n),
        _ => bail_data!("`{}`: `{key}` is {n}, which no model has", gguf.path().display()),
    }
}

/// How rotary frequencies are stretched, as llama.cpp understands the metadata and the factors.
fn scaling(gguf: &Gguf, architecture: &str, config: &Config) -> Result<RopeScaling> {
    let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
    let number = |name: &str| gguf.optional(&key(name), Value::as_f64);
    let factor = match number("factor")? {
        Some(factor) => Some(factor),
        None => gguf.optional(&format!("{architecture}.rope.scale_linear"), Value::as_f64)?,
    };
    // Zero stands for none.
    let factor = factor.filter(|factor| *factor != 0.0).unwrap_or(1.0);
    if !(factor > 0.0 && factor.is_finite()) {
        bail_data!("`{}`: a rope scaling by {factor} cannot be", gguf.path().display());
    }
    let kind = gguf.optional(&key("type"), Value::as_str)?.unwrap_or("linear");
    let own = rope_factors(gguf, config)?;
    match (kind, own) {
        ("none", own) | ("linear", own) if kind == "none" || factor == 1.0 => {
            Ok(own.unwrap_or(RopeScaling::None))
        }
        ("linear", None) => Ok(RopeScaling::Linear(factor)),
        ("yarn", None) => Ok(RopeScaling::Yarn(yarn(gguf, architecture, factor, config)?)),
        ("longrope", None) if factor == 1.0 => {
            let original =
                number("original_context_length")?.unwrap_or(config.max_positions as f64);
            let of = |name: &str| match factors(gguf, name, config)? {
                Some(factors) => anyhow::Ok(factors),
                None => bail_data!("`{}`: a longrope without `{name}`", gguf.path().display()),
            };
            let (short, long) = (of("rope_factors_short.weight")?, of("rope_factors_long.weight")?);
            Ok(RopeScaling::Longrope(Longrope {
                short,
                long,
                original,
                attention: number("attn_factor")?.unwrap_or(1.0),
            }))
        }
        ("linear" | "yarn" | "longrope", _) => {
            bail_data!(
                "`{}`: a rope scaling `{kind}` by {factor} beside factors of its own is not known",
                gguf.path().display()
            )
        }
        (other, _) => bail_data!(
            "`{}`: unknown rope scaling `{other}`; known are none, linear, yarn, longrope",
            gguf.path().display()
        ),
    }
}

/// A yarn's parameters.
fn yarn(gguf: &Gguf, architecture: &str, factor: f64, config: &Config) -> Result<Yarn> {
    let key = |name: &str| format!("{architecture}.rope.scaling.{name}");
    let number = |name: &str| gguf.optional(&key(name), Value::as_f64);
    for (name, usual) in
        [("yarn_ext_factor", 1.0), ("yarn_log_multiplier", 0.0), ("yarn_attn_factor", 1.0)]
    {
        if let Some(x) = number(name)?.filter(|x| *x != usual) {
            bail_data!("`{}`: `{}` is {x}, which is not known", gguf.path().display(), key(name));
        }
    }
    Ok(Yarn {
        factor,
        original: number("original_context_length")?.unwrap_or(config.max_positions as f64),
        attention: number("attn_factor")?.unwrap_or(1.0) * Yarn::mscale(factor, 1.0),
        fast: number("yarn_beta_fast")?.unwrap_or(32.0),
        slow: number("yarn_beta_slow")?.unwrap_or(1.0),
        truncate: true,
    })
}

/// A factor for each frequency.
fn factors(gguf: &Gguf, name: &str, config: &Config) -> Result<Option<Vec<f64>>> {
    let Some(shape) = gguf.shape(name) else { return Ok(None) };
    if *shape != [config.head_width / 2] {
        bail_data!(
            "`{}`: `{name}` has the shape {shape:?}, half a head has {} frequencies",
            gguf.path().display(),
            config.head_width / 2
        );
    }
    let factors = gguf.load(name, DType::F64, &Device::Cpu)?.to_vec1::<f64>()?;
    if !factors.iter().all(|f| *f > 0.0 && f.is_finite()) {
        bail_data!("`{}`: `{name}` holds factors that cannot be", gguf.path().display());
    }
    Ok(Some(factors))
}

/// The factors in `rope_freqs.weight`: those of a published Llama 3 under its name, any others as
/// they are.
fn rope_factors(gguf: &Gguf, config: &Config) -> Result<Option<RopeScaling>> {
    let Some(factors) = factors(gguf, "rope_freqs.weight", config)? else { return Ok(None) };
    let plain = config.frequencies(1);
    for factor in LLAMA3 {
        let scaling = RopeScaling::Llama3 { factor, low: 1.0, high: 4.0, original: 8192.0 };
        let found = scaling.frequencies(config.rope_theta, config.head_width, 1);
        if plain
            .iter()
            .zip(found)
            .zip(&factors)
            .all(|((f, scaled), s)| (scaled * s / f - 1.0).abs() < 1e-3)
        {
            return Ok(Some(scaling));
        }
    }
    let none = factors.iter().all(|f| *f == 1.0);
    Ok(Some(if none { RopeScaling::None } else { RopeScaling::Factors(factors) }))
}

/// GGUF's name of a linear module.
fn linear_name(role: Role) -> &'static str {
    match role {
        Role::Q => "attn_q",
        Role::K => "attn_k",
        Role::V => "attn_v",
        Role::O => "attn_output",
        Role::Gate => "ffn_gate",
        Role::Up => "ffn_up",
        Role::Down => "ffn_down",
    }
}

/// Published name → GGUF's name, and the head count whose rows are in another order there.
pub(super) fn names(config: &Config) -> BTreeMap<String, (String, Option<usize>)> {
    // Llama files hold Q and K rows for the rotation of neighbouring pairs; other architectures do
    // not.
    let interleaved = matches!(config.model_type.as_str(), "llama" | "mistral");
    let mut map = BTreeMap::new();
    map.insert(names::EMBEDDING.to_string(), ("token_embd.weight".to_string(), None));
    map.insert(format!("{}.weight", names::NORM), ("output_norm.weight".to_string(), None));
    map.insert(names::HEAD.to_string(), ("output.weight".to_string(), None));
    for layer in 0..config.layers {
        let norms = [
            ("input_layernorm", "attn_norm"),
            ("post_attention_layernorm", "ffn_norm"),
            ("self_attn.q_norm", "attn_q_norm"),
            ("self_attn.k_norm", "attn_k_norm"),
        ];
        for (published, own) in norms {
            map.insert(
                names::in_layer(layer, &format!("{published}.weight")),
                (format!("blk.{layer}.{own}.weight"), None),
            );
        }
        for role in Role::ALL {
            let heads = match role {
                Role::Q if interleaved => Some(config.heads),
                Role::K if interleaved => Some(config.groups),
                _ => None,
            };
            for part in ["weight", "bias"] {
                let own = format!("blk.{layer}.{}.{part}", linear_name(role));
                map.insert(
                    names::in_layer(layer, &format!("{}.{part}", role.path())),
                    (own, heads),
                );
            }
        }
    }
    map
}

/// A GGUF file's tensors under published names, with Q and K rows in the published order.
pub struct Published<'a> {
    gguf: &'a Gguf,
    names: BTreeMap<String, (String, Option<usize>)>,
}

impl<'a> Published<'a> {
    pub fn new(gguf: &'a Gguf, config: &Config) -> Self {
        let mut names = names(config);
        names.retain(|_, (own, _)| gguf.shape(own).is_some());
        Self { gguf, names }
    }
}

impl TensorSource for Published<'_> {
    /// Published names, and those of tensors that have none, but for the rope factors, which the
    /// config holds.
    fn names(&self) -> Vec<&str> {
        let known: std::collections::BTreeSet<&str> =
            self.names.values().map(|(own, _)| own.as_str()).collect();
        let factors =
            ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];
        let rest =
            self.gguf.names().into_iter().filter(|n| !known.contains(n) && !factors.contains(n));
        self.names.keys().map(String::as_str).chain(rest).collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.gguf.shape(&self.names.get(name)?.0)
    }

    fn dtype_name(&self, name: &str) -> Option<String> {
        self.gguf.dtype_name(&self.names.get(name)?.0)
    }

    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let Some((own, heads)) = self.names.get(name) else {
            bail_data!("`{}` has no tensor `{name}`", self.gguf.path().display())
        };
        let Some(heads) = *heads else { return self.gguf.load(own, dtype, device) };
        let tensor = self.gguf.load(own, dtype, &Device::Cpu)?;
        let shape = tensor.shape().clone();
        let rest = shape.elem_count() / shape.dims()[0];
        let half = shape.dims()[0] / heads / 2;
        Ok(tensor
            .reshape((heads, half, 2, rest))?
            .transpose(1, 2)?
            .contiguous()?
            .reshape(shape)?
            .to_device(device)?)
    }
}
