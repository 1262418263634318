//! A model as a GGUF file, for llama.cpp, transformers and this program.
//!
//! Keys: docs/gguf.md of ggml-org/ggml.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};

use super::arch::{Architecture, GgufTensor};
use super::{Model, ends, gguf};
use crate::error::bail;
use crate::io::atomic;
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
            _ => bail!(Usage, "unknown type `{name}` of a GGUF file: one of f32, f16, bf16"),
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
/// Errors (class usage): a model or a tokenizer that GGUF has no words for; those of
/// [`atomic::fresh`].
pub fn save(
    model: &Model,
    tokenizer: &Tokenizer,
    name: &str,
    storage: Storage,
    path: &Path,
) -> Result<()> {
    atomic::fresh(path)?;
    let (config, (kind, file_type)) = (model.config(), storage.ggml());
    let mut entries = described(model.architecture(), name)?;
    entries.push(("general.file_type".into(), Value::U32(file_type)));
    entries.extend(tokenizer.gguf(config.vocab_size)?);
    entries.extend(further_ends(&config.eos_token_ids, tokenizer.eos())?);
    write(path, &entries, &tensors(model, kind)?)
}

/// The tensors under GGUF's names, matrices stored as `kind`. Errors (class usage): one without a
/// name.
fn tensors(model: &Model, kind: GgmlDType) -> Result<Vec<(String, QTensor)>> {
    let architecture = model.architecture();
    let own = architecture.gguf_tensors();
    let mut tensors = vec![];
    for (id, tensor) in model.summed()? {
        let Some(GgufTensor { name, layout }) = own.get(&id.name) else {
            bail!(Usage, "GGUF has no name for the tensor `{}`", id.name)
        };
        let tensor =
            tensor.to_device(&Device::Cpu)?.to_dtype(model.storage)?.to_dtype(DType::F32)?;
        let tensor = gguf::laid_out(id.relaid(tensor)?, *layout)?;
        let kind = if tensor.rank() == 1 { GgmlDType::F32 } else { kind };
        tensors.push((name.clone(), QTensor::quantize(&tensor, kind)?));
    }
    if let Some(factors) = architecture.gguf_rope_factors() {
        let count = factors.len();
        let factors = Tensor::from_vec(factors, count, &Device::Cpu)?;
        tensors.push(("rope_freqs.weight".into(), QTensor::quantize(&factors, GgmlDType::F32)?));
    }
    Ok(tensors)
}

fn write(path: &Path, entries: &[(String, Value)], tensors: &[(String, QTensor)]) -> Result<()> {
    fn lent<T>(named: &[(String, T)]) -> Vec<(&str, &T)> {
        named.iter().map(|(name, value)| (name.as_str(), value)).collect()
    }
    atomic::file(path, |partial| {
        let mut file = BufWriter::new(std::fs::File::create(partial)?);
        gguf_file::write(&mut file, &lent(entries), &lent(tensors))?;
        file.flush()?;
        Ok(file.get_ref().sync_all()?)
    })
}

