//! Mistral (Jiang et al. 2023): Llama with a sliding window in all layers.

use super::llama::{self, Bias, Defaults, FAMILY, KEYS, Variant};
use super::{ArchitectureEntry, HeadKind, windows};

pub static ENTRY: ArchitectureEntry = ArchitectureEntry {
    model_type: "mistral",
    classes: &[
        (HeadKind::CausalLm, "MistralForCausalLM"),
        (HeadKind::Sequence, "MistralForSequenceClassification"),
    ],
    config_class: "MistralConfig",
    family: FAMILY,
    // transformers' class looks at neither of the second, which `windows.rs` says.
    keys: &[KEYS, &["use_sliding_window", "max_window_layers"]],
    // GGUF files of it say `llama`.
    gguf: None,
    read: |f, notes| llama::read(&VARIANT, f, notes),
};

static VARIANT: Variant = Variant {
    entry: &ENTRY,
    defaults: Defaults {
        vocab_size: 32_000,
        intermediate_size: 14_336,
        num_key_value_heads: Some(8),
        head_dim: None,
        max_position_embeddings: 4096 * 32,
        bos_token_id: &[1],
        eos_token_id: &[2],
    },
    null_head_dim: true,
    null_kv_heads: false,
    qkv_bias: Bias::Never,
    mlp_bias: false,
    qk_norm: false,
    gguf: "llama",
    interleaved: true,
    windows: windows::mistral,
    names_window: true,
};
