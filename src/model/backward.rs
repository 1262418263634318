//! Backward through the network: exactly the gradients asked for, nothing kept below the lowest
//! trained layer.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use candle_core::Tensor;

use super::Model;
use super::adapter::Adapter;
use super::block::{Block, Norm, Pass, Saved};
use super::forward::Tokens;
use super::names::{self, Role};
use crate::ops::cross_entropy::{self, Want};
use crate::ops::{activation, attention, elementwise, embedding, linear, rope};

/// Which gradients a pass is to give.
pub struct Request<'a> {
    /// Factors of all its pairs.
    pub adapter: &'a Adapter,
    /// Published names of tensors whose dense gradient is wanted.
    pub dense: &'a BTreeSet<String>,
    /// Form activations again in backward, keeping only each block's input.
    pub gradient_checkpointing: bool,
}

/// Gradients of Σ weight · nll.
#[derive(Default)]
pub struct Gradients {
    /// (dA, dB) of every pair.
    pub pairs: BTreeMap<(usize, Role), (Tensor, Tensor)>,
    /// By published name.
    pub dense: BTreeMap<String, Tensor>,
}

impl Gradients {
    /// The sum of two passes with the same request.
    pub fn plus(mut self, other: Self) -> Result<Self> {
        for (key, (da, db)) in other.pairs {
            let sum = match self.pairs.remove(&key) {
                Some((a, b)) => (elementwise::add(a, &da)?, elementwise::add(b, &db)?),
                None => (da, db),
            };
            self.pairs.insert(key, sum);
        }
        for (name, gradient) in other.dense {
            self.add_dense(name, gradient)?;
        }
        Ok(self)
    }

    /// The gradients of an adapter's tensors, in the order of [`Adapter::tensors`]. Errors where
    /// one is missing.
    pub fn in_order(mut self, adapter: &Adapter) -> Result<Vec<Tensor>> {
        let mut out = vec![];
        for key in adapter.pairs().keys() {
            let (da, db) = self
                .pairs
                .remove(key)
                .with_context(|| format!("no gradient of layer {} {}", key.0, key.1))?;
            out.extend([da, db]);
        }
        for name in adapter.dense().keys() {
            out.push(self.dense.remove(name).with_context(|| format!("no gradient of `{name}`"))?);
        }
        Ok(out)
    }

    fn add_dense(&mut self, name: String, gradient: Tensor) -> Result<()> {
        let sum = match self.dense.remove(&name) {
            Some(before) => elementwise::add(before, &gradient)?,
            None => gradient,
        };
        self.dense.insert(name, sum);
        Ok(())
    }
}

/// What one block has to give.
struct Asked<'a> {
    layer: usize,
    adapter: &'a Adapter,
    dense: &'a BTreeSet<String>,
    /// Whether the gradient of the block's input is wanted.
    input: bool,
}

impl Asked<'_> {
    fn name(&self, inside: &str) -> String {
        names::in_layer(self.layer, inside)
    }

    fn dense(&self, inside: &str) -> bool {
        !self.dense.is_empty() && self.dense.contains(&self.name(inside))
    }

    /// Whether anything of this linear is trained.
    fn linear(&self, role: Role) -> bool {
        self.adapter.get(self.layer, role).is_some()
            || self.dense(&format!("{}.weight", role.path()))
            || self.dense(&format!("{}.bias", role.path()))
    }

    fn norm(&self, name: &str) -> bool {
        self.dense(&format!("{name}.weight")) || self.dense(&format!("{name}.bias"))
    }

    fn any(&self, roles: &[Role]) -> bool {
        roles.iter().any(|&r| self.linear(r))
    }
}

/// Either a block's activations or just its input.
enum Kept {
    All(Box<Saved>),
    Input(Tensor),
}

impl Model {
    /// The lowest layer whose gradients a request needs; None where only the final norm or the head
    /// is trained.
    fn lowest(&self, request: &Request) -> Option<usize> {
        if request.dense.contains(names::EMBEDDING) {
            return Some(0);
        }
        let dense = request.dense.iter().filter_map(|name| names::layer_of(name)).min();
        let pair = request.adapter.pairs().keys().map(|&(layer, _)| layer).min();
        [dense, pair].into_iter().flatten().min()
    }

    /// Losses [S] in nats of targets[i] after the token of rows[i], and the gradients of Σ weight ·
    /// nll.
    pub fn gradients(
        &self,
        tokens: &Tokens,
        rows: &[usize],
        targets: &[u32],
        weight: f64,
        request: &Request,
    ) -> Result<(Vec<f64>, Gradients)> {
        self.gradients_by_layer(tokens, rows, targets, weight, request, &mut |_, _| Ok(()))
    }

