//! How an architecture registers its parameters: each gets an id and its numbers.

use anyhow::Result;
use candle_core::{DType, Device};

use super::{CommonConfig, HEAD, HeadConfig};
use crate::device;
use crate::model::meta;
use crate::model::nn::{Head, HeadLinear, Linear, LmHead, Norm, NormKind, Pooled, SequenceHead};
use crate::model::params::{ModelParams, NewLinear, ParamId, ParamKind};
use crate::source::TensorSource;

/// A linear module that boosters can target.
#[derive(Debug)]
pub struct Target {
    /// As PEFT's `target_modules` names it: the last part of its path.
    pub name: &'static str,
    /// Its path in a layer.
    pub path: &'static str,
    /// Whether it adds to the residual stream.
    pub into_residual: bool,
    /// Whether published weights are [in, out].
    pub transposed: bool,
}

/// Loads parameters in the order in which an architecture asks for them.
pub struct Builder<'a> {
    /// None for a model without numbers.
    source: Option<&'a dyn TensorSource>,
    device: Device,
    storage: DType,
    compute: DType,
    params: ModelParams,
    /// The layer that is being built, and what names in it begin with.
    layer: Option<usize>,
    prefix: String,
}

/// What was built.
pub struct BuiltParams {
    pub params: ModelParams,
    pub device: Device,
    pub storage: DType,
    pub compute: DType,
}

impl<'a> Builder<'a> {
    /// Of a model with the numbers of `source`, which has every tensor in its published shape.
    pub fn new(source: &'a dyn TensorSource, device: &Device, storage: DType) -> Self {
        Self { source: Some(source), ..Self::without(device, storage) }
    }

    /// Of a model without numbers.
    pub fn meta(storage: DType) -> Self {
        Self::without(&Device::Cpu, storage)
    }

    fn without(device: &Device, storage: DType) -> Self {
        Self {
            source: None,
            device: device.clone(),
            storage,
            compute: device::compute_dtype(storage, device),
            params: ModelParams::default(),
            layer: None,
            prefix: String::new(),
        }
    }

    /// Begins a layer, in which names begin with `prefix` and its number.
    pub fn enter(&mut self, prefix: &str, layer: usize) {
        (self.layer, self.prefix) = (Some(layer), format!("{prefix}{layer}."));
    }

    /// Goes on outside layers.
    pub fn leave(&mut self) {
        (self.layer, self.prefix) = (None, String::new());
    }

    fn name(&self, inside: &str) -> String {
        format!("{}{inside}", self.prefix)
    }

    /// A matrix, in the storage type.
    pub fn matrix(
        &mut self,
        name: &str,
        shape: (usize, usize),
        kind: ParamKind,
    ) -> Result<ParamId> {
        let id = self.params.next_id(self.name(name), self.layer, &[shape.0, shape.1], kind);
        let tensor = match self.source {
            Some(source) => id.relaid(source.load(&id.name, self.storage, &self.device)?)?,
            None => meta::empty(shape, self.storage)?,
        };
        self.params.push(id.clone(), tensor);
        Ok(id)
    }

    /// A vector. They are small and computed with in f32; their numbers are those of the storage
    /// type, so that what is measured is what is saved.
    fn vector(&mut self, name: &str, size: usize, kind: ParamKind) -> Result<ParamId> {
        let id = self.params.next_id(self.name(name), self.layer, &[size], kind);
        let wide = if self.compute == DType::F64 { DType::F64 } else { DType::F32 };
        let tensor = match self.source {
            Some(source) => source.load(&id.name, self.storage, &self.device)?.to_dtype(wide)?,
            None => meta::empty(size, wide)?,
        };
        self.params.push(id.clone(), tensor);
        Ok(id)
    }

    /// A norm with `name.weight` and, of a layer norm, `name.bias`.
    pub fn norm(&mut self, name: &str, kind: NormKind, size: usize, eps: f64) -> Result<Norm> {
        let bias = (kind == NormKind::Layer).then_some(ParamKind::NormBias);
        self.norm_of((ParamKind::NormWeight, bias), name, size, eps)
    }

