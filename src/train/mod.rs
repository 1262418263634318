//! Training a booster's factors: steps over batches, an optimiser, the memory it takes.

pub mod fit;
pub mod memory;
pub mod optimizer;
mod state;

pub use fit::{Factor, Fit, FitOptions, StepRecord, Trained};
pub use memory::GradientCheckpointing;
pub use optimizer::{Optimizer, Rule};
pub use state::State;
