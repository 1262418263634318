//! A model as a GGUF file, for llama.cpp, transformers and this program.
//!
//! Keys: docs/gguf.md of ggml-org/ggml.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};

use super::block::NormKind;
use super::config::{Config, RopeScaling};
use super::rope::{self, Yarn};
use super::{Model, ends, gguf};
use crate::bail_usage;
use crate::ops::activation::Activation;
use crate::source::Tokenizer;

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    F32,
    F16,
    BF16,
}

impl Storage {
    /// Errors (class usage): another name.
    pub fn from_name(name: &str) -> Result<Self> {
        Ok(match name {
            "f32" => Self::F32,
            "f16" => Self::F16,
            "bf16" => Self::BF16,
            _ => bail_usage!("unknown type `{name}` of a GGUF file: one of f32, f16, bf16"),
        })
    }

    /// ggml's type, and the number of `general.file_type`.
    fn ggml(self) -> (GgmlDType, u32) {
        match self {
            Self::F32 => (GgmlDType::F32, 0),
            Self::F16 => (GgmlDType::F16, 1),
            Self::BF16 => (GgmlDType::BF16, 32),
        }
    }
}

/// Writes a model to `path`, whole or not at all; norms and biases stay in f32, as llama.cpp wants
/// them.
///
/// Errors (class usage): a model or a tokenizer that GGUF has no words for.
pub fn save(
    model: &Model,
    tokenizer: &Tokenizer,
    name: &str,
    storage: Storage,
    path: &Path,
) -> Result<()> {
    if path.exists() {
        bail_usage!("cannot write `{}`: it exists already", path.display());
    }
    let (kind, file_type) = storage.ggml();
    let mut entries = described(model.config(), name)?;
    entries.push(("general.file_type".into(), Value::U32(file_type)));
    entries.extend(tokenizer.gguf(model.config().vocabulary)?);
    entries.extend(further_ends(&model.config().eos, tokenizer.eos())?);
    let own = gguf::names(model.config());
    let mut tensors = vec![];
    for (published, tensor) in model.summed()? {
        let Some((name, heads)) = own.get(&published) else {
            bail_usage!("GGUF has no name for the tensor `{published}`")
        };
        let tensor =
            tensor.to_device(&Device::Cpu)?.to_dtype(model.storage)?.to_dtype(DType::F32)?;
        let tensor =
            heads.map_or_else(|| Ok(tensor.clone()), |heads| interleaved(&tensor, heads))?;
        let kind = if tensor.rank() == 1 { GgmlDType::F32 } else { kind };
        tensors.push((name.clone(), QTensor::quantize(&tensor, kind)?));
    }
    if let Some(factors) = rope_factors(model.config()) {
        let count = factors.len();
        let factors = Tensor::from_vec(factors, count, &Device::Cpu)?;
        tensors.push(("rope_freqs.weight".into(), QTensor::quantize(&factors, GgmlDType::F32)?));
    }
    let partial = path.with_extension("partial");
    let write = || -> Result<()> {
        let mut file = BufWriter::new(std::fs::File::create(&partial)?);
        let entries: Vec<(&str, &Value)> =
            entries.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<(&str, &QTensor)> =
            tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        gguf_file::write(&mut file, &entries, &tensors)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        Ok(std::fs::rename(&partial, path)?)
    };
    write().with_context(|| format!("cannot write `{}`", path.display()))
}

/// What `rope_freqs.weight` holds, where a scaling has a factor for each frequency.
fn rope_factors(config: &Config) -> Option<Vec<f32>> {
    let single = config.rope_scaling.boundary().is_none() && config.rope_scaling.attention() == 1.0;
    match &config.rope_scaling {
        RopeScaling::Factors(factors) => Some(factors.iter().map(|f| *f as f32).collect()),
        RopeScaling::Llama3 { .. } | RopeScaling::Longrope(_) if single => {
            let plain = rope::plain(config.rope_theta, config.head_width);
            Some(
                plain
                    .iter()
                    .zip(config.frequencies(1))
                    .map(|(f, scaled)| (f / scaled) as f32)
                    .collect(),
            )
        }
        _ => None,
    }
}

