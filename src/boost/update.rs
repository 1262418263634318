//! What a merge adds to the weights: measured, kept as a file of the run, read again and added once
//! more.
//!
//! The file of a booster of low rank holds A and B by the names that PEFT gives them; that of a
//! dense one holds η (W' − W) by the published names; one that was loaded from an adapter may hold
//! both. All numbers are f32. The metadata say kind, round, η and the scale of each product.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::adapter::{self, PREFIX, named_factors};
use super::booster::{Booster, BoosterKind};
use crate::error::{bail, error};
use crate::model::{Adapter, LinearId, Model, ParamId, save};
use crate::ops::linear::LoraPair;
use crate::ops::{elementwise, matmul};
use crate::source::{Safetensors, TensorSource};

/// Where the metadata lie, and of which version they are.
const KEY: &str = "xgbrun";
const VERSION: &str = "1";
/// The kind of a file that holds factors and whole tensors.
const MIXED: &str = "mixed";

/// What a booster adds to a model's weights.
#[derive(Clone, Debug)]
pub struct Update {
    /// Boosters merged before it.
    pub round: usize,
    /// η
    pub eta: f64,
    /// Pairs only.
    pub(super) factors: Adapter,
    /// η (W' − W) by published name.
    pub(super) deltas: BTreeMap<ParamId, Tensor>,
}

/// Metadata of a file. Numbers are texts, which read back as they were.
#[derive(Serialize, Deserialize)]
struct UpdateHeader {
    version: String,
    kind: String,
    round: usize,
    eta: String,
    /// Of the product BA of each module.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    scales: BTreeMap<String, String>,
}

impl UpdateHeader {
    /// Errors (class data): no metadata, or of another version.
    fn read(text: &str, shown: &str) -> Result<Self> {
        let header: Self = serde_json::from_str(text)
            .map_err(|e| error!(Data, "{shown} has metadata that cannot be read: {e}"))?;
        if header.version != VERSION {
            bail!(
                Data,
                "{shown} is of version `{}`; this program reads version `{VERSION}`",
                header.version
            );
        }
        Ok(header)
    }

    /// Whether the file holds factors, and whether it holds whole tensors. Errors (class data): a
    /// kind that is not known.
    fn holds(&self, shown: &str) -> Result<(bool, bool)> {
        match self.kind.as_str() {
            kind if kind == BoosterKind::LowRank.name() => Ok((true, false)),
            kind if kind == BoosterKind::FullRank.name() => Ok((false, true)),
            MIXED => Ok((true, true)),
            other => bail!(
                Data,
                "{shown} is of a kind `{other}`; known are {} and {MIXED}",
                BoosterKind::NAMES.join(", ")
            ),
        }
    }
}

impl Update {
    /// What merging `booster` with step weight `eta` adds to `model`.
    pub fn of(model: &Model, booster: &Booster, round: usize, eta: f64) -> Result<Self> {
        let adapter = &booster.adapter;
        let factors = Adapter::of_pairs(adapter.pairs().clone());
        if model.is_meta() {
            return Ok(Self { round, eta, factors, deltas: adapter.full().clone() });
        }
        let base = model.copies(&adapter.full().keys().cloned().collect())?;
        let delta = |(id, base): (ParamId, Tensor)| {
            let apart = match adapter.full().get(&id) {
                Some(moved) => elementwise::add_scaled(base, moved, -1.0)?,
                None => base.zeros_like()?,
            };
            Ok((id, elementwise::scale(apart, -eta)?))
        };
        let deltas = base.into_iter().map(delta).collect::<candle_core::Result<_>>()?;
        Ok(Self { round, eta, factors, deltas })
    }

    pub fn kind(&self) -> BoosterKind {
        let factors = !self.factors.pairs().is_empty();
        if self.deltas.is_empty() || (factors && self.deltas.keys().all(|id| id.is_task_head())) {
            BoosterKind::LowRank
        } else {
            BoosterKind::FullRank
        }
    }

    /// The same, multiplied by `weight`.
    pub fn scaled(mut self, weight: f64) -> Result<Self> {
        if weight == 1.0 {
            return Ok(self);
        }
        self.eta *= weight;
        for delta in self.deltas.values_mut() {
            *delta = elementwise::scale(delta.copy()?, weight)?;
        }
        Ok(self)
    }

    /// The parameters of `model` that it changes.
    pub fn params(&self, model: &Model) -> Vec<ParamId> {
        let weight = |linear| model.weight(linear).cloned();
        let weights = self.factors.pairs().keys().filter_map(weight);
        weights.chain(self.deltas.keys().cloned()).collect()
    }

    /// The factors with their step weight, by linear module.
    pub fn factors(&self) -> impl Iterator<Item = (LinearId, LoraPair)> {
        let eta = self.eta;
        let scaled = move |pair: &LoraPair| LoraPair { scale: pair.scale * eta, ..pair.clone() };
        self.factors.pairs().iter().map(move |(linear, pair)| (linear.clone(), scaled(pair)))
    }

