//! The parameters of a model: what each one is, its numbers, and what merges left beside them.
//!
//! Modules hold ids; the numbers lie here, in the order of the network. An id knows its published
//! name, layer and shape, so that nobody has to take a name apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use candle_core::{DType, Result, Tensor};

use crate::ops::linear::UnmergedDelta;

/// A linear module in a layer, which a booster can target.
#[derive(Debug)]
pub struct LinearInfo {
    pub layer: usize,
    /// The target's name, which is the same in all layers: `q_proj`.
    pub target: &'static str,
    /// The module's published name: `model.layers.0.self_attn.q_proj`.
    pub name: String,
    pub out: usize,
    pub inner: usize,
    /// Whether it adds to the residual stream.
    pub into_residual: bool,
    /// Whether the published weight is [in, out].
    pub transposed: bool,
    /// Among the linears of its layer, in the order of the computation.
    position: usize,
    /// Among all linears of the model.
    index: usize,
}

/// A linear module in a layer. Ids are ordered by layer, then as the layer computes.
#[derive(Clone)]
pub struct LinearId(Arc<LinearInfo>);

impl LinearInfo {
    /// (out, in).
    pub fn shape(&self) -> (usize, usize) {
        (self.out, self.inner)
    }

    fn place(&self) -> (usize, usize) {
        (self.layer, self.position)
    }
}

impl Deref for LinearId {
    type Target = LinearInfo;

    fn deref(&self) -> &LinearInfo {
        &self.0
    }
}

impl PartialEq for LinearId {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place() && self.target == other.target
    }
}

impl Eq for LinearId {}

impl PartialOrd for LinearId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LinearId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.place().cmp(&other.place()).then_with(|| self.target.cmp(other.target))
    }
}

impl fmt::Debug for LinearId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Display for LinearId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer {} {}", self.layer, self.target)
    }
}

/// What a parameter is.
#[derive(Clone, Debug)]
pub enum ParamKind {
    /// Of tokens [V, D].
    Embedding,
    /// Of positions, or of token types.
    PositionEmbedding,
    /// Weight or bias of the norm of what the first layer reads.
    EmbeddingNorm,
    NormWeight,
    NormBias,
    Weight(LinearId),
    Bias(LinearId),
    /// [V, D], of a language model's head that is not the embedding.
    Head,
    /// Any tensor of another head.
    TaskHead,
    /// A tensor that the files hold and this head does not read: it is kept to be saved again.
    Unread,
}

/// A tensor of a model.
#[derive(Debug)]
pub struct Param {
    /// Its published name: `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// None of embeddings, the final norm and the head.
    pub layer: Option<usize>,
    /// In memory.
    pub shape: Vec<usize>,
    pub kind: ParamKind,
    /// In the order of the network.
    index: usize,
}

/// A tensor of a model. Ids are ordered by their published names.
#[derive(Clone)]
pub struct ParamId(Arc<Param>);

impl Param {
    /// The linear module that it is the weight or the bias of.
    pub fn linear(&self) -> Option<&LinearId> {
        match &self.kind {
            ParamKind::Weight(id) | ParamKind::Bias(id) => Some(id),
            _ => None,
        }
    }

    /// Whether it is a tensor of a head that is none of a causal language model.
    pub fn is_task_head(&self) -> bool {
        matches!(self.kind, ParamKind::TaskHead)
    }

    fn transposed(&self) -> bool {
        matches!(&self.kind, ParamKind::Weight(linear) if linear.transposed)
    }

    /// The shape that published files give it.
    pub fn published_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.transposed() {
            shape.reverse();
        }
        shape
    }

    /// From the layout of published files to that in memory, and the other way round.
    pub fn relaid(&self, tensor: Tensor) -> Result<Tensor> {
        if self.transposed() { tensor.t()?.contiguous() } else { Ok(tensor) }
    }
}

impl Deref for ParamId {
    type Target = Param;

    fn deref(&self) -> &Param {
        &self.0
    }
}

impl PartialEq for ParamId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.name == other.name
    }
}

impl Eq for ParamId {}

impl PartialOrd for ParamId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ParamId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name.cmp(&other.name)
    }
}

impl fmt::Display for ParamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for ParamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What is to be registered of a linear module.
pub struct NewLinear {
    pub layer: usize,
    pub target: &'static str,
    pub name: String,
    pub shape: (usize, usize),
    pub into_residual: bool,
    pub transposed: bool,
}

struct ParamEntry {
    id: ParamId,
    tensor: Tensor,
    /// Behind a 16-bit weight that was merged into: what rounding left of the sum, in f32 (Kahan's
    /// compensation).
    compensation: Option<Tensor>,
}

struct LinearEntry {
    id: LinearId,
    weight: Option<ParamId>,
    unmerged: Option<UnmergedDelta>,
}

/// All parameters of a model, in the order of the network.
#[derive(Default)]
pub struct ModelParams {
    entries: Vec<ParamEntry>,
    linears: Vec<LinearEntry>,
    by_name: BTreeMap<String, usize>,
}

impl ModelParams {
    /// The id that the next parameter gets.
    pub fn next_id(
        &self,
        name: String,
        layer: Option<usize>,
        shape: &[usize],
        kind: ParamKind,
    ) -> ParamId {
        let index = self.entries.len();
        ParamId(Arc::new(Param { name, layer, shape: shape.to_vec(), kind, index }))
    }

