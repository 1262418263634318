//! Steps of a list of parameters, each with a state and a count of steps of its own.

use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::{OptimizerKind, StepInfo, UpdateRule};
use crate::ops::Backend;
use crate::ops::cpu::view::{f32s, update};

/// What is kept of one parameter.
#[derive(Clone, Debug)]
enum ParameterState {
    Tensors(Vec<Tensor>),
    /// Of a rule with a fused pass, over f32 on the CPU.
    Numbers(Vec<Vec<f32>>),
}

impl ParameterState {
    fn new(kind: OptimizerKind, parameter: &Tensor) -> Result<Self> {
        let info = kind.info();
        if info.fused && Backend::of(&[parameter]) == Backend::Cpu {
            return Ok(Self::Numbers(vec![vec![0.0; parameter.elem_count()]; info.state.len()]));
        }
        Ok(Self::Tensors(info.state.iter().map(|_| parameter.zeros_like()).collect::<Result<_>>()?))
    }

    fn tensors(&self) -> Result<Vec<Tensor>> {
        match self {
            Self::Tensors(own) => Ok(own.clone()),
            Self::Numbers(own) => {
                own.iter().map(|own| Tensor::from_slice(own, own.len(), &Device::Cpu)).collect()
            }
        }
    }

    /// Takes `kept` over, as [`ParameterState::tensors`] gave it.
    fn resumed(mut self, kept: Vec<Tensor>, parameter: &Tensor) -> Result<Self> {
        let mut kept = kept.into_iter();
        let mut next = || {
            kept.next().ok_or_else(|| candle_core::Error::msg("fewer moments than the rule has"))
        };
        match &mut self {
            Self::Tensors(all) => {
                for own in all {
                    *own = next()?.reshape(parameter.shape())?;
                }
            }
            Self::Numbers(all) => {
                for own in all {
                    *own = next()?.flatten_all()?.to_vec1()?;
                    let (found, count) = (own.len(), parameter.elem_count());
                    if found != count {
                        bail!("{found} moments for {count} numbers");
                    }
                }
            }
        }
        Ok(self)
    }

    /// The same, of whose entries each stays where `keeps` says so and is 0 otherwise.
    fn pruned(&self, keeps: &mut impl FnMut() -> bool) -> Result<Self> {
        let count = match self {
            Self::Tensors(own) => own.first().map_or(0, Tensor::elem_count),
            Self::Numbers(own) => own.first().map_or(0, Vec::len),
        };
        let kept: Vec<f32> = (0..count).map(|_| f32::from(u8::from(keeps()))).collect();
        Ok(match self {
            Self::Tensors(all) => {
                let prune = |own: &Tensor| {
                    let kept = Tensor::from_slice(&kept, own.shape(), own.device())?;
                    own * kept.to_dtype(own.dtype())?
                };
                Self::Tensors(all.iter().map(prune).collect::<Result<_>>()?)
            }
            Self::Numbers(all) => {
                let prune = |own: &Vec<f32>| own.iter().zip(&kept).map(|(m, k)| m * k).collect();
                Self::Numbers(all.iter().map(prune).collect())
            }
        })
    }
}

/// An optimizer at work, one state a parameter in the order given at every step.
#[derive(Clone, Debug)]
pub struct Optimizer {
    kind: OptimizerKind,
    /// Steps that each parameter took, t.
    steps: Vec<u32>,
    states: Vec<ParameterState>,
}

impl Optimizer {
    pub fn new(kind: impl Into<OptimizerKind>) -> Self {
        Self { kind: kind.into(), steps: vec![], states: vec![] }
    }

    pub fn kind(&self) -> OptimizerKind {
        self.kind
    }

    /// Steps of each parameter and its state as tensors: all that has to be kept to go on.
    pub fn state(&self) -> Result<(Vec<u32>, Vec<Vec<Tensor>>)> {
        let states = self.states.iter().map(ParameterState::tensors).collect::<Result<_>>()?;
        Ok((self.steps.clone(), states))
    }

    /// Goes on from a [`Optimizer::state`] of the same kind over `parameters`.
    pub fn resumed(
        kind: OptimizerKind,
        steps: Vec<u32>,
        states: Vec<Vec<Tensor>>,
        parameters: &[&Tensor],
    ) -> Result<Self> {
        let one = |(kept, parameter): (Vec<Tensor>, &&Tensor)| {
            ParameterState::new(kind, parameter)?.resumed(kept, parameter)
        };
        let states = states.into_iter().zip(parameters).map(one).collect::<Result<_>>()?;
        Ok(Self { kind, steps, states })
    }

    /// One step: the new parameters, from the old ones, and of each its gradient and learning rate,
    /// if it is to move; one that is not keeps its state and its count of steps. Where it can be
    /// they take the place of the old ones, which nobody else may hold.
    pub fn step(
        &mut self,
        parameters: &[&Tensor],
        moves: &[Option<(Tensor, f64)>],
    ) -> Result<Vec<Tensor>> {
        let kind = self.kind;
        if self.states.is_empty() {
            self.states =
                parameters.iter().map(|p| ParameterState::new(kind, p)).collect::<Result<_>>()?;
            self.steps = vec![0; parameters.len()];
        }
        let each = parameters.iter().zip(moves).zip(self.steps.iter_mut().zip(&mut self.states));
        each.map(|((p, moved), (steps, state))| {
            let Some((g, lr)) = moved else { return Ok((*p).clone()) };
            *steps += 1;
            let at = StepInfo { lr: *lr, t: *steps as i32 };
            match state {
                ParameterState::Tensors(state) => kind.step(p, g, state, at),
                ParameterState::Numbers(state) => {
                    kind.fused(p, &g.contiguous()?, state, at)?;
                    Ok((*p).clone())
                }
            }
        })
        .collect()
    }

    /// The same state, of whose entries each stays where `keeps` says so and is 0 otherwise; it is
    /// asked parameter by parameter, once for an entry of all tensors of the state.
    pub fn pruned(&self, mut keeps: impl FnMut() -> bool) -> Result<Self> {
        let states = self.states.iter().map(|s| s.pruned(&mut keeps)).collect::<Result<_>>()?;
        Ok(Self { kind: self.kind, steps: self.steps.clone(), states })
    }
}

/// Runs a rule's fused pass over a parameter, its gradient and its state, part by part.
pub(super) fn in_place<R: UpdateRule>(
    rule: &R,
    p: &Tensor,
    g: &Tensor,
    state: &mut [Vec<f32>],
    at: StepInfo,
) -> Result<()> {
    /// Numbers that a thread takes at a time.
    const CHUNK: usize = 1 << 14;
    let Some(pass) = R::FUSED else { bail!("`{}` has no pass of its own", R::NAME) };
    let g = f32s(g)?;
    let mut done = Ok(());
    update(p, |p| {
        let mut chunks: Vec<_> =
            p.chunks_mut(CHUNK).zip(g.chunks(CHUNK)).map(|(p, g)| (p, g, vec![])).collect();
        for own in state.iter_mut() {
            let own = own.chunks_mut(CHUNK);
            chunks.iter_mut().zip(own).for_each(|((_, _, state), own)| state.push(own));
        }
        done = chunks
            .into_par_iter()
            .try_for_each(|(p, g, mut state)| pass(rule, p, g, &mut state, at));
    })?;
    done
}
