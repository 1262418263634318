//! `data`: items from files, in splits, and how they are worded for a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rhai::plugin::*;
use rhai::{Array, Dynamic, FLOAT, INT, Map, NativeCallContext};
use serde_json::{Value, json};

use super::data_options::{self, Loading};
use super::merge::file_digest;
use super::model::Model;
use super::set::{Part, Set, Source};
use super::{Answer, dynamic, placed, refuse, told_map};
use crate::bail_usage;
use crate::data::formats::{Lines, Unused};
use crate::data::{self, Item, Split, inspect};
use crate::error::Error;
use crate::host::Watched;
use crate::host::context::{Host, host};
use crate::host::door;
use crate::host::ledger::Event;
use crate::memory::Apart;
use crate::source::{self, DataFiles, Name};

const SPLITS: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

/// A data set with its splits, or several; copies are the same.
#[derive(Clone)]
pub struct Task(Arc<Apart<Inner>>);

struct Inner {
    name: String,
    /// Names of the tasks in it.
    tasks: Vec<String>,
    sets: BTreeMap<&'static str, Set>,
}

/// `data::…`.
#[export_module]
pub(super) mod module {
    /// Loads a data set with the defaults of every option.
    #[rhai_fn(return_raw)]
    pub fn load(context: NativeCallContext, path: &str) -> Answer<Task> {
        placed(&context, read(&context, path, Map::new()))
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
    /// "chat", or a map with `prompt` and `choices`, `label`, `answer`, `target`; for conversations
    /// a map with `messages`, a text that makes a JSON list of them for the model's chat template,
    /// and `tools`, or with `text`, all of it, in which `{% generation %}` blocks hold what is
    /// learnt), `max_length` in tokens (256), `loss` ("answer" or "all").
    ///
    /// Every key of a record is used, or says nothing of what is learnt (ids, sources, scores,
    /// empty values), or is named in a note, or is refused by its name.
    ///
    /// # Example
    /// ```rhai,no_run
    /// let task = data::load(p.data, #{ template: "alpaca", max_length: 256 });
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
        split(task, Split::Train)
    }

    /// The items to choose among rounds by; an error where there are none.
    #[rhai_fn(get = "validation", pure, return_raw)]
    pub fn validation(task: &mut Task) -> Answer<Set> {
        split(task, Split::Validation)
    }

    /// The items that give the result; an error where there are none.
    #[rhai_fn(get = "test", pure, return_raw)]
    pub fn test(task: &mut Task) -> Answer<Set> {
        split(task, Split::Test)
    }

    /// Names of the tasks that were loaded.
    #[rhai_fn(get = "tasks", pure)]
    pub fn tasks(task: &mut Task) -> Array {
        task.0.tasks.iter().map(|name| Dynamic::from(name.clone())).collect()
    }

    /// Lengths in tokens, shares cut and supervised, counts of labels, and duplicates between
    /// splits, by task and split, as `model` would be trained. Prints them and answers with them.
    #[rhai_fn(return_raw, pure)]
    pub fn stats(context: NativeCallContext, task: &mut Task, model: Model) -> Answer<Map> {
        let host = host(&context)?;
        let told = door::call(&context, &host, "stats", json!({ "data": task.0.name }))
            .answer(|| statistics(&host, task, &model))?;
        if !host.is_replaying() {
            host.console.print(&serde_json::to_string_pretty(&told).unwrap_or_default());
        }
        Ok(told.iter().map(|(k, v)| (k.as_str().into(), dynamic(v))).collect())
    }

    /// Number of items.
    #[rhai_fn(get = "len", pure)]
    pub fn len(set: &mut Set) -> INT {
        set.len() as INT
    }

    /// The first `n` items of each task in the set, as a set.
    #[rhai_fn(pure, return_raw)]
    pub fn take(set: &mut Set, n: INT) -> Answer<Set> {
        let n = count(n).map_err(refuse)?;
        Ok(set.pick(0, "take", |len, _| (0..n.min(len)).collect()))
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
        Ok(set.pick(host(&context)?.settings.seed, "sample", |len, stream| {
            let mut chosen = stream.choose(len, n.min(len));
            chosen.sort_unstable();
            chosen
        }))
    }

    /// The items of each task in a random order, by the run's seed. Training needs no such thing:
    /// it has an order of its own in every epoch.
    #[rhai_fn(pure, return_raw)]
    pub fn shuffle(context: NativeCallContext, set: &mut Set) -> Answer<Set> {
        Ok(set.pick(host(&context)?.settings.seed, "shuffle", |len, stream| {
            let mut order: Vec<usize> = (0..len).collect();
            stream.shuffle(&mut order);
            order
        }))
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
        let host = host(&context)?;
        let text: String = door::call(
            &context,
            &host,
            "show",
            json!({ "item": i, "set": set.told() }),
        )
        .answer(|| {
            let (part, at) = set.find(i)?;
            let item = part.source.get(at, &part.wording)?;
            let tokenizer = model.with(|m| m.tokenizer.clone());
            inspect::show(&item, part.wording.template, tokenizer.as_ref(), &part.wording.options)
        })?;
        if !host.is_replaying() {
            text.lines().for_each(|line| host.console.print(line));
        }
        Ok(())
    }
}