    /// The same; `each` sees what is there after a layer's backward, from the top down, and may
    /// take out what it has looked at.
    pub fn gradients_by_layer(
        &self,
        tokens: &Tokens,
        rows: &[usize],
        targets: &[u32],
        weight: f64,
        request: &Request,
        each: &mut dyn FnMut(usize, &mut Gradients) -> Result<()>,
    ) -> Result<(Vec<f64>, Gradients)> {
        let pass = self.pass(tokens, request.adapter)?;
        let lowest = self.lowest(request).unwrap_or(self.layers());
        let embedding = request.dense.contains(names::EMBEDDING);
        let mut kept = Vec::new();
        let mut x = self.embed(&tokens.ids, request.adapter)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            let (y, saved) = block.forward(layer, &x, &pass, None)?;
            if layer >= lowest {
                kept.push(if request.gradient_checkpointing {
                    Kept::Input(x)
                } else {
                    Kept::All(Box::new(saved))
                });
            }
            x = y;
        }

        let mut gradients = Gradients::default();
        let last = Self::select(&x, rows)?;
        let shape = x.shape().clone();
        drop(x);
        let norm = request.adapter.norm(names::NORM, &self.norm);
        let h = norm.forward(&last)?;
        let head_name = if self.head.is_some() { names::HEAD } else { names::EMBEDDING };
        let norm_wanted = request.dense.contains(&format!("{}.weight", names::NORM))
            || request.dense.contains(&format!("{}.bias", names::NORM));
        let want = Want {
            input: lowest < self.layers() || norm_wanted,
            weight: request.dense.contains(head_name),
        };
        let loss =
            cross_entropy::forward_backward(&h, self.head(request.adapter), targets, weight, want)?;
        drop(h);
        if let Some(dw) = loss.dw {
            gradients.add_dense(head_name.to_string(), dw)?;
        }
        let Some(dh) = loss.dh else { return Ok((loss.nll, gradients)) };
        let g = norm.backward(&dh, &last, norm_wanted)?;
        for (part, gradient) in [("weight", g.dw), ("bias", g.db)] {
            if let Some(gradient) = gradient {
                gradients.add_dense(format!("{}.{part}", names::NORM), gradient)?;
            }
        }
        if lowest == self.layers() {
            return Ok((loss.nll, gradients));
        }

        let index: Vec<u32> = rows.iter().map(|&r| r as u32).collect();
        let mut dy = Tensor::zeros(shape, self.compute, &self.device)?.index_add(
            &Tensor::new(index, &self.device)?,
            &g.dx,
            0,
        )?;
        for layer in (lowest..self.layers()).rev() {
            let block = &self.blocks[layer];
            let saved = match kept.pop() {
                Some(Kept::All(saved)) => *saved,
                Some(Kept::Input(x)) => block.forward(layer, &x, &pass, None)?.1,
                None => break,
            };
            let asked = Asked {
                layer,
                adapter: request.adapter,
                dense: request.dense,
                input: layer > lowest || embedding,
            };
            let dx = block.backward(dy, &saved, &pass, &asked, &mut gradients)?;
            each(layer, &mut gradients)?;
            match dx {
                Some(dx) => dy = dx,
                None => return Ok((loss.nll, gradients)),
            }
        }
        if embedding {
            let ids = Tensor::new(tokens.ids.as_slice(), &self.device)?;
            gradients.add_dense(
                names::EMBEDDING.to_string(),
                embedding::backward(&ids, &dy, self.config.vocabulary)?,
            )?;
        }
        Ok((loss.nll, gradients))
    }
}

impl Block {
    /// The gradients of one linear's own numbers, from its output's gradient and its input.
    fn own(
        &self,
        role: Role,
        dy: &Tensor,
        x: &Tensor,
        asked: &Asked,
        out: &mut Gradients,
    ) -> Result<()> {
        if let Some(pair) = asked.adapter.get(asked.layer, role) {
            out.pairs.insert((asked.layer, role), linear::factor_gradients(dy, x, pair)?);
        }
        let (weight, bias) = (format!("{}.weight", role.path()), format!("{}.bias", role.path()));
        if asked.dense(&weight) {
            out.add_dense(asked.name(&weight), linear::weight_gradient(dy, x)?)?;
        }
        if asked.dense(&bias) {
            out.add_dense(asked.name(&bias), linear::bias_gradient(dy)?)?;
        }
        Ok(())
    }

