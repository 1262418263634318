//! What training draws its examples from: one set, several as one, or several in given proportions.

use std::sync::Arc;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::data::cursor::{Cursor, CursorState};
use crate::data::example::Example;
use crate::error::bail;

/// Examples by index, in memory or made when they are asked for.
pub trait Examples: Send + Sync {
    fn count(&self) -> usize;

    /// Example `i` as pass `pass` over all sees it, from 0; `None` where nothing in it is to be
    /// learnt.
    fn get(&self, i: usize, pass: u64) -> Result<Option<Example>>;
}

impl Examples for Vec<Example> {
    fn count(&self) -> usize {
        self.len()
    }

    fn get(&self, i: usize, _: u64) -> Result<Option<Example>> {
        Ok(Some(self[i].clone()))
    }
}

/// Gives examples without end, in a seeded order.
pub struct DataLoader {
    parts: Vec<Arc<dyn Examples>>,
    order: Order,
    /// By cursor: examples in a row that had nothing to learn.
    mute: Vec<usize>,
}

/// How far a [`DataLoader`] has come; all that has to be kept to resume it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataLoaderState {
    /// Of the whole, or of each part.
    cursors: Vec<CursorState>,
    /// Examples that each part gave, where they have weights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    given: Vec<u64>,
    mute: Vec<usize>,
}

/// Which part comes next.
enum Order {
    /// All parts are one set: an epoch visits each example of each part once.
    Pooled(Cursor),
    /// Each part has epochs of its own.
    Weighted { cursors: Vec<Cursor>, weights: Vec<f64>, given: Vec<u64> },
}

impl DataLoader {
    /// All examples of all parts, each once an epoch; `name` is the random stream's. Errors where
    /// there is none.
    pub fn pooled(seed: u64, name: &str, parts: Vec<Arc<dyn Examples>>) -> Result<Self> {
        let cursor = Cursor::new(seed, name, parts.iter().map(|p| p.count()).sum())?;
        Ok(Self { parts, order: Order::Pooled(cursor), mute: vec![0] })
    }

    /// Parts by name in proportion to their weights: of n examples given, part i has n·wᵢ/Σw of
    /// them, off by less than the number of parts. Which comes next is decided by the largest
    /// arrears (the first of equals), not by chance, so proportions hold over any stretch; within a
    /// part the order is seeded by `name` and the part's name.
    ///
    /// Errors: weights that are not as many as the parts, or not above 0 (class usage); a part
    /// without examples (data).
    pub fn weighted(
        seed: u64,
        name: &str,
        parts: Vec<(String, Arc<dyn Examples>)>,
        weights: &[f64],
    ) -> Result<Self> {
        if parts.len() != weights.len() {
            bail!(Usage, "{} weights for {} sets; each set needs one", weights.len(), parts.len());
        }
        if let Some(bad) = weights.iter().find(|w| !(w.is_finite() && **w > 0.0)) {
            bail!(Usage, "a set's weight must be above 0, found {bad}");
        }
        let sum: f64 = weights.iter().sum();
        let cursors = parts
            .iter()
            .map(|(part, examples)| Cursor::new(seed, &format!("{name}/{part}"), examples.count()))
            .collect::<Result<_>>()?;
        let weights = weights.iter().map(|w| w / sum).collect();
        let (given, mute) = (vec![0; parts.len()], vec![0; parts.len()]);
        let parts = parts.into_iter().map(|(_, examples)| examples).collect();
        Ok(Self { parts, order: Order::Weighted { cursors, weights, given }, mute })
    }

