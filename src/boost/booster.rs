//! A booster: rank-r factors on chosen layers × targets (paper §1: r = 1 on a few layers), or whole
//! tensors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};

use super::chosen::{layers_of, linears_of, targets_of, unknown};
use super::dense::DenseSpec;
use super::vectors::orthogonal;
use crate::data::DataLoader;
use crate::error::{Error, bail, error};
use crate::model::{Adapter, LinearId, Model, ParamId, save};
use crate::ops::linear::LoraPair;
use crate::seed::Stream;
use crate::source::{Safetensors, TensorSource};
use crate::train::{Factor, Fit, FitOptions, Optimizer, Trained, TrainingState};

/// How A starts; B starts at 0, so that a new booster changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// U(−1/√in, 1/√in): Kaiming with a = √5, as PEFT and microsoft/LoRA.
    Kaiming,
    /// N(0, 1/r²), PEFT's `gaussian`.
    Gaussian,
    /// Orthogonal rows of length 1/√3, the root mean square length of a Kaiming row.
    Orthogonal,
}

impl Init {
    pub const NAMES: [&str; 3] = ["kaiming", "gaussian", "orthogonal"];

    /// Errors (class usage): another name.
    pub fn from_name(name: &str) -> Result<Self> {
        Ok(match name {
            "kaiming" => Self::Kaiming,
            "gaussian" => Self::Gaussian,
            "orthogonal" => Self::Orthogonal,
            _ => return Err(unknown("init", name, &Self::NAMES).into()),
        })
    }
}

/// Which kind of weak learner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoosterKind {
    /// Factors A and B on chosen linear modules.
    LowRank,
    /// Whole tensors (LISA, BAdam, full fine-tuning); one that was loaded from an adapter may have
    /// factors beside them.
    FullRank,
}

impl BoosterKind {
    pub const NAMES: [&str; 2] = ["low_rank", "dense"];

    /// Errors (class usage): another name.
    pub fn from_name(name: &str) -> Result<Self> {
        Ok(match name {
            "low_rank" => Self::LowRank,
            "dense" => Self::FullRank,
            _ => return Err(unknown("kind", name, &Self::NAMES).into()),
        })
    }

    /// The kind's name in recipes and files.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// What a booster of low rank is to be.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Layers and targets, ascending, each once.
    pub modules: BTreeSet<LinearId>,
    /// r
    pub rank: usize,
    /// α; the scale of the product is α/r.
    pub alpha: f64,
    pub init: Init,
    /// The factor that begins as zero; the other is drawn.
    pub zero: Factor,
}

impl Spec {
    /// Reads names and numbers for a model. Errors (class usage): a layer or target that the model
    /// does not have, one named twice, a rank beyond a target's smaller side.
    pub fn new(
        model: &Model,
        layers: &[usize],
        targets: &[String],
        rank: usize,
        alpha: f64,
        init: Init,
    ) -> Result<Self> {
        let sorted = layers_of(model, layers)?;
        if sorted.is_empty() {
            bail!(Usage, "a booster needs at least one layer in `layers`");
        }
        let modules = linears_of(model, &sorted, &targets_of(model, targets)?);
        Self::over(modules, rank, alpha, init)
    }

    /// Of single modules, each a layer and a target's name. Errors as [`Spec::new`].
    pub fn of_pairs(
        model: &Model,
        pairs: &[(usize, String)],
        rank: usize,
        alpha: f64,
        init: Init,
    ) -> Result<Self> {
        let mut modules = BTreeSet::new();
        for (layer, target) in pairs {
            let layers = layers_of(model, &[*layer])?;
            let targets = targets_of(model, std::slice::from_ref(target))?;
            let count = modules.len();
            modules.extend(linears_of(model, &layers, &targets));
            if modules.len() == count {
                bail!(Usage, "layer {layer} `{target}` is named twice in `pairs`");
            }
        }
        if modules.is_empty() {
            bail!(Usage, "a booster needs at least one pair in `pairs`");
        }
        Self::over(modules, rank, alpha, init)
    }

    fn over(modules: BTreeSet<LinearId>, rank: usize, alpha: f64, init: Init) -> Result<Self> {
        for linear in &modules {
            let (out, inner) = linear.shape();
            if rank == 0 || rank > out.min(inner) {
                bail!(
                    Usage,
                    "`rank` {rank} does not fit `{}` of {out} × {inner}",
                    linear.target;
                    hint: "from 1 to {}",
                    out.min(inner)
                );
            }
        }
        if !(alpha.is_finite() && alpha > 0.0) {
            bail!(Usage, "`alpha` must be above 0, found {alpha}");
        }
        Ok(Self { modules, rank, alpha, init, zero: Factor::B })
    }
}

