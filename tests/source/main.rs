//! `xgbrun::source` through its public interface: tensor files, tokenizers, the hub.

mod common;
mod hub;
mod tensor_files;
mod tokenizer;
