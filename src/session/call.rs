//! The call that is being done, as the journal will tell it: what it changed, how far it is, and
//! how far an earlier process was with it.

use std::sync::Mutex;

use serde_json::{Map, Value};

use super::held::lock;
use crate::run::journal::{Checkpoint, NativeCall, Record, Timing};

/// What a call changed, as the journal keeps it.
pub type Effects = Map<String, Value>;

/// A call of a journal.
#[derive(Default)]
pub struct CallContext {
    /// Name and arguments; `None` where no journal is kept.
    pub asked: Option<NativeCall>,
    /// Where the recipe calls it.
    pub line: Option<usize>,
    /// What it changes, as far as that is not in files.
    pub effects: Effects,
    /// How far it was, where an earlier process began it.
    pub begun: Option<Effects>,
    /// An earlier process made what it makes; what that wrote is there.
    pub again: bool,
}

/// The one call that is being done.
#[derive(Default)]
pub struct CurrentCall(Mutex<CallContext>);

impl CurrentCall {
    /// Begins a call.
    pub fn begin(&self, call: CallContext) {
        *lock(&self.0) = call;
    }

    /// Ends the call; what it changed.
    pub fn end(&self) -> Effects {
        std::mem::take(&mut *lock(&self.0)).effects
    }

    /// Notes something that the call changed, or that must be the same each time.
    pub(super) fn tell(&self, key: impl Into<String>, value: impl Into<Value>) {
        lock(&self.0).effects.insert(key.into(), value.into());
    }

    /// Notes all that the call changed.
    pub(super) fn tell_all(&self, effects: Effects) {
        lock(&self.0).effects = effects;
    }

    /// How far the call was, once.
    pub(super) fn take_begun(&self) -> Option<Effects> {
        lock(&self.0).begun.take()
    }

    /// Whether an earlier process made what the call makes.
    pub(super) fn is_again(&self) -> bool {
        lock(&self.0).again
    }

    pub(super) fn line(&self) -> Option<usize> {
        lock(&self.0).line
    }

    /// The record of how far the call is; `None` where no journal is kept.
    pub(super) fn checkpoint(&self, state: Effects) -> Option<impl FnOnce(Timing) -> Record> {
        let asked = lock(&self.0).asked.clone()?;
        Some(|timing| Record::Checkpoint(Checkpoint { asked, state, timing }))
    }
}
