//! Seeded choice.

use std::sync::{Arc, Mutex};

use super::Session;
use super::held::lock;
use crate::error::{Error, error};
use crate::seed::Stream;

/// A named stream of choice; copies are the same stream.
#[derive(Clone)]
pub struct Sampler(Arc<Mutex<Stream>>);

/// Elements that are looked at in the draws of one call: each draw looks at all.
const MOST_DRAWS: usize = 10_000_000;

impl Session {
    /// The seeded source of choice called `name`. Each name has a stream of its own under the run's
    /// seed; asking again gives the same source, where it is. Errors (class usage): there are too
    /// many, or the name is too long.
    pub fn sampler(&self, name: &str) -> Result<Sampler, Error> {
        /// Each has a stream of its own, which is kept.
        const MOST: usize = 1000;
        /// Bytes of a name.
        const LONGEST: usize = 200;
        if name.len() > LONGEST {
            return Err(error!(
                Usage,
                "the name of a sampler has at most {LONGEST} bytes, found {}",
                name.len()
            ));
        }
        let mut samplers = lock(&self.samplers);
        if samplers.len() >= MOST && !samplers.contains_key(name) {
            return Err(error!(Usage, "a recipe has at most {MOST} samplers"));
        }
        let stream =
            || Arc::new(Mutex::new(Stream::new(self.settings.seed, &format!("sampler/{name}"))));
        Ok(Sampler(samplers.entry(name.to_owned()).or_insert_with(stream).clone()))
    }
}

impl Sampler {
    /// Indices of `k` different elements out of `n`, uniformly, in the order drawn. Errors (class
    /// usage): there are not so many.
    pub fn choose(&self, n: usize, k: i64) -> Result<Vec<usize>, Error> {
        let k = count("choose", k, n)?;
        Ok(lock(&self.0).choose(n, k))
    }

    /// Indices of `k` different elements, each drawn in proportion to its weight among those left.
    /// Errors (class usage): fewer than `k` weights above 0, too many draws.
    pub fn weighted(&self, weights: &[f64], k: i64) -> Result<Vec<usize>, Error> {
        let k = count("weighted", k, weights.len())?;
        if k.saturating_mul(weights.len()) > MOST_DRAWS {
            return Err(error!(
                Usage,
                "`weighted` draws among at most {MOST_DRAWS} elements in all, found {k} times {}",
                weights.len()
            ));
        }
        let positive = weights.iter().filter(|&&w| w > 0.0).count();
        if positive < k {
            return Err(error!(
                Usage,
                "`weighted` cannot draw {k} out of {positive} elements with a weight above 0"
            ));
        }
        Ok(lock(&self.0).weighted(weights, k))
    }

    /// Brings a list into a uniformly drawn order.
    pub fn shuffle<T>(&self, list: &mut [T]) {
        lock(&self.0).shuffle(list);
    }

    /// A number drawn uniformly from 0 (included) to 1 (not included).
    pub fn uniform(&self) -> f64 {
        lock(&self.0).uniform()
    }
}

fn count(call: &str, k: i64, n: usize) -> Result<usize, Error> {
    match usize::try_from(k) {
        Ok(k) if k <= n => Ok(k),
        _ => Err(error!(Usage, "`{call}` cannot draw {k} out of {n}; from 0 to {n}")),
    }
}
