//! GPT-2 (Radford et al. 2019): pre-norm blocks with LayerNorm, learned positions, one linear for
//! q, k and v, and a feed-forward part without a gate. Published linears are `Conv1D`: weights [in,
//! out].

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::quantized::gguf_file;
use serde_json::{Value, json};

use super::fields::{ConfigFields, activation_name};
use super::{
    Architecture, ArchitectureEntry, Builder, CommonConfig, DECODER_HEADS, Family, GgufEntry,
    GgufLayout, GgufTensor, HEAD, HeadConfig, HeadKind, Target, class_of, gguf_keys,
};
use crate::error::bail;
use crate::model::nn::{Attention, Embeddings, Mlp, NormKind, NormOrder, Qkv, TransformerBlock};
use crate::model::{Network, ParamKind};
use crate::ops::activation::Activation;
use crate::source::{Gguf, GgufValue, TensorSource};

pub static ENTRY: ArchitectureEntry = ArchitectureEntry {
    model_type: "gpt2",
    classes: &[
        (HeadKind::CausalLm, "GPT2LMHeadModel"),
        (HeadKind::Sequence, "GPT2ForSequenceClassification"),
    ],
    config_class: "GPT2Config",
    family: Family {
        base_model_prefix: "transformer.",
        layers: "transformer.h.",
        peft_targets: &["c_attn"],
        dropouts: &["attn_pdrop", "embd_pdrop", "resid_pdrop"],
        tied_by_default: true,
        // The causal mask.
        buffer: |name| name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"),
        tied_decoder: None,
        other_heads: DECODER_HEADS,
    },
    keys: &[KEYS],
    gguf: Some(GgufEntry { name: "gpt2", read: from_gguf }),
    read,
};

const KEYS: &[&str] = &[
    "n_embd",
    "hidden_size",
    "n_layer",
    "num_hidden_layers",
    "n_head",
    "num_attention_heads",
    "n_positions",
    "max_position_embeddings",
    "n_inner",
    "activation_function",
    "layer_norm_epsilon",
    "attn_pdrop",
    "embd_pdrop",
    "resid_pdrop",
    "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx",
    // Products in another order and type, which say the same in f32.
    "reorder_and_upcast_attn",
    // Of heads that are none of a language model.
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    // Of older files.
    "n_ctx",
    "predict_special_tokens",
];

/// Sizes and options.
#[derive(Clone, Debug)]
pub struct Config {
    pub common: CommonConfig,
    /// H
    pub n_head: usize,
    /// F
    pub n_inner: usize,
    pub activation_function: Activation,
    pub layer_norm_epsilon: f64,
}

const fn target(name: &'static str, path: &'static str, into_residual: bool) -> Target {
    Target { name, path, into_residual, transposed: true }
}

// Two modules are called `c_proj`.
static QKV: Target = target("c_attn", "attn.c_attn", false);
static O: Target = target("attn.c_proj", "attn.c_proj", true);
static UP: Target = target("c_fc", "mlp.c_fc", false);
static DOWN: Target = target("mlp.c_proj", "mlp.c_proj", true);

impl Config {
    fn block(&self, layer: usize, b: &mut Builder) -> Result<TransformerBlock> {
        let (hidden, inner) = (self.common.hidden_size, self.n_inner);
        let norm = |b: &mut Builder, name: &str| {
            b.norm(name, NormKind::Layer, hidden, self.layer_norm_epsilon)
        };
        b.enter(ENTRY.family.layers, layer);
        let norm1 = norm(b, "ln_1")?;
        let attention = Attention {
            layer,
            qkv: Qkv::Fused(b.linear(&QKV, (3 * hidden, hidden), true)?),
            qk_norm: None,
            o: b.linear(&O, (hidden, hidden), true)?,
            num_heads: self.n_head,
            num_kv_heads: self.n_head,
            head_dim: hidden / self.n_head,
            causal: true,
            window: None,
        };
        let norm2 = norm(b, "ln_2")?;
        let mlp = Mlp {
            gate: None,
            up: b.linear(&UP, (inner, hidden), true)?,
            down: b.linear(&DOWN, (hidden, inner), true)?,
            activation: self.activation_function,
        };
        b.leave();
        Ok(TransformerBlock { order: NormOrder::Pre, norm1, attention, norm2, mlp })
    }
}

