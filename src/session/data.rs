//! Data sets: items from files, in splits, and how they are worded for a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;

use super::Session;
use super::dry_run::Event;
use super::model::file_digest;
use super::part::{ItemSource, Part, PromptFormat};
use super::set::Set;
use crate::data::formats::{Layout, LineFile, Unused};
use crate::data::{self, Dataset, EncodeOptions, ShotOptions, Split, Template, shots};
use crate::error::{Error, bail, error};
use crate::memory::Uncounted;
use crate::source::{self, DataFiles, Name};

const SPLITS: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

/// How data are read and worded.
#[derive(Clone)]
pub struct DataOptions {
    /// How files are read.
    pub layout: Layout,
    /// How items are worded.
    pub format: Arc<PromptFormat>,
    /// Names of files in the folder, by split.
    pub splits: BTreeMap<String, Vec<String>>,
    /// Rows stay in their files, for files larger than memory.
    pub stream: bool,
    /// Solved examples before each question of a test.
    pub shots: Option<ShotOptions>,
}

impl DataOptions {
    /// The longest example in tokens, where nobody says.
    pub const MAX_LENGTH: usize = 256;
}

impl DataOptions {
    /// The defaults, with the template of that name. Errors (class usage): an unknown name.
    pub fn worded(name: &str) -> Result<Self> {
        let (template, mapping) = PromptFormat::named(name)?;
        let rows = mapping.is_some();
        let layout =
            Layout { usual: PromptFormat::columns(mapping.as_deref()), rows, ..Layout::default() };
        let options = EncodeOptions { max_length: Self::MAX_LENGTH, loss: template.default_loss() };
        let format = Arc::new(PromptFormat { template, options, mapping });
        Ok(Self { layout, format, ..Self::default() })
    }

    /// Tasks as they were read, by subject where records name theirs, with solved examples before
    /// their questions.
    pub fn prepared(&self, tasks: Vec<Dataset>) -> Result<Vec<Dataset>> {
        let mut tasks = shots::by_subject(tasks);
        if let Some(shots) = &self.shots {
            tasks.iter_mut().try_for_each(|task| shots::give(task, shots))?;
        }
        Ok(tasks)
    }
}

impl Default for DataOptions {
    /// Questions by the template of Alpaca, at most 256 tokens.
    fn default() -> Self {
        let (template, max_length) = (Template::Alpaca, Self::MAX_LENGTH);
        let options = EncodeOptions { max_length, loss: template.default_loss() };
        Self {
            layout: Layout::default(),
            format: Arc::new(PromptFormat { template, options, mapping: None }),
            splits: BTreeMap::new(),
            stream: false,
            shots: None,
        }
    }
}

/// A data set with its splits, or several; copies are the same.
#[derive(Clone)]
pub struct Task(Arc<Uncounted<TaskInner>>);

struct TaskInner {
    name: String,
    /// Names of the tasks in it.
    tasks: Vec<String>,
    sets: BTreeMap<&'static str, Set>,
}

impl Task {
    /// Its name: the task's own, where there is one only.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Names of the tasks in it.
    pub fn tasks(&self) -> &[String] {
        &self.0.tasks
    }

    /// The sets by the names of their splits.
    pub(super) fn sets(&self) -> &BTreeMap<&'static str, Set> {
        &self.0.sets
    }

    /// The items of a split, of all tasks that have some. Errors (class data): none has.
    pub fn split(&self, split: Split) -> Result<Set, Error> {
        let sets = self.sets();
        if let Some(set) = sets.get(split.name()) {
            return Ok(set.clone());
        }
        let there: Vec<String> = sets.keys().map(|s| format!("`{s}`")).collect();
        let error = error!(
            Data,
            "the task `{}` has no split `{}`; it has {}",
            self.name(),
            split.name(),
            there.join(", ")
        );
        let held = sets.get(Split::Train.name()).filter(|_| split == Split::Validation);
        Err(match held {
            Some(train) => error.hint(format!(
                "one is held out of every ten of train, which has {}; add a validation file",
                train.len()
            )),
            None => error,
        })
    }
}

/// A split of a task, and where its items are.
type SplitSources = Vec<(Split, ItemSource)>;

/// What was read of a data set.
#[derive(Default)]
struct ReadData {
    /// By name.
    tasks: Vec<(String, SplitSources)>,
    /// SHA-256 of each file.
    digests: Vec<(PathBuf, String)>,
    /// What a person should know.
    notes: Vec<String>,
}

impl Session {
    /// Loads the data called `path`: `builtin:microworld`, a file, a folder with files for `train`,
    /// `validation` and `test`, a folder of such folders (several tasks), or a data set on the hub.
    pub fn data(&self, path: &str, options: &DataOptions) -> Result<Task> {
        shots::check(options.shots.as_ref(), options.stream)?;
        let (files, found) = self.files_of(path, options)?;
        let ReadData { tasks, digests, notes } = if options.stream {
            streamed(path, &files, options)?
        } else {
            self.in_memory(path, &files, options)?
        };
        if !self.call.is_again() {
            notes.iter().for_each(|note| self.console.note(note));
        }
        for (file, digest) in digests {
            let shown = shown(path, &found, &file);
            self.call.tell(format!("the digest of `{shown}`"), digest.clone());
            self.run.begun(|run| run.note_digest(shown, digest))?;
        }
        self.note_place(path, &found)?;
        let mut sets = BTreeMap::new();
        for split in SPLITS {
            let parts = tasks.iter().filter_map(|(task, sources)| {
                let source = sources.iter().find(|(s, _)| *s == split)?.1.clone();
                Some(Part::new(task, source, options.format.clone()))
            });
            let parts: Vec<Part> = parts.collect();
            if !parts.is_empty() {
                sets.insert(split.name(), Set::new(split, parts, None));
            }
        }
        let tasks: Vec<String> = tasks.into_iter().map(|(task, _)| task).collect();
        self.observe(|| Event::Data { name: path.to_owned(), tasks: tasks.len() })?;
        let name = if tasks.len() == 1 { tasks[0].clone() } else { path.to_owned() };
        Ok(Task(Arc::new(Uncounted::new(TaskInner { name, tasks, sets }))))
    }

