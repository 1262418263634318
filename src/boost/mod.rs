//! Boosters: weak learners of low rank, trained over a frozen model and merged into it.

pub mod adapter;
pub mod booster;

pub use booster::{Booster, Init, Spec};