impl Architecture for Config {
    fn entry(&self) -> &'static ArchitectureEntry {
        &ENTRY
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
        let c = &self.common;
        if !c.hidden_size.is_multiple_of(self.n_head) {
            bail!(Data, "a width of {} is no multiple of {} heads", c.hidden_size, self.n_head);
        }
        if c.max_position_embeddings > 1 << 24 {
            bail!(Data, "impossible sizes: {} positions", c.max_position_embeddings);
        }
        c.check(self.n_inner, c.hidden_size)
    }

    fn build(&self, b: &mut Builder) -> Result<Network> {
        let (vocab, hidden) = (self.common.vocab_size, self.common.hidden_size);
        let rows = (self.common.max_position_embeddings, hidden);
        let tokens = b.matrix("transformer.wte.weight", (vocab, hidden), ParamKind::Embedding)?;
        let positions =
            Some(b.matrix("transformer.wpe.weight", rows, ParamKind::PositionEmbedding)?);
        let blocks = (0..self.common.num_hidden_layers)
            .map(|layer| self.block(layer, b))
            .collect::<Result<_>>()?;
        let norm = b.norm("transformer.ln_f", NormKind::Layer, hidden, self.layer_norm_epsilon)?;
        let head = b.decoder_head(&self.common, &tokens)?;
        let embeddings = Embeddings { positions, ..Embeddings::of_tokens(tokens) };
        Ok(Network { embeddings, blocks, norm: Some(norm), head, rotary: None })
    }

    fn to_json(&self) -> Value {
        let c = &self.common;
        json!({
            "architectures": [class_of(self)],
            "model_type": ENTRY.model_type,
            "n_embd": c.hidden_size,
            "n_layer": c.num_hidden_layers,
            "n_head": self.n_head,
            "n_inner": self.n_inner,
            "n_positions": c.max_position_embeddings,
            "vocab_size": c.vocab_size,
            "activation_function": activation_name(self.activation_function),
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "tie_word_embeddings": c.tie_word_embeddings,
            "bos_token_id": c.bos_token_id,
            "eos_token_id": c.eos_to_json(),
        })
    }

    fn gguf_name(&self) -> &'static str {
        "gpt2"
    }

    fn gguf_tensors(&self) -> BTreeMap<String, GgufTensor> {
        gguf_tensors(self.common.num_hidden_layers)
    }

    fn gguf_metadata(&self) -> Result<Vec<(&'static str, gguf_file::Value)>> {
        if self.activation_function != Activation::GeluTanh {
            bail!(Usage, "GGUF's `gpt2` has no words for this model's activation");
        }
        let c = &self.common;
        let size = |n: usize| gguf_file::Value::U32(n as u32);
        let eps = gguf_file::Value::F32(self.layer_norm_epsilon as f32);
        Ok(vec![
            ("context_length", size(c.max_position_embeddings)),
            ("embedding_length", size(c.hidden_size)),
            ("block_count", size(c.num_hidden_layers)),
            ("feed_forward_length", size(self.n_inner)),
            ("attention.head_count", size(self.n_head)),
            ("attention.layer_norm_epsilon", eps),
            ("vocab_size", size(c.vocab_size)),
        ])
    }
}

