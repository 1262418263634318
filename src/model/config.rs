//! What a model looks like: sizes and options, read from a Hugging Face `config.json`.

use anyhow::Result;
use serde_json::{Value, json};

use super::block::NormKind;
use super::config_fields::Fields;
use super::names::{self, Role};
pub use super::rope::RopeScaling;
use super::{config_keys as keys, rope_config, windows};
use crate::ops::activation::Activation;
use crate::{bail_data, error};

/// The model types that are known, as `model_type` names them.
pub const KNOWN: [&str; 4] = ["llama", "mistral", "qwen2", "qwen3"];

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
    /// Sliding window of each layer's attention, in tokens; empty where no layer has one.
    pub windows: Vec<Option<usize>>,
    pub bos: Option<u32>,
    /// The tokens that end a generated text.
    pub eos: Vec<u32>,
}

/// What transformers' class takes where a config lacks a key.
struct Defaults {
    vocabulary: usize,
    ff: usize,
    /// None: as many as heads.
    groups: Option<usize>,
    /// None: D/H.
    head_width: Option<usize>,
    positions: usize,
    bos: &'static [u32],
    eos: &'static [u32],
}

impl Defaults {
    const WIDTH: usize = 4096;
    const LAYERS: usize = 32;
    const HEADS: usize = 32;
    const EPS: f64 = 1e-6;

    fn of(model_type: &str) -> Self {
        let llama = Self {
            vocabulary: 32_000,
            ff: 11_008,
            groups: None,
            head_width: None,
            positions: 2048,
            bos: &[1],
            eos: &[2],
        };
        let qwen = Self {
            vocabulary: 151_936,
            ff: 22_016,
            groups: Some(32),
            positions: 32_768,
            bos: &[],
            eos: &[],
            ..llama
        };
        match model_type {
            "mistral" => Self { ff: 14_336, groups: Some(8), positions: 4096 * 32, ..llama },
            "qwen2" => qwen,
            "qwen3" => Self { head_width: Some(128), ..qwen },
            _ => llama,
        }
    }
}

impl Config {
    /// Reads a Hugging Face config. Errors (class data): an unknown `model_type`, a missing or
    /// impossible value, an option that this engine does not have. What a person should know goes
    /// into `notes`.
    pub fn from_json(json: &Value, notes: &mut Vec<String>) -> Result<Self> {
        if !json.is_object() {
            bail_data!("config.json holds no object");
        }
        let f = Fields(json);
        let Some(model_type) = f.text("model_type")? else {
            bail_data!("config.json has no `model_type`; known are {}", KNOWN.join(", "))
        };
        if !KNOWN.contains(&model_type) {
            let near = error::nearest(model_type, KNOWN)
                .map(|n| format!("; did you mean `{n}`?"))
                .unwrap_or_default();
            bail_data!("unknown architecture `{model_type}`; known are {}{near}", KNOWN.join(", "));
        }
        keys::check(&f, model_type, notes)?;
        let default = Defaults::of(model_type);
        let width = f.size_or("hidden_size", Defaults::WIDTH)?;
        let heads = f.size_or("num_attention_heads", Defaults::HEADS)?;
        let layers = f.size_or("num_hidden_layers", Defaults::LAYERS)?;
        let head_width = head_width(&f, model_type, &default, width, heads)?;
        let positions = f.size_or("max_position_embeddings", default.positions)?;
        let attention_bias =
            matches!(model_type, "llama" | "qwen3") && f.flag_or("attention_bias", false)?;
        let mut config = Self {
            model_type: model_type.to_string(),
            width,
            ff: f.size_or("intermediate_size", default.ff)?,
            layers,
            heads,
            groups: groups(&f, model_type, &default, heads)?,
            head_width,
            vocabulary: f.size_or("vocab_size", default.vocabulary)?,
            max_positions: positions,
            rope_theta: 1.0,
            rope_scaling: RopeScaling::None,
            norm: NormKind::Rms,
            eps: f.number_or("rms_norm_eps", Defaults::EPS)?,
            tied: f.flag_or("tie_word_embeddings", false)?,
            qkv_bias: model_type == "qwen2" || attention_bias,
            o_bias: attention_bias,
            ff_bias: model_type == "llama" && f.flag_or("mlp_bias", false)?,
            head_norms: model_type == "qwen3",
            activation: activation(&f)?,
            gated: true,
            causal: true,
            windows: vec![],
            bos: f.ids_or("bos_token_id", default.bos)?.first().copied(),
            eos: f.ids_or("eos_token_id", default.eos)?,
        };
        // What grows with the sizes is read once they are known to be possible.
        config.check()?;
        (config.rope_theta, config.rope_scaling) =
            rope_config::read(&f, head_width, positions, notes)?;
        config.max_positions = config.rope_scaling.reach(positions);
        config.windows = windows::read(&f, model_type, layers, positions, notes)?;
        note_defaults(&f, notes);
        Ok(config)
    }

