//! Next-token loss over the supervised rows only, with the vocabulary projection inside: logits
//! exist for a chunk of rows at a time, never for all.
//!
//! ```text
//! nll = ln Σ e^z − z[target]        z = h Wᵀ
//! ```
//!
//! Backward, of Σ weight · nll:
//!
//! ```text
//! dz = weight · (softmax(z) − onehot(target))
//! dh = dz W
//! dW = dzᵀ h
//! ```

pub mod cpu;

use candle_core::{Result, Tensor};

use super::Backend;
use super::later::Later;

/// What a caller wants beside the losses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Want {
    /// dh [S, D].
    pub input: bool,
    /// dW [V, D] of the projection.
    pub weight: bool,
}

/// Losses and the gradients asked for.
pub struct Loss {
    /// Negative log-likelihood of every row in nats, `[S]`, not weighted.
    pub nll: Later,
    pub dh: Option<Tensor>,
    pub dw: Option<Tensor>,
}

/// Logits that exist at a time: 8 M numbers, 32 MB in f32.
const CHUNK: usize = 1 << 23;

/// Rows of a chunk for a vocabulary.
pub fn chunk_rows(vocabulary: usize) -> usize {
    (CHUNK / vocabulary.max(1)).clamp(16, 512)
}

/// h [S, D], head W [V, D], targets `[S]`; gradients are of Σ weight · nll.
pub fn forward_backward(
    h: &Tensor,
    head: &Tensor,
    targets: &[u32],
    weight: f64,
    want: Want,
) -> Result<Loss> {
    match Backend::of_products(&[h], &[head]) {
        Backend::Cpu => cpu::forward_backward(h, head, targets, weight, want),
        _ => reference::forward_backward(h, head, targets, weight, want),
    }
}

/// The definition, on tensors of any device.
pub mod reference {
    use candle_core::{D, DType};

    use super::*;
    use crate::ops::linear::reference::{times, times_transposed};
    use crate::ops::{accumulator, matmul};

    pub fn forward_backward(
        h: &Tensor,
        head: &Tensor,
        targets: &[u32],
        weight: f64,
        want: Want,
    ) -> Result<Loss> {
        let acc = accumulator(h.dtype());
        let rows = chunk_rows(head.dim(0)?);
        let (mut nll, mut dh, mut dw) = (vec![], vec![], None);
        for (i, targets) in targets.chunks(rows).enumerate() {
            let part = h.narrow(0, i * rows, targets.len())?;
            let z = times_transposed(&part, head)?.to_dtype(acc)?;
            let index = Tensor::new(targets, h.device())?.unsqueeze(1)?;
            let top = z.max_keepdim(D::Minus1)?;
            let e = z.broadcast_sub(&top)?.exp()?;
            let total = e.sum_keepdim(D::Minus1)?;
            let losses = ((total.log()? + top)? - z.gather(&index, 1)?)?;
            nll.push(losses.flatten_all()?.to_dtype(DType::F64)?);
            if want.input || want.weight {
                let hot = Tensor::zeros(z.shape(), acc, z.device())?.scatter_add(
                    &index,
                    &Tensor::ones(index.shape(), acc, z.device())?,
                    1,
                )?;
                let dz = ((e.broadcast_div(&total)? - hot)? * weight)?;
                if want.input {
                    dh.push(times(&dz.to_dtype(h.dtype())?, head)?);
                }
                if want.weight {
                    dw = sum(dw, matmul(&dz.t()?, &part.to_dtype(acc)?)?)?;
                }
            }
        }
        let nll = match nll.is_empty() {
            true => Later::Here(vec![]),
            false => Later::OnDevice(Tensor::cat(&nll, 0)?),
        };
        Ok(Loss { nll, dh: if want.input { Some(Tensor::cat(&dh, 0)?) } else { None }, dw })
    }

    /// Collects chunks of gradients.
    fn sum(total: Option<Tensor>, part: Tensor) -> Result<Option<Tensor>> {
        Ok(Some(match total {
            Some(total) => (total + part)?,
            None => part,
        }))
    }
}
