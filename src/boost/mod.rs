//! Boosters: weak learners, of low rank or whole tensors, trained over a frozen model, merged into
//! it, and kept.

pub mod adapter;
pub mod booster;
mod chosen;
pub mod dense;
mod overlap;
pub mod probe;
pub mod stack;
#[cfg(test)]
mod testing;
mod update;
mod vectors;

pub use booster::{Booster, BoosterKind, Init, Spec, write_state};
pub use dense::DenseSpec;
pub use overlap::Overlap;
pub use stack::Stack;
pub use update::Update;
