//! A pre-norm transformer block: attention and feed-forward part, each around a residual.
//!
//! ```text
//! n₁ = norm(x)    q, k, v = linears(n₁)    q, k = rotary(q_norm(q), k_norm(k))
//! x₂ = x + o(attention(q, k, v))
//! n₂ = norm(x₂)   y = x₂ + down(f(gate(n₂)) ∘ up(n₂))
//! ```

use candle_core::{DType, Result, Tensor};

use super::adapter::Adapter;
use super::cache::Cache;
use super::merge::WeightUpdate;
use super::names::Role;
use crate::ops::activation::{self, Activation};
use crate::ops::attention::{self, Attended, Mask, Segment};
use crate::ops::linear::{self, Linear, LoraPair, UnmergedDelta};
use crate::ops::rope::{self, Angles};
use crate::ops::{layer_norm, rms_norm};

/// Which normalisation a model uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    Rms,
    Layer,
}

/// A normalisation with its weights, kept in the compute type.
#[derive(Clone)]
pub struct Norm {
    pub kind: NormKind,
    pub weight: Tensor,
    /// Of a layer norm.
    pub bias: Tensor,
    pub eps: f64,
}

/// Gradients of a norm.
pub struct NormGradients {
    pub dx: Tensor,
    pub dw: Option<Tensor>,
    pub db: Option<Tensor>,
}

impl Norm {
    /// x [..., D] → [..., D].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self.kind {
            NormKind::Rms => rms_norm::forward(x, &self.weight, self.eps),
            NormKind::Layer => layer_norm::forward(x, &self.weight, &self.bias, self.eps),
        }
    }

    /// dx, and where `dense` is asked for the weights' gradients.
    pub fn backward(&self, dy: &Tensor, x: &Tensor, dense: bool) -> Result<NormGradients> {
        match self.kind {
            NormKind::Rms => Ok(NormGradients {
                dx: rms_norm::backward(dy, x, &self.weight, self.eps)?,
                dw: if dense { Some(rms_norm::weight_gradient(dy, x, self.eps)?) } else { None },
                db: None,
            }),
            NormKind::Layer => {
                let g = layer_norm::backward(dy, x, &self.weight, self.eps)?;
                Ok(NormGradients { dx: g.dx, dw: dense.then_some(g.dw), db: dense.then_some(g.db) })
            }
        }
    }

    /// The tensor that `.weight` or, of a layer norm, `.bias` names.
    pub fn tensor_mut(&mut self, part: &str) -> Option<&mut Tensor> {
        match part {
            ".weight" => Some(&mut self.weight),
            ".bias" if self.kind == NormKind::Layer => Some(&mut self.bias),
            _ => None,
        }
    }

    /// The weights under `name`: `name.weight` and, of a layer norm, `name.bias`.
    pub fn tensors(&self, name: &str) -> Vec<(String, &Tensor)> {
        let mut out = vec![(format!("{name}.weight"), &self.weight)];
        if self.kind == NormKind::Layer {
            out.push((format!("{name}.bias"), &self.bias));
        }
        out
    }
}

/// A linear module's weights.
pub struct Dense {
    /// [out, in], storage type.
    pub weight: Tensor,
    /// [out], compute type.
    pub bias: Option<Tensor>,
    /// What was merged beside the weight.
    pub unmerged: Option<UnmergedDelta>,
}

impl Dense {
    /// Whether factors of that rank are larger than their sum [out, in].
    pub fn outgrown(rank: usize, out: usize, inner: usize) -> bool {
        rank * (out + inner) > out * inner
    }

    /// Lays step · s · B A beside the weight, behind what is there. Factors of a rank R at which R
    /// (out + in) numbers would be more than the out · in of their sum become that sum, in their
    /// own type, added in their order.
    pub fn stack_adapter(&mut self, pair: &LoraPair, step: f64) -> Result<()> {
        let (out, inner) = self.weight.dims2()?;
        if let Some(UnmergedDelta::Sum(sum)) = &self.unmerged {
            return WeightUpdate::Product(pair, step).apply(sum);
        }
        let b = (&pair.b * (step * pair.scale))?;
        let (a, b) = match &self.unmerged {
            Some(UnmergedDelta::Factors(own)) => {
                (Tensor::cat(&[&own.a, &pair.a], 0)?, Tensor::cat(&[&own.b, &b], 1)?.contiguous()?)
            }
            _ => (pair.a.copy()?, b),
        };
        let outgrown = Self::outgrown(a.dim(0)?, out, inner);
        let factors = LoraPair { a, b, scale: 1.0 };
        self.unmerged = Some(if outgrown {
            let sum = Tensor::zeros((out, inner), factors.a.dtype(), factors.a.device())?;
            WeightUpdate::Product(&factors, 1.0).apply(&sum)?;
            UnmergedDelta::Sum(sum)
        } else {
            UnmergedDelta::Factors(factors)
        });
        Ok(())
    }
}

