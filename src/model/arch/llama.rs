//! Llama (Touvron et al. 2023), and what Mistral and Qwen are variants of: pre-norm blocks with
//! RMSNorm, rotary positions, grouped key-value heads and a gated feed-forward part.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::quantized::gguf_file;
use serde_json::{Value, json};

use super::fields::{ConfigFields, activation_name};
use super::{
    Architecture, ArchitectureEntry, Builder, CommonConfig, DECODER_HEADS, Family, GgufEntry,
    GgufLayout, GgufTensor, HeadConfig, HeadKind, Target, class_of, gguf_keys, gguf_rope,
    rope_config, windows,
};
use crate::error::bail;
use crate::model::nn::{
    Attention, Embeddings, Mlp, Norm, NormKind, NormOrder, Qkv, RopeScaling, RotaryEmbedding,
    TransformerBlock,
};
use crate::model::{Network, ParamKind};
use crate::ops::activation::Activation;
use crate::source::{Gguf, GgufValue, TensorSource};

pub static ENTRY: ArchitectureEntry = ArchitectureEntry {
    model_type: "llama",
    classes: &[
        (HeadKind::CausalLm, "LlamaForCausalLM"),
        (HeadKind::Sequence, "LlamaForSequenceClassification"),
    ],
    config_class: "LlamaConfig",
    family: FAMILY,
    keys: &[KEYS, &["attention_bias", "mlp_bias"]],
    gguf: Some(GgufEntry { name: "llama", read: |gguf, notes| from_gguf(&VARIANT, gguf, notes) }),
    read: |f, notes| read(&VARIANT, f, notes),
};

static VARIANT: Variant = Variant {
    entry: &ENTRY,
    defaults: Defaults {
        vocab_size: 32_000,
        intermediate_size: 11_008,
        num_key_value_heads: None,
        head_dim: None,
        max_position_embeddings: 2048,
        bos_token_id: &[1],
        eos_token_id: &[2],
    },
    null_head_dim: true,
    null_kv_heads: true,
    qkv_bias: Bias::Said,
    mlp_bias: true,
    qk_norm: false,
    gguf: "llama",
    interleaved: true,
    windows: windows::llama,
    names_window: false,
};

/// What all of the family have alike.
pub const FAMILY: Family = Family {
    base_model_prefix: "model.",
    layers: "model.layers.",
    peft_targets: &["q_proj", "v_proj"],
    dropouts: &["attention_dropout"],
    tied_by_default: false,
    buffer: |name| {
        let last = name.rsplit('.').next().unwrap_or_default();
        name.contains("rotary_emb.") && matches!(last, "inv_freq" | "cos_cached" | "sin_cached")
    },
    tied_decoder: None,
    other_heads: DECODER_HEADS,
};

/// Keys of `config.json` that all of the family read.
pub const KEYS: &[&str] = &[
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "rms_norm_eps",
    "max_position_embeddings",
    "original_max_position_embeddings",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
    "sliding_window",
    "layer_types",
    "attention_dropout",
];

/// What transformers' class takes where a config lacks a key.
pub struct Defaults {
    pub vocab_size: usize,
    pub intermediate_size: usize,
    /// None: as many as heads.
    pub num_key_value_heads: Option<usize>,
    /// None: hidden_size / num_attention_heads.
    pub head_dim: Option<usize>,
    pub max_position_embeddings: usize,
    pub bos_token_id: &'static [u32],
    pub eos_token_id: &'static [u32],
}

impl Defaults {
    const HIDDEN_SIZE: usize = 4096;
    const NUM_HIDDEN_LAYERS: usize = 32;
    const NUM_ATTENTION_HEADS: usize = 32;
    const RMS_NORM_EPS: f64 = 1e-6;
}

/// Whether q, k and v have biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    Never,
    /// Always, and o has none.
    Always,
    /// `attention_bias` says it, of o too.
    Said,
}

/// Which windows layers have: from the config, the number of layers and of positions.
pub type Windows = fn(&ConfigFields, usize, usize, &mut Vec<String>) -> Result<Vec<Option<usize>>>;

