//! Measuring a model: choices by their likelihood, answers in generated texts, mean NLL.

mod average;
pub mod choices;
pub mod extract;
pub mod generate;
pub mod labelled;
pub mod metrics;
pub mod nll;
pub mod protocol;
pub mod set;
mod told;

pub use average::{average, average_by_group};
pub use protocol::Protocol;
pub use set::{EncodedSet, Measured, Prediction};
pub use told::Told;

use crate::error::error;

/// Tokens that go through the network at a time.
const BATCH_TOKENS: usize = 1024;

/// Errors (class run) where a sum of log-likelihoods is no number: weights or factors have left the
/// range of f32, as the last step of a fit with too high a learning rate leaves them.
fn finite(sum: f64) -> anyhow::Result<()> {
    if sum.is_finite() {
        return Ok(());
    }
    Err(error!(
        Run,
        "the model's likelihood is {}: its weights have left the range of numbers",
        sum.abs();
        hint: "lower the learning rate or clip the gradient, e.g. `clip: 1.0`"
    )
    .into())
}
