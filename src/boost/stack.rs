//! Boosters of low rank as a single one: Σ ηᵢsᵢ BᵢAᵢ = [η₁s₁B₁ … ηₙsₙBₙ] [A₁; …; Aₙ].

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::Tensor;

use super::update::Update;
use crate::model::{Adapter, LinearId};
use crate::ops::linear::LoraPair;

/// Factors by layer and target, in the order of their boosters.
#[derive(Debug, Default)]
pub struct Stack(BTreeMap<LinearId, Vec<LoraPair>>);

impl Stack {
    /// Adds the factors of a booster, with its step weight.
    pub fn push(&mut self, update: &Update) -> Result<()> {
        for (key, pair) in update.factors() {
            self.0.entry(key).or_default().push(pair);
        }
        Ok(())
    }

    /// All as one pair a module, of the sum of their ranks; `None` without factors. Scales that are
    /// the same for all of a module are kept as its scale, others go into B.
    pub fn adapter(self) -> Result<Option<Adapter>> {
        let one = |(key, pairs): (LinearId, Vec<LoraPair>)| {
            let common = pairs.first().map_or(1.0, |p| p.scale);
            let scale = if pairs.iter().all(|p| p.scale == common) { common } else { 1.0 };
            let b = |p: &LoraPair| {
                if p.scale == scale { Ok(p.b.clone()) } else { &p.b * (p.scale / scale) }
            };
            let a: Vec<&Tensor> = pairs.iter().map(|p| &p.a).collect();
            let b = pairs.iter().map(b).collect::<candle_core::Result<Vec<_>>>()?;
            Ok((
                key,
                LoraPair { a: Tensor::cat(&a, 0)?, b: Tensor::cat(&b, 1)?.contiguous()?, scale },
            ))
        };
        let pairs = self.0.into_iter().map(one).collect::<Result<BTreeMap<_, _>>>()?;
        Ok((!pairs.is_empty()).then(|| Adapter::of_pairs(pairs)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boost::Booster;
    use crate::model::testing;
    use candle_core::DType;

    #[test]
    fn one_pair_is_the_sum() -> Result<()> {
        let model = testing::model(&testing::config(), DType::F64)?;
        let mut merged = testing::model(&testing::config(), DType::F64)?;
        let mut stack = Stack::default();
        for (round, (layers, eta)) in
            [(&[0usize, 2][..], 1.0), (&[2], 0.25), (&[1, 2], -0.5)].into_iter().enumerate()
        {
            let booster = Booster::from_adapter(testing::adapter(&model, layers, false)?);
            let update = Update::of(&model, &booster, round, eta)?;
            update.add(&mut merged)?;
            stack.push(&update)?;
        }
        let adapter = stack.adapter()?.unwrap();
        let rank = |layer| adapter.pairs()[model.linear(layer, "q_proj").unwrap()].a.dim(0);
        assert_eq!((rank(0)?, rank(2)?), (2, 6));
        let mut again = testing::model(&testing::config(), DType::F64)?;
        again.merge(&adapter, 1.0)?;
        for ((name, a), (_, b)) in merged.params().zip(again.params()) {
            let apart: f64 = (a - b)?.abs()?.max_all()?.to_scalar()?;
            assert!(apart < 1e-12, "{name}: {apart:e}");
        }
        assert!(Stack::default().adapter()?.is_none());
        Ok(())
    }
}