/// In what a model of the family differs from others.
pub struct Variant {
    pub entry: &'static ArchitectureEntry,
    pub defaults: Defaults,
    /// Whether `head_dim` may be null.
    pub null_head_dim: bool,
    /// Whether `num_key_value_heads` may be null.
    pub null_kv_heads: bool,
    pub qkv_bias: Bias,
    /// Whether `mlp_bias` is a key of its config.
    pub mlp_bias: bool,
    pub qk_norm: bool,
    /// The architecture that GGUF files name.
    pub gguf: &'static str,
    /// Whether GGUF files hold rows of q and k for the rotation of neighbouring pairs.
    pub interleaved: bool,
    pub windows: Windows,
    /// Whether its config says that there is no window.
    pub names_window: bool,
}

impl std::fmt::Debug for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.entry.model_type)
    }
}

/// Sizes and options.
#[derive(Clone, Debug)]
pub struct Config {
    pub common: CommonConfig,
    /// F
    pub intermediate_size: usize,
    /// H
    pub num_attention_heads: usize,
    /// G
    pub num_key_value_heads: usize,
    /// E
    pub head_dim: usize,
    pub rope_theta: f64,
    pub rope_scaling: RopeScaling,
    pub rms_norm_eps: f64,
    /// Biases of q, k and v.
    pub qkv_bias: bool,
    pub o_bias: bool,
    pub mlp_bias: bool,
    /// Norms of every query head and every key head.
    pub qk_norm: bool,
    pub hidden_act: Activation,
    /// Sliding window of each layer's attention, in tokens; empty where no layer has one.
    pub windows: Vec<Option<usize>>,
    pub(in crate::model) variant: &'static Variant,
}

/// Sizes of a new model; the letters are those of the crate's legend.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    pub vocab_size: usize,
    /// The longest sequence.
    pub max_position_embeddings: usize,
}

impl Config {
    /// A Llama of these sizes, its embedding tied to its head; `eos_token_id` ends a text.
    pub fn new(sizes: Sizes, eos_token_id: u32) -> Self {
        Self {
            common: CommonConfig {
                hidden_size: sizes.hidden_size,
                num_hidden_layers: sizes.num_hidden_layers,
                vocab_size: sizes.vocab_size,
                max_position_embeddings: sizes.max_position_embeddings,
                tie_word_embeddings: true,
                head: HeadConfig::CausalLm,
                bos_token_id: None,
                eos_token_ids: vec![eos_token_id],
            },
            intermediate_size: sizes.intermediate_size,
            num_attention_heads: sizes.num_attention_heads,
            num_key_value_heads: sizes.num_key_value_heads,
            head_dim: sizes.head_dim,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            rms_norm_eps: 1e-5,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            qk_norm: false,
            hidden_act: Activation::Silu,
            windows: vec![],
            variant: &VARIANT,
        }
    }

    fn norm(&self, b: &mut Builder, name: &str, size: usize) -> Result<Norm> {
        b.norm(name, NormKind::Rms, size, self.rms_norm_eps)
    }

    fn mlp(&self, b: &mut Builder) -> Result<Mlp> {
        let (hidden, ff) = (self.common.hidden_size, self.intermediate_size);
        Ok(Mlp {
            gate: Some(b.linear(&GATE, (ff, hidden), self.mlp_bias)?),
            up: b.linear(&UP, (ff, hidden), self.mlp_bias)?,
            down: b.linear(&DOWN, (hidden, ff), self.mlp_bias)?,
            activation: self.hidden_act,
        })
    }

    fn qk_norms(&self, b: &mut Builder) -> Result<Option<(Norm, Norm)>> {
        if !self.qk_norm {
            return Ok(None);
        }
        let q_norm = self.norm(b, "self_attn.q_norm", self.head_dim)?;
        Ok(Some((q_norm, self.norm(b, "self_attn.k_norm", self.head_dim)?)))
    }