/// A weak learner over a model.
#[derive(Clone, Debug)]
pub struct Booster {
    pub adapter: Adapter,
    /// Steps so far, and what they brought.
    pub trained: Trained,
    /// With its state, once trained; a booster that is fitted again goes on with it.
    optimizer: Option<Optimizer>,
}

impl Booster {
    /// A fresh booster that changes nothing yet; `stream` is where A is drawn from.
    pub fn new(model: &Model, spec: &Spec, stream: &mut Stream) -> Result<Self> {
        let mut pairs = BTreeMap::new();
        let (rank, dtype, device) = (spec.rank, model.factor_dtype(), model.device());
        let mut drawn = |inner: usize| -> Result<Tensor> {
            let values = initial(spec.init, rank, inner, stream);
            Ok(Tensor::from_vec(values, (rank, inner), &Device::Cpu)?
                .to_dtype(dtype)?
                .to_device(device)?)
        };
        for linear in &spec.modules {
            let (out, inner) = linear.shape();
            let (a, b) = match spec.zero {
                Factor::B => (drawn(inner)?, Tensor::zeros((out, rank), dtype, device)?),
                Factor::A => {
                    (Tensor::zeros((rank, inner), dtype, device)?, drawn(out)?.t()?.contiguous()?)
                }
            };
            pairs.insert(linear.clone(), LoraPair { a, b, scale: spec.alpha / rank as f64 });
        }
        Ok(Self::from_adapter(Adapter::of_pairs(pairs)))
    }

    /// The same booster with whole tensors beside its factors: those of `other`.
    pub fn beside(self, other: &Self) -> Self {
        let pairs = self.adapter.pairs().clone();
        Self::from_adapter(Adapter::new(pairs, other.adapter.full().clone()))
    }

    /// A fresh dense booster: copies of the model's tensors.
    pub fn dense(model: &Model, spec: &DenseSpec) -> Result<Self> {
        Ok(Self::from_adapter(Adapter::of_full(model.copies(&spec.params)?)))
    }

    /// A dense booster without numbers, which takes no memory: it can be looked at, and get its
    /// numbers from a file.
    pub fn meta(model: &Model, spec: &DenseSpec) -> Result<Self> {
        let zero = Tensor::zeros(1, model.factor_dtype(), model.device())?;
        let tensor = |id: &ParamId| Ok((id.clone(), zero.broadcast_as(id.shape.as_slice())?));
        let tensors = spec.params.iter().map(tensor).collect::<Result<_>>()?;
        Ok(Self::from_adapter(Adapter::of_full(tensors)))
    }

    /// A booster from numbers that exist.
    pub fn from_adapter(adapter: Adapter) -> Self {
        Self { adapter, trained: Trained::default(), optimizer: None }
    }

    /// The layers it trains, ascending.
    pub fn layers(&self) -> Vec<usize> {
        self.adapter.layers().into_iter().collect()
    }

    pub fn kind(&self) -> BoosterKind {
        if self.adapter.is_low_rank() { BoosterKind::LowRank } else { BoosterKind::FullRank }
    }

    /// Writes all that is needed to go on training it, to `path`, whole or not at all.
    pub fn save_state(&self, path: &Path) -> Result<String> {
        let (state, tensors) =
            TrainingState::of(&self.adapter, self.trained, self.optimizer.as_ref())?;
        write_state(path, &state, &tensors)
    }

    /// Takes up what was written to `path`. Errors (class data): a file that is missing, damaged or
    /// of another booster.
    pub fn load_state(&mut self, path: &Path) -> Result<()> {
        let damaged = || format!("the booster in training in `{}`", path.display());
        let tensors = Safetensors::open(&[path.to_path_buf()])?;
        let state: Option<TrainingState> =
            tensors.metadata(STATE).and_then(|text| serde_json::from_str(text).ok());
        let state = state
            .ok_or_else(|| error!(Data, "it has no state that can be read"))
            .with_context(damaged)?;
        let (dtype, device) = match self.adapter.tensors().first() {
            Some(t) => (t.dtype(), t.device().clone()),
            None => return Ok(()),
        };
        let (adapter, optimizer) = state
            .restore(&self.adapter, |name| tensors.load(name, dtype, &device))
            .with_context(damaged)?;
        (self.adapter, self.optimizer, self.trained) = (adapter, optimizer, state.trained);
        Ok(())
    }

