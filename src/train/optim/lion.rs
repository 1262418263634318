//! Lion (Chen et al. 2023, arXiv 2302.06675, algorithm 2):
//! u = sign(β₁ m + (1 − β₁) g); p ← p (1 − lr·decay) − lr·u; m ← β₂ m + (1 − β₂) g.

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{Fused, Setting, StepInfo, UpdateRule, parts};
use crate::ops::cpu::simd::vectorized;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lion {
    pub beta1: f64,
    pub beta2: f64,
    pub weight_decay: f64,
}

impl UpdateRule for Lion {
    const NAME: &'static str = "lion";
    const ABOUT: &'static str = "\
Lion (Chen et al., arXiv 2302.06675): each number moves by the learning rate, along the sign of an
average of gradients, so it wants a rate three to ten times smaller than AdamW's. Decay is
multiplied by the rate, as AdamW's.";
    const EXAMPLE: &'static str = "lr: 1e-4";
    const OPTIONS: &'static [(&'static str, Setting)] = &[
        ("beta1", Setting::Fraction(0.9)),
        ("beta2", Setting::Fraction(0.99)),
        ("weight_decay", Setting::NonNegative(0.0)),
    ];
    const STATE: &'static [&'static str] = &["exp_avg"];
    const FUSED: Option<Fused<Self>> = Some(Self::pass);

    fn step(&self, p: &Tensor, g: &Tensor, state: &mut [Tensor], at: StepInfo) -> Result<Tensor> {
        let Self { beta1, beta2, weight_decay } = *self;
        let [exp_avg] = parts(state)?;
        let update = ((&*exp_avg * beta1)? + (g * (1.0 - beta1))?)?.sign()?;
        *exp_avg = ((&*exp_avg * beta2)? + (g * (1.0 - beta2))?)?;
        (p * (1.0 - at.lr * weight_decay))? - (update * at.lr)?
    }
}

impl Lion {
    fn pass(&self, p: &mut [f32], g: &[f32], state: &mut [&mut [f32]], at: StepInfo) -> Result<()> {
        let [exp_avg] = parts(state)?;
        let (beta1, beta1_rest) = (self.beta1 as f32, (1.0 - self.beta1) as f32);
        let (beta2, beta2_rest) = (self.beta2 as f32, (1.0 - self.beta2) as f32);
        let keep = (1.0 - at.lr * self.weight_decay) as f32;
        let rate = at.lr as f32;
        vectorized(
            #[inline(always)]
            || {
                for ((p, m), &g) in p.iter_mut().zip(exp_avg.iter_mut()).zip(g) {
                    let update = *m * beta1 + g * beta1_rest;
                    let sign =
                        f32::from(u8::from(update > 0.0)) - f32::from(u8::from(update < 0.0));
                    *m = *m * beta2 + g * beta2_rest;
                    *p = *p * keep - sign * rate;
                }
            },
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::optim::tests::{close, steps};

    /// PyTorch has no Lion: the formula in numpy.
    #[test]
    fn lion_is_the_papers() -> Result<()> {
        let rule = Lion { beta1: 0.9, beta2: 0.99, weight_decay: 0.01 };
        close(&steps(rule)?, &[0.596605596101, -1.792611592102]);
        let rule = Lion { beta1: 0.5, beta2: 0.9, weight_decay: 0.1 };
        close(&steps(rule)?, &[0.56655611, -1.72715212]);
        Ok(())
    }
}
