//! How much two updates point the same way.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{DType, Tensor};

use super::update::Update;
use crate::model::ParamKind;
use crate::ops::linear::LoraPair;
use crate::ops::{elementwise, matmul};

/// Inner products ⟨δ, δ'⟩ of two updates, over the parameters that both change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlap {
    /// Over the weights of all layers, by target.
    pub targets: BTreeMap<&'static str, f64>,
    /// Over all parameters.
    pub all: f64,
}

/// What an update adds to a parameter.
#[derive(Clone, Copy)]
enum Added<'a> {
    /// step · s · B A
    Product(&'a LoraPair, f64),
    Delta(&'a Tensor),
}

impl Update {
    /// The inner product with another one. Products of factors are never formed.
    pub fn overlap(&self, other: &Self) -> Result<Overlap> {
        let mut overlap = Overlap::default();
        let theirs = other.added();
        for (name, (target, own)) in self.added() {
            let Some((_, their)) = theirs.get(&name) else { continue };
            let product = inner(own, *their)?;
            overlap.all += product;
            if let Some(target) = target {
                *overlap.targets.entry(target).or_default() += product;
            }
        }
        Ok(overlap)
    }

    /// By the parameter's published name, with its target if it is a target's weight.
    fn added(&self) -> BTreeMap<String, (Option<&'static str>, Added<'_>)> {
        let pairs = self.factors.pairs().iter().map(|(linear, pair)| {
            let added = Added::Product(pair, self.eta * pair.scale);
            (format!("{}.weight", linear.name), (Some(linear.target), added))
        });
        let deltas = self.deltas.iter().map(|(id, delta)| {
            let target = match &id.kind {
                ParamKind::Weight(linear) => Some(linear.target),
                _ => None,
            };
            (id.name.clone(), (target, Added::Delta(delta)))
        });
        pairs.chain(deltas).collect()
    }
}

/// ⟨δ, δ'⟩ in f64: tr((BᵀB')(A'Aᵀ)) of two products, tr(Bᵀ D Aᵀ) of a product and a difference.
fn inner(a: Added, b: Added) -> Result<f64> {
    let wide = |t: &Tensor| t.to_dtype(DType::F64);
    let sum = |t: Tensor| t.sum_all()?.to_scalar::<f64>();
    match (a, b) {
        (Added::Product(p, s), Added::Product(q, t)) => {
            let outer = matmul(&wide(&p.b)?.t()?.contiguous()?, &wide(&q.b)?)?;
            let inner = matmul(&wide(&p.a)?, &wide(&q.a)?.t()?)?;
            Ok(s * t * sum((outer * inner)?)?)
        }
        (Added::Product(p, s), Added::Delta(d)) | (Added::Delta(d), Added::Product(p, s)) => {
            Ok(s * sum((wide(&p.b)? * matmul(&wide(d)?, &wide(&p.a)?.t()?)?)?)?)
        }
        (Added::Delta(d), Added::Delta(e)) => Ok(elementwise::dot(d, e)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boost::testing::ALL_PARTS;
    use crate::boost::{Booster, DenseSpec};
    use crate::model::{Model, ParamId, testing};
    use std::collections::BTreeSet;

    /// What an update adds to each parameter, formed by adding it.
    fn formed(update: &Update, model: &Model) -> Result<BTreeMap<ParamId, Tensor>> {
        let ids: BTreeSet<ParamId> = model.params().map(|(id, _)| id.clone()).collect();
        let before = model.copies(&ids)?;
        let mut after = testing::model(&testing::config(), DType::F64)?;
        update.add(&mut after)?;
        let change = |(id, own): (&ParamId, Tensor)| Ok((id.clone(), (own - &before[id])?));
        after.copies(&ids)?.iter().map(|(id, own)| change((id, own.clone()))).collect()
    }

    #[test]
    fn it_is_that_of_the_differences() -> Result<()> {
        let model = testing::model(&testing::config(), DType::F64)?;
        let low_rank = |layers: &[usize]| -> Result<Booster> {
            Ok(Booster::from_adapter(testing::adapter(&model, layers, false)?))
        };
        let mut dense = Booster::dense(&model, &DenseSpec::new(&model, &[2], &[], ALL_PARTS)?)?;
        let moved = dense.adapter.tensors().into_iter().map(|t| (t * 1.25)? + 0.01);
        dense.adapter = dense.adapter.with_tensors(moved.collect::<candle_core::Result<Vec<_>>>()?);
        let updates = [(low_rank(&[0, 2])?, 1.0), (low_rank(&[2])?, -0.75), (dense, 0.5)]
            .iter()
            .map(|(booster, eta)| Update::of(&model, booster, 0, *eta))
            .collect::<Result<Vec<_>>>()?;
        for a in &updates {
            for b in &updates {
                let (x, y) = (formed(a, &model)?, formed(b, &model)?);
                let (mut want, mut all) = (BTreeMap::<&str, f64>::new(), 0.0);
                for (id, change) in &x {
                    let product = elementwise::dot(change, &y[id])?;
                    all += product;
                    if let ParamKind::Weight(linear) = &id.kind {
                        *want.entry(linear.target).or_default() += product;
                    }
                }
                let found = a.overlap(b)?;
                let near = |a: f64, b: f64| (a - b).abs() < 1e-9 * (1.0 + b.abs());
                assert!(near(found.all, all), "{} is not {all}", found.all);
                for (target, product) in found.targets {
                    assert!(near(product, want[target]), "{target}: {product}");
                }
            }
        }
        Ok(())
    }
}
