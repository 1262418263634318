//! `set`: one split of a task or of several, as training and measuring take it.

use rhai::plugin::*;
use rhai::{INT, NativeCallContext};
use serde_json::json;

use super::{Answer, refuse};
use crate::error::{Error, error};
use crate::host::context::host;
use crate::host::journaled::journaled;
use crate::session::{Model, Set};

#[export_module]
pub(super) mod natives {
    /// Number of items.
    #[rhai_fn(get = "len", pure)]
    pub fn len(set: &mut Set) -> INT {
        set.len() as INT
    }

    /// The first `n` items of each task in the set, as a set.
    #[rhai_fn(pure, return_raw)]
    pub fn take(set: &mut Set, n: INT) -> Answer<Set> {
        Ok(set.take(count(n).map_err(refuse)?))
    }

    /// `n` items of each task in the set, drawn without replacement by the run's seed, in the order
    /// of their files.
    ///
    /// # Example
    /// ```rhai,no_run
    /// model.evaluate(task.validation.sample(50));
    /// ```
    #[rhai_fn(pure, return_raw)]
    pub fn sample(context: NativeCallContext, set: &mut Set, n: INT) -> Answer<Set> {
        let n = count(n).map_err(refuse)?;
        Ok(set.sample(host(&context)?.session.settings.seed, n))
    }

    /// The items of each task in a random order, by the run's seed. Training needs no such thing:
    /// it has an order of its own in every epoch.
    #[rhai_fn(pure, return_raw)]
    pub fn shuffle(context: NativeCallContext, set: &mut Set) -> Answer<Set> {
        Ok(set.shuffled(host(&context)?.session.settings.seed))
    }

    /// Prints item `i` (from 0) as `model` is fed it: its text with the supervised part marked, and
    /// its tokens.
    ///
    /// # Example
    /// ```rhai,no_run
    /// task.train.show(model, 0);
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn show(context: NativeCallContext, set: &mut Set, model: Model, i: INT) -> Answer<()> {
        let arguments = json!({ "item": i, "set": set.to_journal() });
        let text: String =
            journaled(&context, "show", arguments)?.answer(|| set.show(&model, i))?;
        let host = host(&context)?;
        if !host.is_replaying() {
            text.lines().for_each(|line| host.session.console.print(line));
        }
        Ok(())
    }
}

fn count(n: INT) -> Result<usize, Error> {
    match usize::try_from(n) {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(error!(Usage, "a number of items is 1 or more, found {n}")),
    }
}