    /// The parameters of a head that it changes beside factors.
    pub fn head(&self) -> impl Iterator<Item = &ParamId> {
        self.deltas.keys().filter(|id| id.is_task_head())
    }

    /// The booster's factors, without the step weight; `None` of a dense booster.
    pub fn adapter(&self) -> Option<&Adapter> {
        (self.kind() == BoosterKind::LowRank).then_some(&self.factors)
    }

    /// Layers that it changes, ascending.
    pub fn layers(&self) -> Vec<usize> {
        let mut layers = self.factors.layers();
        layers.extend(self.deltas.keys().filter_map(|id| id.layer));
        layers.into_iter().collect()
    }

    /// Frobenius norm of what is added to all weights of a layer together, by layer; embedding,
    /// final norm and head are in none. Norms that are no numbers are left out.
    pub fn norms(&self) -> Result<BTreeMap<usize, f64>> {
        let mut squares: BTreeMap<usize, f64> = BTreeMap::new();
        for (linear, pair) in self.factors.pairs() {
            *squares.entry(linear.layer).or_default() +=
                (self.eta * pair.scale).powi(2) * product_squares(pair)?;
        }
        for (id, delta) in &self.deltas {
            if let Some(layer) = id.layer {
                *squares.entry(layer).or_default() += elementwise::squares(delta)?;
            }
        }
        Ok(squares
            .into_iter()
            .map(|(layer, sum)| (layer, sum.max(0.0).sqrt()))
            .filter(|(_, norm)| norm.is_finite())
            .collect())
    }

    /// Writes it to `path`, whole or not at all. Gives the file's SHA-256.
    pub fn save(&self, path: &Path) -> Result<String> {
        let (mut tensors, mut scales) = (vec![], BTreeMap::new());
        for (linear, pair) in self.factors.pairs() {
            tensors.extend(named_factors(&linear.name, pair)?);
            scales.insert(linear.name.clone(), pair.scale.to_string());
        }
        for (id, delta) in &self.deltas {
            tensors.push((id.name.clone(), delta.to_dtype(DType::F32)?));
        }
        let kind =
            if scales.is_empty() || self.deltas.is_empty() { self.kind().name() } else { MIXED };
        let (version, kind) = (VERSION.to_string(), kind.to_string());
        let header =
            UpdateHeader { version, kind, round: self.round, eta: self.eta.to_string(), scales };
        save::write_safetensors_summed(path, &tensors, (KEY, &serde_json::to_string(&header)?))
    }

    /// Reads a booster's file for `model`.
    ///
    /// Errors (class data): a file that is missing or damaged, that is no booster's or of a later
    /// version, tensors that the model does not have or that have another shape.
    pub fn load(path: &Path, model: &Model) -> Result<Self> {
        let shown = format!("the booster in `{}`", path.display());
        let tensors = Safetensors::open(&[path.to_path_buf()])?;
        let Some(text) = tensors.metadata(KEY) else {
            bail!(Data, "`{}` is no booster of a run", path.display())
        };
        let header = UpdateHeader::read(text, &shown)?;
        let (has_factors, has_deltas) = header.holds(&shown)?;
        let scales = if has_factors { header.scales } else { BTreeMap::new() };
        let mut pairs = BTreeMap::new();
        for (module, scale) in &scales {
            let (linear, [a, b]) = adapter::factors(&tensors, module, model, &shown)?;
            let scale = number(&shown, "scale", scale)?;
            pairs.insert(linear, LoraPair { a, b, scale });
        }
        let deltas = read_deltas(&tensors, &scales, has_deltas, model, &shown)?;
        let eta = number(&shown, "step weight", &header.eta)?;
        Ok(Self { round: header.round, eta, factors: Adapter::of_pairs(pairs), deltas })
    }

    /// Adds it to a model as it was when the update was made. Of low rank the weights become those
    /// that the merge gave, bit for bit; those of whole tensors may differ by the rounding of one
    /// sum.
    pub fn add(&self, model: &mut Model) -> Result<()> {
        model.merge(&self.factors, self.eta)?;
        if self.deltas.is_empty() { Ok(()) } else { model.add(&self.deltas) }
    }

    /// Adds the boosters in `files`, each multiplied by its weight, in their order; one is held at
    /// a time. Errors as [`Update::load`].
    pub fn add_files(files: &[(PathBuf, f64)], model: &mut Model) -> Result<()> {
        files
            .iter()
            .try_for_each(|(path, weight)| Update::load(path, model)?.scaled(*weight)?.add(model))
    }
}

