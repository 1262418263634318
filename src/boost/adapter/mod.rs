//! Adapter folders of the PEFT library: `adapter_config.json` and `adapter_model.safetensors`, read
//! as a booster and written from one. Layout as in huggingface/peft:
//! `base_model.model.{module}.lora_A.weight` is A [r, in], `lora_B` is B [out, r].
//!
//! What is loaded gives the numbers that `PeftModel.from_pretrained` gives, or is refused by the
//! name of the key or tensor.

mod carry;
mod config;
mod files;
mod keys;
mod start;
mod stored;
mod targets;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::Tensor;
use serde_json::{Value, json};

use super::booster::Booster;
use crate::error::{bail, error};
use crate::io::atomic;
use crate::model::arch::HeadKind;
use crate::model::{Adapter, LinearId, Model, ParamId, save};
use crate::ops::linear::LoraPair;
use crate::source::{Safetensors, TensorSource};

use carry::Carry;
use config::LoraConfig;
use stored::AdapterTensors;
use whole::within;

pub(super) const PREFIX: &str = "base_model.model.";
const CONFIG: &str = "adapter_config.json";
/// The head's module.
const HEAD: &str = "lm_head";

/// Which weights an adapter is laid over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Those of the base, which an adapter may change as a whole.
    Base,
    /// Boosters were merged into them.
    Changed,
    /// None: a model on shapes.
    Meta,
}

/// An adapter as a booster.
#[derive(Debug)]
pub struct LoadedAdapter {
    pub booster: Booster,
    /// What a person should know of training on from it.
    pub training: Vec<String>,
    notes: Vec<String>,
    base: Option<String>,
}

impl LoadedAdapter {
    /// What a person should know of it, over the model called `model`.
    pub fn notes(&self, model: &str) -> Vec<String> {
        /// The last part of a path or a name.
        fn last(name: &str) -> String {
            let name = name.trim_end_matches(['/', '\\']);
            let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
            name.split_once('@').map_or(name, |(name, _)| name).to_lowercase()
        }
        let other = self.base.iter().filter(|base| last(base) != last(model));
        other
            .map(|base| format!("it says that it was trained on `{base}`"))
            .chain(self.notes.iter().cloned())
            .collect()
    }
}

/// Reads an adapter for `model`.
///
/// Errors (class data): files that are missing or damaged, an adapter of a kind that is not
/// followed, tensors that do not fit the model or the config; (class usage): an adapter of whole
/// weights over a model that is not the base any more.
pub fn load(folder: &Path, model: &Model, weights: Weights) -> Result<LoadedAdapter> {
    read(folder, model, weights, true)
}

/// Reads an adapter of another task for `model`: all but its head. Errors as [`load`].
pub fn load_without_head(folder: &Path, model: &Model, weights: Weights) -> Result<LoadedAdapter> {
    read(folder, model, weights, false)
}

fn read(folder: &Path, model: &Model, weights: Weights, with_head: bool) -> Result<LoadedAdapter> {
    let text = files::config(folder)?;
    let cannot = || format!("cannot use the adapter in `{}`", folder.display());
    let mut config = LoraConfig::read(&text).with_context(cannot)?;
    config.suits(model).with_context(cannot)?;
    config.targets = config.targets.suit(model);
    if config.fan_in_fan_out && !model.linears().any(|linear| linear.transposed) {
        config.notes.push(
            "`fan_in_fan_out` is true, which says nothing of linear layers; PEFT passes over it too"
                .into(),
        );
    }
    let tensors = files::weights(folder)?;
    let mut stored = AdapterTensors::of(&tensors).with_context(cannot)?;
    if !with_head {
        let head = model.head_params();
        let is_head = |name: &str| head.iter().any(|id| id.name == name);
        stored.whole.retain(|name, _| !is_head(name));
        config.modules_to_save.retain(|saved| {
            !head.iter().any(|id| id.name.rsplit_once('.').is_some_and(|(m, _)| within(m, saved)))
        });
    }
    laid_over(model, weights, &config, &tensors, &stored).with_context(cannot)
}