/// What the metadata say of the scaling. Errors (class usage): one that llama.cpp does not compute.
fn rope_entries(config: &Config) -> Result<Vec<(&'static str, Value)>> {
    let kind = |kind: &str| ("rope.scaling.type", Value::String(kind.to_owned()));
    let factor = |x: f64| Value::F32(x as f32);
    Ok(match &config.rope_scaling {
        RopeScaling::None | RopeScaling::Llama3 { .. } => vec![],
        RopeScaling::Factors(factors) if factors.iter().all(|f| f.is_finite()) => vec![],
        RopeScaling::Longrope(_) if rope_factors(config).is_some() => vec![],
        RopeScaling::Linear(by) => vec![kind("linear"), ("rope.scaling.factor", factor(*by))],
        RopeScaling::Yarn(yarn) if yarn.truncate && yarn.original.fract() == 0.0 => {
            let mut entries = vec![
                kind("yarn"),
                ("rope.scaling.factor", factor(yarn.factor)),
                ("rope.scaling.original_context_length", Value::U32(yarn.original as u32)),
            ];
            let more = yarn.attention / Yarn::mscale(yarn.factor, 1.0);
            for (name, value, usual) in [
                ("rope.scaling.attn_factor", more, 1.0),
                ("rope.scaling.yarn_beta_fast", yarn.fast, 32.0),
                ("rope.scaling.yarn_beta_slow", yarn.slow, 1.0),
            ] {
                if (value - usual).abs() > 1e-6 {
                    entries.push((name, factor(value)));
                }
            }
            entries
        }
        RopeScaling::Dynamic { .. } => bail_usage!(
            "GGUF has no words for a `dynamic` rope scaling, which depends on a text's length"
        ),
        RopeScaling::Longrope(_) => {
            bail_usage!(
                "this model's `longrope` has other factors for longer texts, which llama.cpp would \
                 choose by its context, not by the text"
            )
        }
        RopeScaling::Factors(_) => bail_usage!(
            "GGUF has no words for frequencies that do not turn (`proportional` rope scaling)"
        ),
        RopeScaling::Yarn(_) => {
            bail_usage!("GGUF has no words for a `yarn` rope scaling with `truncate` false")
        }
    })
}

/// The end tokens beside the tokenizer's own. Errors (class usage): more than GGUF has keys for.
fn further_ends(ends: &[u32], eos: Option<u32>) -> Result<Vec<(String, Value)>> {
    let further: Vec<u32> = ends.iter().copied().filter(|id| Some(*id) != eos).collect();
    if further.len() > ends::GGUF_KEYS.len() {
        let most = ends::GGUF_KEYS.len();
        bail_usage!(
            "GGUF names {most} end tokens beside the tokenizer's own, and the model has {}: \
             {further:?}",
            further.len()
        );
    }
    Ok(ends::GGUF_KEYS
        .into_iter()
        .map(str::to_owned)
        .zip(further.into_iter().map(Value::U32))
        .collect())
}

/// Rows as GGUF's llama files have them: the two halves of each head's rows in turns.
fn interleaved(tensor: &Tensor, heads: usize) -> Result<Tensor> {
    let shape = tensor.shape().clone();
    let (half, rest) = (shape.dims()[0] / heads / 2, shape.elem_count() / shape.dims()[0]);
    Ok(tensor.reshape((heads, 2, half, rest))?.transpose(1, 2)?.contiguous()?.reshape(shape)?)
}

