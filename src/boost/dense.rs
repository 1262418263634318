//! Dense boosters: whole tensors of chosen layers, embedding, norms and head, as LISA (Pan et al.
//! 2024), BAdam (Luo et al. 2024) and full fine-tuning train them.

use std::collections::BTreeSet;

use anyhow::Result;

use super::chosen::{layers_of, targets_of};
use crate::error::{Error, bail, error};
use crate::model::{Model, ParamId, ParamKind};

/// What a dense booster is to train beside linear modules.
#[derive(Clone, Copy, Debug, Default)]
pub struct DenseParts {
    /// The token embedding, which may serve as head too, and learned positions.
    pub embedding: bool,
    /// All norms of the chosen layers, and the final norm.
    pub norms: bool,
    /// The head, where it is not the embedding.
    pub head: bool,
}

impl DenseParts {
    fn any(self) -> bool {
        self.embedding || self.norms || self.head
    }

    /// Errors (class usage): a head that is the embedding.
    fn check(self, model: &Model) -> Result<(), Error> {
        if self.head && model.tied() {
            return Err(error!(
                Usage,
                "the model has no head of its own: its embedding serves as head";
                hint: "`embedding: true` trains it for both"
            ));
        }
        Ok(())
    }
}

/// What a dense booster is to be.
#[derive(Clone, Debug)]
pub struct DenseSpec {
    /// The parameters that it trains.
    pub(super) params: BTreeSet<ParamId>,
}

impl DenseSpec {
    /// All tensors of the head alone, which a booster of low rank trains beside its factors. Errors
    /// (class usage): a language model, whose head is none of a task.
    pub fn head(model: &Model) -> Result<Self> {
        let params: BTreeSet<ParamId> = model.head_params().into_iter().collect();
        if params.is_empty() {
            return Err(error!(
                Usage,
                "`head: true` of a booster of low rank trains the head of a classifier, which the \
                 model does not have";
                hint: "`model.head(#{{ labels: [\"no\", \"yes\"] }})` gives it one"
            )
            .into());
        }
        Ok(Self { params })
    }