    /// Adds a parameter with its numbers, in the order of the ids.
    pub fn push(&mut self, id: ParamId, tensor: Tensor) {
        if let ParamKind::Weight(linear) = &id.kind
            && let Some(entry) = self.linears.get_mut(linear.index)
        {
            entry.weight = Some(id.clone());
        }
        self.by_name.insert(id.name.clone(), id.index);
        self.entries.push(ParamEntry { id, tensor, compensation: None });
    }

    /// Adds a linear module, whose tensors follow.
    pub fn push_linear(&mut self, new: NewLinear) -> LinearId {
        let NewLinear { layer, target, name, shape: (out, inner), into_residual, transposed } = new;
        let index = self.linears.len();
        let position =
            self.linears.iter().rev().take_while(|other| other.id.layer == layer).count();
        let id = LinearId(Arc::new(LinearInfo {
            layer,
            target,
            name,
            out,
            inner,
            into_residual,
            transposed,
            position,
            index,
        }));
        self.linears.push(LinearEntry { id: id.clone(), weight: None, unmerged: None });
        id
    }

    /// All ids, in the order of the network.
    pub fn ids(&self) -> impl Iterator<Item = &ParamId> {
        self.entries.iter().map(|entry| &entry.id)
    }

    /// All parameters, in the order of the network.
    pub fn iter(&self) -> impl Iterator<Item = (&ParamId, &Tensor)> {
        self.entries.iter().map(|entry| (&entry.id, &entry.tensor))
    }

    /// The parameter of that published name.
    pub fn find(&self, name: &str) -> Option<&ParamId> {
        self.by_name.get(name).map(|&index| &self.entries[index].id)
    }

    fn entry(&self, id: &ParamId) -> Option<&ParamEntry> {
        self.entries.get(id.index).filter(|entry| entry.id == *id)
    }

    fn entry_mut(&mut self, id: &ParamId) -> Option<&mut ParamEntry> {
        self.entries.get_mut(id.index).filter(|entry| entry.id == *id)
    }

    /// The numbers of a parameter of this model.
    pub fn tensor(&self, id: &ParamId) -> &Tensor {
        &self.entries[id.index].tensor
    }

    /// The numbers of a parameter, if the model has it.
    pub fn get(&self, id: &ParamId) -> Option<&Tensor> {
        self.entry(id).map(|entry| &entry.tensor)
    }

    /// Puts other numbers in the place of a parameter's, and drops what merges left of it.
    pub fn replace(&mut self, id: &ParamId, tensor: Tensor) {
        if let Some(linear) = id.linear().filter(|_| matches!(id.kind, ParamKind::Weight(_)))
            && let Some(entry) = self.linears.get_mut(linear.index)
        {
            entry.unmerged = None;
        }
        if let Some(entry) = self.entry_mut(id) {
            (entry.tensor, entry.compensation) = (tensor, None);
        }
    }

    /// What rounding left of a parameter's sum.
    pub fn compensation(&self, id: &ParamId) -> Option<&Tensor> {
        self.entry(id)?.compensation.as_ref()
    }

    pub fn set_compensation(&mut self, id: &ParamId, compensation: Option<Tensor>) {
        if let Some(entry) = self.entry_mut(id) {
            entry.compensation = compensation;
        }
    }

    /// The parameters with a compensation, in the order of the network.
    pub fn compensated(&self) -> impl Iterator<Item = (&ParamId, &Tensor)> {
        self.entries.iter().filter_map(|entry| Some((&entry.id, entry.compensation.as_ref()?)))
    }

    /// All linear modules, layer by layer as they compute.
    pub fn linears(&self) -> impl Iterator<Item = &LinearId> {
        self.linears.iter().map(|entry| &entry.id)
    }

    fn linear_entry(&self, id: &LinearId) -> Option<&LinearEntry> {
        self.linears.get(id.index).filter(|entry| entry.id == *id)
    }

    /// The weight of a linear module, if the model has it.
    pub fn weight(&self, id: &LinearId) -> Option<&ParamId> {
        self.linear_entry(id)?.weight.as_ref()
    }

    /// What was merged beside the weight of a linear module.
    pub fn unmerged(&self, id: &LinearId) -> Option<&UnmergedDelta> {
        self.linear_entry(id)?.unmerged.as_ref()
    }

    pub fn set_unmerged(&mut self, id: &LinearId, unmerged: UnmergedDelta) {
        if let Some(entry) = self.linears.get_mut(id.index).filter(|entry| entry.id == *id) {
            entry.unmerged = Some(unmerged);
        }
    }

    /// All that was merged beside weights, in the order of the network.
    pub fn all_unmerged(&self) -> impl Iterator<Item = (&LinearId, &UnmergedDelta)> {
        self.linears.iter().filter_map(|entry| Some((&entry.id, entry.unmerged.as_ref()?)))
    }

    /// Copies of parameters in a wide type: of 16-bit weights the sums that they are rounded from.
    /// Those that the model does not have are left out.
    pub fn copies(
        &self,
        wanted: &BTreeSet<ParamId>,
        dtype: DType,
    ) -> Result<BTreeMap<ParamId, Tensor>> {
        let of = |entry: &ParamEntry| {
            let wide = entry.tensor.to_dtype(dtype)?;
            let copy = match &entry.compensation {
                Some(compensation) => (wide + compensation)?,
                // A tensor of that type already is shared by the conversion.
                None if entry.tensor.dtype() == wide.dtype() => wide.copy()?,
                None => wide,
            };
            Ok((entry.id.clone(), copy))
        };
        self.entries.iter().filter(|entry| wanted.contains(&entry.id)).map(of).collect()
    }
}
