//! Qwen3 (Yang et al. 2025): Llama with norms of every query and key head.

use super::llama::{self, Bias, Defaults, FAMILY, KEYS, Variant};
use super::{ArchitectureEntry, GgufEntry, HeadKind, qwen2, windows};

pub static ENTRY: ArchitectureEntry = ArchitectureEntry {
    model_type: "qwen3",
    classes: &[
        (HeadKind::CausalLm, "Qwen3ForCausalLM"),
        (HeadKind::Sequence, "Qwen3ForSequenceClassification"),
    ],
    config_class: "Qwen3Config",
    family: FAMILY,
    keys: &[KEYS, &["use_sliding_window", "max_window_layers", "attention_bias"]],
    gguf: Some(GgufEntry {
        name: "qwen3",
        read: |gguf, notes| llama::from_gguf(&VARIANT, gguf, notes),
    }),
    read: |f, notes| llama::read(&VARIANT, f, notes),
};

pub(in crate::model) static VARIANT: Variant = Variant {
    entry: &ENTRY,
    defaults: Defaults { head_dim: Some(128), ..qwen2::DEFAULTS },
    null_head_dim: false,
    null_kv_heads: true,
    qkv_bias: Bias::Said,
    mlp_bias: false,
    qk_norm: true,
    gguf: "qwen3",
    interleaved: false,
    windows: windows::qwen,
    names_window: false,
};
