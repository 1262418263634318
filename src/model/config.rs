//! What a model looks like: sizes and options, read from a Hugging Face `config.json`.

use anyhow::Result;
use serde_json::{Value, json};

use super::block::NormKind;
use super::names::{self, Role};
use crate::error::Error;
use crate::ops::activation::Activation;
use crate::{bail_data, error};

/// The model types that are known, as `model_type` names them.
pub const KNOWN: [&str; 4] = ["llama", "mistral", "qwen2", "qwen3"];

/// How rotary frequencies are stretched for longer contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    None,
    /// All frequencies divided by a factor.
    Linear(f64),
    /// Llama 3.1's: low frequencies divided, high ones kept, a smooth step between.
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
}

/// Sizes and options of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `llama`, `mistral`, `qwen2`, `qwen3`.
    pub model_type: String,
    /// D
    pub width: usize,
    /// F
    pub ff: usize,
    /// L
    pub layers: usize,
    /// H
    pub heads: usize,
    /// G
    pub groups: usize,
    /// E
    pub head_width: usize,
    /// V
    pub vocabulary: usize,
    /// Longest sequence the model was made for, in tokens.
    pub max_positions: usize,
    pub rope_theta: f64,
    pub rope_scaling: RopeScaling,
    pub norm: NormKind,
    pub eps: f64,
    /// Whether the embedding serves as head.
    pub tied: bool,
    /// Biases of q, k and v.
    pub qkv_bias: bool,
    pub o_bias: bool,
    pub ff_bias: bool,
    /// Norms of every query and key head.
    pub head_norms: bool,
    pub activation: Activation,
    /// Whether the feed-forward part has a gate.
    pub gated: bool,
    pub causal: bool,
    /// Sliding window of the attention, in tokens.
    pub window: Option<usize>,
    pub bos: Option<u32>,
    /// The tokens that end a generated text.
    pub eos: Vec<u32>,
}

/// A JSON object's fields, with errors that name them.
struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    fn wrong<T>(&self, key: &str, wanted: &str) -> Result<T> {
        bail_data!("config.json: `{key}` is {}, not {wanted}", self.0[key])
    }

    fn size(&self, key: &str) -> Result<Option<usize>> {
        match self.get(key).map(Value::as_u64) {
            None => Ok(None),
            Some(Some(n)) if (1..1 << 31).contains(&n) => Ok(Some(n as usize)),
            Some(_) => self.wrong(key, "a positive whole number"),
        }
    }

    fn required(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| Error::data(format!("config.json has no `{key}`")).into())
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key).map(Value::as_f64) {
            None => Ok(None),
            Some(Some(x)) if x > 0.0 => Ok(Some(x)),
            Some(_) => self.wrong(key, "a positive number"),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key).map(Value::as_bool) {
            None => Ok(None),
            Some(None) => self.wrong(key, "true or false"),
            Some(flag) => Ok(flag),
        }
    }

    fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key).map(Value::as_str) {
            None => Ok(None),
            Some(None) => self.wrong(key, "a text"),
            Some(text) => Ok(text),
        }
    }

    fn ids(&self, key: &str) -> Result<Vec<u32>> {
        let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        match self.get(key) {
            None => Ok(vec![]),
            Some(Value::Array(list)) => match list.iter().map(id).collect() {
                Some(ids) => Ok(ids),
                None => self.wrong(key, "a list of token ids"),
            },
            Some(v) => match id(v) {
                Some(id) => Ok(vec![id]),
                None => self.wrong(key, "a token id"),
            },
        }
    }
}

