//! What a recipe would do: the notes of a run on shapes, without weights.
//!
//! A measured value is a placeholder in such a run: all as good as can be, or all as bad
//! ([`Assume`]). Where the two give other notes, what the recipe does depends on what it measures.

use crate::model::cost::{NetworkCost, Work};
use crate::model::meta::Assume;
use crate::model::{Architecture, MergeMode};
use crate::train::GradientCheckpointing;

/// A model as it was opened.
#[derive(Clone, Debug)]
pub struct Opened {
    pub name: String,
    pub architecture: Box<dyn Architecture>,
    pub cost: NetworkCost,
    /// Weights, tied ones once.
    pub parameters: usize,
    /// The type of weights in memory.
    pub storage: candle_core::DType,
    pub merge_mode: MergeMode,
}

impl PartialEq for Opened {
    fn eq(&self, other: &Self) -> bool {
        let of = |o: &Self| (o.name.clone(), o.cost.clone(), o.parameters, o.storage, o.merge_mode);
        of(self) == of(other) && *self.architecture == *other.architecture
    }
}

/// A fit.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedFit {
    pub round: usize,
    pub layers: Vec<usize>,
    pub parameters: u64,
    /// Dense weights among them.
    pub dense: usize,
    /// Numbers that the optimizer keeps of each parameter.
    pub state: usize,
    /// Down to which layer gradients go.
    pub lowest: usize,
    pub steps: usize,
    /// Batches in all steps.
    pub batches: usize,
    /// In all batches.
    pub work: Work,
    /// In the largest batch.
    pub largest: Work,
    pub gradient_checkpointing: GradientCheckpointing,
    /// Whether it is done here.
    pub forms_again: bool,
}

/// Something that takes time or memory, or that has a name worth checking.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Model(Opened),
    /// A model that got another head.
    Head(Box<Opened>),
    Data {
        name: String,
        tasks: usize,
    },
    Fit(PlannedFit),
    /// And the bytes that all merges so far have left.
    Merge {
        left: usize,
    },
    /// The boosters of an earlier run are added.
    Took {
        left: usize,
    },
    Evaluate {
        split: String,
        items: usize,
        passes: usize,
        work: Work,
        largest: Work,
    },
    Generate {
        prompts: usize,
        tokens: usize,
    },
    Save {
        name: String,
    },
    /// Something odd about the data.
    Advice(String),
}

/// An event and the line of the recipe that asked for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    pub line: Option<usize>,
    pub event: Event,
}

/// More notes than any run that ends needs: such a recipe waits for something that a placeholder
/// never gives.
const MOST: usize = 20_000;

/// All notes of one run on shapes.
#[derive(Debug)]
pub struct DryRun {
    pub assume: Assume,
    pub notes: Vec<Note>,
    /// Whether it was ended because it would not end by itself.
    pub endless: bool,
}

impl DryRun {
    pub fn new(assume: Assume) -> Self {
        Self { assume, notes: vec![], endless: false }
    }

    /// Takes a note; false where there are too many.
    pub fn note(&mut self, line: Option<usize>, event: Event) -> bool {
        self.notes.push(Note { line, event });
        self.endless |= self.notes.len() >= MOST;
        !self.endless
    }

    /// The first line at which two runs differ.
    pub fn differs(&self, other: &Self) -> Option<Option<usize>> {
        let same = self.notes.iter().zip(&other.notes).take_while(|(a, b)| a == b).count();
        (same < self.notes.len().max(other.notes.len()))
            .then(|| self.notes.get(same).or(other.notes.get(same)).and_then(|n| n.line))
    }
}
