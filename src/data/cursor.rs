//! Which example comes next: seeded epochs that can be taken up anywhere.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::error::bail;
use crate::seed::Stream;

/// How far a [`Cursor`] has come; all that has to be kept to resume it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorState {
    /// Whole passes over the examples before this one.
    pub epoch: u64,
    /// Examples given in this one.
    pub position: usize,
}

/// Goes through n examples again and again, each epoch in a fresh order.
///
/// The order of an epoch depends on seed, name, epoch and n alone, so a cursor resumed anywhere
/// goes on as the one that was interrupted.
#[derive(Clone, Debug)]
pub struct Cursor {
    seed: u64,
    name: String,
    state: CursorState,
    order: Vec<usize>,
}

impl Cursor {
    /// A cursor at the start; `name` is its random stream's. No examples at all are an error.
    pub fn new(seed: u64, name: &str, n: usize) -> Result<Self> {
        Self::resume(seed, name, n, CursorState::default())
    }

    /// A cursor at `state`, which must lie within n examples.
    pub fn resume(seed: u64, name: &str, n: usize, state: CursorState) -> Result<Self> {
        if n == 0 {
            bail!(Data, "there are no examples to train on");
        }
        if state.position >= n {
            bail!(
                Data,
                "the data order stands at example {} of an epoch, but there are only {n}; the data \
                 has changed",
                state.position
            );
        }
        let order = order(seed, name, n, state.epoch);
        Ok(Self { seed, name: name.to_owned(), state, order })
    }

    /// Goes to `state`, which must lie within its examples.
    pub fn seek(&mut self, state: CursorState) -> Result<()> {
        *self = Self::resume(self.seed, &self.name, self.order.len(), state)?;
        Ok(())
    }

    pub fn state(&self) -> CursorState {
        self.state
    }

    /// The next `k` example indices; they may reach over the end of an epoch, or of several.
    pub fn next(&mut self, k: usize) -> Vec<usize> {
        let mut out = Vec::with_capacity(k);
        while out.len() < k {
            let end = self.order.len().min(self.state.position + k - out.len());
            out.extend_from_slice(&self.order[self.state.position..end]);
            self.state.position = end;
            if end == self.order.len() {
                self.state = CursorState { epoch: self.state.epoch + 1, position: 0 };
                self.order = order(self.seed, &self.name, end, self.state.epoch);
            }
        }
        out
    }
}

fn order(seed: u64, name: &str, n: usize, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    Stream::new(seed, &format!("{name}/epoch {epoch}")).shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of};

    #[test]
    fn an_epoch_visits_all_once_in_a_fresh_order() {
        let mut cursor = Cursor::new(3, "data", 10).unwrap();
        let epochs: Vec<Vec<usize>> = (0..3).map(|_| cursor.next(10)).collect();
        for epoch in &epochs {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(epochs[0], epochs[1]);
        assert_ne!(epochs[1], epochs[2]);
        assert_ne!(Cursor::new(4, "data", 10).unwrap().next(10), epochs[0]);
        assert_ne!(Cursor::new(3, "other", 10).unwrap().next(10), epochs[0]);
    }

    #[test]
    fn resumed_anywhere_it_gives_the_same_order() {
        let all = Cursor::new(7, "data", 5).unwrap().next(23);
        for stop in 0..=23 {
            let mut first = Cursor::new(7, "data", 5).unwrap();
            let mut given = first.next(stop);
            let kept = serde_json::to_string(&first.state()).unwrap();
            let mut second =
                Cursor::resume(7, "data", 5, serde_json::from_str(&kept).unwrap()).unwrap();
            while given.len() < 23 {
                given.extend(second.next(3.min(23 - given.len())));
            }
            assert_eq!(given, all, "stopped at {stop}");
        }
    }

    #[test]
    fn what_cannot_be_gone_through_is_refused() {
        assert_eq!(class_of(&Cursor::new(1, "data", 0).unwrap_err()), Class::Data);
        assert!(Cursor::resume(1, "data", 5, CursorState { epoch: 0, position: 5 }).is_err());
    }
}