    /// Weights, and biases where there are some, of `targets` (all, where none is named) in
    /// `layers`, and `parts`.
    ///
    /// Errors (class usage): a layer or target that the model does not have, one named twice,
    /// nothing to train, targets without a layer, a head that is the embedding.
    pub fn new(
        model: &Model,
        layers: &[usize],
        targets: &[String],
        parts: DenseParts,
    ) -> Result<Self> {
        let named = !targets.is_empty();
        let (layers, targets) = (layers_of(model, layers)?, targets_of(model, targets)?);
        if layers.is_empty() && named {
            bail!(Usage, "`targets` are named, but no layer in `layers`");
        }
        if layers.is_empty() && !parts.any() {
            bail!(
                Usage,
                "a dense booster has nothing to train";
                hint: "name `layers`, `embedding`, `norms` or `head`"
            );
        }
        parts.check(model)?;
        let chosen = |id: &ParamId| id.layer.is_some_and(|layer| layers.contains(&layer));
        let wanted = |id: &ParamId| match &id.kind {
            ParamKind::Embedding | ParamKind::PositionEmbedding | ParamKind::EmbeddingNorm => {
                parts.embedding
            }
            ParamKind::Head | ParamKind::TaskHead => parts.head,
            ParamKind::Unread => false,
            ParamKind::NormWeight | ParamKind::NormBias => {
                parts.norms && (id.layer.is_none() || chosen(id))
            }
            ParamKind::Weight(linear) | ParamKind::Bias(linear) => {
                chosen(id) && targets.contains(&linear.target)
            }
        };
        let params = model.params().map(|(id, _)| id).filter(|id| wanted(id)).cloned().collect();
        Ok(Self { params })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use candle_core::{DType, Tensor};

    use super::*;
    use crate::boost::testing::{self as shared, ALL_PARTS, gradients};
    use crate::boost::{Booster, BoosterKind};
    use crate::data::{Batch, Example};
    use crate::model::{Adapter, Tokens, testing};
    use crate::train::optim::{AdamW, Sgd};
    use crate::train::{FitOptions, OptimizerKind};

    fn targets(names: &[&str]) -> Vec<String> {
        names.iter().map(|t| t.to_string()).collect()
    }

    fn examples() -> Vec<Example> {
        shared::examples(&[&[3, 1, 4, 1, 5], &[9, 2, 6, 5]])
    }

    fn batch() -> Result<Batch> {
        Batch::pack(&examples().iter().collect::<Vec<_>>())
    }

    fn nll(model: &Model, adapter: &Adapter) -> Result<Vec<f64>> {
        let batch = batch()?;
        let tokens = Tokens::sequences(batch.ids.clone(), &batch.starts);
        model.nll(&tokens, &batch.rows, &batch.targets, adapter)
    }

    fn options(optimizer: impl Into<OptimizerKind>, steps: usize) -> FitOptions {
        FitOptions { batch: 2, ..FitOptions::new(steps, optimizer, 0.1) }
    }

    fn fit(booster: &mut Booster, model: &Model, options: &FitOptions) -> Result<()> {
        let mut feed = shared::feed(examples())?;
        booster.fit(model, &mut feed, options).try_for_each(|r| r.map(drop))
    }

    fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
        Ok(tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
    }

    fn all(model: &Model) -> Result<BTreeMap<ParamId, Vec<f64>>> {
        model.params().map(|(id, t)| Ok((id.clone(), numbers(t)?))).collect()
    }

    const SGD: OptimizerKind = OptimizerKind::Sgd(Sgd { momentum: 0.0, weight_decay: 0.0 });

    #[test]
    fn exactly_what_is_asked_for_is_trained() -> Result<()> {
        let biased = testing::with(|c| (c.qkv_bias, c.qk_norm) = (true, true));
        let model = testing::model(&biased, DType::F64)?;
        let spec = |layers: &[usize], roles: &[&str], parts| -> Result<Vec<String>> {
            let spec = DenseSpec::new(&model, layers, &targets(roles), parts)?;
            Ok(spec.params.iter().map(|id| id.name.clone()).collect())
        };
        let none = DenseParts::default();
        assert_eq!(
            spec(&[1], &["q_proj", "down_proj"], none)?,
            [
                "model.layers.1.mlp.down_proj.weight",
                "model.layers.1.self_attn.q_proj.bias",
                "model.layers.1.self_attn.q_proj.weight"
            ]
        );
        assert_eq!(
            spec(&[], &[], DenseParts { norms: false, ..ALL_PARTS })?,
            ["lm_head.weight", "model.embed_tokens.weight"]
        );
        let norms = DenseParts { norms: true, ..none };
        assert_eq!(spec(&[], &[], norms)?, ["model.norm.weight"]);
        assert_eq!(spec(&[0], &[], norms)?.len(), 7 + 3 + 4 + 1);
        assert_eq!(spec(&[0, 1, 2], &[], ALL_PARTS)?.len(), model.params().count());
        Ok(())
    }

    #[test]
    fn wrong_wishes_are_refused() -> Result<()> {
        let tied =
            testing::model(&testing::with(|c| c.common.tie_word_embeddings = true), DType::F32)?;
        let said = |layers: &[usize], roles: &[&str], parts| {
            shared::said(DenseSpec::new(&tied, layers, &targets(roles), parts))
        };
        let none = DenseParts::default();
        let (message, hint) = said(&[0], &[], DenseParts { head: true, ..none });
        assert_eq!(message, "the model has no head of its own: its embedding serves as head");
        assert_eq!(hint, "`embedding: true` trains it for both");
        let (message, hint) = said(&[], &[], none);
        assert_eq!(message, "a dense booster has nothing to train");
        assert_eq!(hint, "name `layers`, `embedding`, `norms` or `head`");
        assert_eq!(
            said(&[], &["q_proj"], DenseParts { norms: true, ..none }).0,
            "`targets` are named, but no layer in `layers`"
        );
        assert_eq!(said(&[7], &[], none).0, "layer 7 does not exist");
        assert_eq!(
            said(&[0], &["q_poj"], none).0,
            "unknown target at `targets[0]`: `q_poj`; did you mean `q_proj`?"
        );
        Ok(())
    }

    /// Models, what is to be trained of each, and its layers.
    fn wishes() -> Result<Vec<(Model, DenseSpec, Vec<usize>)>> {
        let none = DenseParts::default();
        let wishes: [(bool, &[usize], &[&str], DenseParts); 3] = [
            (true, &[1], &[], DenseParts { head: false, ..ALL_PARTS }),
            (false, &[0, 2], &["v_proj", "up_proj"], DenseParts { head: true, ..none }),
            (false, &[], &[], DenseParts { norms: true, ..none }),
        ];
        let made = wishes.map(|(tied, layers, roles, parts)| {
            let config =
                testing::with(|c| (c.common.tie_word_embeddings, c.qkv_bias) = (tied, true));
            let model = testing::model(&config, DType::F64)?;
            let spec = DenseSpec::new(&model, layers, &targets(roles), parts)?;
            Ok((model, spec, layers.to_vec()))
        });
        made.into_iter().collect()
    }

    /// A step of plain descent against gradients that `model::tests` holds against autograd.
    #[test]
    fn a_step_moves_what_was_asked_for_along_its_gradient() -> Result<()> {
        for (model, spec, layers) in wishes()? {
            let before = all(&model)?;
            let mut booster = Booster::dense(&model, &spec)?;
            assert_eq!((booster.kind(), booster.layers()), (BoosterKind::FullRank, layers));
            let (_, gradients) = gradients(&model, &batch()?, &Adapter::default(), &spec.params)?;
            fit(&mut booster, &model, &options(SGD, 1))?;
            assert_eq!(all(&model)?, before, "a booster lies over unchanged weights");
            let trained = booster.adapter.full();
            assert!(trained.keys().eq(&spec.params));
            for (name, tensor) in trained {
                let g = numbers(&gradients.full[name])?;
                assert!(g.iter().any(|g| *g != 0.0), "{name}");
                let want = before[name].iter().zip(g).map(|(old, g)| old - 0.1 * g);
                let apart = numbers(tensor)?.into_iter().zip(want).map(|(a, b)| (a - b).abs());
                assert!(apart.fold(0.0, f64::max) < 1e-9, "{name}");
            }
        }
        Ok(())
    }

    /// The whole way is W', half of it is half way, and what nobody asked for keeps its bits.
    #[test]
    fn a_merge_goes_as_far_as_its_step_weight_says() -> Result<()> {
        for eta in [1.0, 0.5] {
            for (mut model, spec, _) in wishes()? {
                let before = all(&model)?;
                let mut booster = Booster::dense(&model, &spec)?;
                fit(&mut booster, &model, &options(SGD, 1))?;
                let over = nll(&model, &booster.adapter)?;
                model.merge(&booster.adapter, eta)?;
                for (name, after) in all(&model)? {
                    let old = &before[&name];
                    let half = |(new, old): (f64, &f64)| old + 0.5 * (new - old);
                    let want = match booster.adapter.full().get(&name) {
                        None => old.clone(),
                        Some(t) if eta == 1.0 => numbers(t)?,
                        Some(t) => numbers(t)?.into_iter().zip(old).map(half).collect(),
                    };
                    assert_eq!(after, want, "{name}");
                }
                if eta == 1.0 {
                    assert_eq!(nll(&model, &Adapter::default())?, over);
                }
            }
        }
        Ok(())
    }

    /// The network with the adapter's tensors has the gradients of the network into which they were
    /// merged.
    #[test]
    fn gradients_are_those_of_the_merged_model() -> Result<()> {
        for tied in [true, false] {
            let config = testing::with(|c| {
                (c.common.tie_word_embeddings, c.qkv_bias, c.qk_norm) = (tied, true, true);
            });
            let mut model = testing::model(&config, DType::F64)?;
            let parts = DenseParts { head: !tied, ..ALL_PARTS };
            let spec = DenseSpec::new(&model, &[0, 1, 2], &[], parts)?;
            let mut booster = Booster::dense(&model, &spec)?;
            fit(&mut booster, &model, &options(SGD, 2))?;
            let run = |model: &Model, adapter: &Adapter| {
                gradients(model, &batch()?, adapter, &spec.params)
            };
            let (over_nll, over) = run(&model, &booster.adapter)?;
            model.merge(&booster.adapter, 1.0)?;
            let (merged_nll, merged) = run(&model, &Adapter::default())?;
            assert_eq!(over_nll, merged_nll);
            for (name, gradient) in &merged.full {
                assert_eq!(numbers(gradient)?, numbers(&over.full[name])?, "{name}");
            }
        }
        Ok(())
    }

    /// Weight decay without a gradient to speak of: W shrinks by 1 − lr·decay a step, as PyTorch's
    /// decoupled decay.
    #[test]
    fn adamw_decays_whole_tensors_and_the_penalty_pulls_them_back() -> Result<()> {
        let model = testing::model(&testing::config(), DType::F64)?;
        let spec = DenseSpec::new(&model, &[1], &targets(&["o_proj"]), DenseParts::default())?;
        let name = model.param("model.layers.1.self_attn.o_proj.weight").unwrap();
        let trained = |optimizer, l2, steps| -> Result<Vec<f64>> {
            let mut booster = Booster::dense(&model, &spec)?;
            fit(&mut booster, &model, &FitOptions { l2, ..options(optimizer, steps) })?;
            numbers(&booster.adapter.full()[name])
        };
        let adamw = |weight_decay| {
            OptimizerKind::from(AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay })
        };
        let base = all(&model)?.remove(name).unwrap_or_default();
        let (plain, decayed) = (trained(adamw(0.0), 0.0, 1)?, trained(adamw(0.5), 0.0, 1)?);
        for ((base, plain), decayed) in base.iter().zip(&plain).zip(&decayed) {
            assert!((decayed - (plain - 0.1 * 0.5 * base)).abs() < 1e-12);
        }
        // The first step begins at W itself, where the penalty is flat.
        assert_eq!(trained(SGD, 0.7, 1)?, trained(SGD, 0.0, 1)?);
        let moved = |numbers: Vec<f64>| {
            numbers.iter().zip(&base).map(|(a, b)| (a - b).powi(2)).sum::<f64>()
        };
        assert!(moved(trained(SGD, 5.0, 4)?) < 0.8 * moved(trained(SGD, 0.0, 4)?));
        Ok(())
    }