/// The end tokens beside the tokenizer's own. Errors (class usage): more than GGUF has keys for.
fn further_ends(ends: &[u32], eos: Option<u32>) -> Result<Vec<(String, Value)>> {
    let further: Vec<u32> = ends.iter().copied().filter(|id| Some(*id) != eos).collect();
    if further.len() > ends::GGUF_KEYS.len() {
        let most = ends::GGUF_KEYS.len();
        bail!(
            Usage,
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

/// What the file says of the architecture.
fn described(architecture: &dyn Architecture, name: &str) -> Result<Vec<(String, Value)>> {
    let own = architecture.gguf_name();
    let text = |text: &str| Value::String(text.to_owned());
    let general =
        [("general.architecture".to_owned(), text(own)), ("general.name".to_owned(), text(name))];
    let metadata = architecture.gguf_metadata()?;
    let below = metadata.into_iter().map(|(key, value)| (format!("{own}.{key}"), value));
    Ok(general.into_iter().chain(below).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::arch::llama::Config;
    use crate::model::arch::{qwen2, qwen3};
    use crate::model::nn::rope_scaling::{RopeScaling, Yarn};
    use crate::model::{load, testing};
    use crate::source::ModelFiles;

    fn tokenizer() -> Result<Tokenizer> {
        let texts = ["the owl eats fish", "snow is cold and white"].map(String::from).to_vec();
        Tokenizer::train(texts, 280)
    }

    /// What GGUF says in other words than `config.json`: scalings, and models beside Llama.
    fn configs() -> [Config; 7] {
        let yarn = Yarn {
            factor: 2.0,
            original: 32.0,
            attention: Yarn::mscale(2.0, 1.0),
            fast: 16.0,
            slow: 1.0,
            truncate: true,
        };
        let llama3 = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        [
            testing::config(),
            testing::with(|c| {
                (c.common.tie_word_embeddings, c.rope_scaling) = (true, RopeScaling::Linear(2.0));
            }),
            testing::with(|c| c.rope_scaling = llama3),
            testing::with(|c| {
                c.rope_scaling = RopeScaling::Factors(vec![1.0, 2.5]);
                c.windows = vec![Some(64); 3];
            }),
            testing::with(|c| c.rope_scaling = RopeScaling::Yarn(yarn)),
            testing::with(|c| (c.variant, c.qkv_bias) = (&qwen2::VARIANT, true)),
            testing::with(|c| (c.variant, c.qk_norm) = (&qwen3::VARIANT, true)),
        ]
    }

    /// Checks that a file has a model's config, its tokenizer, and its numbers but for a share of
    /// `bound`.
    fn holds(path: &Path, model: &Model, tokenizer: &Tokenizer, bound: f32) -> Result<()> {
        let files = ModelFiles::Gguf { file: path.to_owned(), pre_tokenizer: None };
        let again = load::load(&files, &Device::Cpu, DType::F32)?;
        assert_eq!(again.model.config().eos_token_ids, model.config().eos_token_ids);
        let scaling = |model: &Model| model.architecture().to_json()["rope_scaling"].clone();
        assert_eq!(scaling(&again.model), scaling(model));
        assert_eq!(
            (again.tokenizer.eos(), again.tokenizer.encode("the owl is cold")?),
            (tokenizer.eos(), tokenizer.encode("the owl is cold")?)
        );
        for ((id, a), (other, b)) in model.params().zip(again.model.params()) {
            assert_eq!(id, other);
            let (a, b) = (a.flatten_all()?.to_vec1::<f32>()?, b.flatten_all()?.to_vec1::<f32>()?);
            let near = a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= bound * a.abs());
            assert!(a.len() == b.len() && near, "{id} {}", path.display());
        }
        Ok(())
    }

    #[test]
    fn what_is_written_is_read() -> Result<()> {
        let (home, tokenizer) = (tempfile::tempdir()?, tokenizer()?);
        for (number, mut config) in configs().into_iter().enumerate() {
            // The first is the tokenizer's own; a turn and a message have others.
            let eos = tokenizer.eos().into_iter().chain([5, 6].into_iter().take(number)).collect();
            config.common.vocab_size = tokenizer.vocab_size() + 3;
            config.common.eos_token_ids = eos;
            let model = testing::model(&config, DType::F32)?;
            for (storage, name, bound) in [
                (Storage::F32, "f32", 0.0),
                (Storage::F16, "f16", 1e-3),
                (Storage::BF16, "bf16", 8e-3),
            ] {
                assert_eq!(Storage::from_name(name)?, storage);
                let path = home.path().join(format!("{number}.{name}.gguf"));
                save(&model, &tokenizer, "tiny", storage, &path)?;
                holds(&path, &model, &tokenizer, bound)?;
            }
        }
        Ok(())
    }

    #[test]
    fn what_cannot_be_written_is_refused() -> Result<()> {
        assert!(further_ends(&[1, 2, 3, 4], Some(4)).is_err());
        let there = tempfile::NamedTempFile::new()?;
        let model = testing::model(&testing::config(), DType::F32)?;
        let error = save(&model, &tokenizer()?, "x", Storage::F32, there.path()).unwrap_err();
        assert!(error.to_string().contains("it exists already"), "{error}");
        Ok(())
    }
}