    /// The next `k` examples. Errors where one cannot be read, or a set has nothing to learn in it.
    pub fn next(&mut self, k: usize) -> Result<Vec<Example>> {
        let mut out = Vec::with_capacity(k);
        while out.len() < k {
            let (part, i, pass) = self.place();
            let (cursor, all) = match &self.order {
                Order::Pooled(_) => (0, self.parts.iter().map(|p| p.count()).sum::<usize>()),
                Order::Weighted { .. } => (part, self.parts[part].count()),
            };
            match self.parts[part].get(i, pass)? {
                Some(example) => {
                    self.mute[cursor] = 0;
                    out.push(example);
                }
                // The only one that speaks may come first in an epoch and last in the next.
                None if self.mute[cursor] + 1 >= 2 * all => {
                    bail!(
                        Data,
                        "no example of a set has a token that counts in the loss, within the \
                         length limit"
                    )
                }
                None => self.mute[cursor] += 1,
            }
        }
        Ok(out)
    }

    /// Where it stands.
    pub fn state(&self) -> DataLoaderState {
        let mute = self.mute.clone();
        match &self.order {
            Order::Pooled(cursor) => {
                DataLoaderState { cursors: vec![cursor.state()], given: vec![], mute }
            }
            Order::Weighted { cursors, given, .. } => DataLoaderState {
                cursors: cursors.iter().map(Cursor::state).collect(),
                given: given.clone(),
                mute,
            },
        }
    }

    /// Goes on from where [`DataLoader::state`] said. Errors (class data): a state of other parts,
    /// or of more examples.
    pub fn resume(&mut self, state: &DataLoaderState) -> Result<()> {
        let cursors: Vec<&mut Cursor> = match &mut self.order {
            Order::Pooled(cursor) => vec![cursor],
            Order::Weighted { cursors, given, .. } => {
                given.clone_from(&state.given);
                cursors.iter_mut().collect()
            }
        };
        if cursors.len() != state.cursors.len() || cursors.len() != state.mute.len() {
            bail!(
                Data,
                "the data order is that of {} sets, but there are {}; the data has changed",
                state.cursors.len(),
                cursors.len()
            );
        }
        self.mute.clone_from(&state.mute);
        cursors.into_iter().zip(&state.cursors).try_for_each(|(cursor, state)| cursor.seek(*state))
    }