/// The booster of an adapter's tensors.
fn laid_over(
    model: &Model,
    weights: Weights,
    config: &LoraConfig,
    tensors: &Safetensors,
    stored: &AdapterTensors,
) -> Result<LoadedAdapter> {
    let (adapter, notes) = Carry::new(config, stored, tensors, model, weights).adapter()?;
    let named = stored.adapter.iter().filter(|name| *name != "default").map(|name| {
        format!(
            "its tensors bear the adapter's name `{name}`; PEFT finds them with \
             `adapter_name=\"{name}\"` alone"
        )
    });
    let mut training = config.training.clone();
    if config.dora {
        training.push(
            "training on moves whole weights, where DoRA moved factors and magnitudes".into(),
        );
    }
    Ok(LoadedAdapter {
        booster: Booster::from_adapter(adapter),
        training,
        notes: config.notes.iter().cloned().chain(named).chain(notes).collect(),
        base: config.base.clone(),
    })
}

/// The place of a module in `model`, and A [r, in] and B [out, r], by the names that a run's files
/// give them; `what` is the file in messages.
pub(super) fn factors(
    tensors: &Safetensors,
    module: &str,
    model: &Model,
    what: &str,
) -> Result<(LinearId, [Tensor; 2])> {
    let Some(linear) = place(module, model) else {
        bail!(Data, "{what} is for a module `{module}`, which the model does not have");
    };
    let name = |part: &str| format!("{PREFIX}{module}.lora_{part}.weight");
    let [a, b] = ["A", "B"].map(|part| tensors.shape(&name(part)));
    rank_of(module, a, b, linear.shape()).map_err(|e| error!(Data, "{what}: {e}"))?;
    let load = |part: &str| tensors.load(&name(part), model.factor_dtype(), model.device());
    Ok((linear.clone(), [load("A")?, load("B")?]))
}

/// The rank of factors of these shapes, of a module [out, in]; else what is wrong with them.
fn rank_of(
    module: &str,
    a: Option<&[usize]>,
    b: Option<&[usize]>,
    (out, inner): (usize, usize),
) -> Result<usize, String> {
    match (a, b) {
        (Some(&[r, i]), Some(&[o, q])) if r == q && r > 0 && (o, i) == (out, inner) => Ok(r),
        (Some([0]), Some([0])) => Err(format!(
            "factors of `{module}` are empty: they were written under DeepSpeed ZeRO-3, which has \
             to gather them first"
        )),
        (Some(a), Some(b)) => Err(format!(
            "factors of `{module}` have shapes {a:?} and {b:?}; the module is {out} × {inner}"
        )),
        (a, _) => {
            let (there, missing) = if a.is_some() { ("A", "B") } else { ("B", "A") };
            Err(format!("there is the factor {there} of `{module}`, but not {missing}"))
        }
    }
}

/// A pair's factors by the names that PEFT gives them, in f32.
pub(super) fn named_factors(module: &str, pair: &LoraPair) -> Result<[(String, Tensor); 2]> {
    let one = |part: &str, tensor: &Tensor| {
        Ok::<_, candle_core::Error>((
            format!("{PREFIX}{module}.lora_{part}.weight"),
            tensor.to_dtype(candle_core::DType::F32)?,
        ))
    };
    Ok([one("A", &pair.a)?, one("B", &pair.b)?])
}

/// The linear module of that published name.
fn place<'a>(module: &str, model: &'a Model) -> Option<&'a LinearId> {
    model.linears().find(|linear| linear.name == module)
}

/// The module of the token embedding.
fn embedding(model: &Model) -> &str {
    model.embedding().name.trim_end_matches(".weight")
}

/// Refuses a booster that has no factors to write, or whole tensors beside a head's.
pub fn check(booster: &Booster) -> Result<()> {
    if booster.adapter.pairs().is_empty()
        || !booster.adapter.full().keys().all(|id| id.is_task_head())
    {
        bail!(
            Usage,
            "a dense booster is no adapter; save the model after merging";
            hint: "`model.merge(booster); model.save(\"model\");`"
        );
    }
    Ok(())
}

