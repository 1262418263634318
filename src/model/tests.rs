//! The whole network against candle's autograd, and the promises of forward and backward.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use candle_core::backprop::GradStore;
use candle_core::{D, DType, Device, Tensor, Var};

use super::arch::llama::Config;
use super::nn::rope_scaling::{Longrope, RopeScaling, Yarn};
use super::testing::{adapter, config, model, weights, with};
use super::{Adapter, GradRequest, Gradients, MergeMode, Model, ParamId, Tokens};
use crate::error;
use crate::ops::activation::Activation;
use crate::ops::attention::Segment;
use crate::ops::linear::UnmergedDelta;

/// Two sequences of 5 and 4 tokens; all but the first of each predicted, one masked.
fn batch() -> (Tokens, Vec<usize>, Vec<u32>) {
    let ids = vec![3, 1, 4, 1, 5, 9, 2, 6, 5];
    let rows = vec![0, 1, 3, 5, 6, 7];
    let targets = rows.iter().map(|&r| ids[r + 1]).collect();
    (Tokens::sequences(ids, &[0, 5, 9]), rows, targets)
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// The network written once more with candle's differentiable ops alone.
struct Oracle<'a> {
    config: &'a Config,
    vars: BTreeMap<String, Var>,
    pairs: BTreeMap<String, (Var, Var, f64)>,
}

