//! Numbers that must agree with PyTorch's, or with candle-transformers'.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/tiny.rs"]
#[allow(dead_code, reason = "models are made here, and no tasks")]
mod tiny;
#[path = "../common/tiny_tokenizer.rs"]
#[allow(dead_code, reason = "other tests look at its parts")]
mod tiny_tokenizer;

mod architectures;
mod candle;
mod generation;
mod gpt2;
mod likelihood;
mod smollm2;