fn count(n: INT) -> Result<usize, Error> {
    match usize::try_from(n) {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(Error::usage(format!("a number of items is 1 or more, found {n}"))),
    }
}

fn split(task: &Task, split: Split) -> Answer<Set> {
    task.0.sets.get(split.name()).cloned().ok_or_else(|| {
        let there: Vec<String> = task.0.sets.keys().map(|s| format!("`{s}`")).collect();
        let error = Error::data(format!(
            "the task `{}` has no split `{}`; it has {}",
            task.0.name,
            split.name(),
            there.join(", ")
        ));
        let held = task.0.sets.get(Split::Train.name()).filter(|_| split == Split::Validation);
        refuse(match held {
            Some(train) => error.hint(format!(
                "one is held out of every ten of train, which has {}; add a validation file",
                train.len()
            )),
            None => error,
        })
    })
}

fn statistics(
    host: &Host,
    task: &Task,
    model: &Model,
) -> anyhow::Result<serde_json::Map<String, Value>> {
    let tokenizer = model.with(|m| m.tokenizer.clone());
    let mut out = serde_json::Map::new();
    for name in &task.0.tasks {
        let mut splits = vec![];
        let mut wording = None;
        for (split, set) in &task.0.sets {
            for part in set.parts().iter().filter(|p| p.task == *name) {
                splits.push((*split, part.items(None)?));
                wording = Some(part.wording.clone());
            }
        }
        let Some(wording) = wording else { continue };
        let splits: Vec<(&str, &[Item])> =
            splits.iter().map(|(split, items)| (*split, items.as_ref())).collect();
        let tokenizer = Watched { guard: &host.guard, tokenizer: tokenizer.as_ref() };
        out.insert(
            name.clone(),
            Value::Object(inspect::stats(&splits, wording.template, &tokenizer, &wording.options)?),
        );
    }
    Ok(out)
}

/// Tasks of a mixture, also of mixtures.
const MOST_PARTS: usize = 1000;

fn mixture(sets: &[Dynamic], weights: &[Dynamic]) -> Result<Set, Error> {
    let wrong = |i: usize| {
        Error::usage(format!(
            "`data::mix` mixes sets, such as `task.train`; element {i} of its list is none"
        ))
    };
    let sets = sets
        .iter()
        .enumerate()
        .map(|(i, s)| s.clone().try_cast::<Set>().ok_or_else(|| wrong(i)))
        .collect::<Result<Vec<_>, _>>()?;
    let number = |w: &Dynamic| {
        w.as_float()
            .ok()
            .or_else(|| w.as_int().ok().map(|n| n as FLOAT))
            .filter(|w| w.is_finite() && *w > 0.0)
    };
    let given: Vec<f64> = weights.iter().filter_map(number).collect();
    if given.len() != weights.len() || given.len() != sets.len() || sets.is_empty() {
        return Err(Error::usage(format!(
            "`data::mix` needs a weight above 0 for each of its sets: {} sets, {} such weights",
            sets.len(),
            given.len()
        )));
    }
    let (mut parts, mut shares) = (vec![], vec![]);
    for (set, weight) in sets.iter().zip(&given) {
        let whole: f64 = set.weights().map_or(set.len() as f64, |w| w.iter().sum());
        for (i, part) in set.parts().iter().enumerate() {
            shares.push(weight * set.weights().map_or(part.source.len() as f64, |w| w[i]) / whole);
            parts.push(part.clone());
        }
    }
    if parts.len() > MOST_PARTS {
        return Err(Error::usage(format!(
            "a mixture has at most {MOST_PARTS} tasks, counted through the mixtures in it; found \
             {}",
            parts.len()
        )));
    }
    Ok(Set::new(sets[0].split(), parts, Some(shares)))
}

fn read(context: &NativeCallContext, path: &str, options: Map) -> Answer<Task> {
    let host = &*host(context)?;
    let mut arguments = told_map(&options);
    arguments["path"] = path.into();
    let loading = data_options::parse(options).map_err(|e| door::to_script(&e))?;
    door::call(context, host, "data::load", arguments).make(|making| {
        let (files, found) = files_of(host, path, &loading)?;
        let (tasks, digests, notes) = if loading.stream {
            streamed(path, &files, &loading)?
        } else {
            in_memory(host, path, &files, &loading)?
        };
        if host.outlook().is_none() && !making.again {
            notes.iter().for_each(|note| host.console.note(note));
        }
        for (file, digest) in digests {
            let shown = shown(path, &found, &file);
            making.effects.insert(format!("the digest of `{shown}`"), digest.clone().into());
            host.with_run(|run| run.note_digest(shown, digest))?;
        }
        host.note_place(path, &found)?;
        let mut sets = BTreeMap::new();
        for split in SPLITS {
            let parts = tasks.iter().filter_map(|(task, sources)| {
                let source = sources.iter().find(|(s, _)| *s == split)?.1.clone();
                Some(Part::new(task, source, loading.wording.clone()))
            });
            let parts: Vec<Part> = parts.collect();
            if !parts.is_empty() {
                sets.insert(split.name(), Set::new(split, parts, None));
            }
        }
        let tasks: Vec<String> = tasks.into_iter().map(|(task, _)| task).collect();
        host.note(context, Event::Data { name: path.to_owned(), tasks: tasks.len() })?;
        let name = if tasks.len() == 1 { tasks[0].clone() } else { path.to_owned() };
        Ok(Task(Arc::new(Apart::new(Inner { name, tasks, sets }))))
    })
}