    fn block(&self, layer: usize, b: &mut Builder) -> Result<TransformerBlock> {
        let hidden = self.common.hidden_size;
        let (hq, hkv) =
            (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        b.enter(FAMILY.layers, layer);
        let norm1 = self.norm(b, "input_layernorm", hidden)?;
        let qkv = Qkv::Separate {
            q: b.linear(&Q, (hq, hidden), self.qkv_bias)?,
            k: b.linear(&K, (hkv, hidden), self.qkv_bias)?,
            v: b.linear(&V, (hkv, hidden), self.qkv_bias)?,
        };
        let o = b.linear(&O, (hidden, hq), self.o_bias)?;
        let (mlp, qk_norm) = (self.mlp(b)?, self.qk_norms(b)?);
        let norm2 = self.norm(b, "post_attention_layernorm", hidden)?;
        b.leave();
        let attention = Attention {
            layer,
            qkv,
            qk_norm,
            o,
            num_heads: self.num_attention_heads,
            num_kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            causal: true,
            window: self.windows.get(layer).copied().flatten(),
        };
        Ok(TransformerBlock { order: NormOrder::Pre, norm1, attention, norm2, mlp })
    }

    /// What `max_position_embeddings` says. Dynamic scaling begins where the files say that the
    /// model ends.
    fn stated_positions(&self) -> usize {
        match self.rope_scaling {
            RopeScaling::Dynamic { original, .. } => original,
            _ => self.common.max_position_embeddings,
        }
    }

    /// What GGUF's scaling of rotary frequencies depends on.
    fn gguf_rope(&self) -> gguf_rope::Rope {
        let positions = self.common.max_position_embeddings;
        gguf_rope::Rope { theta: self.rope_theta, head_dim: self.head_dim, positions }
    }

    /// The keys that say which layers have a window.
    fn windows_to_json(&self, out: &mut Value) {
        let window = self.windows.iter().flatten().next();
        if self.variant.names_window {
            out["sliding_window"] = json!(window);
        }
        if window.is_some() {
            let sliding = |layer: usize| self.windows.get(layer).copied().flatten().is_some();
            let kind = |layer| if sliding(layer) { "sliding_attention" } else { "full_attention" };
            out["use_sliding_window"] = json!(true);
            out["sliding_window"] = json!(window);
            out["layer_types"] = (0..self.common.num_hidden_layers).map(kind).collect();
        }
    }
}

const fn target(name: &'static str, path: &'static str, into_residual: bool) -> Target {
    Target { name, path, into_residual, transposed: false }
}

static Q: Target = target("q_proj", "self_attn.q_proj", false);
static K: Target = target("k_proj", "self_attn.k_proj", false);
static V: Target = target("v_proj", "self_attn.v_proj", false);
static O: Target = target("o_proj", "self_attn.o_proj", true);
static GATE: Target = target("gate_proj", "mlp.gate_proj", false);
static UP: Target = target("up_proj", "mlp.up_proj", false);
static DOWN: Target = target("down_proj", "mlp.down_proj", true);

impl Architecture for Config {
    fn entry(&self) -> &'static ArchitectureEntry {
        self.variant.entry
    }

    fn common(&self) -> &CommonConfig {
        &self.common
    }

    fn common_mut(&mut self) -> &mut CommonConfig {
        &mut self.common
    }

    fn boxed(&self) -> Box<dyn Architecture> {
        Box::new(self.clone())
    }