/// Writes a booster of `model` as an adapter folder that the `peft` library loads; `base` is the
/// base model's name. A head that it trains is among `modules_to_save`.
///
/// Errors: a dense booster, a folder that exists already, a disk that refuses.
pub fn save(booster: &Booster, model: &Model, folder: &Path, base: &str) -> Result<()> {
    check(booster)?;
    let mut tensors: Vec<(String, Tensor)> = vec![];
    for (linear, pair) in booster.adapter.pairs() {
        tensors.extend(named_factors(&linear.name, pair)?);
    }
    for (id, tensor) in booster.adapter.full() {
        let tensor = id.relaid(tensor.to_dtype(candle_core::DType::F32)?)?;
        tensors.push((format!("{PREFIX}{}", id.name), tensor));
    }
    let config = config_of(&booster.adapter, model, base)?;
    atomic::folder(folder, |folder| {
        std::fs::write(folder.join(CONFIG), format!("{config:#}\n"))
            .with_context(|| format!("cannot write `{CONFIG}`"))?;
        save::write_safetensors(&folder.join("adapter_model.safetensors"), &tensors)
    })
}

/// What `adapter_config.json` says of an adapter.
fn config_of(adapter: &Adapter, model: &Model, base: &str) -> Result<Value> {
    let pairs = adapter.pairs();
    let (mut ranks, mut alphas) = (BTreeMap::new(), BTreeMap::new());
    for (linear, pair) in pairs {
        let rank = pair.a.dim(0)?;
        ranks.insert(&linear.name, rank);
        alphas.insert(&linear.name, pair.scale * rank as f64);
    }
    let rank = ranks.values().next().copied().unwrap_or(1);
    let alpha = alphas.values().next().copied().unwrap_or(1.0);
    let (targets, layers) = targets_of(pairs, model);
    ranks.retain(|_, r| *r != rank);
    alphas.retain(|_, a| *a != alpha);
    let mut config = json!({
        "peft_type": "LORA",
        "task_type": match model.config().head.kind() {
            HeadKind::CausalLm => json!("CAUSAL_LM"),
            HeadKind::Sequence => json!("SEQ_CLS"),
            HeadKind::MaskedLm | HeadKind::MultipleChoice | HeadKind::Base => Value::Null,
        },
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": pairs.keys().any(|linear| linear.transposed),
        "target_modules": targets,
        "layers_to_transform": layers,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "inference_mode": true,
    });
    let prefix = model.architecture().entry().family.base_model_prefix;
    let module = |id: &ParamId| {
        let inside = id.name.strip_prefix(prefix).unwrap_or(&id.name);
        inside.split('.').next().unwrap_or_default().to_owned()
    };
    let saved: BTreeSet<String> = adapter.full().keys().map(module).collect();
    if !saved.is_empty() {
        config["modules_to_save"] = json!(saved);
    }
    Ok(config)
}

