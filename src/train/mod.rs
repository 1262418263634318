//! Training a booster's factors: steps over batches, optimizers, the memory it takes.

pub mod fit;
pub mod memory;
pub mod optim;
mod state;

pub use fit::{Factor, Fit, FitOptions, StepRecord};
pub use memory::GradientCheckpointing;
pub use optim::{Optimizer, OptimizerKind};
pub use state::{Trained, TrainingState};
