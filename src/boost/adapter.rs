//! PEFT LoRA adapter folders: `adapter_config.json` and `adapter_model.safetensors`, read as a booster and written
//! from one. Layout as in huggingface/peft: `base_model.model.{module}.lora_A.weight` is A [r, in], `lora_B` is B [out, r].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::Tensor;
use serde::Deserialize;
use serde_json::{Value, json};

use super::booster::{Booster, Kind};
use crate::bail_data;
use crate::error::Error;
use crate::model::{Model, Overlay, Role, names, save};
use crate::ops::linear::Pair;
use crate::source::{Safetensors, TensorSource};

pub(super) const PREFIX: &str = "base_model.model.";

/// What is read of `adapter_config.json`.
#[derive(Deserialize)]
struct Config {
    peft_type: String,
    r: usize,
    lora_alpha: f64,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    lora_bias: bool,
    bias: Option<String>,
    modules_to_save: Option<Vec<String>>,
}

/// Reads an adapter for `model`.
///
/// Errors (class data): files that are missing or damaged, an adapter of a kind that is no plain LoRA, modules that the
/// model does not have, factors of another shape.
pub fn load(folder: &Path, model: &Model) -> Result<Booster> {
    let shown = folder.display();
    let path = folder.join("adapter_config.json");
    let text = std::fs::read_to_string(&path).map_err(|e| Error::data(format!("cannot read `{}`: {e}", path.display())))?;
    let config: Config =
        serde_json::from_str(&text).map_err(|e| Error::data(format!("`{}` is no LoRA adapter config: {e}", path.display())))?;
    for (wrong, what) in [
        (config.peft_type != "LORA", format!("`peft_type` is `{}`, only `LORA` is known", config.peft_type)),
        (config.use_dora, "`use_dora` is true: a DoRA adapter is no sum of factors".into()),
        (config.fan_in_fan_out, "`fan_in_fan_out` is true: its factors are transposed".into()),
        (config.lora_bias || config.bias.as_deref().is_some_and(|b| b != "none"), "it trains biases".into()),
        (config.modules_to_save.as_ref().is_some_and(|m| !m.is_empty()), "it replaces whole modules (`modules_to_save`)".into()),
        (config.r == 0, "`r` is 0".into()),
    ] {
        if wrong {
            bail_data!("cannot use the adapter in `{shown}`: {what}");
        }
    }
    let file = folder.join("adapter_model.safetensors");
    if !file.is_file() && folder.join("adapter_model.bin").is_file() {
        bail_data!("`{shown}` holds a pickled `adapter_model.bin`; save it as safetensors");
    }
    let tensors = Safetensors::open(&[file])?;
    let mut pairs = BTreeMap::new();
    let mut modules: BTreeSet<&str> = BTreeSet::new();
    for name in tensors.names() {
        let module = name.strip_prefix(PREFIX).and_then(|n| n.strip_suffix(".lora_A.weight").or_else(|| n.strip_suffix(".lora_B.weight")));
        let Some(module) = module else { bail_data!("the adapter in `{shown}` has a tensor `{name}`, which is no LoRA factor") };
        modules.insert(module);
    }
    for module in modules {
        let (key, rank, [a, b]) = factors(&tensors, module, model, &format!("the adapter in `{shown}`"))?;
        let alpha = alpha_of(&config, module)?;
        let scale = if config.use_rslora { alpha / (rank as f64).sqrt() } else { alpha / rank as f64 };
        pairs.insert(key, Pair { a, b, scale });
    }
    if pairs.is_empty() {
        bail_data!("the adapter in `{shown}` holds no factors");
    }
    Ok(Booster::from_overlay(Overlay::new(pairs)))
}

