//! The tensors of an adapter's file, told apart by their names.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Result as TensorResult, Tensor};

use super::PREFIX;
use crate::error::{Error, error};
use crate::source::{Safetensors, TensorSource};

/// What a tensor of a module with factors is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LoraTensor {
    A,
    B,
    /// Of B.
    Bias,
    EmbeddingA,
    EmbeddingB,
    /// Of DoRA.
    Magnitude,
    /// What VeLoRA's training keeps beside the factors.
    Velora,
}

/// A tensor that stands in for one of the model's.
#[derive(Debug)]
pub(super) struct Whole {
    /// Its name in the file.
    pub name: String,
    /// Whether it lies below a module with factors.
    pub below: bool,
}

/// Names in the file, by what they stand for.
#[derive(Debug, Default)]
pub(super) struct AdapterTensors {
    /// By module.
    pub factors: BTreeMap<String, BTreeMap<LoraTensor, String>>,
    /// By the published name of the tensor.
    pub whole: BTreeMap<String, Whole>,
    /// Rows of a module's weight, by module.
    pub rows: BTreeMap<String, String>,
    /// The name that the adapter has in the file, where it has one.
    pub adapter: Option<String>,
}

impl AdapterTensors {
    /// Sorts all names of a file. Errors (class data): a name that is none of PEFT's, several
    /// adapters in one file.
    pub fn of(tensors: &Safetensors) -> Result<Self, Error> {
        let names = tensors.names().into_iter();
        let named = names.map(|name| Ok((name, Role::of(name)?)));
        let roles = named.collect::<Result<Vec<_>, Error>>()?;
        let mut adapters: BTreeSet<_> =
            roles.iter().filter_map(|(_, role)| role.adapter()).collect();
        if adapters.len() > 1 {
            return Err(several(&adapters));
        }
        let adapter = adapters.pop_first().flatten().map(str::to_owned);
        let mut stored = Self { adapter, ..Self::default() };
        for (name, role) in roles {
            stored.add(name, role)?;
        }
        Ok(stored)
    }

    /// Errors (class data): a part that is there already.
    fn add(&mut self, name: &str, role: Role) -> Result<(), Error> {
        match role {
            Role::Factor { module, part, .. } => {
                let parts = self.factors.entry(module.to_owned()).or_default();
                if let Some(other) = parts.insert(part, name.to_owned()) {
                    return Err(error!(
                        Data,
                        "its tensors `{other}` and `{name}` are the same part of a module"
                    ));
                }
            }
            Role::Rows { module, .. } => {
                self.rows.insert(module.to_owned(), name.to_owned());
            }
            Role::Whole { published, below } => {
                self.whole.insert(published, Whole { name: name.to_owned(), below });
            }
        }
        Ok(())
    }
}

/// What a tensor is, as its name in the file says.
enum Role<'a> {
    Factor { module: &'a str, part: LoraTensor, adapter: Option<&'a str> },
    Rows { module: &'a str, adapter: Option<&'a str> },
    Whole { published: String, below: bool },
}

impl<'a> Role<'a> {
    /// Errors (class data): a name that is none of PEFT's.
    fn of(name: &'a str) -> Result<Self, Error> {
        let Some(inside) = name.strip_prefix(PREFIX) else {
            return Err(error!(
                Data,
                "it has a tensor `{name}`, whose name does not begin with `{PREFIX}`"
            ));
        };
        if let Some((module, rest)) = inside.split_once(".lora_") {
            let (part, adapter) = part(rest).ok_or_else(|| no_factor(name, rest))?;
            return Ok(Self::Factor { module, part, adapter });
        }
        if let Some((module, rest)) = inside.split_once(".token_adapter.trainable_tokens_delta") {
            return Ok(Self::Rows { module, adapter: rest.strip_prefix('.') });
        }
        let published = inside.replacen(".base_layer.", ".", 1);
        Ok(Self::Whole { published, below: inside.contains(".base_layer.") })
    }

    /// The name that the adapter has here, if it has one; `None` where PEFT may leave it out.
    fn adapter(&self) -> Option<Option<&'a str>> {
        match *self {
            // PEFT writes magnitudes without the adapter's name too, beside factors that have it.
            Self::Factor { part: LoraTensor::Magnitude, adapter, .. } => adapter.map(Some),
            Self::Factor { adapter, .. } => Some(adapter),
            // PEFT never writes the adapter's name behind rows.
            Self::Rows { adapter, .. } => adapter.map(Some),
            Self::Whole { .. } => None,
        }
    }
}

/// The error for a file of several adapters.
fn several(adapters: &BTreeSet<Option<&str>>) -> Error {
    let one = |name: &Option<&str>| name.map_or("one without a name".into(), |n| format!("`{n}`"));
    let names: Vec<String> = adapters.iter().map(one).collect();
    error!(
        Data,
        "its file holds tensors of several adapters: {}",
        names.join(", ");
        hint: "write each to a file of its own: `save_pretrained(…, selected_adapters=[…])`"
    )
}

