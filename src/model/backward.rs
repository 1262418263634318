//! Backward through the network: exactly the gradients asked for, nothing kept below the lowest
//! trained layer.

use anyhow::Result;
use candle_core::Tensor;

use super::adapter::is_embedding;
use super::nn::block::BlockActivations;
use super::nn::{ForwardContext, GradRequest, Gradients};
use super::tokens::Tokens;
use super::{Model, Network};
use crate::ops::later::Later;
use crate::ops::logits::Targets;

/// What backward of a block begins with.
enum SavedActivations {
    Activations(Box<BlockActivations>),
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

    /// Losses `[S]` of `rows` as [`Model::nll`] has them, and the gradients of Σ weight · loss.
    pub fn gradients<'t>(
        &self,
        tokens: &Tokens,
        rows: &[usize],
        targets: impl Into<Targets<'t>>,
        weight: f64,
        request: &GradRequest,
    ) -> Result<(Vec<f64>, Gradients)> {
        let each: &mut EachLayer = &mut |_, _| Ok(());
        let (nll, gradients) =
            self.gradients_by_layer(tokens, (rows, targets.into()), weight, request, each)?;
        Ok((nll.wait()?, gradients))
    }

    /// The same, of which a device is not waited for; `each` sees what is there after a layer's
    /// backward, from the top down, and may take out what it has looked at.
    pub fn gradients_by_layer(
        &self,
        tokens: &Tokens,
        (rows, targets): (&[usize], Targets),
        weight: f64,
        request: &GradRequest,
        each: &mut EachLayer,
    ) -> Result<(Later, Gradients)> {
        let (ctx, embeddings) = (self.context(tokens, request.adapter)?, &self.network.embeddings);
        let lowest = self.lowest(request).unwrap_or(self.layers());
        let (x, kept) = self.forward_keeping(tokens, &ctx, lowest, request)?;
        let (mut gradients, both) = (Gradients::default(), (&ctx, request));
        let (wanted, loss) = (!kept.is_empty(), (targets, weight));
        let (nll, dx) = self.head_backward(x, rows, loss, both, wanted, &mut gradients)?;
        let Some(dx) = dx else { return Ok((nll, gradients)) };
        let wanted = embeddings.trained(request);
        let dx = self.blocks_backward(dx, kept, both, wanted, each, &mut gradients)?;
        if let Some(dx) = dx.filter(|_| wanted) {
            embeddings.backward(&dx, tokens, both, &mut gradients)?;
        }
        Ok((nll, gradients))
    }

    /// Of `rows` of the last block's output x [N, D] the losses [S], and dx [N, D] where it is
    /// wanted.
    fn head_backward(
        &self,
        x: Tensor,
        rows: &[usize],
        loss: (Targets, f64),
        (ctx, request): (&ForwardContext, &GradRequest),
        wanted: bool,
        out: &mut Gradients,
    ) -> Result<(Later, Option<Tensor>)> {
        let Network { norm, head, .. } = &self.network;
        let (last, shape) = (Self::select(&x, rows)?, x.shape().clone());
        drop(x);
        let h = norm.as_ref().map(|norm| norm.forward(&last, ctx)).transpose()?;
        let into_norm = wanted || norm.as_ref().is_some_and(|norm| norm.trained(request));
        let read = h.as_ref().unwrap_or(&last);
        let (nll, dh) = head.loss_backward(read, loss, (ctx, request), into_norm, out)?;
        drop(h);
        let Some(dh) = dh else { return Ok((nll, None)) };
        let dlast = match norm {
            Some(norm) => norm.backward(&dh, &last, ctx, request, out)?,
            None => dh,
        };
        if !wanted {
            return Ok((nll, None));
        }
        let index: Vec<u32> = rows.iter().map(|&r| r as u32).collect();
        let zeros = Tensor::zeros(shape, self.compute, &self.device)?;
        let dx = zeros.index_add(&Tensor::new(index, &self.device)?, &dlast, 0)?;
        Ok((nll, Some(dx)))
    }

    /// From dy [N, D] of the last block dx [N, D] of the lowest one that something was kept of,
    /// where it is wanted.
    fn blocks_backward(
        &self,
        mut dy: Tensor,
        kept: Vec<SavedActivations>,
        both: (&ForwardContext, &GradRequest),
        wanted: bool,
        each: &mut EachLayer,
        out: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        let lowest = self.layers() - kept.len();
        for (layer, kept) in (lowest..self.layers()).zip(kept).rev() {
            let block = &self.network.blocks[layer];
            let saved = match kept {
                SavedActivations::Activations(saved) => *saved,
                SavedActivations::Input(x) => block.forward(&x, both.0)?.1,
            };
            let dx = block.backward(dy, &saved, both, wanted || layer > lowest, out)?;
            each(layer, out)?;
            match dx {
                Some(dx) => dy = dx,
                None => return Ok(None),
            }
        }
        Ok(Some(dy))
    }

    /// The last block's output [N, D], and what backward needs of the layers from `lowest` up.
    fn forward_keeping(
        &self,
        tokens: &Tokens,
        ctx: &ForwardContext,
        lowest: usize,
        request: &GradRequest,
    ) -> Result<(Tensor, Vec<SavedActivations>)> {
        let mut kept = Vec::new();
        let mut x = self.embed(tokens, ctx)?;
        for (layer, block) in self.network.blocks.iter().enumerate() {
            let (y, saved) = block.forward(&x, ctx)?;
            if layer >= lowest {
                kept.push(if request.gradient_checkpointing {
                    SavedActivations::Input(x)
                } else {
                    SavedActivations::Activations(Box::new(saved))
                });
            }
            x = y;
        }
        Ok((x, kept))
    }
}