/// The place of a module in `model`, the rank of its factors in a file, and A [r, in] and B [out, r]; `what` is the file in
/// messages.
pub(super) fn factors(tensors: &Safetensors, module: &str, model: &Model, what: &str) -> Result<((usize, Role), usize, [Tensor; 2])> {
    let Some((layer, role)) = place(module, model) else {
        bail_data!("{what} is for a module `{module}`, which the model does not have");
    };
    let name = |part: &str| format!("{PREFIX}{module}.lora_{part}.weight");
    let shape = |part: &str| tensors.shape(&name(part)).map(<[usize]>::to_vec);
    let (out, inner) = model.target_shape(role);
    let rank = match (shape("A").as_deref(), shape("B").as_deref()) {
        (Some(&[r, i]), Some(&[o, q])) if r == q && r > 0 && (o, i) == (out, inner) => r,
        (Some(a), Some(b)) => {
            bail_data!("{what}: factors of `{module}` have shapes {a:?} and {b:?}; the module is {out} × {inner}")
        }
        (a, _) => {
            let (there, missing) = if a.is_some() { ("A", "B") } else { ("B", "A") };
            bail_data!("{what} has the factor {there} of `{module}`, but not {missing}")
        }
    };
    let load = |part: &str| tensors.load(&name(part), model.factor_dtype(), model.device());
    Ok(((layer, role), rank, [load("A")?, load("B")?]))
}

/// A pair's factors by the names that PEFT gives them, in f32.
pub(super) fn named_factors(module: &str, pair: &Pair) -> Result<[(String, Tensor); 2]> {
    let one = |part: &str, tensor: &Tensor| {
        Ok::<_, candle_core::Error>((format!("{PREFIX}{module}.lora_{part}.weight"), tensor.to_dtype(candle_core::DType::F32)?))
    };
    Ok([one("A", &pair.a)?, one("B", &pair.b)?])
}

/// The layer and target of a module's name.
fn place(module: &str, model: &Model) -> Option<(usize, Role)> {
    let (layer, path) = module.strip_prefix("model.layers.")?.split_once('.')?;
    let layer = layer.parse().ok().filter(|l| *l < model.layers())?;
    model.roles().into_iter().find(|r| r.path() == path).map(|role| (layer, role))
}

/// α of a module: that of the pattern it ends in, else the common one.
fn alpha_of(config: &Config, module: &str) -> Result<f64> {
    for (pattern, alpha) in &config.alpha_pattern {
        if pattern.contains(|c: char| "^$*+?()[]{}|\\".contains(c)) {
            bail_data!("the adapter's `alpha_pattern` holds a regular expression `{pattern}`; only module names are known");
        }
        if module == pattern || module.strip_suffix(pattern.as_str()).is_some_and(|rest| rest.ends_with('.')) {
            return Ok(*alpha);
        }
    }
    Ok(config.lora_alpha)
}

/// Refuses a booster that has no factors to write.
pub fn check(booster: &Booster) -> Result<()> {
    if booster.kind() == Kind::Dense {
        return Err(Error::usage("a dense booster is no adapter; save the model after merging")
            .hint("`model.merge(booster); model.save(\"model\");`")
            .into());
    }
    Ok(())
}