    /// The `config.json` that this config was read from, with what its weights said otherwise:
    /// whether head and embedding are tied, and the class that the model is of.
    pub fn corrected(&self, mut json: Value) -> Value {
        if !self.tied && json.get("tie_word_embeddings") == Some(&Value::Bool(true)) {
            json["tie_word_embeddings"] = Value::Bool(false);
        }
        let class = format!("{}ForCausalLM", keys::class(&self.model_type));
        let other = json
            .get("architectures")
            .and_then(Value::as_array)
            .is_some_and(|names| names.iter().all(|name| *name != class));
        if other {
            json["architectures"] = json!([class]);
        }
        json
    }

    /// Refuses sizes that cannot be.
    pub fn check(&self) -> Result<()> {
        if !self.heads.is_multiple_of(self.groups) {
            bail_data!(
                "{} attention heads are no multiple of {} key-value heads",
                self.heads,
                self.groups
            );
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
                out.push((
                    names::in_layer(layer, &format!("{}.weight", role.path())),
                    vec![rows, columns],
                ));
                if self.has_bias(role) {
                    out.push((
                        names::in_layer(layer, &format!("{}.bias", role.path())),
                        vec![rows],
                    ));
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

    /// Inverse frequencies of the rotary embedding [E/2] in a sequence of `length` tokens, scaled.
    pub fn frequencies(&self, length: usize) -> Vec<f64> {
        self.rope_scaling.frequencies(self.rope_theta, self.head_width, length)
    }

    /// The sliding window of a layer.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.windows.get(layer).copied().flatten()
    }

    /// The config as a Hugging Face `config.json`, for models that came without one.
    pub fn to_json(&self) -> Value {
        let act = match self.activation {
            Activation::Silu => "silu",
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_pytorch_tanh",
            Activation::Relu => "relu",
        };
        // Dynamic scaling begins where the files say that the model ends.
        let positions = match self.rope_scaling {
            RopeScaling::Dynamic { original, .. } => original,
            _ => self.max_positions,
        };
        let mut out = json!({
            "architectures": [format!("{}ForCausalLM", keys::class(&self.model_type))], "model_type": self.model_type, "hidden_size": self.width, "intermediate_size": self.ff,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads, "num_key_value_heads": self.groups,
            "head_dim": self.head_width, "vocab_size": self.vocabulary, "max_position_embeddings": positions,
            "rope_theta": self.rope_theta, "rope_scaling": rope_config::to_json(&self.rope_scaling, positions), "rms_norm_eps": self.eps, "tie_word_embeddings": self.tied,
            "hidden_act": act, "bos_token_id": self.bos,
            "eos_token_id": match self.eos.as_slice() { [] => Value::Null, [one] => json!(one), ids => json!(ids) },
        });
        if self.model_type != "qwen2" {
            out["attention_bias"] = json!(self.qkv_bias);
        }
        if self.model_type == "llama" {
            out["mlp_bias"] = json!(self.ff_bias);
        }
        self.windows_to_json(&mut out);
        out
    }

    /// The keys that say which layers have a window.
    fn windows_to_json(&self, out: &mut Value) {
        let window = self.windows.iter().flatten().next();
        if self.model_type == "mistral" {
            out["sliding_window"] = json!(window);
        }
        if window.is_some() {
            let kind = |layer| {
                if self.window(layer).is_some() { "sliding_attention" } else { "full_attention" }
            };
            out["use_sliding_window"] = json!(true);
            out["sliding_window"] = json!(window);
            out["layer_types"] = (0..self.layers).map(kind).collect();
        }
    }
}

fn head_width(
    f: &Fields,
    model_type: &str,
    default: &Defaults,
    width: usize,
    heads: usize,
) -> Result<usize> {
    let own = match f.raw("head_dim") {
        None => default.head_width,
        Some(Value::Null) if model_type != "qwen3" => None,
        Some(_) => Some(f.size_or("head_dim", 0)?),
    };
    match own {
        Some(e) => Ok(e),
        None if width.is_multiple_of(heads) => Ok(width / heads),
        None => bail_data!(
            "config.json: `hidden_size` {width} is no multiple of `num_attention_heads` {heads}"
        ),
    }
}

fn groups(f: &Fields, model_type: &str, default: &Defaults, heads: usize) -> Result<usize> {
    match f.raw("num_key_value_heads") {
        None => Ok(default.groups.unwrap_or(heads)),
        Some(Value::Null) if model_type != "mistral" => Ok(heads),
        Some(_) => f.size_or("num_key_value_heads", 0),
    }
}

fn activation(f: &Fields) -> Result<Activation> {
    let act = f.text("hidden_act")?.unwrap_or("silu");
    match Activation::from_name(act) {
        Some(activation) => Ok(activation),
        None => bail_data!(
            "config.json: unknown `hidden_act` `{act}`; known are silu, gelu, gelu_new, \
             gelu_pytorch_tanh, relu"
        ),
    }
}

/// Says which sizes a config leaves to the class.
fn note_defaults(f: &Fields, notes: &mut Vec<String>) {
    let sizes = [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
    ];
    let missing: Vec<String> =
        sizes.iter().filter(|key| f.raw(key).is_none()).map(|key| format!("`{key}`")).collect();
    if !missing.is_empty() {
        notes.push(format!(
            "config.json has no {}: transformers' own numbers stand in",
            missing.join(", ")
        ));
    }
}
