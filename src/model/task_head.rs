//! Another head over the same network.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::arch::{Builder, HeadConfig, HeadKind, SequenceConfig};
use super::create::head_start;
use super::nn::Head;
use super::{Model, arch};
use crate::error::{bail, error};
use crate::seed::Stream;
use crate::source::TensorSource;

impl Model {
    /// The same network with another head. Tensors of the head that it has already, by name and
    /// shape, stay; others are drawn from `stream`, and those that say other labels too. It shares
    /// its numbers with this one, which is not to be used any more.
    ///
    /// Errors (class usage): a head that the architecture does not have.
    pub fn with_head(&self, head: HeadConfig, stream: &mut Stream) -> Result<Self> {
        let entry = self.architecture().entry();
        let kind = head.kind();
        if !entry.classes.iter().any(|(own, _)| *own == kind) {
            let known: Vec<&str> =
                entry.classes.iter().filter_map(|(kind, _)| name_of(*kind)).collect();
            bail!(
                Usage,
                "a `{}` model has no head of that kind here",
                entry.model_type;
                hint: "it can have one of {}",
                known.join(", ")
            );
        }
        let mut architecture = self.architecture().boxed();
        let same = architecture.common().head == head;
        architecture.common_mut().head = head;
        let wanted = arch::params(&*architecture)?;
        let (mut kept, mut drawn) = (BTreeMap::new(), BTreeMap::new());
        for id in wanted.ids() {
            let own = self.params.find(&id.name).filter(|own| own.shape == id.shape);
            match own.filter(|own| same || !self.says_labels(&own.name)) {
                Some(own) => {
                    kept.insert(id.name.clone(), own.relaid(self.params.tensor(own).clone())?);
                }
                None if self.is_meta() => {
                    drawn.insert(id.name.clone(), Tensor::zeros(1, self.storage, &self.device)?);
                }
                None => {
                    let numbers = head_start(&id.name, &id.shape, stream);
                    let tensor = Tensor::from_vec(numbers, id.shape.as_slice(), &Device::Cpu)?;
                    drawn.insert(id.name.clone(), id.relaid(tensor)?);
                }
            }
        }
        let fresh: Vec<String> = drawn.keys().cloned().collect();
        kept.append(&mut drawn);
        let tensors = Shared(kept);
        let builder = match self.is_meta() {
            true => Builder::meta(self.storage),
            false => Builder::new(&tensors, &self.device, self.storage),
        };
        let mut model = Self::build(architecture, builder)?;
        (model.mode, model.assume) = (self.mode, self.assume);
        for name in fresh {
            if let Some(id) = model.params.find(&name).cloned() {
                let start = model.params.tensor(&id).copy()?;
                model.fresh.insert(id, start);
            }
        }
        Ok(model)
    }

    /// Whether a tensor is of the head's last linear, whose outputs are the labels.
    fn says_labels(&self, name: &str) -> bool {
        let Head::Sequence(head) = &self.network.head else { return false };
        head.out.weight.name == name || head.out.bias.as_ref().is_some_and(|bias| bias.name == name)
    }

    /// The tensors of a head that is none of a causal language model.
    pub fn head_params(&self) -> Vec<super::ParamId> {
        let head = |id: &&super::ParamId| id.is_task_head();
        self.params().map(|(id, _)| id).filter(head).cloned().collect()
    }
}

/// A kind of head as recipes name it.
pub fn name_of(kind: HeadKind) -> Option<&'static str> {
    Some(match kind {
        HeadKind::Sequence => "classes or regression",
        HeadKind::MultipleChoice => "choices",
        HeadKind::MaskedLm => "masked_lm",
        HeadKind::CausalLm | HeadKind::Base => return None,
    })
}

/// The head of classes with these names, in the order of its logits. Errors (class usage): fewer
/// than two, or one named twice.
pub fn classes(labels: Vec<String>) -> Result<HeadConfig> {
    let twice = labels.iter().enumerate().find(|(i, label)| labels[..*i].contains(label));
    if let Some((_, label)) = twice {
        return Err(error!(Usage, "the label `{label}` is named twice").into());
    }
    if labels.len() < 2 {
        bail!(Usage, "a head of classes has two labels at least, found {}", labels.len());
    }
    Ok(HeadConfig::Sequence(SequenceConfig::Classes(labels)))
}

/// Tensors that two models share for a moment.
struct Shared(BTreeMap<String, Tensor>);

impl TensorSource for Shared {
    fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.0.get(name).map(Tensor::dims)
    }

    fn dtype_name(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|t| t.dtype().as_str().to_owned())
    }

    fn load(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let tensor = self.0.get(name).ok_or_else(|| error!(Run, "there is no tensor `{name}`"))?;
        Ok(tensor.to_dtype(dtype)?.to_device(device)?)
    }
}
