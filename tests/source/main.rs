//! `xgbrun::source` through its public interface: tensor files, tokenizers, the hub.

#[path = "../common/mod.rs"]
mod common;

mod hub;
mod tensor_files;
mod tokenizer;