/// The error for a tensor whose name is that of no part.
fn no_factor(name: &str, rest: &str) -> Error {
    let magnitude = rest.strip_prefix("magnitude_vector.").filter(|name| !name.contains('.'));
    match magnitude {
        Some(adapter) => old_magnitude(name, adapter),
        None => error!(
            Data,
            "it has a tensor `{name}`, which is no LoRA factor of a linear module or an embedding"
        ),
    }
}

/// The error for a magnitude under the name that it had inside models of older versions of PEFT.
fn old_magnitude(name: &str, adapter: &str) -> Error {
    error!(
        Data,
        "it has a tensor `{name}`, which PEFT 0.21 passes over: the magnitudes would be those of \
         the base";
        hint: "write the file again with `.{adapter}` taken out of the names of its tensors"
    )
}

/// What stands behind `.lora_` in a name: the part, and the adapter's name where it has one.
fn part(rest: &str) -> Option<(LoraTensor, Option<&str>)> {
    Some(match rest.split('.').collect::<Vec<_>>()[..] {
        ["A", "weight"] => (LoraTensor::A, None),
        ["A", adapter, "weight"] => (LoraTensor::A, Some(adapter)),
        ["B", "weight"] => (LoraTensor::B, None),
        ["B", adapter, "weight"] => (LoraTensor::B, Some(adapter)),
        ["B", "bias"] => (LoraTensor::Bias, None),
        ["B", adapter, "bias"] => (LoraTensor::Bias, Some(adapter)),
        ["embedding_A"] => (LoraTensor::EmbeddingA, None),
        ["embedding_A", adapter] => (LoraTensor::EmbeddingA, Some(adapter)),
        ["embedding_B"] => (LoraTensor::EmbeddingB, None),
        ["embedding_B", adapter] => (LoraTensor::EmbeddingB, Some(adapter)),
        ["magnitude_vector"] | ["magnitude_vector", "weight"] => (LoraTensor::Magnitude, None),
        ["magnitude_vector", adapter, "weight"] => (LoraTensor::Magnitude, Some(adapter)),
        ["velora_embed"] => (LoraTensor::Velora, None),
        ["velora_embed", adapter] => (LoraTensor::Velora, Some(adapter)),
        _ => return None,
    })
}

/// The transpose, laid out anew.
pub(super) fn transposed(tensor: &Tensor) -> TensorResult<Tensor> {
    tensor.t()?.contiguous()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn stored(names: &[&str]) -> Result<AdapterTensors, Error> {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.safetensors");
        let one =
            |name: &&str| (name.to_string(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
        crate::model::save::write_safetensors(&path, &names.iter().map(one).collect::<Vec<_>>())
            .unwrap();
        AdapterTensors::of(&Safetensors::open(&[path]).unwrap())
    }

    #[test]
    fn names_are_told_apart() {
        let q = "base_model.model.model.layers.0.self_attn.q_proj";
        let all = stored(&[
            &format!("{q}.lora_A.default.weight"),
            &format!("{q}.lora_B.default.weight"),
            &format!("{q}.lora_magnitude_vector.default.weight"),
            "base_model.model.lm_head.token_adapter.trainable_tokens_delta",
            &format!("{q}.base_layer.bias"),
            "base_model.model.model.embed_tokens.lora_embedding_A.default",
            "base_model.model.lm_head.weight",
        ]);
        let all = all.unwrap();
        let parts: Vec<LoraTensor> =
            all.factors["model.layers.0.self_attn.q_proj"].keys().copied().collect();
        assert_eq!(parts, [LoraTensor::A, LoraTensor::B, LoraTensor::Magnitude]);
        assert_eq!(all.factors["model.embed_tokens"].keys().next(), Some(&LoraTensor::EmbeddingA));
        assert_eq!(all.adapter.as_deref(), Some("default"));
        assert!(
            all.whole["model.layers.0.self_attn.q_proj.bias"].below
                && !all.whole["lm_head.weight"].below
        );
        let rows =
            stored(&["base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"])
                .unwrap();
        assert_eq!((rows.rows.len(), rows.adapter), (1, None));
    }

    #[test]
    fn what_is_no_single_adapter_is_refused() {
        let said = |names: &[&str]| stored(names).unwrap_err().message;
        let other = said(&["model.layers.0.self_attn.q_proj.lora_A.weight"]);
        assert!(other.contains("does not begin with `base_model.model.`"), "{other}");
        for (parts, want) in [
            (&["lora_C.weight"][..], "which is no LoRA factor"),
            (&["lora_diag"], "which is no LoRA factor"),
            (&["lora_A.one.weight", "lora_A.two.weight"], "several adapters: `one`, `two`"),
            (&["lora_magnitude_vector.default"], "which PEFT 0.21 passes over"),
            (
                &["lora_magnitude_vector", "lora_magnitude_vector.weight"],
                "are the same part of a module",
            ),
            (&["lora_A.weight", "lora_B.default.weight"], "one without a name, `default`"),
        ] {
            let q = "base_model.model.model.layers.0.self_attn.q_proj";
            let names: Vec<String> = parts.iter().map(|part| format!("{q}.{part}")).collect();
            let message = said(&names.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(message.contains(want), "{message} does not say {want}");
        }
    }
}