    /// In 16 bits: the sum behind every kind of tensor is kept, so that many small merges add up.
    #[test]
    fn merges_into_16_bits_keep_their_sum() -> Result<()> {
        [DType::BF16, DType::F16].into_iter().try_for_each(merge_often)
    }

    fn merge_often(dtype: DType) -> Result<()> {
        let mut model = testing::model(&testing::config(), dtype)?;
        let spec = DenseSpec::new(&model, &[1], &[], ALL_PARTS)?;
        let start = model.copies(&spec.params)?;
        let goal: BTreeMap<ParamId, Tensor> =
            start.iter().map(|(name, t)| Ok((name.clone(), (t + 0.25)?))).collect::<Result<_>>()?;
        let adapter = Adapter::of_full(goal);
        for _ in 0..500 {
            model.merge(&adapter, 1e-3)?;
        }
        let way = 0.25 * (1.0 - 0.999f64.powi(500));
        for (name, sum) in model.copies(&spec.params)? {
            for (got, from) in numbers(&sum)?.iter().zip(numbers(&start[&name])?) {
                assert!((got - from - way).abs() < 1e-4, "{name}: {got} from {from}");
            }
        }
        for (name, tensor) in model.params() {
            if let Some(sum) = model.copies(&spec.params)?.get(name) {
                assert_eq!(
                    numbers(tensor)?,
                    numbers(&sum.to_dtype(dtype)?)?,
                    "{name} is its rounded sum"
                );
            }
        }
        Ok(())
    }
}
