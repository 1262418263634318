//! From an adapter's tensors to what is laid over a model: pairs on linear modules in layers, and
//! whole tensors for what is no sum with a product, or belongs to embedding, head, norms and
//! biases.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};

use super::config::{LoraConfig, Start};
use super::start;
use super::stored::{AdapterTensors, LoraTensor, transposed};
use super::{HEAD, Weights, embedding, place, rank_of};
use crate::error::{Error, bail, error};
use crate::model::arch::HEAD as HEAD_WEIGHT;
use crate::model::{Adapter, LinearId, Model, ParamId};
use crate::ops::linear::LoraPair;
use crate::ops::matmul;
use crate::source::{Safetensors, TensorSource};

/// Where a module with factors is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ModulePlace {
    Linear(LinearId),
    Embedding,
    Head,
}

impl ModulePlace {
    /// Errors (class data): a module that the model does not have.
    fn of(module: &str, model: &Model) -> Result<Self> {
        Ok(match (module, place(module, model)) {
            (_, Some(linear)) => Self::Linear(linear.clone()),
            (HEAD, _) => Self::Head,
            (module, _) if module == embedding(model) => Self::Embedding,
            _ => bail!(Data, "it is for a module `{module}`, which the model does not have"),
        })
    }

    /// The parts that are A and B there.
    fn factors(&self) -> [LoraTensor; 2] {
        match self {
            Self::Embedding => [LoraTensor::EmbeddingA, LoraTensor::EmbeddingB],
            Self::Linear(_) | Self::Head => [LoraTensor::A, LoraTensor::B],
        }
    }
}

/// An adapter on its way over a model.
pub(super) struct Carry<'a> {
    pub config: &'a LoraConfig,
    pub stored: &'a AdapterTensors,
    pub tensors: &'a Safetensors,
    pub model: &'a Model,
    pub weights: Weights,
    /// Of the model's tensors; of a head that is the embedding too.
    pub shapes: BTreeMap<String, Vec<usize>>,
    pub dense: BTreeMap<String, Tensor>,
    pub notes: Vec<String>,
    pairs: BTreeMap<LinearId, LoraPair>,
}

impl<'a> Carry<'a> {
    pub fn new(
        config: &'a LoraConfig,
        stored: &'a AdapterTensors,
        tensors: &'a Safetensors,
        model: &'a Model,
        weights: Weights,
    ) -> Self {
        let mut shapes: BTreeMap<String, Vec<usize>> =
            model.params().map(|(id, _)| (id.name.clone(), id.shape.clone())).collect();
        if model.tied() {
            shapes.insert(HEAD_WEIGHT.into(), model.embedding().shape.clone());
        }
        Self {
            config,
            stored,
            tensors,
            model,
            weights,
            shapes,
            pairs: BTreeMap::new(),
            dense: BTreeMap::new(),
            notes: vec![],
        }
    }

    /// What is laid over the model, and what a person should know of it.
    ///
    /// Errors (class data): tensors that do not fit the model or the config; (class usage): whole
    /// tensors on a model that is not the base any more.
    pub fn adapter(mut self) -> Result<(Adapter, Vec<String>)> {
        for (module, parts) in &self.stored.factors {
            self.module(module, parts)?;
        }
        self.whole_tensors()?;
        self.rows()?;
        self.tie()?;
        self.modules_without_factors()?;
        if self.pairs.is_empty() && self.dense.is_empty() {
            bail!(Data, "it holds no factors, and nothing else that changes the model");
        }
        if !self.dense.is_empty() {
            let names: Vec<&str> = self.dense.keys().map(String::as_str).collect();
            self.notes.push(format!("whole tensors stand in for the model's: {}", some(&names)));
        }
        let id = |(name, tensor): (String, Tensor)| -> Result<(ParamId, Tensor)> {
            let id = self.model.param(&name).context("a tensor that the model does not have")?;
            Ok((id.clone(), tensor))
        };
        let full = self.dense.into_iter().map(id).collect::<Result<_>>()?;
        Ok((Adapter::new(self.pairs, full), self.notes))
    }

    /// Where the module is. Errors (class data): the model does not have it or ties it to another,
    /// or it is none that has factors.
    fn place(&self, module: &str) -> Result<ModulePlace> {
        let place = ModulePlace::of(module, self.model)?;
        if self.model.tied() && !matches!(place, ModulePlace::Linear(_)) {
            return Err(self.untied(module));
        }
        if let Some(key) = self.config.targets.leaves_out(module)? {
            bail!(
                Data,
                "it has factors of `{module}`, which `{key}` leaves out: PEFT would not load them"
            );
        }
        Ok(place)
    }