impl Oracle<'_> {
    fn var(&self, name: &str) -> &Tensor {
        self.vars[name].as_tensor()
    }

    fn norm(&self, x: &Tensor, name: &str) -> candle_core::Result<Tensor> {
        let w = self.var(&format!("{name}.weight"));
        let square = (x.sqr()?.mean_keepdim(D::Minus1)? + self.config.rms_norm_eps)?;
        x.broadcast_div(&square.sqrt()?)?.broadcast_mul(w)
    }

    fn linear(&self, x: &Tensor, layer: usize, path: &str) -> candle_core::Result<Tensor> {
        let name = format!("model.layers.{layer}.{path}");
        let mut y = x.matmul(&self.var(&format!("{name}.weight")).t()?)?;
        if let Some(bias) = self.vars.get(&format!("{name}.bias")) {
            y = y.broadcast_add(bias.as_tensor())?;
        }
        if let Some((a, b, scale)) = self.pairs.get(&name) {
            y = (y + (x.matmul(&a.t()?)?.matmul(&b.t()?)? * *scale)?)?;
        }
        Ok(y)
    }

    fn rotate(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (n, _, e) = x.dims3()?;
        let frequencies = self.config.rope_scaling.inv_freq(self.config.rope_theta, e, n);
        let angle: Vec<f64> =
            (0..n).flat_map(|p| frequencies.iter().map(move |f| p as f64 * f)).collect();
        let angle = Tensor::from_vec(angle, (n, 1, e / 2), &Device::Cpu)?;
        let scale = self.config.rope_scaling.attention();
        let (a, b) = (x.narrow(2, 0, e / 2)?, x.narrow(2, e / 2, e / 2)?);
        let (cos, sin) = ((angle.cos()? * scale)?, (angle.sin()? * scale)?);
        let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
        Tensor::cat(&[first, second], 2)
    }

    /// What is added to scores [n, n]: of keys that a query does not see, almost -∞.
    fn mask(&self, layer: usize, n: usize) -> candle_core::Result<Tensor> {
        let window = self.config.windows.get(layer).copied().flatten();
        let far = |i: usize, j: usize| window.is_some_and(|window| i - j >= window);
        let hidden = |i: usize, j: usize| if j > i || far(i, j) { -1e30 } else { 0.0 };
        let mask: Vec<f64> = (0..n).flat_map(|i| (0..n).map(move |j| hidden(i, j))).collect();
        Tensor::from_vec(mask, (n, n), &Device::Cpu)
    }

    fn attention(&self, x: &Tensor, layer: usize) -> candle_core::Result<Tensor> {
        let c = self.config;
        let (n, e) = (x.dim(0)?, c.head_dim);
        let (heads, groups) = (c.num_attention_heads, c.num_key_value_heads);
        let mut q = self.linear(x, layer, "self_attn.q_proj")?.reshape((n, heads, e))?;
        let mut k = self.linear(x, layer, "self_attn.k_proj")?.reshape((n, groups, e))?;
        let v = self.linear(x, layer, "self_attn.v_proj")?.reshape((n, groups, e))?;
        if c.qk_norm {
            q = self.norm(&q, &format!("model.layers.{layer}.self_attn.q_norm"))?;
            k = self.norm(&k, &format!("model.layers.{layer}.self_attn.k_norm"))?;
        }
        let repeat = |t: Tensor| {
            t.unsqueeze(2)?
                .repeat((1, 1, heads / groups, 1))?
                .reshape((n, heads, e))?
                .transpose(0, 1)?
                .contiguous()
        };
        let q = self.rotate(&q)?.transpose(0, 1)?.contiguous()?;
        let (k, v) = (repeat(self.rotate(&k)?)?, repeat(v)?);
        let z = (q.matmul(&k.t()?)? / (e as f64).sqrt())?.broadcast_add(&self.mask(layer, n)?)?;
        let e_z = z.broadcast_sub(&z.max_keepdim(D::Minus1)?.detach())?.exp()?;
        let o = e_z.broadcast_div(&e_z.sum_keepdim(D::Minus1)?)?.matmul(&v)?;
        let o = o.transpose(0, 1)?.contiguous()?.reshape((n, heads * e))?;
        self.linear(&o, layer, "self_attn.o_proj")
    }

    fn activate(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self.config.hidden_act {
            Activation::Silu => x / (x.neg()?.exp()? + 1.0)?,
            Activation::Relu => x.relu(),
            // candle's own gradient of gelu_erf is good to 1e-6 only.
            _ => x * (((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)? * 0.5)?,
        }
    }

    /// The last block's output of one sequence.
    fn hidden(&self, ids: &[u32]) -> candle_core::Result<Tensor> {
        let mut x = self.var(EMBEDDING).index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?;
        for layer in 0..self.config.common.num_hidden_layers {
            let norm =
                |x: &Tensor, name: &str| self.norm(x, &format!("model.layers.{layer}.{name}"));
            let n1 = norm(&x, "input_layernorm")?;
            x = (&x + self.attention(&n1, layer)?)?;
            let n2 = norm(&x, "post_attention_layernorm")?;
            let up = self.linear(&n2, layer, "mlp.up_proj")?;
            let h = (self.activate(&self.linear(&n2, layer, "mlp.gate_proj")?)? * up)?;
            x = (&x + self.linear(&h, layer, "mlp.down_proj")?)?;
        }
        Ok(x)
    }

    fn loss(
        &self,
        ids: &[u32],
        starts: &[usize],
        rows: &[usize],
        targets: &[u32],
        weight: f64,
    ) -> candle_core::Result<Tensor> {
        let parts = starts
            .windows(2)
            .map(|w| self.hidden(&ids[w[0]..w[1]]))
            .collect::<candle_core::Result<Vec<_>>>()?;
        let index: Vec<u32> = rows.iter().map(|&r| r as u32).collect();
        let h = self.norm(
            &Tensor::cat(&parts, 0)?.index_select(&Tensor::new(index, &Device::Cpu)?, 0)?,
            "model.norm",
        )?;
        let head = self.var(if self.config.common.tie_word_embeddings { EMBEDDING } else { HEAD });
        let z = h.matmul(&head.t()?)?;
        let lse = z.exp()?.sum_keepdim(1)?.log()?;
        (lse - z.gather(&Tensor::new(targets, &Device::Cpu)?.unsqueeze(1)?, 1)?)?.sum_all()?
            * weight
    }

    /// Checks gradients against autograd's `truth`.
    fn check(&self, got: &Gradients, truth: &GradStore) -> Result<()> {
        let of = |var: &Var| truth.get(var.as_tensor()).context("autograd has no gradient");
        let (full, pairs) = (got.full.len(), got.pairs.len());
        ensure!(full == self.vars.len(), "{full} dense gradients, not {}", self.vars.len());
        for (id, gradient) in &got.full {
            close(&id.name, gradient, of(&self.vars[&id.name])?, 1e-8)?;
        }
        ensure!(pairs == self.pairs.len(), "{pairs} pairs, not {}", self.pairs.len());
        for (linear, (da, db)) in &got.pairs {
            let (a, b, _) = &self.pairs[&linear.name];
            close(&format!("{linear:?} A"), da, of(a)?, 1e-8)?;
            close(&format!("{linear:?} B"), db, of(b)?, 1e-8)?;
        }
        Ok(())
    }
}

