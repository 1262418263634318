//! Step rules, as PyTorch computes them. AdamW over f32 on the CPU goes once through parameter,
//! gradient and moments, in place; [`plain`] is the definition.

use candle_core::{Result, Tensor};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ops::Backend;
use crate::ops::cpu::simd::{f32s, update, vectorized};

/// Which rule, with its constants. The learning rate comes with every step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// AdamW (Loshchilov & Hutter 2019) as `torch.optim.AdamW`: p ← p (1 − lr·decay); m ← β₁ m + (1
    /// − β₁) g; v ← β₂ v + (1 − β₂) g²; p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε).
    AdamW { beta1: f64, beta2: f64, eps: f64, weight_decay: f64 },
    /// SGD as `torch.optim.SGD`: g ← g + decay·p; m ← momentum·m + g (g at first); p ← p − lr·m.
    Sgd { momentum: f64, weight_decay: f64 },
}

/// The state of one parameter.
#[derive(Clone, Debug)]
enum Moments {
    Tensors {
        first: Tensor,
        second: Option<Tensor>,
    },
    /// Of AdamW over f32 on the CPU.
    Numbers {
        first: Vec<f32>,
        second: Vec<f32>,
    },
}

impl Moments {
    fn new(rule: Rule, parameter: &Tensor) -> Result<Self> {
        let adam = matches!(rule, Rule::AdamW { .. });
        if adam && Backend::of(&[parameter]) == Backend::Cpu {
            let zeros = || vec![0.0; parameter.elem_count()];
            return Ok(Self::Numbers { first: zeros(), second: zeros() });
        }
        Ok(Self::Tensors {
            first: parameter.zeros_like()?,
            second: if adam { Some(parameter.zeros_like()?) } else { None },
        })
    }
}

/// A rule with its moments, one set a parameter in the order given at every step.
#[derive(Clone, Debug)]
pub struct Optimizer {
    rule: Rule,
    /// Steps that each parameter took, t.
    steps: Vec<u32>,
    moments: Vec<Moments>,
}

impl Optimizer {
    pub fn new(rule: Rule) -> Self {
        Self { rule, steps: vec![], moments: vec![] }
    }

    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// Steps and moments of each parameter, the moments as tensors: all that has to be kept to go
    /// on.
    pub fn state(&self) -> Result<(Vec<u32>, Vec<Vec<Tensor>>)> {
        let one = |moments: &Moments| match moments {
            Moments::Tensors { first, second } => {
                Ok([Some(first.clone()), second.clone()].into_iter().flatten().collect())
            }
            Moments::Numbers { first, second } => [first, second]
                .into_iter()
                .map(|m| Tensor::from_slice(m, m.len(), &candle_core::Device::Cpu))
                .collect(),
        };
        Ok((self.steps.clone(), self.moments.iter().map(one).collect::<Result<_>>()?))
    }

    /// Goes on from a [`Optimizer::state`] of the same rule over `parameters`.
    pub fn resumed(
        rule: Rule,
        steps: Vec<u32>,
        moments: Vec<Vec<Tensor>>,
        parameters: &[&Tensor],
    ) -> Result<Self> {
        let one = |(kept, parameter): (Vec<Tensor>, &&Tensor)| {
            let mut fresh = Moments::new(rule, parameter)?;
            let mut kept = kept.into_iter();
            let mut next = || {
                kept.next()
                    .ok_or_else(|| candle_core::Error::msg("fewer moments than the rule has"))
            };
            match &mut fresh {
                Moments::Tensors { first, second } => {
                    *first = next()?.reshape(parameter.shape())?;
                    if let Some(second) = second {
                        *second = next()?.reshape(parameter.shape())?;
                    }
                }
                Moments::Numbers { first, second } => {
                    for own in [first, second] {
                        *own = next()?.flatten_all()?.to_vec1()?;
                        if own.len() != parameter.elem_count() {
                            candle_core::bail!(
                                "{} moments for {} numbers",
                                own.len(),
                                parameter.elem_count()
                            );
                        }
                    }
                }
            }
            Ok(fresh)
        };
        Ok(Self {
            rule,
            steps,
            moments: moments.into_iter().zip(parameters).map(one).collect::<Result<_>>()?,
        })
    }