/// Reads a config as transformers' `GPT2Config` does. Errors (class data): an impossible value, an
/// option that is not known here. What a person should know goes into `notes`.
fn read(f: &ConfigFields, notes: &mut Vec<String>) -> Result<Box<dyn Architecture>> {
    for (key, usual, meaning) in [
        ("scale_attn_weights", true, "attention without a scale"),
        ("scale_attn_by_inverse_layer_idx", false, "a scale of attention for each layer"),
    ] {
        if f.flag_or(key, usual)? != usual {
            bail!(Data, "config.json: `{key}` is {}: {meaning} is not known here", !usual);
        }
    }
    let hidden_size = f.size_by(["n_embd", "hidden_size"], 768)?;
    let config = Config {
        common: CommonConfig {
            hidden_size,
            num_hidden_layers: f.size_by(["n_layer", "num_hidden_layers"], 12)?,
            vocab_size: f.size_or("vocab_size", 50_257)?,
            max_position_embeddings: f.size_by(["n_positions", "max_position_embeddings"], 1024)?,
            head: HeadConfig::CausalLm,
            tie_word_embeddings: f.flag_or("tie_word_embeddings", true)?,
            bos_token_id: f.ids_or("bos_token_id", &[50_256])?.first().copied(),
            eos_token_ids: f.ids_or("eos_token_id", &[50_256])?,
        },
        n_head: f.size_by(["n_head", "num_attention_heads"], 12)?,
        n_inner: f.size("n_inner")?.unwrap_or(4 * hidden_size),
        activation_function: f.activation("activation_function", "gelu_new")?,
        layer_norm_epsilon: f.number_or("layer_norm_epsilon", 1e-5)?,
    };
    config.check()?;
    f.note_missing(&["vocab_size"], notes);
    Ok(Box::new(config))
}

/// Reads what a GGUF file's metadata say. Errors (class data): a missing or impossible value.
fn from_gguf(gguf: &Gguf, notes: &mut Vec<String>) -> Result<Box<dyn Architecture>> {
    let m = gguf_keys::Metadata { gguf, architecture: "gpt2" };
    let vocab_size = m.vocab_size()?;
    let config = Config {
        common: CommonConfig {
            hidden_size: m.size("embedding_length")?,
            num_hidden_layers: m.size("block_count")?,
            vocab_size,
            max_position_embeddings: m.size("context_length")?,
            head: HeadConfig::CausalLm,
            tie_word_embeddings: gguf.shape("output.weight").is_none(),
            bos_token_id: m.token("bos_token_id")?,
            eos_token_ids: m.token("eos_token_id")?.into_iter().collect(),
        },
        n_head: m.size("attention.head_count")?,
        n_inner: m.size("feed_forward_length")?,
        activation_function: Activation::GeluTanh,
        layer_norm_epsilon: gguf
            .required(&m.key("attention.layer_norm_epsilon"), GgufValue::as_f64)?,
    };
    let within = || format!("cannot use the model in `{}`", gguf.path().display());
    config.check().with_context(within)?;
    let head_dim = config.common.hidden_size / config.n_head;
    m.check(head_dim, config.common.max_position_embeddings, notes)?;
    Ok(Box::new(config))
}

/// What is not in a layer, by its published name and by GGUF's.
const GGUF_OUTSIDE: [(&str, &str); 5] = [
    ("transformer.wte.weight", "token_embd.weight"),
    ("transformer.wpe.weight", "position_embd.weight"),
    ("transformer.ln_f.weight", "output_norm.weight"),
    ("transformer.ln_f.bias", "output_norm.bias"),
    (HEAD, "output.weight"),
];

fn gguf_tensors(layers: usize) -> BTreeMap<String, GgufTensor> {
    let mut map = BTreeMap::new();
    let mut add = |published: String, name: String, layout: GgufLayout| {
        map.insert(published, GgufTensor { name, layout });
    };
    for (published, own) in GGUF_OUTSIDE {
        add(published.to_owned(), own.to_owned(), GgufLayout::Same);
    }
    let modules = [
        ("ln_1", "attn_norm", GgufLayout::Same),
        (QKV.path, "attn_qkv", GgufLayout::Transposed),
        (O.path, "attn_output", GgufLayout::Transposed),
        ("ln_2", "ffn_norm", GgufLayout::Same),
        (UP.path, "ffn_up", GgufLayout::Transposed),
        (DOWN.path, "ffn_down", GgufLayout::Transposed),
    ];
    for layer in 0..layers {
        for (path, own, layout) in modules {
            for (part, layout) in [("weight", layout), ("bias", GgufLayout::Same)] {
                let published = format!("{}{layer}.{path}.{part}", ENTRY.family.layers);
                add(published, format!("blk.{layer}.{own}.{part}"), layout);
            }
        }
    }
    map
}
