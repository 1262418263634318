//! Boosters: weak learners, of low rank or whole tensors, trained over a frozen model and merged into it.

pub mod adapter;
pub mod booster;
pub mod dense;

pub use booster::{Booster, Init, Kind, Spec};
pub use dense::DenseSpec;