impl Config {
    /// Reads a Hugging Face config. Errors (class data): an unknown `model_type`, a missing or impossible value, an
    /// option that this engine does not have. What a person should know goes into `notes`.
    pub fn from_json(json: &Value, _notes: &mut Vec<String>) -> Result<Self> {
        if !json.is_object() {
            bail_data!("config.json holds no object");
        }
        let f = Fields(json);
        let Some(model_type) = f.text("model_type")? else { bail_data!("config.json has no `model_type`; known are {}", KNOWN.join(", ")) };
        if !KNOWN.contains(&model_type) {
            let near = error::nearest(model_type, KNOWN).map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
            bail_data!("unknown architecture `{model_type}`; known are {}{near}", KNOWN.join(", "));
        }
        if let Some(quantized) = f.get("quantization_config") {
            let method = quantized.get("quant_method").and_then(Value::as_str).unwrap_or("unknown");
            bail_data!("the weights are quantised (`{method}`); give the unquantised model, or a GGUF file");
        }
        let (width, heads) = (f.required("hidden_size")?, f.required("num_attention_heads")?);
        let head_width = match f.size("head_dim")? {
            Some(e) => e,
            None if width.is_multiple_of(heads) => width / heads,
            None => bail_data!("config.json: `hidden_size` {width} is no multiple of `num_attention_heads` {heads}"),
        };
        let act = f.text("hidden_act")?.unwrap_or("silu");
        let Some(activation) = Activation::from_name(act) else {
            bail_data!("config.json: unknown `hidden_act` `{act}`; known are silu, gelu, gelu_new, gelu_pytorch_tanh, relu")
        };
        let (rope_theta, rope_scaling) = rope(&f)?;
        let attention_bias = f.flag("attention_bias")?.unwrap_or(false);
        let config = Self {
            model_type: model_type.to_string(),
            width,
            ff: f.required("intermediate_size")?,
            layers: f.required("num_hidden_layers")?,
            heads,
            groups: f.size("num_key_value_heads")?.unwrap_or(heads),
            head_width,
            vocabulary: f.required("vocab_size")?,
            max_positions: f.size("max_position_embeddings")?.unwrap_or(2048),
            rope_theta,
            rope_scaling,
            norm: NormKind::Rms,
            eps: f.number("rms_norm_eps")?.unwrap_or(1e-6),
            tied: f.flag("tie_word_embeddings")?.unwrap_or(false),
            qkv_bias: model_type == "qwen2" || attention_bias,
            o_bias: matches!(model_type, "llama" | "qwen3") && attention_bias,
            ff_bias: model_type == "llama" && f.flag("mlp_bias")?.unwrap_or(false),
            head_norms: model_type == "qwen3",
            activation,
            gated: true,
            causal: true,
            window: window(&f, model_type)?,
            bos: f.ids("bos_token_id")?.first().copied(),
            eos: f.ids("eos_token_id")?,
        };
        config.check()?;
        Ok(config)
    }

    /// Refuses sizes that cannot be.
    pub fn check(&self) -> Result<()> {
        if !self.heads.is_multiple_of(self.groups) {
            bail_data!("{} attention heads are no multiple of {} key-value heads", self.heads, self.groups);
        }
        if !self.head_width.is_multiple_of(2) {
            bail_data!("a head width of {} cannot be rotated: it must be even", self.head_width);
        }
        let numbers = [self.width, self.ff, self.heads * self.head_width, self.vocabulary];
        if self.layers > 10_000 || numbers.iter().any(|&n| n == 0 || n > 1 << 24) {
            bail_data!(
                "impossible sizes: {} layers, width {}, feed-forward {}, vocabulary {}",
                self.layers,
                self.width,
                self.ff,
                self.vocabulary
            );
        }
        Ok(())
    }

    /// (out, in) of a linear module.
    pub fn linear_shape(&self, role: Role) -> (usize, usize) {
        let (q, kv) = (self.heads * self.head_width, self.groups * self.head_width);
        match role {
            Role::Q => (q, self.width),
            Role::K | Role::V => (kv, self.width),
            Role::O => (self.width, q),
            Role::Gate | Role::Up => (self.ff, self.width),
            Role::Down => (self.width, self.ff),
        }
    }

    /// Whether a linear module has a bias.
    pub fn has_bias(&self, role: Role) -> bool {
        match role {
            Role::Q | Role::K | Role::V => self.qkv_bias,
            Role::O => self.o_bias,
            Role::Gate | Role::Up | Role::Down => self.ff_bias,
        }
    }

