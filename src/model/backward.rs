//! Backward through the network: exactly the gradients asked for, nothing kept below the lowest
//! trained layer.

use anyhow::Result;
use candle_core::Tensor;

use super::Model;
use super::adapter::is_embedding;
use super::nn::{ForwardContext, GradRequest, Gradients, block};
use super::tokens::Tokens;

/// What backward of a block begins with.
enum Kept {
    Activations(Box<block::Activations>),
    /// With gradient checkpointing.
    Input(Tensor),
}

/// A look at the gradients of a layer and those above it.
pub type EachLayer<'a> = dyn FnMut(usize, &mut Gradients) -> Result<()> + 'a;

impl Model {
    /// The lowest layer whose gradients a request needs; None where only the final norm or the head
    /// is trained.
    fn lowest(&self, request: &GradRequest) -> Option<usize> {
        if request.full.iter().any(is_embedding) {
            return Some(0);
        }
        let full = request.full.iter().filter_map(|id| id.layer).min();
        let pair = request.adapter.pairs().keys().map(|linear| linear.layer).min();
        [full, pair].into_iter().flatten().min()
    }

    /// Losses [S] in nats of targets[i] after the token of rows[i], and the gradients of Σ weight ·
    /// nll.
    pub fn gradients(
        &self,
        tokens: &Tokens,
        rows: &[usize],
        targets: &[u32],
        weight: f64,
        request: &GradRequest,
    ) -> Result<(Vec<f64>, Gradients)> {
        self.gradients_by_layer(tokens, (rows, targets), weight, request, &mut |_, _| Ok(()))
    }

    /// The same; `each` sees what is there after a layer's backward, from the top down, and may
    /// take out what it has looked at.
    pub fn gradients_by_layer(
        &self,
        tokens: &Tokens,
        (rows, targets): (&[usize], &[u32]),
        weight: f64,
        request: &GradRequest,
        each: &mut EachLayer,
    ) -> Result<(Vec<f64>, Gradients)> {
        let (ctx, network) = (self.context(tokens, request.adapter)?, &self.network);
        let lowest = self.lowest(request).unwrap_or(self.layers());
        let (x, mut kept) = self.forward_keeping(tokens, &ctx, lowest, request)?;

        let mut gradients = Gradients::default();
        let both = (&ctx, request);
        let last = Self::select(&x, rows)?;
        let shape = x.shape().clone();
        drop(x);
        let h = network.norm.forward(&last, &ctx)?;
        let wanted = lowest < self.layers() || network.norm.trained(request);
        let (nll, dh) =
            network.head.loss_backward(&h, (targets, weight), both, wanted, &mut gradients)?;
        drop(h);
        let Some(dh) = dh else { return Ok((nll, gradients)) };
        let dlast = network.norm.backward(&dh, &last, &ctx, request, &mut gradients)?;
        if lowest == self.layers() {
            return Ok((nll, gradients));
        }

        let index: Vec<u32> = rows.iter().map(|&r| r as u32).collect();
        let mut dy = Tensor::zeros(shape, self.compute, &self.device)?.index_add(
            &Tensor::new(index, &self.device)?,
            &dlast,
            0,
        )?;
        let embeddings = network.embeddings.trained(request);
        for layer in (lowest..self.layers()).rev() {
            let block = &network.blocks[layer];
            let saved = match kept.pop() {
                Some(Kept::Activations(saved)) => *saved,
                Some(Kept::Input(x)) => block.forward(&x, &ctx)?.1,
                None => break,
            };
            let wanted = layer > lowest || embeddings;
            let dx = block.backward(dy, &saved, both, wanted, &mut gradients)?;
            each(layer, &mut gradients)?;
            match dx {
                Some(dx) => dy = dx,
                None => return Ok((nll, gradients)),
            }
        }
        if embeddings {
            let rows = (tokens.ids.as_slice(), tokens.positions.as_slice());
            network.embeddings.backward(&dy, rows, request, &mut gradients)?;
        }
        Ok((nll, gradients))
    }

    /// The last block's output [N, D], and what backward needs of the layers from `lowest` up.
    fn forward_keeping(
        &self,
        tokens: &Tokens,
        ctx: &ForwardContext,
        lowest: usize,
        request: &GradRequest,
    ) -> Result<(Tensor, Vec<Kept>)> {
        let mut kept = Vec::new();
        let mut x = self.embed(tokens, ctx)?;
        for (layer, block) in self.network.blocks.iter().enumerate() {
            let (y, saved) = block.forward(&x, ctx)?;
            if layer >= lowest {
                kept.push(if request.gradient_checkpointing {
                    Kept::Input(x)
                } else {
                    Kept::Activations(Box::new(saved))
                });
            }
            x = y;
        }
        Ok((x, kept))
    }
}
