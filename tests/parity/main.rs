//! Numbers that must agree with PyTorch's, or with candle-transformers'.

#[path = "../common/mod.rs"]
mod common;

mod architectures;
mod candle;
mod encoders;
mod generation;
mod gpt2;
mod likelihood;
mod minilm;
mod mmlu;
mod smollm2;
