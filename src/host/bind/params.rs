//! `params`: what the command line may set.

use rhai::plugin::*;
use rhai::{Map, NativeCallContext};

use super::Answer;
use crate::host::context::{host, lock};
use crate::host::door::to_script;

#[export_module]
pub(super) mod natives {
    /// Declares the recipe's parameters with their defaults and returns them as a map, with what
    /// `-p NAME=VALUE` gave in place of the default. A value has the type of its default: int,
    /// float, bool, string, or an array of these (given in JSON). To be called once, before all
    /// else.
    ///
    /// # Example
    /// ```rhai
    /// let p = params(#{ model: "", rounds: 64, lr: 1e-3 });
    /// ```
    #[rhai_fn(return_raw)]
    pub fn params(context: NativeCallContext, defaults: Map) -> Answer<Map> {
        let host = host(&context)?;
        let values = lock(&host.params).declare(defaults).map_err(|e| to_script(&e))?;
        if let Some(rounds) =
            values.get("rounds").and_then(|v| usize::try_from(v.as_int().ok()?).ok())
        {
            host.console.rounds(rounds);
        }
        Ok(values)
    }
}