    /// Adds a module with factors.
    fn module(&mut self, module: &str, parts: &BTreeMap<LoraTensor, String>) -> Result<()> {
        let place = self.place(module)?;
        self.fits(module, parts, &place)?;
        let mut pair = self.pair(module, parts, &place)?;
        let name = format!("{module}.weight");
        let base = self.base_layer(&name)?;
        let started = matches!(self.config.start, Start::Pissa | Start::Olora);
        if started && base.is_none() && place != ModulePlace::Embedding {
            pair = self.without_start(module, &name, &pair)?;
        }
        self.bias(module, parts, pair.scale)?;
        match (place, &base, parts.get(&LoraTensor::Magnitude)) {
            (ModulePlace::Linear(linear), None, None) => drop(self.pairs.insert(linear, pair)),
            (place, _, magnitude) => {
                let base = base.map_or_else(|| self.own(&name), Ok)?;
                let sum = self.sum(base, &pair)?;
                let sum = match magnitude {
                    Some(magnitude) => self.dora(sum, magnitude, &place)?,
                    None => sum,
                };
                self.dense.insert(name, sum);
            }
        }
        Ok(())
    }

    /// The weight below a module's factors, where the file has one that is not the model's own.
    fn base_layer(&self, name: &str) -> Result<Option<Tensor>> {
        match self.stored.whole.get(name) {
            Some(whole) if whole.below => {
                Ok(Some(self.load(&whole.name, name)?).filter(|base| !self.is_own(name, base)))
            }
            _ => Ok(None),
        }
    }

    /// Errors (class data): parts that the config does not speak of, or that are missing.
    fn fits(
        &self,
        module: &str,
        parts: &BTreeMap<LoraTensor, String>,
        place: &ModulePlace,
    ) -> Result<()> {
        for (part, tensor, key, asked) in [
            (LoraTensor::Magnitude, "lora_magnitude_vector", "use_dora", self.config.dora),
            (LoraTensor::Bias, "lora_B.bias", "lora_bias", self.config.lora_bias),
        ] {
            match (parts.contains_key(&part), asked) {
                (true, false) => bail!(
                    Data,
                    "it has a `{tensor}` of `{module}`, but `{key}` is not set: PEFT would not \
                     load it"
                ),
                (false, true) => {
                    bail!(Data, "`{key}` is true, but the file has no `{tensor}` of `{module}`")
                }
                _ => {}
            }
        }
        let (a, other) = match place {
            ModulePlace::Embedding => ("an", [LoraTensor::A, LoraTensor::B]),
            ModulePlace::Linear(_) | ModulePlace::Head => {
                ("no", [LoraTensor::EmbeddingA, LoraTensor::EmbeddingB])
            }
        };
        if let Some(name) = other.iter().find_map(|part| parts.get(part)) {
            bail!(Data, "it has a tensor `{name}`, but `{module}` is {a} embedding");
        }
        Ok(())
    }