/// What the file says of the architecture.
fn described(config: &Config, name: &str) -> Result<Vec<(String, Value)>> {
    let architecture = match config.model_type.as_str() {
        "llama" | "mistral" => "llama",
        known @ ("qwen2" | "qwen3") => known,
        other => bail_usage!(
            "a model of type `{other}` is not written to GGUF; llama, mistral, qwen2 and qwen3 are"
        ),
    };
    let usual = config.norm == NormKind::Rms
        && config.gated
        && config.activation == Activation::Silu
        && config.causal;
    if !usual {
        bail_usage!("GGUF's `{architecture}` has no words for this model's norms or activation");
    }
    // A window that no sequence outgrows changes nothing.
    if let Some(window) =
        config.windows.iter().flatten().find(|window| **window < config.max_positions)
    {
        bail_usage!(
            "GGUF's `{architecture}` has no words for this model's sliding window of {window} \
             tokens: llama.cpp would attend to all"
        );
    }
    let size = |n: usize| Value::U32(n as u32);
    let text = |text: &str| Value::String(text.to_owned());
    let mut own = vec![
        ("context_length", size(config.max_positions)),
        ("embedding_length", size(config.width)),
        ("block_count", size(config.layers)),
        ("feed_forward_length", size(config.ff)),
        ("attention.head_count", size(config.heads)),
        ("attention.head_count_kv", size(config.groups)),
        ("attention.key_length", size(config.head_width)),
        ("attention.value_length", size(config.head_width)),
        ("attention.layer_norm_rms_epsilon", Value::F32(config.eps as f32)),
        ("rope.dimension_count", size(config.head_width)),
        ("rope.freq_base", Value::F32(config.rope_theta as f32)),
        ("vocab_size", size(config.vocabulary)),
    ];
    own.extend(rope_entries(config)?);
    let general = [
        ("general.architecture".to_owned(), text(architecture)),
        ("general.name".to_owned(), text(name)),
    ];
    Ok(general
        .into_iter()
        .chain(own.into_iter().map(|(key, value)| (format!("{architecture}.{key}"), value)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{load, testing};
    use crate::source::ModelFiles;

    #[test]
    fn what_is_written_is_read() -> Result<()> {
        let home = tempfile::tempdir()?;
        let texts = ["the owl eats fish", "snow is cold and white"].map(String::from).to_vec();
        let tokenizer = Tokenizer::train(texts, 280)?;
        let yarn = Yarn {
            factor: 2.0,
            original: 32.0,
            attention: Yarn::mscale(2.0, 1.0),
            fast: 16.0,
            slow: 1.0,
            truncate: true,
        };
        let (rows, plain) = (
            tokenizer.vocab_size() + 3,
            Config { model_type: "llama".into(), ..testing::config() },
        );
        let configs = [
            plain.clone(),
            Config { tied: true, rope_scaling: RopeScaling::Linear(2.0), ..plain.clone() },
            Config {
                rope_scaling: RopeScaling::Llama3 {
                    factor: 8.0,
                    low: 1.0,
                    high: 4.0,
                    original: 8192.0,
                },
                ..plain.clone()
            },
            Config {
                rope_scaling: RopeScaling::Factors(vec![1.0, 2.5]),
                windows: vec![Some(64); 3],
                ..plain.clone()
            },
            Config { rope_scaling: RopeScaling::Yarn(yarn), ..plain.clone() },
            Config { model_type: "qwen2".into(), qkv_bias: true, ..plain.clone() },
            Config { model_type: "qwen3".into(), head_norms: true, ..plain },
        ];
        for (number, config) in configs.into_iter().enumerate() {
            // The first is the tokenizer's own; a turn and a message have others.
            let eos = tokenizer.eos().into_iter().chain([5, 6].into_iter().take(number)).collect();
            let config = Config { vocabulary: rows, eos, ..config };
            let model = testing::model(&config, DType::F32)?;
            for (storage, name, bound) in [
                (Storage::F32, "f32", 0.0),
                (Storage::F16, "f16", 1e-3),
                (Storage::BF16, "bf16", 8e-3),
            ] {
                assert_eq!(Storage::from_name(name)?, storage);
                let path = home.path().join(format!("{number}.{name}.gguf"));
                save(&model, &tokenizer, "tiny", storage, &path)?;
                let again = load::load(
                    &ModelFiles::Gguf { file: path, pre_tokenizer: None },
                    &Device::Cpu,
                    DType::F32,
                )?;
                assert_eq!(again.model.config().rope_scaling, config.rope_scaling);
                assert_eq!(again.model.config().eos, config.eos);
                assert_eq!(
                    (again.tokenizer.eos(), again.tokenizer.encode("the owl is cold")?),
                    (tokenizer.eos(), tokenizer.encode("the owl is cold")?)
                );
                for ((name, a), (other, b)) in
                    model.tensors().into_iter().zip(again.model.tensors())
                {
                    assert_eq!(name, other);
                    let (a, b) =
                        (a.flatten_all()?.to_vec1::<f32>()?, b.flatten_all()?.to_vec1::<f32>()?);
                    assert!(
                        a.len() == b.len()
                            && a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= bound * a.abs()),
                        "{name} {storage:?}"
                    );
                }
            }
        }
        assert!(further_ends(&[1, 2, 3, 4], Some(4)).is_err());
        assert!(
            save(
                &testing::model(&testing::config(), DType::F32)?,
                &tokenizer,
                "x",
                Storage::F32,
                &home.path().join("0.f32.gguf")
            )
            .is_err()
        );
        Ok(())
    }
}
