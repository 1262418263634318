//! How much memory a training step takes: the formula that `fit` obeys.

use anyhow::Result;
use candle_core::DType;

use crate::device;
use crate::error::error;
use crate::memory;
use crate::model::Model;
use crate::model::cost::{NetworkCost, Work};
use crate::model::nn::block::BlockCost;
use crate::ops::cross_entropy;

/// Whether blocks' activations are kept for backward or formed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientCheckpointing {
    Off,
    On,
    /// On where keeping them would take more than half of the memory that is free. The numbers do
    /// not depend on it: recomputing changes no bit.
    Auto,
}

impl GradientCheckpointing {
    /// The setting that a recipe names.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "off" => Self::Off,
            "on" => Self::On,
            "auto" => Self::Auto,
            _ => return None,
        })
    }

    /// Decides for a step of `tokens` tokens of which `rows` are supervised, trained down to layer
    /// `lowest`, whose gradients take `gradients` bytes.
    pub fn decide(
        self,
        model: &Model,
        tokens: usize,
        rows: usize,
        lowest: usize,
        gradients: usize,
    ) -> bool {
        match self {
            Self::Off => false,
            Self::On => true,
            Self::Auto => {
                let needed =
                    step_bytes(&model.cost(), model.compute(), tokens, rows, lowest, false)
                        + gradients;
                needed > SMALL
                    && device::free_bytes(model.device()).is_some_and(|free| needed > free / 2)
            }
        }
    }
}

/// Bytes that a step may take without a look at what is free, which takes a noticeable part of so
/// small a step.
const SMALL: usize = 32 << 20;

/// Errors (class run) where a step of `tokens` tokens would take more memory than is left, before
/// it is begun.
pub fn check_room(
    model: &Model,
    tokens: usize,
    rows: usize,
    lowest: usize,
    gradient_checkpointing: bool,
    gradients: usize,
) -> Result<()> {
    let needed =
        step_bytes(&model.cost(), model.compute(), tokens, rows, lowest, gradient_checkpointing)
            .saturating_add(gradients);
    if needed <= SMALL {
        return Ok(());
    }
    let Some(free) = device::free_bytes(model.device()) else { return Ok(()) };
    let retained = if model.device().is_cpu() { memory::retained() } else { 0 };
    let room = free.saturating_add(retained);
    if needed <= room {
        return Ok(());
    }
    let mib = |bytes: usize| bytes >> 20;
    Err(error!(
        Run,
        "a step over {tokens} tokens takes some {} MiB, and {} are free",
        mib(needed),
        mib(room);
        hint: "take fewer sequences in `batch`, and more batches a step in `accumulate`"
    )
    .into())
}

/// Bytes of the gradients of so many trained numbers: those of one batch, and the sum where a step
/// has several.
pub fn gradient_bytes(parameters: usize, factors: DType, accumulate: usize) -> usize {
    parameters * factors.size_in_bytes() * accumulate.min(2)
}

/// Bytes of so many trained numbers, with their gradients and the `state` numbers that an optimizer
/// keeps of each.
pub fn trained_bytes(parameters: usize, factors: DType, state: usize) -> usize {
    parameters * factors.size_in_bytes() * (2 + state)
}

/// Bytes of a step beside [`trained_bytes`] and weights: what blocks keep
/// from layer `lowest` up, one block at work, a chunk of logits.
pub fn step_bytes(
    cost: &NetworkCost,
    compute: DType,
    tokens: usize,
    rows: usize,
    lowest: usize,
    gradient_checkpointing: bool,
) -> usize {
    let size = compute.size_in_bytes();
    let input = cost.hidden_size * size;
    let of = |block: &BlockCost| {
        input + if gradient_checkpointing { 0 } else { block.saved_bytes(compute) }
    };
    let kept = tokens * cost.blocks.iter().skip(lowest).map(of).sum::<usize>();
    // Backward of one block holds about as much again: gradients of gate, up, h, q, k, v and the
    // residual.
    let largest = cost.blocks.iter().map(|block| block.saved_bytes(compute)).max().unwrap_or(0);
    let working = tokens * (largest + 4 * input);
    let chunk = rows.min(cross_entropy::chunk_rows(cost.vocab_size));
    let logits = chunk * cost.vocab_size * size;
    // Of several copies of logits all but one are gone before a block is at work.
    kept + (working + logits).max(cost.logit_copies * logits) + 3 * rows * input
}

/// Bytes that a pass takes on a GPU beside [`step_bytes`], since reference ops hold whole tensors
/// in f32: of the longest sequence the scores of all heads, and of a chunk of rows their logits,
/// each with what is formed from it.
pub fn reference_bytes(cost: &NetworkCost, work: Work) -> usize {
    /// z, its shifted and its exponentiated copy, p and dz.
    const SCORES: usize = 5;
    /// z, its exponentiated copy, the target's one and dz.
    const LOGITS: usize = 4;
    let heads = cost.blocks.iter().map(|block| block.sums).max().unwrap_or(0);
    let chunk = work.rows.min(cross_entropy::chunk_rows(cost.vocab_size));
    4 * (SCORES * heads * work.longest + LOGITS * chunk * cost.vocab_size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of};
    use crate::model::testing;

    #[test]
    fn a_step_that_has_no_room_is_refused() -> Result<()> {
        let model = testing::model(&testing::config(), DType::F32)?;
        check_room(&model, 100, 50, 0, false, 1000)?;
        if device::free_bytes(model.device()).is_some() {
            let error = check_room(&model, 1 << 40, 1 << 40, 0, true, 0).unwrap_err();
            assert_eq!(class_of(&error), Class::Run);
            assert!(
                error.to_string().starts_with("a step over 1099511627776 tokens takes some "),
                "{error}"
            );
        }
        Ok(())
    }
}
