//! `sampler`: seeded choice.

use rhai::plugin::*;
use rhai::{Array, Dynamic, FLOAT, INT, NativeCallContext};

use super::{Answer, refuse};
use crate::error::{Error, error};
use crate::host::context::host;
use crate::host::options::FromOption;
use crate::session::Sampler;

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
        host(&context)?.session.sampler(name).map_err(refuse)
    }

    /// `k` different elements of `list`, uniformly, in the order drawn.
    ///
    /// # Example
    /// ```rhai
    /// let layers = sampler("layers").choose([0, 1, 2, 3], 2);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn choose(sampler: &mut Sampler, list: Array, k: INT) -> Answer<Array> {
        Ok(picked(&list, sampler.choose(list.len(), k).map_err(refuse)?))
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
        let weights = weights_of(&weights, list.len()).map_err(refuse)?;
        Ok(picked(&list, sampler.weighted(&weights, k).map_err(refuse)?))
    }

    /// The elements of `list` in a uniformly drawn order.
    #[rhai_fn(pure)]
    pub fn shuffle(sampler: &mut Sampler, list: Array) -> Array {
        let mut list = list;
        sampler.shuffle(&mut list);
        list
    }

    /// A number drawn uniformly from 0 (included) to 1 (not included).
    #[rhai_fn(pure)]
    pub fn uniform(sampler: &mut Sampler) -> FLOAT {
        sampler.uniform()
    }
}

fn picked(list: &[Dynamic], indices: Vec<usize>) -> Array {
    indices.into_iter().map(|i| list[i].clone()).collect()
}

fn weights_of(weights: &[Dynamic], len: usize) -> Result<Vec<f64>, Error> {
    if weights.len() != len {
        return Err(error!(Usage, "`weighted` got {} weights for {len} elements", weights.len()));
    }
    let number = |(i, w): (usize, &Dynamic)| match f64::from_option(w, "") {
        Ok(weight) if weight >= 0.0 => Ok(weight),
        _ => Err(error!(
            Usage,
            "`weights[{i}]` of `weighted` must be a finite number, 0 or more, found {w:?}"
        )),
    };
    weights.iter().enumerate().map(number).collect()
}