    /// Every tensor the weights must hold: published name and shape.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut out = vec![(names::EMBEDDING.to_string(), vec![self.vocabulary, self.width])];
        let norm = |out: &mut Vec<(String, Vec<usize>)>, name: String, size: usize| {
            out.push((format!("{name}.weight"), vec![size]));
            if self.norm == NormKind::Layer {
                out.push((format!("{name}.bias"), vec![size]));
            }
        };
        for layer in 0..self.layers {
            norm(&mut out, names::in_layer(layer, "input_layernorm"), self.width);
            for role in Role::ALL.into_iter().filter(|r| self.gated || *r != Role::Gate) {
                let (rows, columns) = self.linear_shape(role);
                out.push((names::in_layer(layer, &format!("{}.weight", role.path())), vec![rows, columns]));
                if self.has_bias(role) {
                    out.push((names::in_layer(layer, &format!("{}.bias", role.path())), vec![rows]));
                }
            }
            if self.head_norms {
                norm(&mut out, names::in_layer(layer, "self_attn.q_norm"), self.head_width);
                norm(&mut out, names::in_layer(layer, "self_attn.k_norm"), self.head_width);
            }
            norm(&mut out, names::in_layer(layer, "post_attention_layernorm"), self.width);
        }
        norm(&mut out, names::NORM.to_string(), self.width);
        if !self.tied {
            out.push((names::HEAD.to_string(), vec![self.vocabulary, self.width]));
        }
        out
    }

    /// Inverse frequencies of the rotary embedding [E/2], scaled.
    pub fn frequencies(&self) -> Vec<f64> {
        let e = self.head_width;
        (0..e / 2).map(|i| self.rope_theta.powf(-2.0 * i as f64 / e as f64)).map(|f| self.rope_scaling.apply(f)).collect()
    }

    /// The config as a Hugging Face `config.json`, for models that came without one.
    pub fn to_json(&self) -> Value {
        let architecture = match self.model_type.as_str() {
            "mistral" => "MistralForCausalLM",
            "qwen2" => "Qwen2ForCausalLM",
            "qwen3" => "Qwen3ForCausalLM",
            _ => "LlamaForCausalLM",
        };
        let act = match self.activation {
            Activation::Silu => "silu",
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_pytorch_tanh",
            Activation::Relu => "relu",
        };
        let rope_scaling = match self.rope_scaling {
            RopeScaling::None => Value::Null,
            RopeScaling::Linear(factor) => json!({"rope_type": "linear", "factor": factor}),
            RopeScaling::Llama3 { factor, low, high, original } => json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
                "original_max_position_embeddings": original as u64,
            }),
        };
        let mut out = json!({
            "architectures": [architecture], "model_type": self.model_type, "hidden_size": self.width, "intermediate_size": self.ff,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads, "num_key_value_heads": self.groups,
            "head_dim": self.head_width, "vocab_size": self.vocabulary, "max_position_embeddings": self.max_positions,
            "rope_theta": self.rope_theta, "rope_scaling": rope_scaling, "rms_norm_eps": self.eps, "tie_word_embeddings": self.tied,
            "hidden_act": act, "bos_token_id": self.bos,
            "eos_token_id": match self.eos.as_slice() { [] => Value::Null, [one] => json!(one), ids => json!(ids) },
        });
        if self.model_type != "qwen2" {
            out["attention_bias"] = json!(self.qkv_bias);
        }
        if self.model_type == "llama" {
            out["mlp_bias"] = json!(self.ff_bias);
        }
        if self.model_type == "mistral" {
            out["sliding_window"] = json!(self.window);
        }
        out
    }
}

impl RopeScaling {
    /// The scaled inverse frequency.
    pub fn apply(&self, f: f64) -> f64 {
        match *self {
            Self::None => f,
            Self::Linear(factor) => f / factor,
            Self::Llama3 { factor, low, high, original } => {
                let wavelength = 2.0 * std::f64::consts::PI / f;
                if wavelength < original / high {
                    f
                } else if wavelength > original / low {
                    f / factor
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    (1.0 - smooth) * f / factor + smooth * f
                }
            }
        }
    }
}

/// Theta and scaling: transformers 4 writes `rope_theta` and `rope_scaling`, transformers 5 `rope_parameters`.
fn rope(f: &Fields) -> Result<(f64, RopeScaling)> {
    let scaling = f.get("rope_parameters").or_else(|| f.get("rope_scaling"));
    let Some(scaling) = scaling else { return Ok((f.number("rope_theta")?.unwrap_or(10_000.0), RopeScaling::None)) };
    if !scaling.is_object() {
        bail_data!("config.json: the rope scaling is {scaling}, not an object");
    }
    let s = Fields(scaling);
    let theta = s.number("rope_theta")?.or(f.number("rope_theta")?).unwrap_or(10_000.0);
    let need =
        |key: &str| s.number(key)?.ok_or_else(|| anyhow::Error::from(Error::data(format!("config.json: the rope scaling has no `{key}`"))));
    let kind = s.text("rope_type")?.or(s.text("type")?).unwrap_or("default");
    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear(need("factor")?),
        "llama3" => RopeScaling::Llama3 {
            factor: need("factor")?,
            low: need("low_freq_factor")?,
            high: need("high_freq_factor")?,
            original: need("original_max_position_embeddings")?,
        },
        other => bail_data!("config.json: unknown rope scaling `{other}`; known are default, linear, llama3"),
    };
    if f.number("partial_rotary_factor")?.is_some_and(|p| p != 1.0) {
        bail_data!("config.json: `partial_rotary_factor` other than 1 is not known");
    }
    Ok((theta, scaling))
}

/// The sliding window, where the model uses one in all layers.
fn window(f: &Fields, model_type: &str) -> Result<Option<usize>> {
    let window = f.size("sliding_window")?;
    match model_type {
        "mistral" => Ok(window),
        "qwen2" | "qwen3" if f.flag("use_sliding_window")?.unwrap_or(false) && window.is_some() => {
            if f.get("max_window_layers").and_then(Value::as_u64).is_some_and(|n| n > 0) {
                bail_data!("config.json: a sliding window in some layers only (`max_window_layers`) is not known");
            }
            Ok(window)
        }
        _ => Ok(None),
    }
}