fn oracle<'a>(config: &'a Config, adapter: &Adapter) -> Result<Oracle<'a>> {
    let vars = weights(config)?
        .0
        .into_iter()
        .map(|(n, t)| Ok((n, Var::from_tensor(&t)?)))
        .collect::<Result<_>>()?;
    let pair = |p: &crate::ops::linear::LoraPair| -> Result<_> {
        Ok((Var::from_tensor(&p.a)?, Var::from_tensor(&p.b)?, p.scale))
    };
    let pairs = adapter
        .pairs()
        .iter()
        .map(|(linear, p)| Ok((linear.name.clone(), pair(p)?)))
        .collect::<Result<_>>()?;
    Ok(Oracle { config, vars, pairs })
}

fn close(name: &str, got: &Tensor, want: &Tensor, bound: f64) -> Result<()> {
    ensure!(got.dims() == want.dims(), "{name}: {:?} is not {:?}", got.dims(), want.dims());
    let worst = (got.to_dtype(DType::F64)? - want.to_dtype(DType::F64)?)?
        .abs()?
        .flatten_all()?
        .max(0)?
        .to_scalar::<f64>()?;
    ensure!(worst < bound, "{name} is off by {worst:e}");
    Ok(())
}

fn variants() -> Vec<(&'static str, Config)> {
    let yarn =
        Yarn { factor: 4.0, original: 3.0, attention: 1.2, fast: 32.0, slow: 1.0, truncate: true };
    let longrope =
        Longrope { short: vec![1.0, 2.0], long: vec![3.0, 5.0], original: 4.0, attention: 1.1 };
    let windows = vec![Some(3), None, Some(2)];
    vec![
        ("llama", config()),
        ("tied", with(|c| c.common.tie_word_embeddings = true)),
        ("biases of q, k and v", with(|c| c.qkv_bias = true)),
        ("q and k norms", with(|c| c.qk_norm = true)),
        ("windows in some layers", with(|c| c.windows = windows)),
        ("yarn", with(|c| c.rope_scaling = RopeScaling::Yarn(yarn))),
        ("dynamic", with(|c| c.rope_scaling = RopeScaling::Dynamic { factor: 2.0, original: 4 })),
        ("longrope", with(|c| c.rope_scaling = RopeScaling::Longrope(longrope))),
        ("all biases", with(|c| (c.qkv_bias, c.o_bias, c.mlp_bias) = (true, true, true))),
        ("relu", with(|c| c.hidden_act = Activation::Relu)),
        ("gelu", with(|c| c.hidden_act = Activation::Gelu)),
    ]
}

#[test]
fn all_gradients_agree_with_autograd() -> Result<()> {
    for (variant, config) in variants() {
        agrees_with_autograd(&config).context(variant)?;
    }
    Ok(())
}

fn agrees_with_autograd(config: &Config) -> Result<()> {
    let model = model(config, DType::F64)?;
    let adapter = adapter(&model, &[0, 2], false)?;
    let oracle = oracle(config, &adapter)?;
    let (tokens, rows, targets) = batch();
    let weight = 1.0 / rows.len() as f64;
    let truth = oracle.loss(&tokens.ids, &[0, 5, 9], &rows, &targets, weight)?;
    let full: BTreeSet<ParamId> = model.params().map(|(id, _)| id.clone()).collect();
    let request = GradRequest { adapter: &adapter, full: &full, gradient_checkpointing: false };
    let (nll, gradients) = model.gradients(&tokens, &rows, &targets, weight, &request)?;
    let loss = nll.iter().sum::<f64>() * weight;
    ensure!((loss - truth.to_scalar::<f64>()?).abs() < 1e-10, "loss {loss}");
    oracle.check(&gradients, &truth.backward()?)
}

fn norm(t: &Tensor) -> Result<f64> {
    Ok(t.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt())
}