    /// dx of a norm; its own gradients go to `out`.
    fn norm_backward(
        norm: &Norm,
        name: &str,
        dy: &Tensor,
        x: &Tensor,
        asked: &Asked,
        out: &mut Gradients,
    ) -> Result<Tensor> {
        let g = asked.adapter.norm_in_layer(asked.layer, name, norm).backward(
            dy,
            x,
            asked.norm(name),
        )?;
        for (part, gradient) in [("weight", g.dw), ("bias", g.db)] {
            if let Some(gradient) = gradient {
                out.add_dense(asked.name(&format!("{name}.{part}")), gradient)?;
            }
        }
        Ok(g.dx)
    }

    /// From dy [N, D] the gradients asked for; dx [N, D] where it is wanted. It stops as soon as
    /// nothing below is.
    fn backward(
        &self,
        dy: Tensor,
        s: &Saved,
        pass: &Pass,
        asked: &Asked,
        out: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        use Role::{Down, Gate, K, O, Q, Up, V};
        let view = |role| self.view(role, asked.layer, pass.adapter);
        let head_norms = asked.norm("self_attn.q_norm") || asked.norm("self_attn.k_norm");
        let into_attention =
            asked.input || asked.any(&[Q, K, V]) || head_norms || asked.norm("input_layernorm");
        let into_middle = into_attention || asked.linear(O);
        let into_ff = into_middle || asked.norm("post_attention_layernorm");

        if asked.linear(Down) {
            self.own(Down, &dy, &self.activate(s.gate.as_ref(), &s.up)?, asked, out)?;
        }
        if !into_ff && !asked.any(&[Gate, Up]) {
            return Ok(None);
        }
        let dh = linear::input_gradient(&[(&dy, view(Down)?)])?;
        let (dgate, dup) = match &s.gate {
            Some(gate) => {
                let (dgate, dup) = activation::backward(self.activation, &dh, gate, Some(&s.up))?;
                (Some(dgate), dup.unwrap_or(dh))
            }
            None => (None, activation::backward(self.activation, &dh, &s.up, None)?.0),
        };
        if asked.any(&[Gate, Up]) {
            let n2 = asked
                .adapter
                .norm_in_layer(asked.layer, "post_attention_layernorm", &self.norm2)
                .forward(&s.x2)?;
            if let Some(dgate) = &dgate {
                self.own(Gate, dgate, &n2, asked, out)?;
            }
            self.own(Up, &dup, &n2, asked, out)?;
        }
        if !into_ff {
            return Ok(None);
        }
        let dn2 = match &dgate {
            Some(dgate) => linear::input_gradient(&[(dgate, view(Gate)?), (&dup, view(Up)?)])?,
            None => linear::input_gradient(&[(&dup, view(Up)?)])?,
        };
        drop((dgate, dup));
        let dx2 = (dy
            + Self::norm_backward(
                &self.norm2,
                "post_attention_layernorm",
                &dn2,
                &s.x2,
                asked,
                out,
            )?)?;

        let (n, (heads, groups, e)) = (s.x.dim(0)?, pass.heads);
        if asked.linear(O) {
            self.own(O, &dx2, &s.attended.out.reshape((n, heads * e))?, asked, out)?;
        }
        if !into_attention {
            return Ok(None);
        }
        let dout = linear::input_gradient(&[(&dx2, view(O)?)])?.reshape((n, heads, e))?;
        let g = attention::backward(
            &dout,
            &s.q,
            &s.k,
            &s.v,
            &s.attended,
            pass.segments,
            self.mask(pass),
        )?;
        let (mut dq, mut dk) =
            (rope::backward(&g.dq, &pass.angles)?, rope::backward(&g.dk, &pass.angles)?);
        if let (Some((q_norm, k_norm)), Some((q, k))) = (&self.head_norms, &s.before_norms) {
            dq = Self::norm_backward(q_norm, "self_attn.q_norm", &dq, q, asked, out)?;
            dk = Self::norm_backward(k_norm, "self_attn.k_norm", &dk, k, asked, out)?;
        }
        let (dq, dk, dv) = (
            dq.reshape((n, heads * e))?,
            dk.reshape((n, groups * e))?,
            g.dv.reshape((n, groups * e))?,
        );
        if asked.any(&[Q, K, V]) {
            let n1 = asked
                .adapter
                .norm_in_layer(asked.layer, "input_layernorm", &self.norm1)
                .forward(&s.x)?;
            for (role, d) in [(Q, &dq), (K, &dk), (V, &dv)] {
                self.own(role, d, &n1, asked, out)?;
            }
        }
        if !asked.input && !asked.norm("input_layernorm") {
            return Ok(None);
        }
        let dn1 = linear::input_gradient(&[(&dq, view(Q)?), (&dk, view(K)?), (&dv, view(V)?)])?;
        let dx = Self::norm_backward(&self.norm1, "input_layernorm", &dn1, &s.x, asked, out)?;
        Ok(if asked.input { Some((dx2 + dx)?) } else { None })
    }
}