/// A number of the metadata. Errors (class data): none, or one that is not finite.
fn number(shown: &str, what: &str, text: &str) -> Result<f64> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => bail!(Data, "{shown}: its {what} `{text}` is no number"),
    }
}

/// The full tensors of a file, beside the factors of the modules with a scale.
fn read_deltas(
    tensors: &Safetensors,
    scales: &BTreeMap<String, String>,
    allowed: bool,
    model: &Model,
    shown: &str,
) -> Result<BTreeMap<ParamId, Tensor>> {
    let mut deltas = BTreeMap::new();
    for name in tensors.names().into_iter().filter(|name| !is_factor(name, scales)) {
        if !allowed {
            bail!(Data, "{shown} has a tensor `{name}`, which is none of its factors");
        }
        let Some(id) = model.param(name) else {
            bail!(Data, "{shown} is for a tensor `{name}`, which the model does not have")
        };
        let found = tensors.shape(name).unwrap_or_default();
        if id.shape != found {
            bail!(
                Data,
                "{shown} changes `{name}` of shape {found:?}; the model's has {:?}",
                id.shape
            );
        }
        let delta = tensors.load(name, model.factor_dtype(), model.device())?;
        deltas.insert(id.clone(), delta);
    }
    Ok(deltas)
}

/// Whether a tensor is a factor of one of the modules with a scale.
fn is_factor(name: &str, scales: &BTreeMap<String, String>) -> bool {
    let inside = name.strip_prefix(PREFIX).and_then(|name| name.rsplit_once(".lora_"));
    inside.is_some_and(|(module, _)| scales.contains_key(module))
}