/// `target_modules` and `layers_to_transform` of these pairs. A module outside layers × targets,
/// or whose name ends as a target's does, would be made by peft with random factors: modules are
/// named one by one then.
fn targets_of(pairs: &BTreeMap<LinearId, LoraPair>, model: &Model) -> (Value, Value) {
    let layers: BTreeSet<usize> = pairs.keys().map(|linear| linear.layer).collect();
    let names: BTreeSet<&str> = pairs.keys().map(|linear| linear.target).collect();
    let meant = |name: &str| {
        names.iter().any(|n| name.strip_suffix(n).is_some_and(|rest| rest.ends_with('.')))
    };
    let known = model.targets();
    let others = known.iter().any(|target| !names.contains(target) && meant(target));
    if pairs.len() == layers.len() * names.len() && !others {
        return (json!(names), json!(layers));
    }
    let modules: BTreeSet<&str> = pairs.keys().map(|linear| linear.name.as_str()).collect();
    (json!(modules), Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of};
    use crate::model::testing;
    use candle_core::DType;

    #[test]
    fn what_is_saved_is_loaded() -> Result<()> {
        let model = testing::model(&testing::config(), DType::F32)?;
        let home = tempfile::tempdir()?;
        let all = testing::adapter(&model, &[0, 2], false)?;
        let mut some = all.pairs().clone();
        some.retain(|linear, _| Some(linear) != model.linear(2, "v_proj"));
        let some = Adapter::of_pairs(some);
        for (name, adapter) in [("all", all), ("some", some)] {
            let folder = home.path().join(name);
            save(&Booster::from_adapter(adapter.clone()), &model, &folder, "base")?;
            let loaded = load(&folder, &model, Weights::Base)?.booster;
            assert!(loaded.adapter.pairs().keys().eq(adapter.pairs().keys()));
            for (key, pair) in adapter.pairs() {
                let got = &loaded.adapter.pairs()[key];
                assert_eq!(got.a.to_vec2::<f32>()?, pair.a.to_vec2::<f32>()?);
                assert_eq!(got.b.to_vec2::<f32>()?, pair.b.to_vec2::<f32>()?);
                assert_eq!(got.scale, pair.scale);
            }
            assert!(
                save(&loaded, &model, &folder, "base").is_err(),
                "an existing folder is not overwritten"
            );
        }
        Ok(())
    }

    /// The adapter of a layer, saved to `folder`.
    fn saved(folder: &Path) -> Result<Model> {
        let model = testing::model(&testing::config(), DType::F32)?;
        let booster = Booster::from_adapter(testing::adapter(&model, &[1], false)?);
        save(&booster, &model, folder, "base")?;
        Ok(model)
    }

    /// The error on loading, which is of the class data.
    fn said(folder: &Path, model: &Model) -> String {
        let error = load(folder, model, Weights::Base).unwrap_err();
        assert_eq!(class_of(&error), Class::Data, "{error:#}");
        format!("{error:#}")
    }

    #[test]
    fn a_config_that_does_not_fit_is_named() -> Result<()> {
        let home = tempfile::tempdir()?;
        let folder = home.path().join("a");
        let model = saved(&folder)?;
        let good = std::fs::read_to_string(folder.join(CONFIG))?;
        for (text, want) in [
            (good.replace("\"LORA\"", "\"LOHA\""), "only \"LORA\" is known"),
            (good.replace("\"r\": 2", "\"r\": -2"), "`r` is -2, which it cannot be"),
            (good.replace("\"r\": 2", "\"r\": 3"), "the rank 3, its factors have the rank 2"),
            (
                good.replace("\"down_proj\",", ""),
                "factors of `model.layers.1.mlp.down_proj`, which `target_modules` leaves out",
            ),
            (good[..20].to_string(), "its config is no JSON"),
        ] {
            std::fs::write(folder.join(CONFIG), text)?;
            let message = said(&folder, &model);
            assert!(message.contains(want), "{message:?} does not say {want:?}");
        }
        Ok(())
    }

    #[test]
    fn a_model_that_does_not_fit_is_named() -> Result<()> {
        let home = tempfile::tempdir()?;
        let folder = home.path().join("a");
        saved(&folder)?;
        for (config, want) in [
            (
                testing::with(|c| c.common.num_hidden_layers = 1),
                "is for a module `model.layers.1.mlp.down_proj`, which the model does not have",
            ),
            (
                testing::with(|c| c.intermediate_size = 8),
                ": factors of `model.layers.1.mlp.down_proj` have shapes",
            ),
        ] {
            let message = said(&folder, &testing::model(&config, DType::F32)?);
            assert!(message.contains(want), "{message:?} does not say {want:?}");
        }
        Ok(())
    }

    #[test]
    fn tensors_that_are_cut_are_damaged_data() -> Result<()> {
        let home = tempfile::tempdir()?;
        let folder = home.path().join("a");
        let model = saved(&folder)?;
        let file = folder.join("adapter_model.safetensors");
        let whole = std::fs::read(&file)?;
        for length in [0, 4, 100, whole.len() - 1] {
            std::fs::write(&file, &whole[..length])?;
            said(&folder, &model);
        }
        Ok(())
    }
}
