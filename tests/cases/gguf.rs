//! GGUF files: metadata, pre-tokenizers, quantised types, parts.