/// ‖BA‖² = tr((BᵀB)(AAᵀ)), from two r × r matrices in f64; the product itself never exists.
fn product_squares(pair: &LoraPair) -> Result<f64> {
    let (a, b) = (pair.a.to_dtype(DType::F64)?, pair.b.to_dtype(DType::F64)?);
    let (outer, inner) = (matmul(&a, &a.t()?)?, matmul(&b.t()?.contiguous()?, &b)?);
    Ok((outer * inner)?.sum_all()?.to_scalar()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boost::dense::DenseSpec;
    use crate::boost::testing::ALL_PARTS;
    use crate::error::{Class, class_of};
    use crate::model::testing;

    fn squares(t: &Tensor) -> Result<f64> {
        Ok(t.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()?)
    }

    /// A booster of each kind whose numbers are not those of the start.
    fn boosters(model: &Model) -> Result<[Booster; 2]> {
        let low_rank = Booster::from_adapter(testing::adapter(model, &[0, 2], false)?);
        let mut dense = Booster::dense(model, &DenseSpec::new(model, &[1], &[], ALL_PARTS)?)?;
        let moved = dense
            .adapter
            .tensors()
            .into_iter()
            .map(|t| (t * 1.25)? + 0.01)
            .collect::<candle_core::Result<Vec<_>>>()?;
        dense.adapter = dense.adapter.with_tensors(moved);
        Ok([low_rank, dense])
    }

    #[test]
    fn norms_are_those_of_the_difference() -> Result<()> {
        for which in 0..2 {
            let mut model = testing::model(&testing::config(), DType::F64)?;
            let booster = boosters(&model)?[which].clone();
            let before: BTreeMap<ParamId, Tensor> =
                model.params().map(|(id, t)| Ok((id.clone(), t.copy()?))).collect::<Result<_>>()?;
            let update = Update::of(&model, &booster, 3, -0.75)?;
            model.merge(&booster.adapter, -0.75)?;
            let mut want: BTreeMap<usize, f64> = BTreeMap::new();
            for (id, after) in model.params() {
                if let Some(layer) = id.layer {
                    *want.entry(layer).or_default() += squares(&(after - &before[id])?)?;
                }
            }
            want.retain(|_, sum| *sum > 0.0);
            let norms = update.norms()?;
            assert_eq!(
                (norms.keys().copied().collect::<Vec<_>>(), booster.layers()),
                (update.layers(), update.layers())
            );
            assert!(norms.keys().eq(want.keys()));
            for (layer, norm) in norms {
                assert!((norm / want[&layer].sqrt() - 1.0).abs() < 1e-9, "layer {layer}: {norm}");
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_kept_can_be_added_again() -> Result<()> {
        let home = tempfile::tempdir()?;
        let path = home.path().join("0007.safetensors");
        for (dtype, eta) in
            [(DType::F32, 1.0), (DType::F32, 0.3), (DType::BF16, 1.0), (DType::F16, 1.0)]
        {
            for which in 0..2 {
                let mut merged = testing::model(&testing::config(), dtype)?;
                let booster = boosters(&merged)?[which].clone();
                Update::of(&merged, &booster, 7, eta)?.save(&path)?;
                merged.merge(&booster.adapter, eta)?;
                let mut again = testing::model(&testing::config(), dtype)?;
                let loaded = Update::load(&path, &again)?;
                assert_eq!((loaded.round, loaded.eta, loaded.kind()), (7, eta, booster.kind()));
                loaded.add(&mut again)?;
                if booster.kind() == BoosterKind::LowRank {
                    assert_eq!(merged.digest()?, again.digest()?);
                }
                for ((name, a), (_, b)) in merged.params().zip(again.params()) {
                    let bound = if dtype == DType::F32 { 1e-12 } else { 1e-4 };
                    let apart = squares(&(a.to_dtype(DType::F64)? - b.to_dtype(DType::F64)?)?)?;
                    assert!(apart <= bound * squares(a)?, "{name}: {apart:e}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn the_same_update_gives_the_same_bytes() -> Result<()> {
        let home = tempfile::tempdir()?;
        let path = home.path().join("0000.safetensors");
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let model = testing::model(&testing::config(), dtype)?;
            for booster in boosters(&model)? {
                let saved = || -> Result<Vec<u8>> {
                    Update::of(&model, &booster, 7, 0.3)?.save(&path)?;
                    Ok(std::fs::read(&path)?)
                };
                assert_eq!(saved()?, saved()?);
            }
        }
        assert_eq!(std::fs::read_dir(home.path())?.count(), 1, "no temporary file is left");
        Ok(())
    }

    /// Files of both boosters of a model, in `folder`.
    fn saved(model: &Model, folder: &Path) -> Result<[PathBuf; 2]> {
        let paths = ["0000", "0001"].map(|name| folder.join(name).with_extension("safetensors"));
        for (booster, path) in boosters(model)?.iter().zip(&paths) {
            Update::of(model, booster, 0, 1.0)?.save(path)?;
        }
        Ok(paths)
    }

    /// The error on loading, which is of the class data.
    fn said(path: &Path, model: &Model) -> String {
        let error = Update::load(path, model).unwrap_err();
        assert_eq!(class_of(&error), Class::Data, "{error:#}");
        format!("{error:#}")
    }

    #[test]
    fn a_model_that_does_not_fit_is_named() -> Result<()> {
        let home = tempfile::tempdir()?;
        let model = testing::model(&testing::config(), DType::F32)?;
        let small = testing::model(&testing::with(|c| c.common.num_hidden_layers = 1), DType::F32)?;
        let narrow = testing::model(&testing::with(|c| c.intermediate_size = 8), DType::F32)?;
        let [low_rank, dense] = saved(&model, home.path())?;
        for (path, model, want) in [
            (
                &low_rank,
                &small,
                "is for a module `model.layers.2.mlp.down_proj`, which the model does not have",
            ),
            (&low_rank, &narrow, "`model.layers.0.mlp.down_proj` have shapes"),
            (&dense, &small, "is for a tensor `model.layers.1.input_layernorm.weight`, which"),
            (&dense, &narrow, "changes `model.layers.1.mlp.down_proj.weight` of shape"),
        ] {
            let message = said(path, model);
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(message.contains(want) && message.contains(&file), "{message}");
        }
        Ok(())
    }

    #[test]
    fn a_file_that_is_cut_is_damaged_data() -> Result<()> {
        let home = tempfile::tempdir()?;
        let model = testing::model(&testing::config(), DType::F32)?;
        for path in saved(&model, home.path())? {
            let whole = std::fs::read(&path)?;
            for length in [0, 4, 100, whole.len() - 1] {
                std::fs::write(&path, &whole[..length])?;
                said(&path, &model);
            }
        }
        Ok(())
    }

    /// Texts of the header, replaced by others of the same length.
    #[test]
    fn a_header_that_cannot_be_read_is_named() -> Result<()> {
        let home = tempfile::tempdir()?;
        let model = testing::model(&testing::config(), DType::F32)?;
        for path in saved(&model, home.path())? {
            let whole = std::fs::read(&path)?;
            for (old, new, want) in [
                (
                    r#"\"version\":\"1\""#,
                    r#"\"version\":\"2\""#,
                    "is of version `2`; this program reads version `1`",
                ),
                (r#"\"eta\":\"1\""#, r#"\"eta\":\"x\""#, "its step weight `x` is no number"),
                (r#"\"kind\":"#, r#"\"kimd\":"#, "has metadata that cannot be read"),
                ("\"xgbrun\"", "\"xgbrum\"", "is no booster of a run"),
            ] {
                let found = whole.windows(old.len()).position(|w| w == old.as_bytes());
                let at = found.unwrap_or_else(|| panic!("no {old}"));
                let mut changed = whole.clone();
                changed[at..at + new.len()].copy_from_slice(new.as_bytes());
                std::fs::write(&path, changed)?;
                let message = said(&path, &model);
                assert!(message.contains(want), "{old}: {message}");
            }
        }
        Ok(())
    }
}