    fn check(&self) -> Result<()> {
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            bail!(
                Data,
                "{} attention heads are no multiple of {} key-value heads",
                self.num_attention_heads,
                self.num_key_value_heads
            );
        }
        if !self.head_dim.is_multiple_of(2) {
            bail!(Data, "a head width of {} cannot be rotated: it must be even", self.head_dim);
        }
        self.common.check(self.intermediate_size, self.num_attention_heads * self.head_dim)
    }

    fn build(&self, b: &mut Builder) -> Result<Network> {
        let (vocab, hidden) = (self.common.vocab_size, self.common.hidden_size);
        let tokens =
            b.matrix("model.embed_tokens.weight", (vocab, hidden), ParamKind::Embedding)?;
        let blocks = (0..self.common.num_hidden_layers)
            .map(|layer| self.block(layer, b))
            .collect::<Result<_>>()?;
        let norm = self.norm(b, "model.norm", hidden)?;
        let head = b.decoder_head(&self.common, &tokens)?;
        let rotary =
            RotaryEmbedding::new(self.rope_theta, self.head_dim, self.rope_scaling.clone());
        Ok(Network {
            embeddings: Embeddings::of_tokens(tokens),
            blocks,
            norm: Some(norm),
            head,
            rotary: Some(rotary),
        })
    }

    fn to_json(&self) -> Value {
        let (c, positions) = (&self.common, self.stated_positions());
        let mut out = json!({
            "architectures": [class_of(self)],
            "model_type": self.entry().model_type,
            "hidden_size": c.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": c.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "vocab_size": c.vocab_size,
            "max_position_embeddings": positions,
            "rope_theta": self.rope_theta,
            "rope_scaling": rope_config::to_json(&self.rope_scaling, positions),
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": c.tie_word_embeddings,
            "hidden_act": activation_name(self.hidden_act),
            "bos_token_id": c.bos_token_id,
            "eos_token_id": c.eos_to_json(),
        });
        if self.variant.qkv_bias != Bias::Always {
            out["attention_bias"] = json!(self.qkv_bias);
        }
        if self.variant.mlp_bias {
            out["mlp_bias"] = json!(self.mlp_bias);
        }
        self.windows_to_json(&mut out);
        out
    }

    fn gguf_name(&self) -> &'static str {
        self.variant.gguf
    }

    fn gguf_tensors(&self) -> BTreeMap<String, GgufTensor> {
        gguf_tensors(self)
    }

    fn gguf_metadata(&self) -> Result<Vec<(&'static str, gguf_file::Value)>> {
        gguf_metadata(self)
    }

    fn gguf_rope_factors(&self) -> Option<Vec<f32>> {
        gguf_rope::factors(&self.gguf_rope(), &self.rope_scaling)
    }
}

/// Sizes that a config should say.
const SIZES: [&str; 5] =
    ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"];

/// Reads a config as transformers' class of the variant does. Errors (class data): a missing or
/// impossible value, an option that is not known here. What a person should know goes into `notes`.
pub fn read(
    variant: &'static Variant,
    f: &ConfigFields,
    notes: &mut Vec<String>,
) -> Result<Box<dyn Architecture>> {
    let mut config = sizes_and_options(variant, f)?;
    // What grows with the sizes is read once they are known to be possible.
    config.check()?;
    let CommonConfig { num_hidden_layers, max_position_embeddings: stated, .. } = config.common;
    (config.rope_theta, config.rope_scaling) =
        rope_config::read(f, config.head_dim, stated, notes)?;
    config.common.max_position_embeddings = config.rope_scaling.reach(stated);
    config.windows = (variant.windows)(f, num_hidden_layers, stated, notes)?;
    f.note_missing(&SIZES, notes);
    Ok(Box::new(config))
}

/// Reads all but theta, its scaling and windows.
fn sizes_and_options(variant: &'static Variant, f: &ConfigFields) -> Result<Config> {
    let default = &variant.defaults;
    let hidden_size = f.size_or("hidden_size", Defaults::HIDDEN_SIZE)?;
    let num_attention_heads = f.size_or("num_attention_heads", Defaults::NUM_ATTENTION_HEADS)?;
    let num_hidden_layers = f.size_or("num_hidden_layers", Defaults::NUM_HIDDEN_LAYERS)?;
    let head_dim = head_dim(f, variant, hidden_size, num_attention_heads)?;
    let max_position_embeddings =
        f.size_or("max_position_embeddings", default.max_position_embeddings)?;
    let said = variant.qkv_bias == Bias::Said && f.flag_or("attention_bias", false)?;
    Ok(Config {
        common: CommonConfig {
            hidden_size,
            num_hidden_layers,
            vocab_size: f.size_or("vocab_size", default.vocab_size)?,
            max_position_embeddings,
            head: HeadConfig::CausalLm,
            tie_word_embeddings: f.flag_or("tie_word_embeddings", false)?,
            bos_token_id: f.ids_or("bos_token_id", default.bos_token_id)?.first().copied(),
            eos_token_ids: f.ids_or("eos_token_id", default.eos_token_id)?,
        },
        intermediate_size: f.size_or("intermediate_size", default.intermediate_size)?,
        num_attention_heads,
        num_key_value_heads: num_key_value_heads(f, variant, num_attention_heads)?,
        head_dim,
        rope_theta: 1.0,
        rope_scaling: RopeScaling::None,
        rms_norm_eps: f.number_or("rms_norm_eps", Defaults::RMS_NORM_EPS)?,
        qkv_bias: said || variant.qkv_bias == Bias::Always,
        o_bias: said,
        mlp_bias: variant.mlp_bias && f.flag_or("mlp_bias", false)?,
        qk_norm: variant.qk_norm,
        hidden_act: f.activation("hidden_act", "silu")?,
        windows: vec![],
        variant,
    })
}