    /// One step: the new parameters, from the old ones, and of each its gradient and learning rate,
    /// if it is to move; one that is not keeps its moments and its count of steps. Where it can be
    /// they take the place of the old ones, which nobody else may hold.
    pub fn step(
        &mut self,
        parameters: &[&Tensor],
        moves: &[Option<(Tensor, f64)>],
    ) -> Result<Vec<Tensor>> {
        if self.moments.is_empty() {
            self.moments =
                parameters.iter().map(|p| Moments::new(self.rule, p)).collect::<Result<_>>()?;
            self.steps = vec![0; parameters.len()];
        }
        let rule = self.rule;
        let each = parameters.iter().zip(moves).zip(self.steps.iter_mut().zip(&mut self.moments));
        each.map(|((p, moved), (steps, moments))| {
            let Some((g, lr)) = moved else { return Ok((*p).clone()) };
            *steps += 1;
            match (rule, moments) {
                (
                    Rule::AdamW { beta1, beta2, eps, weight_decay },
                    Moments::Numbers { first, second },
                ) => {
                    adamw(
                        p,
                        &g.contiguous()?,
                        first,
                        second,
                        AdamW::new(beta1, beta2, eps, weight_decay, *lr, *steps as i32),
                    )?;
                    Ok((*p).clone())
                }
                (_, moments) => plain(rule, *steps as i32, p, g, moments, *lr),
            }
        })
        .collect()
    }

    /// The same moments, of whose entries each stays where `keeps` says so and is 0 otherwise; it
    /// is asked parameter by parameter, once for an entry of both moments.
    pub fn pruned(&self, mut keeps: impl FnMut() -> bool) -> Result<Self> {
        let prune = |(own, kept): (&Tensor, &[f32])| {
            own * Tensor::from_slice(kept, own.shape(), own.device())?.to_dtype(own.dtype())?
        };
        let one = |moments: &Moments| {
            let count = match moments {
                Moments::Tensors { first, .. } => first.elem_count(),
                Moments::Numbers { first, .. } => first.len(),
            };
            let kept: Vec<f32> = (0..count).map(|_| f32::from(u8::from(keeps()))).collect();
            let times = |own: &[f32]| own.iter().zip(&kept).map(|(m, k)| m * k).collect();
            Ok(match moments {
                Moments::Tensors { first, second } => Moments::Tensors {
                    first: prune((first, &kept))?,
                    second: second.as_ref().map(|second| prune((second, &kept))).transpose()?,
                },
                Moments::Numbers { first, second } => {
                    Moments::Numbers { first: times(first), second: times(second) }
                }
            })
        };
        Ok(Self {
            rule: self.rule,
            steps: self.steps.clone(),
            moments: self.moments.iter().map(one).collect::<Result<_>>()?,
        })
    }
}

/// The definition, on tensors of any device and type.
fn plain(
    rule: Rule,
    t: i32,
    p: &Tensor,
    g: &Tensor,
    moments: &mut Moments,
    lr: f64,
) -> Result<Tensor> {
    let Moments::Tensors { first, second } = moments else {
        candle_core::bail!("moments of another kind than the rule's")
    };
    match rule {
        Rule::AdamW { beta1, beta2, eps, weight_decay } => {
            let p = (p * (1.0 - lr * weight_decay))?;
            let m = (&*first + ((g - &*first)? * (1.0 - beta1))?)?;
            let v = match second {
                Some(v) => ((&*v * beta2)? + (g.sqr()? * (1.0 - beta2))?)?,
                None => (g.sqr()? * (1.0 - beta2))?,
            };
            let root = ((v.sqrt()? / (1.0 - beta2.powi(t)).sqrt())? + eps)?;
            let step = ((&m / root)? * (lr / (1.0 - beta1.powi(t))))?;
            (*first, *second) = (m, Some(v));
            p - step
        }
        Rule::Sgd { momentum, weight_decay } => {
            let g = (g + (p * weight_decay)?)?;
            *first = if t == 1 { g } else { ((&*first * momentum)? + g)? };
            p - (&*first * lr)?
        }
    }
}

/// The constants of one step of AdamW.
#[derive(Clone, Copy)]
struct AdamW {
    keep: f32,
    toward: f32,
    beta2: f32,
    beta2_rest: f32,
    /// 1/√(1 − β₂ᵗ)
    root: f32,
    eps: f32,
    /// lr/(1 − β₁ᵗ)
    rate: f32,
}

impl AdamW {
    fn new(beta1: f64, beta2: f64, eps: f64, weight_decay: f64, lr: f64, t: i32) -> Self {
        Self {
            keep: (1.0 - lr * weight_decay) as f32,
            toward: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            beta2_rest: (1.0 - beta2) as f32,
            root: (1.0 / (1.0 - beta2.powi(t)).sqrt()) as f32,
            eps: eps as f32,
            rate: (lr / (1.0 - beta1.powi(t))) as f32,
        }
    }
}