    /// A and B of a module, B A as its weight lies.
    fn pair(
        &self,
        module: &str,
        parts: &BTreeMap<LoraTensor, String>,
        place: &ModulePlace,
    ) -> Result<LoraPair> {
        let (rank, scale) = self.config.scaled(module)?;
        let shape =
            self.shapes.get(&format!("{module}.weight")).context("a module without a weight")?;
        let embedding = *place == ModulePlace::Embedding;
        // Factors of an embedding are those of its transpose.
        let size = if embedding { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
        let names = place.factors().map(|part| parts.get(&part));
        let [a, b] = names.map(|name| self.tensors.shape(name?));
        let found = rank_of(module, a, b, size).map_err(Error::data)?;
        if found != rank {
            bail!(
                Data,
                "`r` and `rank_pattern` give `{module}` the rank {rank}, its factors have the rank \
                 {found}"
            );
        }
        let load = |name: Option<&String>| self.numbers(name.context("a factor")?);
        let (a, b) = (load(names[0])?, load(names[1])?);
        let (a, b) = if embedding { (transposed(&b)?, transposed(&a)?) } else { (a, b) };
        Ok(LoraPair { a, b, scale })
    }

    /// The pair less what PEFT would take out of the weight.
    fn without_start(&mut self, module: &str, name: &str, pair: &LoraPair) -> Result<LoraPair> {
        let (out, rank) = pair.b.dims2()?;
        let inner = pair.a.dim(1)?;
        if rank > out.min(inner) {
            bail!(
                Data,
                "the rank {rank} of `{module}` is more than its {out} × {inner} weight has: it has \
                 no such start"
            );
        }
        let own = self.own(name)?;
        if self.weights == Weights::Meta {
            let empty = |shape: (usize, usize)| {
                Tensor::zeros(1, pair.a.dtype(), pair.a.device())?.broadcast_as(shape)
            };
            let (a, b) = (empty((2 * rank, inner))?, empty((out, 2 * rank))?);
            return Ok(LoraPair { a, b, scale: pair.scale });
        }
        let parts = self.taken_out(module, &own, pair)?;
        let kind = if self.config.start == Start::Pissa { "PiSSA" } else { "OLoRA" };
        let note = format!(
            "its start ({kind}) is taken out of the weights: it is loaded as the LoRA of twice the \
             rank that PEFT makes of it"
        );
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
        Ok(start::without(pair, parts)?)
    }

    /// B₀ and A₀ of a module's start, of its weight as the base has it.
    fn taken_out(&self, module: &str, own: &Tensor, pair: &LoraPair) -> Result<(Tensor, Tensor)> {
        let rank = pair.a.dim(0)?;
        match self.config.start {
            Start::Pissa if pair.scale > 0.0 => Ok(start::pissa(own, rank, pair.scale)?),
            Start::Pissa => bail!(
                Data,
                "`lora_alpha` of `{module}` is not above 0, with which PiSSA has no start"
            ),
            _ => match start::olora(own, rank)? {
                Some(parts) => Ok(parts),
                None => bail!(
                    Data,
                    "columns of `{module}` depend on each other, so the start that OLoRA took out \
                     of it cannot be told"
                ),
            },
        }
    }

    /// Adds the bias of B, scaled, to the module's own.
    fn bias(
        &mut self,
        module: &str,
        parts: &BTreeMap<LoraTensor, String>,
        scale: f64,
    ) -> Result<()> {
        let Some(part) = parts.get(&LoraTensor::Bias) else { return Ok(()) };
        let name = format!("{module}.bias");
        if !self.shapes.contains_key(&name) {
            bail!(
                Data,
                "`lora_bias` is true: it gives `{module}` a bias, which the model does not have";
                hint: "train without `lora_bias`, or measure it with peft, which cannot merge it \
                       either"
            );
        }
        let own = match self.stored.whole.get(&name) {
            Some(whole) => self.load(&whole.name, &name)?,
            None => self.own(&name)?,
        };
        let bias = self.load(part, &name)?;
        let sum = if self.weights == Weights::Meta { own } else { (own + (bias * scale)?)? };
        self.dense.insert(name, sum);
        Ok(())
    }

    /// W + s B A.
    fn sum(&self, base: Tensor, pair: &LoraPair) -> Result<Tensor> {
        if self.weights == Weights::Meta {
            return Ok(base);
        }
        Ok((base + (matmul(&pair.b, &pair.a)? * pair.scale)?)?)
    }

    /// The sum with the length of each output's weights as the magnitude says: m (W + s B A) / ‖W +
    /// s B A‖.
    fn dora(&self, sum: Tensor, magnitude: &str, place: &ModulePlace) -> Result<Tensor> {
        // Over the inputs of each output; those of an embedding are its tokens.
        let over = usize::from(*place != ModulePlace::Embedding);
        let outputs = sum.dim(1 - over)?;
        let found = self.tensors.shape(magnitude).unwrap_or_default();
        if found.iter().product::<usize>() != outputs || found.is_empty() {
            bail!(Data, "`{magnitude}` has shape {found:?}, its module has {outputs} outputs");
        }
        if self.weights == Weights::Meta {
            return Ok(sum);
        }
        let magnitude = self.numbers(magnitude)?.flatten_all()?;
        let factor = (magnitude / sum.sqr()?.sum(over)?.sqrt()?)?.unsqueeze(over)?;
        Ok(sum.broadcast_mul(&factor)?)
    }

    /// The tensor called `stored` in the file, which stands for the model's `name`. Errors (class
    /// data): another shape.
    pub fn load(&self, stored: &str, name: &str) -> Result<Tensor> {
        let (found, want) =
            (self.tensors.shape(stored).unwrap_or_default(), self.published_shape(name));
        if found != want {
            let error =
                format!("`{stored}` has shape {found:?}, the model's `{name}` has {want:?}");
            if self.is_table(name) && found.get(1) == want.get(1) {
                bail!(
                    Data,
                    "{error}: the vocabulary was resized before it was trained";
                    hint: "resize the base in the same way (`model.resize_token_embeddings(…)`), \
                           save it with the tokenizer, and give that"
                );
            }
            bail!(Data, "{error}");
        }
        if self.weights == Weights::Meta {
            return self.meta(name);
        }
        let tensor = self.numbers(stored)?;
        match self.model.param(name) {
            Some(id) => Ok(id.relaid(tensor)?),
            None => Ok(tensor),
        }
    }

    /// The tensor called `stored` in the file, in the type of factors.
    fn numbers(&self, stored: &str) -> Result<Tensor> {
        self.tensors.load(stored, self.model.factor_dtype(), self.model.device())
    }

    /// The shape that published files give the tensor called `name`.
    fn published_shape(&self, name: &str) -> Vec<usize> {
        match self.model.param(name) {
            Some(id) => id.published_shape(),
            None => self.shapes.get(name).cloned().unwrap_or_default(),
        }
    }

    /// Whether a tensor has a row for each token.
    pub fn is_table(&self, name: &str) -> bool {
        name == HEAD_WEIGHT || name == self.model.embedding().name
    }

    /// A copy of the model's own tensor. Errors (class usage): the model is not the base any more.
    pub fn own(&self, name: &str) -> Result<Tensor> {
        match self.weights {
            Weights::Meta => self.meta(name),
            Weights::Changed => Err(error!(
                Usage,
                "the adapter changes weights of the base as a whole, and boosters were merged into \
                 the model";
                hint: "load it before the first merge"
            )
            .into()),
            Weights::Base => {
                let wanted = self.model.param(name).cloned().into_iter().collect();
                let copies = self.model.copies(&wanted)?;
                Ok(copies
                    .into_values()
                    .next()
                    .ok_or_else(|| error!(Data, "the model has no tensor `{name}`"))?)
            }
        }
    }

    /// Whether a tensor from the file says what the model's own says already, in the type that is
    /// kept.
    pub fn is_own(&self, name: &str, tensor: &Tensor) -> bool {
        match self.weights {
            Weights::Meta => true,
            Weights::Changed => false,
            Weights::Base => {
                let own = self.model.param(name).and_then(|id| self.model.tensor(id));
                own.is_some_and(|own| {
                    tensor.to_dtype(own.dtype()).is_ok_and(|tensor| same(&tensor, own))
                })
            }
        }
    }

    fn meta(&self, name: &str) -> Result<Tensor> {
        let shape = self.shapes.get(name).map(Vec::as_slice).unwrap_or_default();
        Ok(Tensor::zeros(1, self.model.factor_dtype(), &Device::Cpu)?.broadcast_as(shape)?)
    }

    /// Errors (class data): modules without factors that would get random ones. Others stay as they
    /// are, which is said.
    fn modules_without_factors(&mut self) -> Result<()> {
        let mut left = self.config.targets.of(self.model)?;
        left.retain(|module| !self.stored.factors.contains_key(module));
        let names: Vec<&str> = left.iter().map(String::as_str).collect();
        match (names.is_empty(), self.config.start) {
            (true, _) => {}
            (_, Start::Random) => {
                bail!(
                    Data,
                    "`init_lora_weights` is false, and the file has no factors of {}: PEFT would \
                     draw them",
                    some(&names)
                )
            }
            _ => self.notes.push(format!(
                "the file has no factors of {}, which its config names: they stay as they are",
                some(&names)
            )),
        }
        Ok(())
    }

    /// The error for what would part embedding and head.
    pub fn untied(&self, module: &str) -> anyhow::Error {
        let hint = if self.config.tying {
            super::keys::ELSEWHERE
        } else {
            "give the base a head of its own: `tie_word_embeddings` false, and `lm_head.weight` a \
             copy of the embedding"
        };
        error!(
            Data,
            "it changes `{module}` alone, but the model ties embedding and head \
             (`tie_word_embeddings`)";
            hint: "{hint}"
        )
        .into()
    }
}

/// Whether two tensors hold the same numbers.
pub(super) fn same(a: &Tensor, b: &Tensor) -> bool {
    let apart = || (a - b)?.abs()?.max_all()?.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>();
    a.dims() == b.dims() && apart().is_ok_and(|apart| apart == 0.0)
}

/// The first names, and how many there are.
pub(super) fn some(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let shown =
        names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}
