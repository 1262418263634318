//! `params`: what the command line may set.

use rhai::plugin::*;
use rhai::{Map, NativeCallContext};

use super::{Answer, refuse};
use crate::host::context::host;

#[export_module]
pub(super) mod natives {
    /// Declares the recipe's parameters with their defaults and returns them as a map, with what
    /// `-p NAME=VALUE`, or else the file of `--params`, gave in place of the default. A value has
    /// the type of its default: int, float, bool, string, or an array of these (given in JSON). To
    /// be called once, before all else.
    ///
    /// # Example
    /// ```rhai
    /// let p = params(#{ model: "", rounds: 64, lr: 1e-3 });
    /// ```
    #[rhai_fn(return_raw)]
    pub fn params(context: NativeCallContext, defaults: Map) -> Answer<Map> {
        let host = host(&context)?;
        let values = host.declare(defaults).map_err(refuse)?;
        let rounds = values.get("rounds").and_then(|v| usize::try_from(v.as_int().ok()?).ok());
        if let Some(rounds) = rounds {
            host.session.console.rounds(rounds);
        }
        Ok(values)
    }
}
