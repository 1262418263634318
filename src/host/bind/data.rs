//! `data`: items from files, in splits, and how they are worded for a model.

use std::sync::{Arc, Mutex};

use rhai::plugin::*;
use rhai::{INT, Map, NativeCallContext};
use serde_json::json;

use super::{Answer, placed};
use crate::data::{self, ChoiceItem, Cursor, EncodeOptions, Example, Item, LossOn, Split, Template, encode_choices, encode_train};
use crate::host::context::{Host, host, lock};
use crate::host::door;
use crate::host::options::Options;
use crate::source::{self, Tokenizer};

/// A data set with its splits; copies are the same.
#[derive(Clone)]
pub struct Task(Arc<Splits>);

struct Splits {
    task: Arc<data::Task>,
    /// By [`Split`], whether the task has it or not.
    sets: [Set; 3],
}

/// One split; copies are the same, and share their place in the data.
#[derive(Clone)]
pub struct Set(Arc<Inner>);

/// A tokenizer and what it made of the items.
type Encoded = (Arc<Tokenizer>, Arc<Vec<Example>>);

struct Inner {
    task: Arc<data::Task>,
    split: Split,
    template: Template,
    options: EncodeOptions,
    /// Examples for the tokenizer that was last asked with.
    encoded: Mutex<Option<Encoded>>,
    /// Where training goes on in the examples, from booster to booster.
    cursor: Mutex<Option<Cursor>>,
}

impl Inner {
    fn items(&self) -> &[Item] {
        self.task.items(self.split).unwrap_or_default()
    }
}

impl Set {
    pub fn split(&self) -> Split {
        self.0.split
    }

    /// Whether its items name choices, at least one of them.
    pub fn has_choices(&self) -> bool {
        self.0.items().iter().any(Item::is_scorable)
    }

    /// Examples to train on; what was cut or left out is told once.
    pub fn examples(&self, host: &Host, tokenizer: &Arc<Tokenizer>) -> anyhow::Result<Arc<Vec<Example>>> {
        let mut encoded = lock(&self.0.encoded);
        if let Some((_, examples)) = encoded.as_ref().filter(|(t, _)| Arc::ptr_eq(t, tokenizer)) {
            return Ok(examples.clone());
        }
        let out = encode_train(self.0.items(), self.0.template, tokenizer.as_ref(), &self.0.options)?;
        host.console.note(&format!("{} {}: {}", self.0.task.name, self.0.split.name(), out.report));
        let examples = Arc::new(out.examples);
        *encoded = Some((tokenizer.clone(), examples.clone()));
        Ok(examples)
    }

    /// Items to be scored, at most the first `most`; what was left out is told.
    pub fn choices(&self, host: &Host, tokenizer: &Tokenizer, most: Option<usize>, positions: usize) -> anyhow::Result<Vec<ChoiceItem>> {
        let items = self.0.items();
        let items = &items[..most.unwrap_or(usize::MAX).min(items.len())];
        let (choices, report) = encode_choices(items, self.0.template, tokenizer, positions)?;
        if report.scored != report.items {
            host.console.note(&format!("{} {}: {report}", self.0.task.name, self.0.split.name()));
        }
        Ok(choices)
    }

    /// Lends the place in the data, which stays where `body` leaves it.
    pub fn with_cursor<T>(&self, host: &Host, examples: usize, body: impl FnOnce(&mut Cursor) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let name = format!("data/{}/{}", self.0.task.name, self.0.split.name());
        let mut cursor = lock(&self.0.cursor);
        let cursor = match &mut *cursor {
            Some(cursor) => cursor,
            none => none.insert(Cursor::new(host.settings.seed, &name, examples)?),
        };
        body(cursor)
    }
}

/// `data::…`.
#[export_module]
pub(super) mod module {
    /// Loads a data set with the defaults of every option.
    #[rhai_fn(return_raw)]
    pub fn load(context: NativeCallContext, path: &str) -> Answer<Task> {
        placed(&context, read(&*host(&context)?, path, Map::new()))
    }

    /// Loads the data set at `path`, a file or a folder with files for `train`, `validation` and `test`. Only a path
    /// that `-p` gave on the command line can be read. Without a validation file, 120 items are held out of train.
    /// Formats: LLM-Adapters `.json`, token rows `.jsonl`, text `.txt`.
    ///
    /// Options: `template` ("alpaca" or "llm-adapters"; alpaca), `max_length` in tokens (256), `loss` ("answer" or
    /// "all"; alpaca learns the answer, llm-adapters all).
    ///
    /// # Example
    /// ```rhai,no_run
    /// let task = data::load(p.data, #{ template: "alpaca", max_length: 256 });
    /// ```
    #[rhai_fn(name = "load", return_raw)]
    pub fn load_with(context: NativeCallContext, path: &str, options: Map) -> Answer<Task> {
        placed(&context, read(&*host(&context)?, path, options))
    }
}

#[export_module]
pub(super) mod natives {
    /// The items to train on; an error where the task has none.
    #[rhai_fn(get = "train", pure, return_raw)]
    pub fn train(task: &mut Task) -> Answer<Set> {
        split(task, Split::Train)
    }

    /// The items to choose among rounds by; an error where the task has none.
    #[rhai_fn(get = "validation", pure, return_raw)]
    pub fn validation(task: &mut Task) -> Answer<Set> {
        split(task, Split::Validation)
    }

    /// The items that give the result; an error where the task has none.
    #[rhai_fn(get = "test", pure, return_raw)]
    pub fn test(task: &mut Task) -> Answer<Set> {
        split(task, Split::Test)
    }

    /// Number of items.
    #[rhai_fn(get = "len", pure)]
    pub fn len(set: &mut Set) -> INT {
        set.0.items().len() as INT
    }
}

fn split(task: &Task, split: Split) -> Answer<Set> {
    task.0.task.items(split).map_err(|e| door::to_script(&e))?;
    Ok(task.0.sets[split as usize].clone())
}

fn read(host: &Host, path: &str, options: Map) -> Answer<Task> {
    let (template, options) = options_of(options).map_err(|e| door::to_script(&e))?;
    door::call(host, "data::load", &json!({ "path": path, "template": template.name() }), || {
        let files = source::data(&source::resolve(path, &host.grants(path))?)?;
        let task = Arc::new(data::Task::open(path, &files, host.settings.seed, &data::Layout::default(), &Ok)?);
        for (file, digest) in &task.digests {
            host.with_run(|run| run.note_digest(file.display().to_string(), digest.clone()))?;
        }
        let sets = [Split::Train, Split::Validation, Split::Test].map(|split| {
            let (encoded, cursor) = Default::default();
            Set(Arc::new(Inner { task: task.clone(), split, template, options, encoded, cursor }))
        });
        Ok(Task(Arc::new(Splits { task, sets })))
    })
}

fn options_of(map: Map) -> anyhow::Result<(Template, EncodeOptions)> {
    let mut o = Options::new("data::load", map, &["template", "max_length", "loss"])?;
    let template = Template::parse(&o.take_or("template", "alpaca".to_string())?)?;
    let max_length: usize = o.take_or("max_length", 256)?;
    o.check("max_length", max_length >= 2, "2 or more", max_length)?;
    let loss = match o.take_opt::<String>("loss")? {
        Some(name) => LossOn::parse(&name)?,
        None => template.default_loss(),
    };
    Ok((template, EncodeOptions { max_length, loss }))
}
