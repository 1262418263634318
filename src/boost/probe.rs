//! What a batch says about where to train: the gradient of each weight, looked at and let go.
//!
//! The gradients exist a layer at a time, so that a probe of all layers takes no more memory than
//! the largest one.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use candle_core::{DType, Tensor};

use super::vectors::{length, orthogonal};
use crate::data::Batch;
use crate::model::meta::Assume;
use crate::model::{Adapter, GradRequest, Gradients, LinearId, Model, ParamId, ParamKind};
use crate::ops::elementwise;
use crate::ops::linear::LoraPair;
use crate::seed::Stream;
use crate::train;

/// Frobenius norms, by linear module.
pub type Norms = BTreeMap<LinearId, f64>;

/// Mean loss of `batch` in nats a token, and the norm of its gradient for every weight of `layers`.
pub fn gradient_norms(model: &Model, batch: &Batch, layers: &[usize]) -> Result<(f64, Norms)> {
    if let Some(assume) = model.assume() {
        let mut norms = assumed(model, assume);
        norms.retain(|linear, _| layers.contains(&linear.layer));
        return Ok((1.0, norms));
    }
    let linears = model.linears().filter(|linear| layers.contains(&linear.layer)).collect();
    let mut norms = Norms::new();
    let loss = each_gradient(model, batch, &linears, |linear, gradient| {
        norms.insert(linear.clone(), elementwise::squares(gradient)?.sqrt());
        Ok(())
    })?;
    Ok((loss, norms))
}

/// Norms of a model without numbers: all the same, or rising from layer to layer.
fn assumed(model: &Model, assume: Assume) -> Norms {
    let norm = |layer: usize| if assume == Assume::Best { 1.0 } else { 1.0 + layer as f64 };
    model.linears().map(|linear| (linear.clone(), norm(linear.layer))).collect()
}

/// Norms of all weights that a booster can target.
pub fn weight_norms(model: &Model) -> Result<Norms> {
    if let Some(assume) = model.assume() {
        return Ok(assumed(model, assume));
    }
    let mut norms = Norms::new();
    for (id, tensor) in model.summed()? {
        if let ParamKind::Weight(linear) = &id.kind {
            norms.insert(linear.clone(), elementwise::squares(&tensor)?.sqrt());
        }
    }
    Ok(norms)
}

/// Norm of a parameter; `None` where the model does not have it.
pub fn norm(model: &Model, id: &ParamId) -> Result<Option<f64>> {
    if model.is_meta() {
        return Ok(Some(1.0));
    }
    model.tensor(id).map(|tensor| Ok(elementwise::squares(tensor)?.sqrt())).transpose()
}

/// The same pairs with the first right singular vectors of their weights' gradients as A, and B
/// zero: the first step on this batch is then the best of its rank (LoRA-GA, arXiv 2407.05000,
/// takes A so). Rows have the length of a Kaiming start.
pub fn aligned(model: &Model, batch: &Batch, adapter: &Adapter) -> Result<Adapter> {
    if model.is_meta() {
        return Ok(adapter.clone());
    }
    let linears = adapter.pairs().keys().collect();
    let mut pairs = BTreeMap::new();
    each_gradient(model, batch, &linears, |linear, gradient| {
        if let Some(pair) = adapter.pair(linear) {
            let rows = leading_rows(gradient, pair.a.dim(0)?)?;
            let a = (rows / 3f64.sqrt())?.to_dtype(pair.a.dtype())?.to_device(pair.a.device())?;
            let b = pair.b.zeros_like()?;
            pairs.insert(linear.clone(), LoraPair { a, b, scale: pair.scale });
        }
        Ok(())
    })?;
    Ok(Adapter::of_pairs(pairs))
}

/// Calls `look` with the gradient [out, in] of each module's weight; the batch's mean loss.
fn each_gradient(
    model: &Model,
    batch: &Batch,
    linears: &BTreeSet<&LinearId>,
    mut look: impl FnMut(&LinearId, &Tensor) -> Result<()>,
) -> Result<f64> {
    let full = linears.iter().filter_map(|linear| model.weight(linear)).cloned().collect();
    let adapter = &Adapter::default();
    let request = GradRequest { adapter, full: &full, gradient_checkpointing: true };
    let tokens = train::tokens(batch);
    let weight = 1.0 / batch.supervised() as f64;
    let mut each = |layer: usize, found: &mut Gradients| {
        for linear in linears.iter().filter(|linear| linear.layer == layer) {
            let gradient = model.weight(linear).and_then(|weight| found.full.remove(weight));
            if let Some(gradient) = gradient {
                look(linear, &gradient)?;
            }
        }
        Ok(())
    };
    let wanted = (batch.rows.as_slice(), batch.wanted());
    let (nll, _) = model.gradients_by_layer(&tokens, wanted, weight, &request, &mut each)?;
    Ok(nll.wait()?.iter().sum::<f64>() * weight)
}