fn head_dim(
    f: &ConfigFields,
    variant: &Variant,
    hidden_size: usize,
    heads: usize,
) -> Result<usize> {
    let own = match f.raw("head_dim") {
        None => variant.defaults.head_dim,
        Some(Value::Null) if variant.null_head_dim => None,
        Some(_) => Some(f.size_or("head_dim", 0)?),
    };
    match own {
        Some(e) => Ok(e),
        None if hidden_size.is_multiple_of(heads) => Ok(hidden_size / heads),
        None => bail!(
            Data,
            "config.json: `hidden_size` {hidden_size} is no multiple of `num_attention_heads` \
             {heads}"
        ),
    }
}

fn num_key_value_heads(f: &ConfigFields, variant: &Variant, heads: usize) -> Result<usize> {
    match f.raw("num_key_value_heads") {
        None => Ok(variant.defaults.num_key_value_heads.unwrap_or(heads)),
        Some(Value::Null) if variant.null_kv_heads => Ok(heads),
        Some(_) => f.size_or("num_key_value_heads", 0),
    }
}

/// Reads what a GGUF file's metadata say. Errors (class data): a missing or impossible value.
pub fn from_gguf(
    variant: &'static Variant,
    gguf: &Gguf,
    notes: &mut Vec<String>,
) -> Result<Box<dyn Architecture>> {
    let m = gguf_keys::Metadata { gguf, architecture: variant.gguf };
    let mut config = gguf_sizes_and_options(variant, &m)?;
    let within = || format!("cannot use the model in `{}`", gguf.path().display());
    config.check().with_context(within)?;
    let positions = config.common.max_position_embeddings;
    m.check(config.head_dim, positions, notes)?;
    config.rope_scaling = gguf_rope::read(&m, &config.gguf_rope())?;
    config.common.max_position_embeddings = config.rope_scaling.reach(positions);
    Ok(Box::new(config))
}