    /// Numbers that a fit moves: all but those of a factor that it freezes.
    pub fn moved(&self, freeze: Option<Factor>) -> u64 {
        let pair = |pair: &LoraPair| match freeze {
            None => pair.a.elem_count() + pair.b.elem_count(),
            Some(Factor::A) => pair.b.elem_count(),
            Some(Factor::B) => pair.a.elem_count(),
        };
        let dense: usize = self.adapter.full().values().map(|t| t.elem_count()).sum();
        (self.adapter.pairs().values().map(pair).sum::<usize>() + dense) as u64
    }

    /// Errors (class usage): options of a fit that it cannot follow.
    pub fn suits(&self, options: &FitOptions) -> Result<(), Error> {
        let pairs =
            options.lr_ratio != 1.0 || options.freeze.is_some() || !options.active.is_empty();
        if pairs && self.kind() == BoosterKind::FullRank {
            return Err(error!(
                Usage,
                "`lr_ratio`, `freeze` and `active` are for boosters of low rank: this one trains \
                 whole tensors"
            ));
        }
        if options.head_lr_ratio != 1.0 && !self.adapter.full().keys().any(|id| id.is_task_head()) {
            return Err(error!(
                Usage,
                "`head_lr_ratio` is the rate of a head, which the booster does not train";
                hint: "`model.booster(#{{ …, head: true }})` trains the head of a classifier"
            ));
        }
        let info = options.optimizer.info();
        info.parameters.check(info.name, &self.adapter)?;
        let layers = self.layers();
        for (step, active) in options.active.iter().enumerate() {
            if active.is_empty() {
                return Err(error!(
                    Usage,
                    "option `active[{step}]` of `fit` names no layer: each step trains one at least"
                ));
            }
            if let Some(layer) = active.iter().find(|layer| !layers.contains(layer)) {
                return Err(error!(
                    Usage,
                    "option `active[{step}]` of `fit` names layer {layer}, which the booster does \
                     not train";
                    hint: "it trains {layers:?}"
                ));
            }
        }
        Ok(())
    }

    /// Errors (class usage) unless both train tensors of the same sizes.
    pub fn same_sizes(&self, other: &Self) -> Result<(), Error> {
        let sizes = |booster: &Self| {
            booster.adapter.tensors().iter().map(|t| t.elem_count()).collect::<Vec<_>>()
        };
        if sizes(self) == sizes(other) {
            Ok(())
        } else {
            Err(error!(Usage, "the boosters train tensors of other sizes"))
        }
    }

    /// Takes over the state of another one's optimizer, pruned as [`Optimizer::pruned`] says.
    /// Errors (class usage): it was not trained, or trains tensors of other sizes.
    pub fn inherit(&mut self, other: &Self, keeps: impl FnMut() -> bool) -> Result<()> {
        self.same_sizes(other)?;
        let Some(optimizer) = &other.optimizer else {
            bail!(Usage, "the other booster was never trained, so its optimiser remembers nothing");
        };
        self.optimizer = Some(optimizer.pruned(keeps)?);
        Ok(())
    }

    /// Trains it; the steps happen as the iterator is pulled.
    pub fn fit<'a>(
        &'a mut self,
        model: &'a Model,
        feed: &'a mut DataLoader,
        options: &'a FitOptions,
    ) -> Fit<'a> {
        let kind = options.optimizer;
        if self.optimizer.as_ref().is_some_and(|o| o.kind() != kind) {
            self.optimizer = None;
        }
        let optimizer = self.optimizer.get_or_insert_with(|| Optimizer::new(kind));
        Fit::new(model, &mut self.adapter, &mut self.trained, optimizer, feed, options)
    }
}

/// Where the metadata of a booster in training lie.
const STATE: &str = "xgbrun-training";

/// Writes a booster between two steps, as [`Booster::load_state`] reads it.
pub fn write_state(
    path: &Path,
    state: &TrainingState,
    tensors: &[(String, Tensor)],
) -> Result<String> {
    save::write_safetensors_summed(path, tensors, (STATE, &serde_json::to_string(state)?))
}

