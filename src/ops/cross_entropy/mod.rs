//! Next-token loss over the supervised rows only, with the vocabulary projection inside: logits
//! exist for a chunk of rows at a time, never for all.
//!
//! With z = h Wᵀ: nll = ln Σ e^z − z[target]; dz = weight · (softmax(z) − onehot(target)); dh = dz
//! W; dW = dzᵀ h.

use candle_core::{Result, Tensor};

use super::cpu::gemm;
use super::cpu::simd::fast;

/// What a caller wants beside the losses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Want {
    /// dh [S, D].
    pub input: bool,
    /// dense dW [V, D] of the projection.
    pub weight: bool,
}

/// Losses and the gradients asked for.
pub struct Loss {
    /// Negative log-likelihood of every row in nats, [S], not weighted.
    pub nll: Vec<f64>,
    pub dh: Option<Tensor>,
    pub dw: Option<Tensor>,
}

/// Logits that exist at a time: 8 M numbers, 32 MB in f32.
const CHUNK: usize = 1 << 23;

/// Rows of a chunk for a vocabulary.
pub fn chunk_rows(vocabulary: usize) -> usize {
    (CHUNK / vocabulary.max(1)).clamp(16, 512)
}

/// h [S, D], head W [V, D], targets [S]; gradients are of Σ weight · nll.
pub fn forward_backward(
    h: &Tensor,
    head: &Tensor,
    targets: &[u32],
    weight: f64,
    want: Want,
) -> Result<Loss> {
    if fast(&[h]) && gemm::fast_weight(head) {
        cpu::forward_backward(h, head, targets, weight, want)
    } else {
        reference::forward_backward(h, head, targets, weight, want)
    }
}

/// Collects chunks of gradients.
fn sum(total: Option<Tensor>, part: Tensor) -> Result<Option<Tensor>> {
    Ok(Some(match total {
        Some(total) => (total + part)?,
        None => part,
    }))
}

/// The definition, on tensors of any device.
pub mod reference {
    use candle_core::{D, DType};

    use super::*;
    use crate::ops::accumulator;

    pub fn forward_backward(
        h: &Tensor,
        head: &Tensor,
        targets: &[u32],
        weight: f64,
        want: Want,
    ) -> Result<Loss> {
        let acc = accumulator(h.dtype());
        let rows = chunk_rows(head.dim(0)?);
        let (mut nll, mut dh, mut dw) = (Vec::with_capacity(targets.len()), vec![], None);
        for (i, targets) in targets.chunks(rows).enumerate() {
            let part = h.narrow(0, i * rows, targets.len())?;
            let z = gemm::reference_transposed(&part, head)?.to_dtype(acc)?;
            let index = Tensor::new(targets, h.device())?.unsqueeze(1)?;
            let top = z.max_keepdim(D::Minus1)?;
            let e = z.broadcast_sub(&top)?.exp()?;
            let total = e.sum_keepdim(D::Minus1)?;
            let losses = ((total.log()? + top)? - z.gather(&index, 1)?)?;
            nll.extend(losses.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?);
            if want.input || want.weight {
                let hot = Tensor::zeros(z.shape(), acc, z.device())?.scatter_add(
                    &index,
                    &Tensor::ones(index.shape(), acc, z.device())?,
                    1,
                )?;
                let dz = ((e.broadcast_div(&total)? - hot)? * weight)?;
                if want.input {
                    dh.push(gemm::reference_weight(&dz.to_dtype(h.dtype())?, head)?);
                }
                if want.weight {
                    dw = sum(dw, dz.t()?.matmul(&part.to_dtype(acc)?)?)?;
                }
            }
        }
        Ok(Loss { nll, dh: if want.input { Some(Tensor::cat(&dh, 0)?) } else { None }, dw })
    }
}

/// The fused twin: softmax and its gradient in place over the logits.
pub mod cpu {
    use rayon::prelude::*;

    use super::*;
    use crate::ops::cpu::gemm::Matrix;
    use crate::ops::cpu::simd::{exp, max, sum_by, vectorized};
    use crate::ops::cpu::view::{f32s, tensor};

    pub fn forward_backward(
        h: &Tensor,
        head: &Tensor,
        targets: &[u32],
        weight: f64,
        want: Want,
    ) -> Result<Loss> {
        let (vocabulary, d) = head.dims2()?;
        let hs = f32s(h)?;
        let rows = chunk_rows(vocabulary);
        let mut nll = vec![0f64; targets.len()];
        let mut dh: Vec<f32> = Vec::with_capacity(if want.input { hs.len() } else { 0 });
        let mut dw: Option<Vec<f32>> = None;
        let mut z = Vec::new();
        for ((targets, h), nll) in
            targets.chunks(rows).zip(hs.chunks(rows * d)).zip(nll.chunks_mut(rows))
        {
            let part = Matrix::new(h, targets.len(), d, d);
            z = gemm::into_transposed(part, head, z)?;
            z.par_chunks_exact_mut(vocabulary).zip(targets).zip(nll).for_each(
                |((z, &target), nll)| {
                    *nll = f64::from(softmax_gradient(z, target as usize, weight as f32));
                },
            );
            if want.input {
                dh.extend(gemm::with_weight(&z, head, None)?);
            }
            if want.weight {
                let dw = dw.get_or_insert_with(|| vec![0.0; vocabulary * d]);
                gemm::add(
                    dw,
                    Matrix::new(&z, targets.len(), vocabulary, vocabulary).t(),
                    part,
                    1.0,
                );
            }
        }
        let dh = if want.input { Some(tensor(dh, h.shape())?) } else { None };
        Ok(Loss { nll, dh, dw: dw.map(|dw| tensor(dw, (vocabulary, d))).transpose()? })
    }

    /// The row's nll; its logits become weight · (softmax − onehot).
    fn softmax_gradient(z: &mut [f32], target: usize, weight: f32) -> f32 {
        vectorized(
            #[inline(always)]
            || {
                let top = max(z);
                let wanted = z[target];
                for z in z.iter_mut() {
                    *z = exp(*z - top);
                }
                let sum = sum_by(z.len(), |i| z[i]);
                let scale = weight / sum;
                for z in z.iter_mut() {
                    *z *= scale;
                }
                z[target] -= weight;
                sum.ln() + top - wanted
            },
        )
    }
}