/// Writes a booster as an adapter folder that the `peft` library loads; `base` is the base model's name.
///
/// Errors: a dense booster, a folder that exists already, a disk that refuses.
pub fn save(booster: &Booster, folder: &Path, base: &str) -> Result<()> {
    check(booster)?;
    let pairs = booster.overlay.pairs();
    let mut tensors: Vec<(String, Tensor)> = vec![];
    let (mut ranks, mut alphas) = (BTreeMap::new(), BTreeMap::new());
    for (&(layer, role), pair) in pairs {
        let module = names::in_layer(layer, role.path());
        tensors.extend(named_factors(&module, pair)?);
        let rank = pair.a.dim(0)?;
        ranks.insert(module.clone(), rank);
        alphas.insert(module, pair.scale * rank as f64);
    }
    let (rank, alpha) = (ranks.values().next().copied().unwrap_or(1), alphas.values().next().copied().unwrap_or(1.0));
    let layers: BTreeSet<usize> = pairs.keys().map(|k| k.0).collect();
    let roles: BTreeSet<&str> = pairs.keys().map(|k| k.1.name()).collect();
    // A module outside layers × targets would be made by peft with random factors: name modules one by one then.
    let targets: Value = if pairs.len() == layers.len() * roles.len() { json!(roles) } else { json!(ranks.keys().collect::<Vec<_>>()) };
    let full = pairs.len() == layers.len() * roles.len();
    ranks.retain(|_, r| *r != rank);
    alphas.retain(|_, a| *a != alpha);
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "r": rank, "lora_alpha": alpha,
        "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": false, "target_modules": targets,
        "layers_to_transform": if full { json!(layers) } else { Value::Null },
        "rank_pattern": ranks, "alpha_pattern": alphas, "inference_mode": true,
    });
    save::write_folder(folder, |folder| {
        std::fs::write(folder.join("adapter_config.json"), format!("{config:#}\n")).context("cannot write `adapter_config.json`")?;
        save::write_safetensors(&folder.join("adapter_model.safetensors"), &tensors)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing;
    use candle_core::DType;

    #[test]
    fn what_is_saved_is_loaded() -> Result<()> {
        let model = testing::model(&testing::config(), DType::F32)?;
        let home = tempfile::tempdir()?;
        let all = testing::overlay(&model, &[0, 2], false)?;
        let some = Overlay::new(all.pairs().iter().filter(|(k, _)| **k != (2, Role::V)).map(|(k, p)| (*k, p.clone())).collect());
        for (name, overlay) in [("all", all), ("some", some)] {
            let folder = home.path().join(name);
            save(&Booster::from_overlay(overlay.clone()), &folder, "base")?;
            let loaded = load(&folder, &model)?;
            assert!(loaded.overlay.pairs().keys().eq(overlay.pairs().keys()));
            for (key, pair) in overlay.pairs() {
                let got = &loaded.overlay.pairs()[key];
                assert_eq!(got.a.to_vec2::<f32>()?, pair.a.to_vec2::<f32>()?);
                assert_eq!(got.b.to_vec2::<f32>()?, pair.b.to_vec2::<f32>()?);
                assert_eq!(got.scale, pair.scale);
            }
            assert!(save(&loaded, &folder, "base").is_err(), "an existing folder is not overwritten");
        }
        Ok(())
    }

    #[test]
    fn a_broken_adapter_is_named() -> Result<()> {
        let model = testing::model(&testing::config(), DType::F32)?;
        let home = tempfile::tempdir()?;
        let folder = home.path().join("a");
        save(&Booster::from_overlay(testing::overlay(&model, &[1], false)?), &folder, "base")?;
        let good = std::fs::read_to_string(folder.join("adapter_config.json"))?;
        let small = testing::model(&crate::model::Config { layers: 1, ..testing::config() }, DType::F32)?;
        let other = testing::model(&crate::model::Config { ff: 8, ..testing::config() }, DType::F32)?;
        let said = |model: &Model| {
            load(&folder, model)
                .err()
                .map(|e| (crate::error::class_of(&e), format!("{e:#}")))
                .unwrap_or((crate::error::Class::Run, "no error".into()))
        };
        for (model, text, want) in [
            (&small, good.clone(), "is for a module `model.layers.1.mlp.down_proj`, which the model does not have"),
            (&other, good.clone(), ": factors of `model.layers.1.mlp.down_proj` have shapes"),
            (&model, good.replace("\"LORA\"", "\"LOHA\""), "only `LORA` is known"),
            (&model, good.replace("\"r\": 2", "\"r\": -2"), "is no LoRA adapter config"),
            (&model, good.replace("\"bias\": \"none\"", "\"bias\": \"all\""), "trains biases"),
            (&model, good[..20].to_string(), "is no LoRA adapter config"),
        ] {
            std::fs::write(folder.join("adapter_config.json"), text)?;
            let (class, message) = said(model);
            assert!(message.contains(want), "{message:?} does not say {want:?}");
            assert_eq!(class, crate::error::Class::Data);
        }
        std::fs::write(folder.join("adapter_config.json"), good)?;
        let weights = std::fs::read(folder.join("adapter_model.safetensors"))?;
        for length in [0, 4, 100, weights.len() - 1] {
            std::fs::write(folder.join("adapter_model.safetensors"), &weights[..length])?;
            assert_eq!(said(&model).0, crate::error::Class::Data, "cut at {length}");
        }
        Ok(())
    }
}