/// The `rank` first right singular vectors of a matrix [out, in] as rows [rank, in] of length 1, by
/// subspace iteration in f64. Directions that the matrix does not have are filled with others at
/// right angles.
fn leading_rows(matrix: &Tensor, rank: usize) -> Result<Tensor> {
    /// The error of the leading vector falls by (σ₂/σ₁)² with each.
    const ITERATIONS: usize = 30;
    let matrix = matrix.to_device(&candle_core::Device::Cpu)?.to_dtype(DType::F64)?;
    let inner = matrix.dim(1)?;
    let mut stream = Stream::new(0, "probe/start");
    let mut rows: Vec<Vec<f64>> =
        (0..rank).map(|_| (0..inner).map(|_| stream.normal()).collect()).collect();
    for _ in 0..ITERATIONS {
        orthonormal(&mut rows, &mut stream);
        let v = Tensor::new(rows.concat(), matrix.device())?.reshape((rank, inner))?;
        rows = v.matmul(&matrix.t()?)?.matmul(&matrix)?.to_vec2()?;
    }
    orthonormal(&mut rows, &mut stream);
    Ok(Tensor::new(rows.concat(), matrix.device())?.reshape((rank, inner))?)
}

/// Makes rows orthonormal, in their order; one that lies among those before is replaced by a drawn
/// one.
fn orthonormal(rows: &mut [Vec<f64>], stream: &mut Stream) {
    for i in 0..rows.len() {
        let (before, rest) = rows.split_at_mut(i);
        let row = &mut rest[0];
        loop {
            let start = length(row);
            let left = orthogonal(row, before);
            if left > 1e-9 * start && left.is_normal() {
                row.iter_mut().for_each(|x| *x /= left);
                break;
            }
            row.iter_mut().for_each(|x| *x = stream.normal());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boost::testing::gradients;
    use crate::boost::vectors::dot;
    use crate::model::testing;

    fn batch() -> Batch {
        Batch {
            ids: vec![1, 5, 2, 7, 3, 3, 8, 1, 4],
            starts: vec![0, 5, 9],
            rows: vec![1, 2, 3, 6, 7],
            targets: vec![2, 7, 3, 1, 4],
            types: vec![],
            numbers: vec![],
            items: vec![],
        }
    }

    fn squares(t: &Tensor) -> Result<f64> {
        Ok(t.sqr()?.sum_all()?.to_scalar()?)
    }

    #[test]
    fn norms_are_those_of_the_gradients() -> Result<()> {
        let model = testing::model(&testing::config(), DType::F64)?;
        let batch = batch();
        let names: BTreeSet<ParamId> =
            model.linears().filter_map(|linear| model.weight(linear)).cloned().collect();
        let (nll, all) = gradients(&model, &batch, &Adapter::default(), &names)?;
        let (loss, norms) = gradient_norms(&model, &batch, &[0, 1, 2])?;
        assert!((loss - nll.iter().sum::<f64>() / 5.0).abs() < 1e-12);
        assert_eq!(norms.len(), 21);
        for (linear, norm) in norms {
            let want = squares(&all.full[model.weight(&linear).unwrap()])?.sqrt();
            assert!((norm - want).abs() < 1e-12 * (1.0 + want), "{linear}: {norm}, not {want}");
        }
        assert_eq!(gradient_norms(&model, &batch, &[2])?.1.len(), 7);
        for (linear, norm) in weight_norms(&model)? {
            let own = model.tensor(model.weight(&linear).unwrap()).unwrap();
            assert!((norm - squares(own)?.sqrt()).abs() < 1e-12);
        }
        Ok(())
    }

    #[test]
    fn rows_are_singular_vectors() -> Result<()> {
        // U diag(5, 2, 0.5) Vᵀ with orthonormal columns.
        let (rows, mut stream) = ((6, 9), Stream::new(3, "matrix"));
        let mut parts = [rows.0, rows.1].map(|n| {
            (0..3).map(|_| (0..n).map(|_| stream.normal()).collect()).collect::<Vec<Vec<f64>>>()
        });
        parts.iter_mut().for_each(|part| orthonormal(part, &mut stream));
        let entry = |i: usize, j: usize| {
            (0..3).map(|k| [5.0, 2.0, 0.5][k] * parts[0][k][i] * parts[1][k][j]).sum::<f64>()
        };
        let values: Vec<f64> =
            (0..6).flat_map(|i| (0..9).map(move |j| (i, j))).map(|(i, j)| entry(i, j)).collect();
        let found =
            leading_rows(&Tensor::new(values, &candle_core::Device::Cpu)?.reshape(rows)?, 4)?
                .to_vec2::<f64>()?;
        for k in 0..3 {
            let along = dot(&found[k], &parts[1][k]);
            assert!((along.abs() - 1.0).abs() < 1e-9, "vector {k}: {along}");
        }
        for (i, row) in found.iter().enumerate() {
            for (j, other) in found.iter().enumerate() {
                assert!((dot(row, other) - f64::from(u8::from(i == j))).abs() < 1e-9);
            }
        }
        Ok(())
    }

    #[test]
    fn an_aligned_start_falls_fastest() -> Result<()> {
        let model = testing::model(&testing::config(), DType::F64)?;
        let batch = batch();
        let start = testing::adapter(&model, &[1], true)?;
        let aligned = aligned(&model, &batch, &start)?;
        let slope = |adapter: &Adapter| -> Result<f64> {
            let (_, g) = gradients(&model, &batch, adapter, &BTreeSet::new())?;
            let of = |(key, pair): (&LinearId, &LoraPair)| {
                Ok(squares(&g.pairs[key].1)? / squares(&pair.a)? / pair.scale.powi(2))
            };
            Ok(adapter.pairs().iter().map(of).collect::<Result<Vec<_>>>()?.iter().sum())
        };
        assert!(slope(&aligned)? > 1.5 * slope(&start)?);
        assert!(aligned.pairs().values().all(|p| squares(&p.b).is_ok_and(|b| b == 0.0)));
        Ok(())
    }
}
