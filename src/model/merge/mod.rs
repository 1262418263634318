//! What a merge does to weights: updates, and what rounding leaves of them.

mod rounding;
mod update;

#[cfg(test)]
mod tests;

pub use rounding::RoundingStats;
pub use update::WeightUpdate;
