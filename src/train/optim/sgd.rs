//! Stochastic gradient descent as `torch.optim.SGD`:
//! g ← g + decay·p; m ← momentum·m + g (g at first); p ← p − lr·m.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{Setting, StepInfo, UpdateRule, parts};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sgd {
    pub momentum: f64,
    pub weight_decay: f64,
}

impl UpdateRule for Sgd {
    const NAME: &'static str = "sgd";
    const ABOUT: &'static str = "Stochastic gradient descent, as PyTorch's.";
    const EXAMPLE: &'static str = "lr: 0.1, momentum: 0.9";
    const OPTIONS: &'static [(&'static str, Setting)] =
        &[("momentum", Setting::Fraction(0.0)), ("weight_decay", Setting::NonNegative(0.0))];
    const STATE: &'static [&'static str] = &["momentum_buffer"];

    fn step(&self, p: &Tensor, g: &Tensor, state: &mut [Tensor], at: StepInfo) -> Result<Tensor> {
        let Self { momentum, weight_decay } = *self;
        let [momentum_buffer] = parts(state)?;
        let g = (g + (p * weight_decay)?)?;
        *momentum_buffer = if at.t == 1 { g } else { ((&*momentum_buffer * momentum)? + g)? };
        p - (&*momentum_buffer * at.lr)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::optim::tests::{close, steps};

    #[test]
    fn sgd_is_torchs() -> Result<()> {
        let rule = Sgd { momentum: 0.9, weight_decay: 0.01 };
        close(&steps(rule)?, &[-0.673108226299, -1.334103847402]);
        Ok(())
    }
}
