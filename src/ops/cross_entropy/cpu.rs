//! Next-token loss on f32 slices: softmax and its gradient in place over the logits.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::{Loss, Want, chunk_rows};
use crate::ops::cpu::gemm::{self, Matrix};
use crate::ops::cpu::simd::{exp, max, sum_by, vectorized};
use crate::ops::cpu::view::{f32s, tensor};
use crate::ops::later::Later;

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
        z.par_chunks_exact_mut(vocabulary).zip(targets).zip(nll).for_each(|((z, &target), nll)| {
            *nll = f64::from(softmax_gradient(z, target as usize, weight as f32));
        });
        if want.input {
            dh.extend(gemm::with_weight(&z, head, None)?);
        }
        if want.weight {
            let dw = dw.get_or_insert_with(|| vec![0.0; vocabulary * d]);
            gemm::add(dw, Matrix::new(&z, targets.len(), vocabulary, vocabulary).t(), part, 1.0);
        }
    }
    let dh = if want.input { Some(tensor(dh, h.shape())?) } else { None };
    let nll = Later::Here(nll);
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
