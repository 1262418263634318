//! `sampler`: seeded choice.

use std::sync::{Arc, Mutex};

use rhai::plugin::*;
use rhai::{Array, Dynamic, FLOAT, INT, NativeCallContext};

use super::{Answer, refuse};
use crate::error::Error;
use crate::host::context::{host, lock};
use crate::host::options::FromOption;
use crate::seed::Stream;

/// A named stream of choice; copies are the same stream.
#[derive(Clone)]
pub struct Sampler(Arc<Mutex<Stream>>);

#[export_module]
pub(super) mod natives {
    /// The seeded source of choice called `name`. Each name has a stream of its own under the run's
    /// seed, so policies do not disturb each other, nor initialisation or data order. Asking for
    /// the same name again gives the same source, where it is.
    ///
    /// # Example
    /// ```rhai
    /// let s = sampler("layers");
    /// let two = s.choose([0, 1, 2, 3], 2);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn sampler(context: NativeCallContext, name: &str) -> Answer<Sampler> {
        let host = host(&context)?;
        if name.len() > LONGEST_NAME {
            return Err(refuse(Error::usage(format!(
                "the name of a sampler has at most {LONGEST_NAME} bytes, found {}",
                name.len()
            ))));
        }
        host.sampler(name).map(Sampler).map_err(refuse)
    }

    /// `k` different elements of `list`, uniformly, in the order drawn.
    ///
    /// # Example
    /// ```rhai
    /// let layers = sampler("layers").choose([0, 1, 2, 3], 2);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn choose(sampler: &mut Sampler, list: Array, k: INT) -> Answer<Array> {
        let k = count("choose", k, list.len())?;
        let picked = lock(&sampler.0).choose(list.len(), k);
        Ok(picked.into_iter().map(|i| list[i].clone()).collect())
    }

    /// `k` different elements of `list`, each drawn in proportion to its weight among those left.
    /// `weights` holds a number for each element, none negative; at least `k` are above 0.
    ///
    /// # Example
    /// ```rhai
    /// let layers = sampler("layers").weighted([0, 1, 2], [1, 1, 8], 2);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn weighted(sampler: &mut Sampler, list: Array, weights: Array, k: INT) -> Answer<Array> {
        let k = count("weighted", k, list.len())?;
        if k.saturating_mul(list.len()) > MOST_DRAWS {
            return Err(refuse(Error::usage(format!(
                "`weighted` draws among at most {MOST_DRAWS} elements in all, found {k} times {}",
                list.len()
            ))));
        }
        let weights = weights_of(&weights, list.len(), k)?;
        let picked = lock(&sampler.0).weighted(&weights, k);
        Ok(picked.into_iter().map(|i| list[i].clone()).collect())
    }

    /// The elements of `list` in a uniformly drawn order.
    #[rhai_fn(pure)]
    pub fn shuffle(sampler: &mut Sampler, list: Array) -> Array {
        let mut list = list;
        lock(&sampler.0).shuffle(&mut list);
        list
    }

    /// A number drawn uniformly from 0 (included) to 1 (not included).
    #[rhai_fn(pure)]
    pub fn uniform(sampler: &mut Sampler) -> FLOAT {
        lock(&sampler.0).uniform()
    }
}

/// Elements that are looked at in the draws of one call: each draw looks at all.
const MOST_DRAWS: usize = 10_000_000;
/// Bytes of a sampler's name.
const LONGEST_NAME: usize = 200;

fn count(call: &str, k: INT, len: usize) -> Answer<usize> {
    match usize::try_from(k) {
        Ok(k) if k <= len => Ok(k),
        _ => Err(refuse(Error::usage(format!(
            "`{call}` cannot draw {k} out of {len}; from 0 to {len}"
        )))),
    }
}

fn weights_of(weights: &[Dynamic], len: usize, k: usize) -> Answer<Vec<f64>> {
    if weights.len() != len {
        return Err(refuse(Error::usage(format!(
            "`weighted` got {} weights for {len} elements",
            weights.len()
        ))));
    }
    let number = |(i, w): (usize, &Dynamic)| match f64::from_option(w, "") {
        Ok(weight) if weight >= 0.0 => Ok(weight),
        _ => Err(refuse(Error::usage(format!(
            "`weights[{i}]` of `weighted` must be a finite number, 0 or more, found {w:?}"
        )))),
    };
    let weights: Vec<f64> = weights.iter().enumerate().map(number).collect::<Answer<_>>()?;
    let positive = weights.iter().filter(|&&w| w > 0.0).count();
    if positive < k {
        return Err(refuse(Error::usage(format!(
            "`weighted` cannot draw {k} out of {positive} elements with a weight above 0"
        ))));
    }
    Ok(weights)
}
