//! Qwen2 (Yang et al. 2024): Llama with biases of q, k and v, and windows in upper layers.

use super::llama::{self, Bias, Defaults, FAMILY, KEYS, Variant};
use super::{ArchitectureEntry, GgufEntry, HeadKind, windows};

pub static ENTRY: ArchitectureEntry = ArchitectureEntry {
    model_type: "qwen2",
    classes: &[
        (HeadKind::CausalLm, "Qwen2ForCausalLM"),
        (HeadKind::Sequence, "Qwen2ForSequenceClassification"),
    ],
    config_class: "Qwen2Config",
    family: FAMILY,
    // `attention_bias` says what such a model has anyway.
    keys: &[KEYS, &["use_sliding_window", "max_window_layers", "attention_bias"]],
    gguf: Some(GgufEntry {
        name: "qwen2",
        read: |gguf, notes| llama::from_gguf(&VARIANT, gguf, notes),
    }),
    read: |f, notes| llama::read(&VARIANT, f, notes),
};

/// What transformers' classes of Qwen take.
pub const DEFAULTS: Defaults = Defaults {
    vocab_size: 151_936,
    intermediate_size: 22_016,
    num_key_value_heads: Some(32),
    head_dim: None,
    max_position_embeddings: 32_768,
    bos_token_id: &[],
    eos_token_id: &[],
};

pub(in crate::model) static VARIANT: Variant = Variant {
    entry: &ENTRY,
    defaults: DEFAULTS,
    null_head_dim: true,
    null_kv_heads: true,
    qkv_bias: Bias::Always,
    mlp_bias: false,
    qk_norm: false,
    gguf: "qwen2",
    interleaved: false,
    windows: windows::qwen,
    names_window: false,
};
