//! Names of the files of a model folder, as the Hugging Face libraries write them.

pub(super) const CONFIG: &str = "config.json";
pub(super) const GENERATION_CONFIG: &str = "generation_config.json";
pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";

pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const SENTENCEPIECE: &str = "tokenizer.model";
pub(super) const VOCAB: &str = "vocab.json";
pub(super) const MERGES: &str = "merges.txt";

pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(super) const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
pub(super) const ADDED_TOKENS: &str = "added_tokens.json";

pub(super) const CHAT_TEMPLATE: &str = "chat_template.jinja";
/// What processors of models with images read.
pub(super) const PROCESSOR_TEMPLATE: &str = "chat_template.json";
/// A folder of more templates, a file each.
pub(super) const MORE_TEMPLATES: &str = "additional_chat_templates";

/// Files that a model may do without.
pub(super) const OTHERS: [&str; 6] = [
    TOKENIZER_CONFIG,
    GENERATION_CONFIG,
    CHAT_TEMPLATE,
    PROCESSOR_TEMPLATE,
    SPECIAL_TOKENS_MAP,
    ADDED_TOKENS,
];
