//! Step rules, as PyTorch computes them.

use candle_core::{Result, Tensor};

/// Which rule, with its constants. The learning rate comes with every step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// AdamW (Loshchilov & Hutter 2019) as `torch.optim.AdamW`: p ← p (1 − lr·decay);
    /// m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²; p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε).
    AdamW { beta1: f64, beta2: f64, eps: f64, weight_decay: f64 },
    /// SGD as `torch.optim.SGD`: g ← g + decay·p; m ← momentum·m + g (g at first); p ← p − lr·m.
    Sgd { momentum: f64, weight_decay: f64 },
}

/// The state of one parameter.
#[derive(Clone, Debug)]
struct Moments {
    first: Tensor,
    second: Option<Tensor>,
}

/// A rule with its moments, one set a parameter in the order given at every step.
#[derive(Clone, Debug)]
pub struct Optimizer {
    rule: Rule,
    /// Steps done, t.
    steps: u32,
    moments: Vec<Moments>,
}

impl Optimizer {
    pub fn new(rule: Rule) -> Self {
        Self { rule, steps: 0, moments: vec![] }
    }

    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// One step: the new parameters, from the old ones and their gradients in the same order and type.
    pub fn step(&mut self, parameters: &[&Tensor], gradients: &[Tensor], lr: f64) -> Result<Vec<Tensor>> {
        self.steps += 1;
        if self.moments.is_empty() {
            let adam = matches!(self.rule, Rule::AdamW { .. });
            let zero = |p: &&Tensor| Ok(Moments { first: p.zeros_like()?, second: if adam { Some(p.zeros_like()?) } else { None } });
            self.moments = parameters.iter().map(zero).collect::<Result<_>>()?;
        }
        let (rule, t) = (self.rule, self.steps as i32);
        let each = parameters.iter().zip(gradients).zip(&mut self.moments);
        each.map(|((p, g), moments)| update(rule, t, p, g, moments, lr)).collect()
    }
}

fn update(rule: Rule, t: i32, p: &Tensor, g: &Tensor, moments: &mut Moments, lr: f64) -> Result<Tensor> {
    match rule {
        Rule::AdamW { beta1, beta2, eps, weight_decay } => {
            let p = (p * (1.0 - lr * weight_decay))?;
            let m = (&moments.first + ((g - &moments.first)? * (1.0 - beta1))?)?;
            let v = match &moments.second {
                Some(v) => ((v * beta2)? + (g.sqr()? * (1.0 - beta2))?)?,
                None => (g.sqr()? * (1.0 - beta2))?,
            };
            let root = ((v.sqrt()? / (1.0 - beta2.powi(t)).sqrt())? + eps)?;
            let step = ((&m / root)? * (lr / (1.0 - beta1.powi(t))))?;
            *moments = Moments { first: m, second: Some(v) };
            p - step
        }
        Rule::Sgd { momentum, weight_decay } => {
            let g = (g + (p * weight_decay)?)?;
            let m = if t == 1 { g } else { ((&moments.first * momentum)? + g)? };
            moments.first = m.clone();
            p - (m * lr)?
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// p from [1, -2], with gradients g_t = p_t + t, by `torch` 2.15 in f64.
    fn run(rule: Rule) -> Result<Vec<f64>> {
        let mut p = Tensor::new(&[1f64, -2.0], &Device::Cpu)?;
        let mut optimizer = Optimizer::new(rule);
        for t in 0..4 {
            let g = (&p + t as f64)?;
            p = optimizer.step(&[&p], &[g], 0.1)?.remove(0);
        }
        p.to_vec1()
    }

    fn close(got: &[f64], want: [f64; 2]) {
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-9), "{got:?} is not {want:?}");
    }

    #[test]
    fn adamw_is_torchs() -> Result<()> {
        close(&run(Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 })?, ADAMW);
        Ok(())
    }

    #[test]
    fn sgd_is_torchs() -> Result<()> {
        close(&run(Rule::Sgd { momentum: 0.9, weight_decay: 0.01 })?, SGD);
        Ok(())
    }

    const ADAMW: [f64; 2] = [0.606705856666, -1.718953672475];
    const SGD: [f64; 2] = [-0.673108226299, -1.334103847402];
}