/// One pass over parameter, gradient and both moments; all but the gradient change in place. Each
/// number is that of [`plain`], bit for bit.
fn adamw(p: &Tensor, g: &Tensor, first: &mut [f32], second: &mut [f32], c: AdamW) -> Result<()> {
    /// Numbers that a thread takes at a time.
    const CHUNK: usize = 1 << 14;
    let g = f32s(g)?;
    update(p, |p| {
        let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
        p.par_chunks_mut(CHUNK).zip(moments).zip(g.par_chunks(CHUNK)).for_each(
            |((p, (first, second)), g)| {
                vectorized(
                    #[inline(always)]
                    || {
                        for (((p, m), v), &g) in p.iter_mut().zip(first).zip(second).zip(g) {
                            *m += (g - *m) * c.toward;
                            *v = *v * c.beta2 + g * g * c.beta2_rest;
                            *p = *p * c.keep - *m / (v.sqrt() * c.root + c.eps) * c.rate;
                        }
                    },
                );
            },
        );
    })
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
            p = optimizer.step(&[&p], &[Some((g, 0.1))])?.remove(0);
        }
        p.to_vec1()
    }

    fn close(got: &[f64], want: [f64; 2]) {
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-9), "{got:?} is not {want:?}");
    }

    #[test]
    fn adamw_is_torchs() -> Result<()> {
        close(
            &run(Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 })?,
            ADAMW,
        );
        Ok(())
    }

    #[test]
    fn sgd_is_torchs() -> Result<()> {
        close(&run(Rule::Sgd { momentum: 0.9, weight_decay: 0.01 })?, SGD);
        Ok(())
    }

    #[test]
    fn the_fast_pass_gives_the_bits_of_the_plain_one() -> Result<()> {
        let rule = Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 };
        let n = (1 << 14) + 37;
        let numbers = |step: usize| -> Result<Tensor> {
            let values: Vec<f32> = (0..n)
                .map(|i| ((i * 7919 + step * 104_729) % 2003) as f32 / 1001.0 - 1.0)
                .collect();
            Tensor::from_vec(values, n, &Device::Cpu)
        };
        let (quick, mut slow) = (numbers(0)?, numbers(0)?);
        let mut optimizer = Optimizer::new(rule);
        let mut moments =
            Moments::Tensors { first: slow.zeros_like()?, second: Some(slow.zeros_like()?) };
        for t in 1..5 {
            let g = numbers(t)?;
            slow = plain(rule, t as i32, &slow, &g, &mut moments, 1e-2)?;
            optimizer.step(&[&quick], &[Some((g, 1e-2))])?;
        }
        assert_eq!(quick.to_vec1::<f32>()?, slow.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn what_does_not_move_keeps_its_moments_and_its_count() -> Result<()> {
        let rule = Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
        for dtype in [candle_core::DType::F32, candle_core::DType::F64] {
            let tensor = || Tensor::new(&[1f64, -2.0], &Device::Cpu)?.to_dtype(dtype);
            let (a, b, alone) = (tensor()?, tensor()?, tensor()?);
            let (mut both, mut one) = (Optimizer::new(rule), Optimizer::new(rule));
            let (mut pair, mut single) = (vec![a, b], vec![alone]);
            for t in 0..4 {
                let g = (tensor()? + t as f64)?;
                let now = (t % 2 == 0).then(|| (g.clone(), 0.1));
                pair =
                    both.step(&pair.iter().collect::<Vec<_>>(), &[Some((g, 0.1)), now.clone()])?;
                if now.is_some() {
                    single = one.step(&[&single[0]], &[now])?;
                }
            }
            let numbers = |t: &Tensor| t.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>();
            assert_eq!(numbers(&pair[1])?, numbers(&single[0])?);
            assert_eq!(both.state()?.0, [4, 2]);
            let mut turn = 0;
            let pruned = both.pruned(|| {
                turn += 1;
                turn % 2 == 0
            })?;
            for (old, new) in both.state()?.1.concat().iter().zip(pruned.state()?.1.concat()) {
                let (old, new) = (numbers(old)?, numbers(&new)?);
                assert_eq!(new, [0.0, old[1]]);
            }
        }
        Ok(())
    }

    const ADAMW: [f64; 2] = [0.606705856666, -1.718953672475];
    const SGD: [f64; 2] = [-0.673108226299, -1.334103847402];
}