    /// Part, index and pass of the next example.
    fn place(&mut self) -> (usize, usize, u64) {
        match &mut self.order {
            Order::Pooled(cursor) => {
                let pass = cursor.state().epoch;
                let mut i = cursor.next(1)[0];
                let mut part = 0;
                while i >= self.parts[part].count() {
                    i -= self.parts[part].count();
                    part += 1;
                }
                (part, i, pass)
            }
            Order::Weighted { cursors, weights, given } => {
                let total = given.iter().sum::<u64>() as f64 + 1.0;
                let arrears = |i: usize| weights[i] * total - given[i] as f64;
                let part = (1..cursors.len())
                    .fold(0, |best, i| if arrears(i) > arrears(best) { i } else { best });
                given[part] += 1;
                let pass = cursors[part].state().epoch;
                (part, cursors[part].next(1)[0], pass)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, class_of};

    fn part(first: u32, n: u32) -> Arc<dyn Examples> {
        Arc::new(
            (first..first + n)
                .map(|id| Example::new(vec![id, 0], vec![false, true]))
                .collect::<Vec<_>>(),
        )
    }

    fn ids(examples: &[Example]) -> Vec<u32> {
        examples.iter().map(|e| e.ids[0]).collect()
    }

    #[test]
    fn one_set_is_gone_through_as_by_its_cursor() {
        let mut feed = DataLoader::pooled(5, "data", vec![part(0, 7)]).unwrap();
        let order: Vec<u32> =
            Cursor::new(5, "data", 7).unwrap().next(20).into_iter().map(|i| i as u32).collect();
        let given: Vec<u32> = [3, 9, 8].iter().flat_map(|&k| ids(&feed.next(k).unwrap())).collect();
        assert_eq!(given, order);
    }

    #[test]
    fn resumed_anywhere_it_gives_the_same_examples() {
        let parts = || vec![("a".to_string(), part(0, 2)), ("b".into(), part(10, 7))];
        let make: [&dyn Fn() -> DataLoader; 2] = [
            &|| {
                DataLoader::pooled(5, "data", parts().into_iter().map(|(_, p)| p).collect())
                    .unwrap()
            },
            &|| DataLoader::weighted(5, "data", parts(), &[2.0, 1.0]).unwrap(),
        ];
        for make in make {
            let all = ids(&make().next(40).unwrap());
            for stop in 0..40 {
                let mut first = make();
                let mut given = ids(&first.next(stop).unwrap());
                let kept = serde_json::to_string(&first.state()).unwrap();
                let mut second = make();
                second.resume(&serde_json::from_str(&kept).unwrap()).unwrap();
                given.extend(ids(&second.next(40 - stop).unwrap()));
                assert_eq!(given, all, "stopped at {stop}");
            }
        }
        assert!(make[0]().resume(&make[1]().state()).is_err());
    }

    #[test]
    fn pooled_parts_are_one_epoch() {
        let mut feed = DataLoader::pooled(1, "data", vec![part(0, 3), part(10, 4)]).unwrap();
        let mut given = ids(&feed.next(7).unwrap());
        given.sort_unstable();
        assert_eq!(given, [0, 1, 2, 10, 11, 12, 13]);
    }

    #[test]
    fn weights_hold_over_any_stretch_and_small_parts_come_again() {
        let parts =
            vec![("a".into(), part(0, 2)), ("b".into(), part(10, 50)), ("c".into(), part(100, 9))];
        let mut feed = DataLoader::weighted(1, "mix", parts, &[3.0, 1.0, 1.0]).unwrap();
        let given = ids(&feed.next(500).unwrap());
        for n in 1..=500 {
            let share = given[..n].iter().filter(|id| **id < 10).count() as f64;
            assert!((share - n as f64 * 0.6).abs() < 3.0, "{share} of {n}");
        }
        let small: Vec<u32> = given.iter().copied().filter(|id| *id < 10).collect();
        assert!(
            small.chunks(2).all(|epoch| epoch.len() < 2 || epoch[0] != epoch[1]),
            "each epoch has both"
        );
    }

    #[test]
    fn one_example_that_speaks_is_enough() {
        struct One;
        impl Examples for One {
            fn count(&self) -> usize {
                40
            }
            fn get(&self, i: usize, _: u64) -> Result<Option<Example>> {
                Ok((i == 7).then(|| Example::new(vec![7, 0], vec![false, true])))
            }
        }
        for seed in 0..50 {
            assert_eq!(
                ids(&DataLoader::pooled(seed, "data", vec![Arc::new(One)])
                    .unwrap()
                    .next(5)
                    .unwrap()),
                [7; 5]
            );
        }
    }

    #[test]
    fn what_gives_nothing_is_refused() {
        struct Mute;
        impl Examples for Mute {
            fn count(&self) -> usize {
                3
            }
            fn get(&self, _: usize, _: u64) -> Result<Option<Example>> {
                Ok(None)
            }
        }
        assert!(DataLoader::pooled(0, "data", vec![Arc::new(Mute)]).unwrap().next(1).is_err());
        // Beside one that speaks, a set without a word is told all the same.
        let parts =
            vec![("a".into(), part(0, 2)), ("b".into(), Arc::new(Mute) as Arc<dyn Examples>)];
        assert!(DataLoader::weighted(0, "mix", parts, &[9.0, 1.0]).unwrap().next(100).is_err());
        assert_eq!(
            class_of(&DataLoader::pooled(0, "data", vec![part(0, 0)]).err().unwrap()),
            Class::Data
        );
        for weights in [vec![1.0], vec![1.0, 0.0], vec![1.0, f64::NAN]] {
            let parts = vec![("a".into(), part(0, 1)), ("b".into(), part(1, 1))];
            assert_eq!(
                class_of(&DataLoader::weighted(0, "mix", parts, &weights).err().unwrap()),
                Class::Usage,
                "{weights:?}"
            );
        }
    }
}
