//! The most that the process will hold, by the memory formula.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};

use super::held::lock;
use crate::model::Model;
use crate::sys;

/// ExpectedBytes that the memory formula knows of.
#[derive(Default)]
pub struct Expected {
    now: Mutex<ExpectedBytes>,
    /// What it said in the processes before, in MiB.
    before: OnceLock<f64>,
}

#[derive(Default)]
struct ExpectedBytes {
    /// What the process held before the first pass through a network, less what merges had left
    /// then.
    held: Option<usize>,
    /// What merges have left, by the model's index.
    left: BTreeMap<usize, usize>,
    /// The most of what they had left and a pass took.
    most: usize,
}

impl Expected {
    /// Counts what was said in earlier processes of the same run.
    pub fn after(&self, mib: Option<f64>) {
        if let Some(mib) = mib {
            let _ = self.before.set(mib);
        }
    }

    /// A pass through the network of the model `index` is about to take so many bytes, beside what
    /// merges have left.
    pub fn pass(&self, index: usize, network: &Model, bytes: usize) {
        let left = self.merges_left(index, network);
        let mut now = lock(&self.now);
        now.held.get_or_insert_with(|| sys::resident_bytes().saturating_sub(left));
        now.most = now.most.max(left + bytes);
    }

    /// Takes what merges have left in a model's network; the bytes of all models.
    pub fn merges_left(&self, index: usize, network: &Model) -> usize {
        let mut now = lock(&self.now);
        now.left.insert(index, network.left_bytes());
        let left = now.left.values().sum();
        now.most = now.most.max(left);
        left
    }

    /// What it said so far, over all processes.
    pub fn peak_mib(&self) -> Option<f64> {
        let now = lock(&self.now);
        let mib = now.held.map(|held| (held + now.most) as f64 / (1 << 20) as f64);
        mib.into_iter().chain(self.before.get().copied()).reduce(f64::max)
    }
}