    /// The files of the data set called `path`. In a run that is gone on with it may lie at several
    /// places: the right one is that whose files have the digests that the run noted.
    fn files_of(&self, path: &str, options: &DataOptions) -> Result<(DataFiles, Name)> {
        let read = |found: &Name| Ok((source::data_with(found, &options.splits)?, found.clone()));
        let is_right = |(files, found): &(DataFiles, Name)| {
            files.paths().into_iter().all(|file| {
                file_digest(file).ok().as_ref() == self.names.digest(&shown(path, found, file))
            })
        };
        Ok(source::right_one(self.resolve(path)?, read, is_right)?.0)
    }

    fn in_memory(&self, path: &str, files: &DataFiles, options: &DataOptions) -> Result<ReadData> {
        let convert = |item| {
            self.guard.check()?;
            options.format.convert(item)
        };
        let (mut read, mut unused) = (ReadData::default(), Unused::default());
        let seed = self.settings.seed;
        let tasks = data::Dataset::open_all(path, files, seed, &options.layout, &convert)?;
        for task in options.prepared(tasks)? {
            read.digests.extend(task.digests);
            read.notes.extend(task.notes);
            unused.add(&task.unused);
            let splits = [
                (Split::Train, task.train),
                (Split::Validation, task.validation),
                (Split::Test, task.test),
            ];
            let sources = splits
                .into_iter()
                .filter_map(|(split, items)| Some((split, ItemSource::Memory(Arc::new(items?)))));
            read.tasks.push((task.name, sources.collect()));
        }
        read.notes.extend(unused_of(path, &unused));
        Ok(read)
    }
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

/// Notes on keys of the data set `path` that nothing is made of.
fn unused_of(path: &str, unused: &Unused) -> impl Iterator<Item = String> {
    unused.notes().into_iter().map(move |note| format!("`{path}`: {note}"))
}

/// Paths of files by split.
type SplitFiles = BTreeMap<String, Vec<PathBuf>>;

/// The tasks that files hold, by name.
fn tasks_of(path: &str, files: &DataFiles) -> Result<Vec<(String, SplitFiles)>> {
    let stem = |path: &Path| {
        Some(source::stem_of(path)).filter(|stem| !stem.is_empty()).unwrap_or_else(|| "data".into())
    };
    Ok(match files {
        DataFiles::File(file) => {
            let split = Split::parse(&stem(file)).unwrap_or(Split::Train);
            vec![(stem(file), BTreeMap::from([(split.name().to_owned(), vec![file.clone()])]))]
        }
        DataFiles::Folder(splits) => vec![(stem(Path::new(path)), splits.clone())],
        DataFiles::Embedded(_) => bail!(Usage, "`{path}` is in memory already; leave out `stream`"),
        DataFiles::Tasks(tasks) => {
            let of = |(name, files): (&String, &DataFiles)| match files {
                DataFiles::Folder(splits) => Some((name.clone(), splits.clone())),
                _ => None,
            };
            tasks.iter().filter_map(of).collect()
        }
    })
}

fn streamed(path: &str, files: &DataFiles, options: &DataOptions) -> Result<ReadData> {
    let (mut read, mut unused) = (ReadData::default(), Unused::default());
    for (name, splits) in tasks_of(path, files)? {
        let mut sources = vec![];
        for (split, files) in splits {
            let Some(split) = Split::parse(&split) else { continue };
            let lines = files
                .iter()
                .map(|file| LineFile::open(file, &options.layout))
                .collect::<Result<Vec<_>>>()?;
            lines.iter().for_each(|lines| unused.add(lines.unused()));
            let digests = files.iter().zip(&lines);
            let digests = digests.map(|(file, lines)| (file.clone(), lines.digest().to_owned()));
            read.digests.extend(digests);
            sources.push((split, ItemSource::Files { lines: Arc::new(lines), order: None }));
        }
        read.tasks.push((name, sources));
    }
    read.notes.extend(unused_of(path, &unused));
    Ok(read)
}

/// One set to train on out of several: of all examples drawn, each set gives the share that its
/// weight has. Errors (class usage): not one weight above 0 for each set.
pub fn mix(sets: &[Set], weights: &[f64]) -> Result<Set, Error> {
    /// Tasks of a mixture, also of mixtures.
    const MOST_PARTS: usize = 1000;
    let good = weights.iter().filter(|w| w.is_finite() && **w > 0.0).count();
    if good != weights.len() || good != sets.len() || sets.is_empty() {
        return Err(error!(
            Usage,
            "`data::mix` needs a weight above 0 for each of its sets: {} sets, {good} such weights",
            sets.len()
        ));
    }
    let (mut parts, mut shares) = (vec![], vec![]);
    for (set, weight) in sets.iter().zip(weights) {
        let whole: f64 = set.weights().map_or(set.len() as f64, |w| w.iter().sum());
        for (i, part) in set.parts().iter().enumerate() {
            shares.push(weight * set.weights().map_or(part.source.len() as f64, |w| w[i]) / whole);
            parts.push(part.clone());
        }
    }
    if parts.len() > MOST_PARTS {
        return Err(error!(
            Usage,
            "a mixture has at most {MOST_PARTS} tasks, counted through the mixtures in it; found \
             {}",
            parts.len()
        ));
    }
    Ok(Set::new(sets[0].split(), parts, Some(shares)))
}