/// The files of the data set called `path`. In a run that is gone on with it may lie at several
/// places: the right one is that whose files have the digests that the run noted.
fn files_of(host: &Host, path: &str, loading: &Loading) -> anyhow::Result<(DataFiles, Name)> {
    let found = host.resolve(path)?;
    let then = &host.settings.places.digests;
    let read = |found: &Name| Ok((source::data_with(found, &loading.splits)?, found.clone()));
    let is_right = |(files, found): &(DataFiles, Name)| {
        files
            .paths()
            .into_iter()
            .all(|file| file_digest(file).ok().as_ref() == then.get(&shown(path, found, file)))
    };
    Ok(source::right_one(found, read, is_right)?.0)
}

/// What a file of the data set `name` is called in the run, wherever it lies: what it is by that
/// name.
fn shown(name: &str, found: &Name, file: &Path) -> String {
    let below = if let Name::Path(root) = found { file.strip_prefix(root).ok() } else { None };
    match below {
        Some(below) if below.as_os_str().is_empty() => source::expanded(name).display().to_string(),
        Some(below) => source::expanded(name).join(below).display().to_string(),
        None => file.display().to_string(),
    }
}

/// Tasks by name with their splits, the SHA-256 of each file, and what a person should know of
/// them.
type Sources = (Vec<(String, Vec<(Split, Source)>)>, Vec<(PathBuf, String)>, Vec<String>);

fn in_memory(
    host: &Host,
    path: &str,
    files: &DataFiles,
    loading: &Loading,
) -> anyhow::Result<Sources> {
    let convert = |item| {
        host.guard.check()?;
        loading.wording.convert(item)
    };
    let (mut out, mut digests, mut notes, mut unused) = (vec![], vec![], vec![], Unused::default());
    for task in data::Task::open_all(path, files, host.settings.seed, &loading.layout, &convert)? {
        digests.extend(task.digests);
        notes.extend(task.notes);
        unused.add(&task.unused);
        let splits = [
            (Split::Train, task.train),
            (Split::Validation, task.validation),
            (Split::Test, task.test),
        ];
        let sources = splits
            .into_iter()
            .filter_map(|(split, items)| Some((split, Source::Memory(Arc::new(items?)))));
        out.push((task.name, sources.collect()));
    }
    notes.extend(told(path, &unused));
    Ok((out, digests, notes))
}

/// Notes on keys of the data set `path` that nothing is made of.
fn told(path: &str, unused: &Unused) -> impl Iterator<Item = String> {
    unused.notes().into_iter().map(move |note| format!("`{path}`: {note}"))
}

fn streamed(path: &str, files: &DataFiles, loading: &Loading) -> anyhow::Result<Sources> {
    let stem = |path: &Path| {
        Some(source::stem_of(path)).filter(|stem| !stem.is_empty()).unwrap_or_else(|| "data".into())
    };
    let tasks: Vec<(String, BTreeMap<String, Vec<PathBuf>>)> = match files {
        DataFiles::File(file) => {
            let split = Split::parse(&stem(file)).unwrap_or(Split::Train);
            vec![(stem(file), BTreeMap::from([(split.name().to_owned(), vec![file.clone()])]))]
        }
        DataFiles::Folder(splits) => vec![(stem(Path::new(path)), splits.clone())],
        DataFiles::Embedded(_) => bail_usage!("`{path}` is in memory already; leave out `stream`"),
        DataFiles::Tasks(tasks) => {
            let of = |(name, files): (&String, &DataFiles)| match files {
                DataFiles::Folder(splits) => Some((name.clone(), splits.clone())),
                _ => None,
            };
            tasks.iter().filter_map(of).collect()
        }
    };
    let (mut out, mut digests, mut unused) = (vec![], vec![], Unused::default());
    for (name, splits) in tasks {
        let mut sources = vec![];
        for (split, files) in splits {
            let Some(split) = Split::parse(&split) else { continue };
            let lines = files
                .iter()
                .map(|file| Lines::open(file, &loading.layout))
                .collect::<anyhow::Result<Vec<_>>>()?;
            lines.iter().for_each(|lines| unused.add(lines.unused()));
            digests.extend(
                files
                    .iter()
                    .zip(&lines)
                    .map(|(file, lines)| (file.clone(), lines.digest().to_owned())),
            );
            sources.push((split, Source::Files { lines: Arc::new(lines), order: None }));
        }
        out.push((name, sources));
    }
    Ok((out, digests, told(path, &unused).collect()))
}