/// Losses of the batch, and the gradients of an adapter's pairs.
fn pair_gradients(model: &Model, adapter: &Adapter) -> Result<(Vec<f64>, Gradients)> {
    let (tokens, rows, targets) = batch();
    let full = &BTreeSet::new();
    let request = GradRequest { adapter, full, gradient_checkpointing: false };
    model.gradients(&tokens, &rows, &targets, 1.0, &request)
}

#[test]
fn every_choice_of_layers_trains_exactly_its_factors() -> Result<()> {
    for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
        let model = model(&config(), dtype)?;
        for choice in 1..1usize << model.layers() {
            let layers: Vec<usize> = (0..model.layers()).filter(|l| choice >> l & 1 == 1).collect();
            for zero_b in [false, true] {
                let adapter = adapter(&model, &layers, zero_b)?;
                let (_, g) = pair_gradients(&model, &adapter)?;
                ensure!(
                    g.full.is_empty() && g.pairs.keys().eq(adapter.pairs().keys()),
                    "{layers:?}: other gradients than asked for"
                );
                for (key, (da, db)) in &g.pairs {
                    ensure!(norm(db)? > 0.0, "{layers:?} {key:?}: dB is zero");
                    let zero_da = norm(da)? == 0.0;
                    ensure!(zero_da == zero_b, "{layers:?} {key:?}: zero dA {zero_da}, B {zero_b}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn one_target_alone_gets_the_gradient_it_gets_among_all() -> Result<()> {
    let model = model(&config(), DType::F64)?;
    let everything = adapter(&model, &[1], true)?;
    let (_, all) = pair_gradients(&model, &everything)?;
    for (linear, pair) in everything.pairs() {
        let alone = Adapter::of_pairs([(linear.clone(), pair.clone())].into());
        let (_, g) = pair_gradients(&model, &alone)?;
        close(linear.target, &g.pairs[linear].1, &all.pairs[linear].1, 1e-12)?;
    }
    Ok(())
}

#[test]
fn recomputing_changes_no_bit() -> Result<()> {
    let model = model(&config(), DType::F32)?;
    let adapter = adapter(&model, &[0, 1], false)?;
    let (tokens, rows, targets) = batch();
    let norm = model.param("model.layers.1.input_layernorm.weight").unwrap();
    let full = BTreeSet::from([norm.clone()]);
    let run = |gradient_checkpointing| {
        model.gradients(
            &tokens,
            &rows,
            &targets,
            0.1,
            &GradRequest { adapter: &adapter, full: &full, gradient_checkpointing },
        )
    };
    let ((nll, kept), (nll_again, formed)) = (run(false)?, run(true)?);
    assert_eq!(nll, nll_again);
    for (key, (a, b)) in &kept.pairs {
        assert_eq!(a.to_vec2::<f32>()?, formed.pairs[key].0.to_vec2::<f32>()?);
        assert_eq!(b.to_vec2::<f32>()?, formed.pairs[key].1.to_vec2::<f32>()?);
    }
    assert_eq!(kept.full.keys().collect::<Vec<_>>(), formed.full.keys().collect::<Vec<_>>());
    Ok(())
}

#[test]
fn a_merge_is_what_the_adapter_was() -> Result<()> {
    for (dtype, bound) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
        let mut model = model(&config(), dtype)?;
        let adapter = adapter(&model, &[0, 2], false)?;
        let (tokens, rows, targets) = batch();
        let before = model.nll(&tokens, &rows, &targets, &adapter)?;
        model.merge(&adapter, 1.0)?;
        let after = model.nll(&tokens, &rows, &targets, &Adapter::default())?;
        for (a, b) in before.iter().zip(&after) {
            ensure!((a - b).abs() < bound, "{dtype:?}: {a} became {b}");
        }
    }
    Ok(())
}

/// Some boosters merged into the weights of a model, and stacked beside those of another.
fn merged_and_stacked() -> Result<(Model, Model)> {
    let (mut merged, mut stacked) = (model(&config(), DType::F64)?, model(&config(), DType::F64)?);
    stacked.set_merge_mode(MergeMode::None);
    for (layers, eta) in [(&[0usize, 2][..], 0.3), (&[2], -0.5), (&[1, 2], 1.0)] {
        let adapter = adapter(&merged, layers, false)?;
        merged.merge(&adapter, eta)?;
        stacked.merge(&adapter, eta)?;
    }
    Ok((merged, stacked))
}

/// Checks that both models have the same losses and gradients under an adapter.
fn alike(merged: &Model, stacked: &Model, trained: &Adapter) -> Result<()> {
    let (want, wanted) = pair_gradients(merged, trained)?;
    let (nll, g) = pair_gradients(stacked, trained)?;
    ensure!(nll.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-10), "{nll:?}, not {want:?}");
    for (key, (a, b)) in &g.pairs {
        close("dA", a, &wanted.pairs[key].0, 1e-9)?;
        close("dB", b, &wanted.pairs[key].1, 1e-9)?;
    }
    Ok(())
}

/// One more booster for both models: what lies beside the weights is in digests and in sums.
fn one_more(merged: &mut Model, stacked: &mut Model, adapter: &Adapter, eta: f64) -> Result<()> {
    let before = stacked.digest()?;
    stacked.merge(adapter, eta)?;
    ensure!(before != stacked.digest()?, "what lies beside the weights is in no digest");
    merged.merge(adapter, eta)?;
    for ((id, sum), (_, want)) in stacked.summed()?.iter().zip(merged.params()) {
        close(&id.name, sum, want, 1e-12)?;
    }
    Ok(())
}

#[test]
fn factors_beside_the_weights_are_what_a_merge_gives() -> Result<()> {
    let (mut merged, mut stacked) = merged_and_stacked()?;
    let unchanged = model(&config(), DType::F64)?;
    for ((id, tensor), (_, before)) in stacked.params().zip(unchanged.params()) {
        close(&id.name, tensor, before, 1e-300)?;
    }
    let trained = adapter(&merged, &[0, 1], false)?;
    alike(&merged, &stacked, &trained)?;
    one_more(&mut merged, &mut stacked, &trained, 1.0)
}

/// Factors that would hold more numbers than their sum become that sum, and nothing else changes.
#[test]
fn factors_beside_the_weights_become_their_sum() -> Result<()> {
    let (mut merged, mut stacked) = merged_and_stacked()?;
    let trained = adapter(&merged, &[0, 1], false)?;
    let factors = |model: &Model| {
        let unmerged = model.params.all_unmerged().filter(|(linear, _)| linear.layer < 2);
        unmerged.filter(|(_, unmerged)| matches!(unmerged, UnmergedDelta::Factors(_))).count()
    };
    ensure!(factors(&stacked) == trained.pairs().len());
    for eta in (0..40).map(|i| 0.01 * f64::from(i)) {
        merged.merge(&trained, eta)?;
        stacked.merge(&trained, eta)?;
    }
    ensure!(factors(&stacked) == 0);
    alike(&merged, &stacked, &trained)?;
    one_more(&mut merged, &mut stacked, &trained, 1e-6)
}

#[test]
fn whole_tensors_are_refused_beside_the_weights() -> Result<()> {
    let (_, mut stacked) = merged_and_stacked()?;
    let norm = stacked.network.norm.as_ref().map(|norm| norm.weight.clone()).unwrap();
    let tensor = stacked.params.tensor(&norm).clone();
    let error = stacked.merge(&Adapter::of_full([(norm, tensor)].into()), 1.0).unwrap_err();
    ensure!(error::class_of(&error) == error::Class::Usage, "{error}");
    Ok(())
}

#[test]
fn sums_beside_weights_of_every_type() -> Result<()> {
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        let mut want = assemble_rounded(dtype, DType::F64)?;
        let mut stacked = model(&config(), dtype)?;
        stacked.set_merge_mode(MergeMode::None);
        let small = adapter(&stacked, &[0, 2], false)?;
        for i in 0..40 {
            stacked.merge(&small, 0.002 * f64::from(i))?;
            want.merge(&small, 0.002 * f64::from(i))?;
        }
        let is_sum = |unmerged: &UnmergedDelta| matches!(unmerged, UnmergedDelta::Sum(_));
        ensure!(stacked.params.all_unmerged().all(|(_, unmerged)| is_sum(unmerged)));
        for ((id, sum), (_, want)) in stacked.summed()?.iter().zip(want.params()) {
            if id.linear().is_some() {
                close(&id.name, &sum.to_dtype(DType::F64)?, &want.to_dtype(DType::F64)?, 1e-5)?;
            }
        }
    }
    Ok(())
}

#[test]
fn sixteen_bit_merges_keep_what_rounding_would_lose() -> Result<()> {
    [DType::BF16, DType::F16].into_iter().try_for_each(many_small_merges)
}

fn many_small_merges(dtype: DType) -> Result<()> {
    let mut rounded = model(&config(), dtype)?;
    let mut exact = assemble_rounded(dtype, DType::F64)?;
    let small = adapter(&rounded, &[1], false)?;
    for _ in 0..400 {
        rounded.merge(&small, 1e-5)?;
        exact.merge(&small, 1e-5)?;
    }
    for ((id, got), (_, want)) in rounded.params().zip(exact.params()) {
        if id.linear().is_some() {
            let name = &id.name;
            let want = want.to_dtype(dtype)?;
            let same = got.eq(&want)?.to_dtype(DType::F32)?.mean_all()?.to_scalar::<f32>()?;
            ensure!(same == 1.0, "{name}: only {same} of the entries are the rounded sum");
        }
    }
    Ok(())
}

/// The wider model whose weights are those of a 16-bit type.
fn assemble_rounded(dtype: DType, wide: DType) -> Result<Model> {
    let mut source = weights(&config())?;
    for tensor in source.0.values_mut() {
        *tensor = tensor.to_dtype(dtype)?.to_dtype(DType::F64)?;
    }
    super::load::assemble(Box::new(config()), &source, &Device::Cpu, wide)
}

#[test]
fn a_cache_goes_on_where_the_whole_sequence_would_be() -> Result<()> {
    for windows in [vec![], vec![Some(3); 3], vec![None, Some(3), Some(2)]] {
        let model = model(&with(|c| c.windows.clone_from(&windows)), DType::F64)?;
        let ids = [3u32, 1, 4, 1, 5, 9, 2];
        let adapter = adapter(&model, &[1], false)?;
        let mut cache = model.cache(8)?;
        let mut at = 0;
        for part in [&ids[..3], &ids[3..4], &ids[4..7]] {
            let places: Vec<usize> = (at..at + part.len()).map(|i| i + 1).collect();
            let segment = Segment {
                queries: 0..part.len(),
                prefix_keys: 1..1,
                self_keys: 1..1 + at + part.len(),
            };
            let positions = (at..at + part.len()).map(|p| p as u32).collect();
            at += part.len();
            let tokens =
                Tokens { ids: part.to_vec(), positions, types: vec![], segments: vec![segment] };
            let stepped = model.step(&tokens, &places, &mut cache, &[part.len() - 1], &adapter)?;
            let whole = model.logits(&Tokens::one(ids[..at].to_vec()), &[at - 1], &adapter)?;
            close(&format!("windows {windows:?}, {at} tokens"), &stepped, &whole, 1e-12)?;
        }
    }
    Ok(())
}

#[test]
fn continuations_share_their_prompt() -> Result<()> {
    let model = model(&config(), DType::F32)?;
    let (prompt, choices) = (vec![3u32, 1, 4], vec![vec![1u32, 5], vec![9u32, 2, 6]]);
    let none = Adapter::default();
    let shared = Tokens::shared_prompt(&prompt, &choices);
    let got = model.nll(&shared, &[2, 3, 2, 5, 6], &[1, 5, 9, 2, 6], &none)?;
    let mut want = vec![];
    for choice in &choices {
        let ids: Vec<u32> = prompt.iter().chain(choice).copied().collect();
        let rows: Vec<usize> = (prompt.len() - 1..ids.len() - 1).collect();
        want.extend(model.nll(&Tokens::one(ids), &rows, choice, &none)?);
    }
    for (a, b) in got.iter().zip(&want) {
        ensure!((a - b).abs() < 1e-5, "{got:?} is not {want:?}");
    }
    Ok(())
}

#[test]
fn a_token_beyond_the_vocabulary_is_named() -> Result<()> {
    let model = model(&config(), DType::F32)?;
    let tokens = Tokens::one(vec![1, 13]);
    let error = model.logits(&tokens, &[0], &Adapter::default()).err().map(|e| e.to_string());
    assert_eq!(
        error.as_deref(),
        Some("token id 13 at position 1 is beyond the model's vocabulary of 13")
    );
    Ok(())
}
