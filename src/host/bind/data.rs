//! `data`: data sets from files, in splits.

use rhai::plugin::*;
use rhai::{Array, Dynamic, FLOAT, Map, NativeCallContext};
use serde_json::json;

use super::values::{arguments, placed, to_map};
use super::{Answer, data_options, refuse};
use crate::data::Split;
use crate::error::{Error, error};
use crate::host::context::host;
use crate::host::journaled::journaled;
use crate::session::{self, Model, Set, Task};

/// `data::…`.
#[export_module]
pub(super) mod module {
    /// Loads a data set with the defaults of every option.
    #[rhai_fn(return_raw)]
    pub fn load(context: NativeCallContext, path: &str) -> Answer<Task> {
        load_with(context, path, Map::new())
    }

    /// Loads the data at `path`: `builtin:microworld` (or `builtin:microworld/TASK`,
    /// `builtin:microworld@SEED`), a file, a folder with files for `train`, `validation` and
    /// `test`, a folder of such folders (several tasks), or a data set on the hub. Only a name that
    /// `-p` gave on the command line can be read. Without a validation file, 120 items are held out
    /// of train.
    ///
    /// Options, how files are read: `format` ("json", "jsonl", "csv", "tsv", "parquet", "text"; by
    /// the ending, behind which there may be `.gz` or `.zst`; a list of records or a record a line,
    /// for JSON the content says), `splits` (a map from split to the names of its files in the
    /// folder), `columns` (names, where a table has no header), `header` (false: columns are called
    /// 1, 2, …), `delimiter`, `quote` (whether `"` quotes a field; true for csv), `encoding`
    /// ("utf-8" or "latin-1"), `stream` (true leaves rows in their file; for files larger than
    /// memory). How items are worded: `template` ("alpaca", "cloze", "llm-adapters", "none",
    /// "chat", of records in the columns of their data sets "lm-eval/boolq", "lm-eval/piqa",
    /// "lm-eval/social_i_qa", "lm-eval/hellaswag", "lm-eval/winogrande", "lm-eval/arc",
    /// "lm-eval/openbookqa" or "lm-eval/mmlu", for short "mmlu", or a map with `prompt` and
    /// `choices` (texts by name, or a list of names), `label`, `answer`, `target`, and for a model
    /// with a head `pair`, a second text; for conversations a map with `messages`, a text that
    /// makes a JSON list of them for the model's chat template, and `tools`, or with `text`, all of
    /// it, in which `{% generation %}` blocks hold what is learnt; `description`, what each prompt
    /// begins with, and `eos`, false where the token that ends a sequence is not learnt behind the
    /// answer), `max_length` in tokens (256), `loss` ("answer" or "all"). Solved examples before
    /// each question that is measured: `shots`, how many; `shots_from` ("train", "validation" or
    /// "dev"; by default what the data have to be shown, else train, else validation), `shots_seed`
    /// (draws them; the first without), `shots_separator` (a blank line).
    ///
    /// Every key of a record is used, or says nothing of what is learnt (ids, sources, scores,
    /// empty values), or is named in a note, or is refused by its name.
    ///
    /// # Example
    /// ```rhai,no_run
    /// let task = data::load(p.data, #{ template: "alpaca", max_length: 256 });
    /// let mmlu = data::load(p.mmlu, #{ template: "mmlu", shots: 5 });
    /// let talks = data::load(p.talks, #{ template: #{
    ///     text: "{% for t in turns %}{{ t.who }}: " +
    ///         "{% generation %}{{ t.said }}\n{% endgeneration %}{% endfor %}",
    /// } });
    /// ```
    #[rhai_fn(name = "load", return_raw)]
    pub fn load_with(context: NativeCallContext, path: &str, options: Map) -> Answer<Task> {
        placed(&context, read(&context, path, options))
    }

    /// One set to train on out of several: of all examples drawn, each set gives the share that its
    /// weight has.
    ///
    /// # Example
    /// ```rhai,no_run
    /// let train = data::mix([task.train, task.validation], [3, 1]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn mix(context: NativeCallContext, sets: Array, weights: Array) -> Answer<Set> {
        placed(&context, mixture(&sets, &weights).map_err(refuse))
    }
}

#[export_module]
pub(super) mod natives {
    /// The items to train on, of all tasks that have some; an error where none has.
    #[rhai_fn(get = "train", pure, return_raw)]
    pub fn train(task: &mut Task) -> Answer<Set> {
        task.split(Split::Train).map_err(refuse)
    }

    /// The items to choose among rounds by; an error where there are none.
    #[rhai_fn(get = "validation", pure, return_raw)]
    pub fn validation(task: &mut Task) -> Answer<Set> {
        task.split(Split::Validation).map_err(refuse)
    }

    /// The items that give the result; an error where there are none.
    #[rhai_fn(get = "test", pure, return_raw)]
    pub fn test(task: &mut Task) -> Answer<Set> {
        task.split(Split::Test).map_err(refuse)
    }

    /// Names of the tasks that were loaded.
    #[rhai_fn(get = "tasks", pure)]
    pub fn tasks(task: &mut Task) -> Array {
        task.tasks().iter().map(|name| Dynamic::from(name.clone())).collect()
    }

    /// Lengths in tokens, shares cut and supervised, counts of labels, and duplicates between
    /// splits, by task and split, as `model` would be trained. Prints them and answers with them.
    #[rhai_fn(return_raw, pure)]
    pub fn stats(context: NativeCallContext, task: &mut Task, model: Model) -> Answer<Map> {
        let stats = journaled(&context, "stats", json!({ "data": task.name() }))?
            .answer(|| task.stats(&model))?;
        let host = host(&context)?;
        if !host.is_replaying() {
            let text = serde_json::to_string_pretty(&stats).unwrap_or_default();
            host.session.console.print(&text);
        }
        Ok(to_map(&stats))
    }
}

fn read(context: &NativeCallContext, path: &str, options: Map) -> Answer<Task> {
    let arguments = arguments(&options, [("path", path.into())]);
    let options = data_options::parse(options).map_err(refuse)?;
    let session = &host(context)?.session;
    journaled(context, "data::load", arguments)?.make(|| session.data(path, &options))
}

fn mixture(sets: &[Dynamic], weights: &[Dynamic]) -> Result<Set, Error> {
    let set = |(i, value): (usize, &Dynamic)| {
        value.clone().try_cast::<Set>().ok_or_else(|| {
            error!(
                Usage,
                "`data::mix` mixes sets, such as `task.train`; element {i} of its list is none"
            )
        })
    };
    let sets = sets.iter().enumerate().map(set).collect::<Result<Vec<_>, _>>()?;
    let number = |w: &Dynamic| w.as_float().or_else(|_| w.as_int().map(|n| n as FLOAT));
    // What is no number is no weight above 0.
    let weights: Vec<f64> = weights.iter().map(|w| number(w).unwrap_or(f64::NAN)).collect();
    session::mix(&sets, &weights)
}