    /// A layer norm of what the first layer reads.
    pub fn embedding_norm(&mut self, name: &str, size: usize, eps: f64) -> Result<Norm> {
        let kind = ParamKind::EmbeddingNorm;
        self.norm_of((kind.clone(), Some(kind)), name, size, eps)
    }

    /// A layer norm of a head.
    pub fn head_norm(&mut self, name: &str, size: usize, eps: f64) -> Result<Norm> {
        let kind = ParamKind::TaskHead;
        self.norm_of((kind.clone(), Some(kind)), name, size, eps)
    }

    fn norm_of(
        &mut self,
        (weight, bias): (ParamKind, Option<ParamKind>),
        name: &str,
        size: usize,
        eps: f64,
    ) -> Result<Norm> {
        let weight = self.vector(&format!("{name}.weight"), size, weight)?;
        let bias = bias.map(|kind| self.vector(&format!("{name}.bias"), size, kind)).transpose()?;
        Ok(Norm { weight, bias, eps })
    }

    /// A linear module [out, in] of a head.
    pub fn head_linear(
        &mut self,
        name: &str,
        shape: (usize, usize),
        bias: bool,
    ) -> Result<HeadLinear> {
        let weight = self.matrix(&format!("{name}.weight"), shape, ParamKind::TaskHead)?;
        let bias = match bias {
            true => Some(self.head_vector(&format!("{name}.bias"), shape.0)?),
            false => None,
        };
        Ok(HeadLinear { weight, bias })
    }

    /// A linear module [out, in] with a bias that nothing here reads.
    pub fn unread_linear(&mut self, name: &str, shape: (usize, usize)) -> Result<()> {
        self.matrix(&format!("{name}.weight"), shape, ParamKind::Unread)?;
        self.vector(&format!("{name}.bias"), shape.0, ParamKind::Unread)?;
        Ok(())
    }

    /// A vector of a head.
    pub fn head_vector(&mut self, name: &str, size: usize) -> Result<ParamId> {
        self.vector(name, size, ParamKind::TaskHead)
    }

    /// The head of a decoder: of a language model, or classes by the last token of a sequence, as
    /// in transformers' `GenericForSequenceClassification`.
    pub fn decoder_head(&mut self, common: &CommonConfig, tokens: &ParamId) -> Result<Head> {
        let hidden = common.hidden_size;
        if let HeadConfig::Sequence(sequence) = &common.head {
            let out = self.head_linear("score", (sequence.outputs(), hidden), false)?;
            let (pooled, dense) = (Pooled::Last, None);
            return Ok(Head::Sequence(SequenceHead { pooled, dense, out }));
        }
        let weight = match common.tie_word_embeddings {
            true => tokens.clone(),
            false => self.matrix(HEAD, (common.vocab_size, hidden), ParamKind::Head)?,
        };
        Ok(Head::Lm(LmHead { weight }))
    }

    /// A linear module [out, in] of the layer that is being built.
    pub fn linear(
        &mut self,
        target: &'static Target,
        shape: (usize, usize),
        bias: bool,
    ) -> Result<Linear> {
        let id = self.params.push_linear(NewLinear {
            layer: self.layer.unwrap_or(0),
            target: target.name,
            name: self.name(target.path),
            shape,
            into_residual: target.into_residual,
            transposed: target.transposed,
        });
        let name = |part: &str| format!("{}.{part}", target.path);
        let weight = self.matrix(&name("weight"), shape, ParamKind::Weight(id.clone()))?;
        let bias = if bias {
            Some(self.vector(&name("bias"), shape.0, ParamKind::Bias(id.clone()))?)
        } else {
            None
        };
        Ok(Linear { id, weight, bias })
    }

    pub fn finish(self) -> BuiltParams {
        let Self { params, device, storage, compute, .. } = self;
        BuiltParams { params, device, storage, compute }
    }
}
