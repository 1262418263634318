//! Numbers that must agree with PyTorch's.

#[path = "../common/mod.rs"]
mod common;

mod architectures;
mod generation;
mod gpt2;
mod likelihood;
mod smollm2;
