//! Training a booster's factors: steps over batches, optimizers, the memory it takes.

pub mod fit;
pub mod memory;
pub mod optim;
mod state;

use crate::data::Batch;
use crate::model::Tokens;

pub use fit::{Factor, Fit, FitOptions, StepRecord};
pub use memory::GradientCheckpointing;
pub use optim::{Optimizer, OptimizerKind};
pub use state::{Trained, TrainingState};

/// The tokens of a batch.
pub fn tokens(batch: &Batch) -> Tokens {
    Tokens::sequences(batch.ids.clone(), &batch.starts).typed(batch.types.clone())
}
