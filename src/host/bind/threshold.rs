//! `threshold`: what a run must reach.

use rhai::NativeCallContext;
use rhai::plugin::*;

use super::{Answer, refuse};
use crate::host::context::host;
use crate::run::Threshold;

#[export_module]
pub(super) mod natives {
    /// Asks that the last evaluation of `test` keeps a bound; a split may stand before the metric
    /// (`validation.nll`). The condition is `>=`, `<=`, `>` or `<` and a number. When the run ends
    /// each is told with ✓ or ✗, and one that is not kept makes the exit code 4.
    ///
    /// # Example
    /// ```rhai,no_run
    /// threshold("accuracy", ">= 0.7");
    /// threshold("validation.nll", "< 2.5");
    /// ```
    #[rhai_fn(return_raw)]
    pub fn threshold(context: NativeCallContext, metric: &str, condition: &str) -> Answer<()> {
        let threshold = Threshold::parse(metric, condition).map_err(refuse)?;
        host(&context)?.session.threshold(threshold);
        Ok(())
    }
}