/// Entries of A [r, in], row by row.
fn initial(init: Init, rank: usize, inner: usize, stream: &mut Stream) -> Vec<f64> {
    match init {
        Init::Kaiming => {
            let bound = 1.0 / (inner as f64).sqrt();
            (0..rank * inner).map(|_| (2.0 * stream.uniform() - 1.0) * bound).collect()
        }
        Init::Gaussian => (0..rank * inner).map(|_| stream.normal() / rank as f64).collect(),
        Init::Orthogonal => {
            let mut rows: Vec<Vec<f64>> = Vec::with_capacity(rank);
            for _ in 0..rank {
                let mut row: Vec<f64> = (0..inner).map(|_| stream.normal()).collect();
                let length = orthogonal(&mut row, &rows);
                row.iter_mut().for_each(|x| *x /= length);
                rows.push(row);
            }
            rows.into_iter().flatten().map(|x| x / 3f64.sqrt()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boost::testing::{ALL_PARTS, examples, feed, said};
    use crate::boost::vectors::dot;
    use crate::data::DataLoaderState;
    use crate::model::testing;
    use crate::train::optim::{AdamW, Sgd};
    use crate::train::{OptimizerKind, StepRecord};
    use candle_core::DType;

    fn rows(init: Init, rank: usize, inner: usize) -> Vec<Vec<f64>> {
        initial(init, rank, inner, &mut Stream::new(3, "init"))
            .chunks(inner)
            .map(<[f64]>::to_vec)
            .collect()
    }

    #[test]
    fn inits_have_the_published_spread() {
        let kaiming: Vec<f64> = rows(Init::Kaiming, 4, 400).concat();
        assert!(kaiming.iter().all(|x| x.abs() <= 0.05));
        assert!((dot(&kaiming, &kaiming) / 1600.0 - 0.0025 / 3.0).abs() < 1e-4);
        let gaussian: Vec<f64> = rows(Init::Gaussian, 4, 400).concat();
        assert!((dot(&gaussian, &gaussian) / 1600.0 - 1.0 / 16.0).abs() < 0.01);
        let orthogonal = rows(Init::Orthogonal, 4, 9);
        for i in 0..4 {
            for j in 0..4 {
                let want = if i == j { 1.0 / 3.0 } else { 0.0 };
                assert!((dot(&orthogonal[i], &orthogonal[j]) - want).abs() < 1e-12);
            }
        }
    }

    fn loader() -> Result<DataLoader> {
        feed(examples(&[&[3, 1, 4, 1, 5], &[9, 2, 6], &[5, 3, 5]]))
    }

    fn fresh(model: &Model, kind: BoosterKind) -> Result<Booster> {
        match kind {
            BoosterKind::LowRank => {
                let spec = Spec::new(model, &[0, 2], &[], 2, 2.0, Init::Kaiming)?;
                Booster::new(model, &spec, &mut Stream::new(1, "a"))
            }
            BoosterKind::FullRank => {
                Booster::dense(model, &DenseSpec::new(model, &[1], &[], ALL_PARTS)?)
            }
        }
    }

    /// A booster whose fit stopped after `steps`, and what comes next of its data.
    fn taken_up(
        model: &Model,
        kind: BoosterKind,
        options: &FitOptions,
        steps: usize,
    ) -> Result<(Booster, DataLoader)> {
        let home = tempfile::tempdir()?;
        let path = home.path().join("state.safetensors");
        let (mut booster, mut data) = (fresh(model, kind)?, loader()?);
        let mut fit = booster.fit(model, &mut data, options);
        for _ in 0..steps {
            fit.next().unwrap()?;
        }
        let (state, tensors) = fit.state()?;
        write_state(&path, &state, &tensors)?;
        let place = fit.feed();
        let (mut booster, mut data) = (fresh(model, kind)?, loader()?);
        booster.load_state(&path)?;
        data.resume(&place)?;
        Ok((booster, data))
    }

    /// Step, loss and norm of the gradient, which no clock measures.
    fn told(records: &[StepRecord]) -> Vec<(usize, f64, f64)> {
        records.iter().map(|r| (r.step, r.loss, r.gradient_norm)).collect()
    }

    fn numbers(booster: &Booster) -> Result<Vec<Vec<f32>>> {
        let one = |t: &Tensor| Ok(t.flatten_all()?.to_vec1()?);
        booster.adapter.tensors().into_iter().map(one).collect()
    }

    #[test]
    fn taken_up_it_goes_on_as_if_it_had_never_stopped() -> Result<()> {
        let model = testing::model(&testing::config(), DType::F32)?;
        let optimizers: [OptimizerKind; 2] = [
            AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1 }.into(),
            Sgd { momentum: 0.5, weight_decay: 0.0 }.into(),
        ];
        for optimizer in optimizers {
            let options =
                FitOptions { batch: 2, clip: Some(1.0), ..FitOptions::new(6, optimizer, 0.05) };
            for kind in [BoosterKind::LowRank, BoosterKind::FullRank] {
                let (mut whole, mut data) = (fresh(&model, kind)?, loader()?);
                let want = whole.fit(&model, &mut data, &options).collect::<Result<Vec<_>>>()?;
                for stop in 0..6 {
                    let (mut second, mut data) = taken_up(&model, kind, &options, stop)?;
                    let rest = second.fit(&model, &mut data, &options).from(stop);
                    let got = rest.collect::<Result<Vec<_>>>()?;
                    assert_eq!(told(&got), told(&want[stop..]));
                    assert_eq!(second.trained, whole.trained);
                    assert_eq!(numbers(&second)?, numbers(&whole)?);
                }
            }
        }
        Ok(())
    }

    /// Step, loss and norm of each record, the error, the numbers, and the place of the data.
    type Told = (Vec<(usize, f64, f64)>, Option<String>, Vec<Vec<f64>>, DataLoaderState);

    /// What a fit tells and what it leaves.
    fn told_ahead(model: &Model, options: &FitOptions, ahead: usize) -> Result<Told> {
        let (mut booster, mut data) = (fresh(model, BoosterKind::LowRank)?, loader()?);
        let (mut records, mut error) = (vec![], None);
        for record in booster.fit(model, &mut data, options).ahead(ahead) {
            match record {
                Ok(record) => records.push(record),
                Err(e) => {
                    error = Some(format!("{e:#}"));
                    break;
                }
            }
        }
        let one = |t: &Tensor| Ok(t.flatten_all()?.to_vec1()?);
        let numbers = booster.adapter.tensors().into_iter().map(one).collect::<Result<_>>()?;
        Ok((told(&records), error, numbers, data.state()))
    }

    #[test]
    fn steps_taken_together_are_those_taken_one_by_one() -> Result<()> {
        let model = testing::model(&testing::config(), DType::F64)?;
        let sgd = Sgd { momentum: 0.5, weight_decay: 0.0 };
        let options = FitOptions { clip: Some(0.5), ..FitOptions::new(7, sgd, 0.05) };
        let want = told_ahead(&model, &options, 1)?;
        assert_eq!((want.0.len(), &want.1), (7, &None));
        for ahead in [2, 4, 7, 16] {
            assert_eq!(told_ahead(&model, &options, ahead)?, want, "{ahead}");
        }
        // The third step finds what the second made of the numbers.
        let mut lr = vec![0.05; 7];
        lr[1] = 1e300;
        let options = FitOptions { lr, ..FitOptions::new(7, sgd, 0.0) };
        let want = told_ahead(&model, &options, 1)?;
        assert_eq!(want.0.len(), 2);
        assert!(want.1.as_ref().is_some_and(|e| e.contains("at step 3 of a booster")), "{want:?}");
        for ahead in [2, 4, 7, 16] {
            assert_eq!(told_ahead(&model, &options, ahead)?, want, "{ahead}");
        }
        Ok(())
    }

    #[test]
    fn wrong_specs_name_the_value_and_what_is_possible() -> Result<()> {
        let model = testing::model(&testing::config(), DType::F32)?;
        let spec = |layers: &[usize], targets: &[&str], rank| {
            let targets: Vec<String> = targets.iter().map(|t| t.to_string()).collect();
            said(Spec::new(&model, layers, &targets, rank, 1.0, Init::Kaiming))
        };
        assert_eq!(
            spec(&[99], &[], 1),
            ("layer 99 does not exist".into(), "the model has layers 0 to 2".into())
        );
        assert_eq!(spec(&[1, 1], &[], 1).0, "layer 1 is named twice in `layers`");
        assert_eq!(spec(&[], &[], 1).0, "a booster needs at least one layer in `layers`");
        let (message, hint) = spec(&[0], &["q_proj", "q_poj"], 1);
        assert_eq!(message, "unknown target at `targets[1]`: `q_poj`; did you mean `q_proj`?");
        assert_eq!(hint, "one of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj");
        assert_eq!(
            spec(&[0], &["k_proj"], 9),
            ("`rank` 9 does not fit `k_proj` of 8 × 12".into(), "from 1 to 8".into())
        );
        assert_eq!(spec(&[0], &["k_proj"], 0).0, "`rank` 0 does not fit `k_proj` of 8 × 12");
        Ok(())
    }
}