/// One layer.
pub struct Block {
    pub norm1: Norm,
    pub norm2: Norm,
    /// Norms of every query and key head (Qwen3).
    pub head_norms: Option<(Norm, Norm)>,
    pub q: Dense,
    pub k: Dense,
    pub v: Dense,
    pub o: Dense,
    pub gate: Option<Dense>,
    pub up: Dense,
    pub down: Dense,
    pub activation: Activation,
    /// Sliding window of the attention, in tokens.
    pub window: Option<usize>,
}

/// What all blocks of one pass share.
pub struct Pass<'a> {
    pub angles: Angles,
    pub segments: &'a [Segment],
    /// Without a window, which is a layer's own.
    pub mask: Mask,
    /// H, G, E.
    pub heads: (usize, usize, usize),
    pub adapter: &'a Adapter,
}

/// Activations that a block's backward needs; what is cheap to form again is not kept.
pub struct Saved {
    /// Input [N, D].
    pub x: Tensor,
    /// q [N, H, E] and k [N, G, E] before their norms, where a model has them.
    pub before_norms: Option<(Tensor, Tensor)>,
    /// After the rotation.
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
    pub attended: Attended,
    /// Between the two parts [N, D].
    pub x2: Tensor,
    /// [N, F].
    pub gate: Option<Tensor>,
    pub up: Tensor,
}

impl Block {
    pub fn linear(&self, role: Role) -> Option<&Dense> {
        Some(match role {
            Role::Q => &self.q,
            Role::K => &self.k,
            Role::V => &self.v,
            Role::O => &self.o,
            Role::Gate => return self.gate.as_ref(),
            Role::Up => &self.up,
            Role::Down => &self.down,
        })
    }

    pub fn linear_mut(&mut self, role: Role) -> Option<&mut Dense> {
        Some(match role {
            Role::Q => &mut self.q,
            Role::K => &mut self.k,
            Role::V => &mut self.v,
            Role::O => &mut self.o,
            Role::Gate => return self.gate.as_mut(),
            Role::Up => &mut self.up,
            Role::Down => &mut self.down,
        })
    }

