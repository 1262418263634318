//! AdamW (Loshchilov & Hutter 2019) as `torch.optim.AdamW`:
//! p ← p (1 − lr·decay); m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²;
//! p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε).

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{Fused, Setting, StepInfo, UpdateRule, parts};
use crate::ops::cpu::simd::vectorized;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamW {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl UpdateRule for AdamW {
    const NAME: &'static str = "adamw";
    const ABOUT: &'static str = "\
AdamW (Loshchilov and Hutter, arXiv 1711.05101): decay is multiplied by the learning rate, as in
PyTorch. Without `weight_decay` there is none, the norm for low-rank fine-tuning (PyTorch: 0.01).";
    const EXAMPLE: &'static str = "lr: 1e-3";
    const OPTIONS: &'static [(&'static str, Setting)] = &[
        ("beta1", Setting::Fraction(Self::DEFAULT.beta1)),
        ("beta2", Setting::Fraction(Self::DEFAULT.beta2)),
        ("eps", Setting::Positive(Self::DEFAULT.eps)),
        ("weight_decay", Setting::NonNegative(Self::DEFAULT.weight_decay)),
    ];
    const STATE: &'static [&'static str] = &["exp_avg", "exp_avg_sq"];
    const FUSED: Option<Fused<Self>> = Some(Self::pass);

    fn step(&self, p: &Tensor, g: &Tensor, state: &mut [Tensor], at: StepInfo) -> Result<Tensor> {
        let Self { beta1, beta2, eps, weight_decay } = *self;
        let [exp_avg, exp_avg_sq] = parts(state)?;
        let p = (p * (1.0 - at.lr * weight_decay))?;
        *exp_avg = (&*exp_avg + ((g - &*exp_avg)? * (1.0 - beta1))?)?;
        *exp_avg_sq = ((&*exp_avg_sq * beta2)? + (g.sqr()? * (1.0 - beta2))?)?;
        let root = ((exp_avg_sq.sqrt()? / (1.0 - beta2.powi(at.t)).sqrt())? + eps)?;
        p - ((&*exp_avg / root)? * (at.lr / (1.0 - beta1.powi(at.t))))?
    }
}

impl AdamW {
    /// PyTorch's, without decay.
    const DEFAULT: Self = Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };

    fn pass(&self, p: &mut [f32], g: &[f32], state: &mut [&mut [f32]], at: StepInfo) -> Result<()> {
        let [exp_avg, exp_avg_sq] = parts(state)?;
        let keep = (1.0 - at.lr * self.weight_decay) as f32;
        let toward = (1.0 - self.beta1) as f32;
        let (beta2, beta2_rest) = (self.beta2 as f32, (1.0 - self.beta2) as f32);
        let root = (1.0 / (1.0 - self.beta2.powi(at.t)).sqrt()) as f32;
        let rate = (at.lr / (1.0 - self.beta1.powi(at.t))) as f32;
        let eps = self.eps as f32;
        vectorized(
            #[inline(always)]
            || {
                let numbers = p.iter_mut().zip(exp_avg.iter_mut()).zip(exp_avg_sq.iter_mut());
                for (((p, m), v), &g) in numbers.zip(g) {
                    *m += (g - *m) * toward;
                    *v = *v * beta2 + g * g * beta2_rest;
                    *p = *p * keep - *m / (v.sqrt() * root + eps) * rate;
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

    #[test]
    fn adamw_is_torchs() -> Result<()> {
        let rule = AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 };
        close(&steps(rule)?, &[0.606705856666, -1.718953672475]);
        Ok(())
    }
}