/// Reads all but the scaling of rotary frequencies.
fn gguf_sizes_and_options(variant: &'static Variant, m: &gguf_keys::Metadata) -> Result<Config> {
    let gguf = m.gguf;
    let (hidden_size, heads) = (m.size("embedding_length")?, m.size("attention.head_count")?);
    let vocab_size = m.vocab_size()?;
    let head_dim = gguf_head_dim(m, hidden_size, heads)?;
    let has = |name: &str| gguf.shape(name).is_some();
    Ok(Config {
        common: CommonConfig {
            hidden_size,
            num_hidden_layers: m.size("block_count")?,
            vocab_size,
            max_position_embeddings: m.maybe("context_length")?.unwrap_or(2048),
            head: HeadConfig::CausalLm,
            tie_word_embeddings: !has("output.weight"),
            bos_token_id: m.token("bos_token_id")?,
            eos_token_ids: m.token("eos_token_id")?.into_iter().collect(),
        },
        intermediate_size: m.size("feed_forward_length")?,
        num_attention_heads: heads,
        num_key_value_heads: m.maybe("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        rope_theta: gguf.optional(&m.key("rope.freq_base"), GgufValue::as_f64)?.unwrap_or(10_000.0),
        rope_scaling: RopeScaling::None,
        rms_norm_eps: gguf
            .required(&m.key("attention.layer_norm_rms_epsilon"), GgufValue::as_f64)?,
        qkv_bias: has("blk.0.attn_q.bias"),
        o_bias: has("blk.0.attn_output.bias"),
        mlp_bias: has("blk.0.ffn_up.bias"),
        qk_norm: has("blk.0.attn_q_norm.weight"),
        hidden_act: Activation::Silu,
        windows: vec![],
        variant,
    })
}

fn gguf_head_dim(m: &gguf_keys::Metadata, hidden_size: usize, heads: usize) -> Result<usize> {
    match m.maybe("attention.key_length")? {
        Some(e) => Ok(e),
        None if hidden_size.is_multiple_of(heads) => Ok(hidden_size / heads),
        None => bail!(
            Data,
            "`{}`: width {hidden_size} is no multiple of {heads} heads",
            m.gguf.path().display()
        ),
    }
}

/// What is not in a layer, by its published name and by GGUF's.
const GGUF_OUTSIDE: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// The norms of a layer.
const GGUF_NORMS: [(&str, &str); 4] = [
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
];

/// The linears of a layer.
static GGUF_LINEARS: [(&Target, &str); 7] = [
    (&Q, "attn_q"),
    (&K, "attn_k"),
    (&V, "attn_v"),
    (&O, "attn_output"),
    (&GATE, "ffn_gate"),
    (&UP, "ffn_up"),
    (&DOWN, "ffn_down"),
];

fn gguf_layout(config: &Config, target: &Target) -> GgufLayout {
    match target.name {
        "q_proj" if config.variant.interleaved => {
            GgufLayout::Interleaved(config.num_attention_heads)
        }
        "k_proj" if config.variant.interleaved => {
            GgufLayout::Interleaved(config.num_key_value_heads)
        }
        _ => GgufLayout::Same,
    }
}

fn gguf_tensors(config: &Config) -> BTreeMap<String, GgufTensor> {
    let mut map = BTreeMap::new();
    let mut add = |published: String, name: String, layout: GgufLayout| {
        map.insert(published, GgufTensor { name, layout });
    };
    for (published, own) in GGUF_OUTSIDE {
        add(format!("{published}.weight"), format!("{own}.weight"), GgufLayout::Same);
    }
    for layer in 0..config.common.num_hidden_layers {
        let published = |path: &str, part: &str| format!("{}{layer}.{path}.{part}", FAMILY.layers);
        for (path, own) in GGUF_NORMS {
            add(published(path, "weight"), format!("blk.{layer}.{own}.weight"), GgufLayout::Same);
        }
        for (target, own) in GGUF_LINEARS {
            let layout = gguf_layout(config, target);
            for part in ["weight", "bias"] {
                add(published(target.path, part), format!("blk.{layer}.{own}.{part}"), layout);
            }
        }
    }
    map
}

/// Errors (class usage) where llama.cpp would compute something else.
fn check_gguf(config: &Config) -> Result<()> {
    let architecture = config.variant.gguf;
    if config.hidden_act != Activation::Silu {
        bail!(Usage, "GGUF's `{architecture}` has no words for this model's norms or activation");
    }
    // A window that no sequence outgrows changes nothing.
    let positions = config.common.max_position_embeddings;
    let windows = config.windows.iter().flatten();
    if let Some(window) = windows.copied().find(|window| *window < positions) {
        bail!(
            Usage,
            "GGUF's `{architecture}` has no words for this model's sliding window of {window} \
             tokens: llama.cpp would attend to all"
        );
    }
    Ok(())
}

fn gguf_metadata(config: &Config) -> Result<Vec<(&'static str, gguf_file::Value)>> {
    check_gguf(config)?;
    let c = &config.common;
    let size = |n: usize| gguf_file::Value::U32(n as u32);
    let number = |x: f64| gguf_file::Value::F32(x as f32);
    let mut own = vec![
        ("context_length", size(c.max_position_embeddings)),
        ("embedding_length", size(c.hidden_size)),
        ("block_count", size(c.num_hidden_layers)),
        ("feed_forward_length", size(config.intermediate_size)),
        ("attention.head_count", size(config.num_attention_heads)),
        ("attention.head_count_kv", size(config.num_key_value_heads)),
        ("attention.key_length", size(config.head_dim)),
        ("attention.value_length", size(config.head_dim)),
        ("attention.layer_norm_rms_epsilon", number(config.rms_norm_eps)),
        ("rope.dimension_count", size(config.head_dim)),
        ("rope.freq_base", number(config.rope_theta)),
        ("vocab_size", size(c.vocab_size)),
    ];
    own.extend(gguf_rope::metadata(&config.gguf_rope(), &config.rope_scaling)?);
    Ok(own)
}