    /// The module as the ops see it, with the adapter's pair or tensors.
    pub fn view<'a>(
        &'a self,
        role: Role,
        layer: usize,
        adapter: &'a Adapter,
    ) -> Result<Linear<'a>> {
        let dense = self
            .linear(role)
            .ok_or_else(|| candle_core::Error::Msg(format!("layer {layer} has no {role}")))?;
        let over = |part: &str, own: &'a Tensor| {
            adapter.or_in_layer(layer, &format!("{}.{part}", role.path()), own)
        };
        Ok(Linear {
            weight: over("weight", &dense.weight),
            bias: dense.bias.as_ref().map(|bias| over("bias", bias)),
            pair: adapter.get(layer, role),
            unmerged: dense.unmerged.as_ref(),
        })
    }

    /// The tensor of this name inside the layer.
    pub fn tensor_mut(&mut self, name: &str) -> Option<&mut Tensor> {
        for role in Role::ALL {
            match name.strip_prefix(role.path()) {
                Some(".weight") => return self.linear_mut(role).map(|dense| &mut dense.weight),
                Some(".bias") => {
                    return self.linear_mut(role).and_then(|dense| dense.bias.as_mut());
                }
                _ => {}
            }
        }
        let (q, k) = match &mut self.head_norms {
            Some((q, k)) => (Some(q), Some(k)),
            None => (None, None),
        };
        let norms = [
            ("input_layernorm", Some(&mut self.norm1)),
            ("post_attention_layernorm", Some(&mut self.norm2)),
            ("self_attn.q_norm", q),
            ("self_attn.k_norm", k),
        ];
        norms.into_iter().find_map(|(norm, own)| own?.tensor_mut(name.strip_prefix(norm)?))
    }

    /// All tensors by their names inside the layer.
    pub fn tensors(&self) -> Vec<(String, &Tensor)> {
        let mut out = self.norm1.tensors("input_layernorm");
        for role in Role::ALL {
            if let Some(dense) = self.linear(role) {
                out.push((format!("{}.weight", role.path()), &dense.weight));
                out.extend(dense.bias.as_ref().map(|b| (format!("{}.bias", role.path()), b)));
            }
        }
        if let Some((q, k)) = &self.head_norms {
            out.extend(q.tensors("self_attn.q_norm"));
            out.extend(k.tensors("self_attn.k_norm"));
        }
        out.extend(self.norm2.tensors("post_attention_layernorm"));
        out
    }

    /// x [N, D] → y [N, D] and what backward needs. With a cache the tokens' keys and values go
    /// into its rows `at`, and the segments' keys are rows of the cache.
    pub fn forward(
        &self,
        layer: usize,
        x: &Tensor,
        pass: &Pass,
        cache: Option<(&Cache, &[usize])>,
    ) -> Result<(Tensor, Saved)> {
        let n = x.dim(0)?;
        let (heads, groups, e) = pass.heads;
        let run = |role, input: &Tensor, residual: Option<&Tensor>| {
            linear::forward(input, self.view(role, layer, pass.adapter)?, residual)
        };
        let norm = |name: &str, own| pass.adapter.norm_in_layer(layer, name, own);

        let n1 = norm("input_layernorm", &self.norm1).forward(x)?;
        let mut q = run(Role::Q, &n1, None)?.reshape((n, heads, e))?;
        let mut k = run(Role::K, &n1, None)?.reshape((n, groups, e))?;
        let v = run(Role::V, &n1, None)?.reshape((n, groups, e))?;
        drop(n1);
        let mut before_norms = None;
        if let Some((q_norm, k_norm)) = &self.head_norms {
            let (normed_q, normed_k) = (
                norm("self_attn.q_norm", q_norm).forward(&q)?,
                norm("self_attn.k_norm", k_norm).forward(&k)?,
            );
            before_norms =
                Some((std::mem::replace(&mut q, normed_q), std::mem::replace(&mut k, normed_k)));
        }
        q = rope::forward(&q, &pass.angles)?;
        k = rope::forward(&k, &pass.angles)?;
        let mask = self.mask(pass);
        let attended = match cache {
            None => attention::forward(&q, &k, &v, pass.segments, mask)?,
            Some((cache, at)) => {
                cache.write(layer, &k, &v, at)?;
                let (keys, values) = cache.layer(layer);
                attention::forward(&q, keys, values, pass.segments, mask)?
            }
        };
        let x2 = run(Role::O, &attended.out.reshape((n, heads * e))?, Some(x))?;

        let n2 = norm("post_attention_layernorm", &self.norm2).forward(&x2)?;
        let gate = match self.gate {
            Some(_) => Some(run(Role::Gate, &n2, None)?),
            None => None,
        };
        let up = run(Role::Up, &n2, None)?;
        drop(n2);
        let y = run(Role::Down, &self.activate(gate.as_ref(), &up)?, Some(&x2))?;
        Ok((y, Saved { x: x.clone(), before_norms, q, k, v, attended, x2, gate, up }))
    }

    /// Which keys this layer's queries see.
    pub fn mask(&self, pass: &Pass) -> Mask {
        Mask { window: self.window, ..pass.mask }
    }

    /// f(gate) ∘ up, or f(up) without a gate.
    pub fn activate(&self, gate: Option<&Tensor>, up: &Tensor) -> Result<Tensor> {
        match gate {
            Some(gate) => activation::forward(self.activation, gate, Some(up)),
            None => activation::forward(self.activation, up, None),
        }
    }

    /// Bytes of the activations that [`Saved`] keeps a token, beside the input.
    pub fn saved_bytes(
        heads: (usize, usize, usize),
        width: usize,
        ff: usize,
        gated: bool,
        normed_heads: bool,
        dtype: DType,
    ) -> usize {
        let (h, g, e) = heads;
        let qk = (h + g) * e * if normed_heads { 2 } else { 1 };
        let numbers = qk + g * e + h * e + width + ff * if gated { 2 } else { 1 };
        numbers * dtype.size_in_bytes() + h * 4
    }
}
