//! `xgbrun eval MODEL --data FILE|DIR`.

use std::io::{Write, stdout};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::args::EvalArgs;
use super::console;
use super::interrupt::INTERRUPTED;
use super::{places, taught};
use crate::data::formats::{self, Format};
use crate::data::shots::ShotSource;
use crate::data::task::converted;
use crate::data::{Dataset, EncodeOptions, Item, ShotOptions, Split, mmlu};
use crate::error::{bail, did_you_mean, error};
use crate::eval::{Protocol, average, average_by_group};
use crate::host::template_file;
use crate::io::atomic;
use crate::model::MergeMode;
use crate::run::FinishedRun;
use crate::session::{
    Console, DataOptions, EvaluateOptions, Guard, ItemSource, Limits, LoadOptions, Measurement,
    Model, Part, PromptFormat, Session, Set,
};
use crate::source::{self, DataFiles, Date, Grants};
use crate::sys;

pub fn run(args: &EvalArgs) -> Result<()> {
    let guard = Guard::new(&Limits::endless(), &INTERRUPTED);
    let console = console::console(args.compute.quiet);
    if let Some(path) = &args.predictions {
        atomic::placed(path)?;
    }
    // The data first: a mistake there should not wait for a model to load.
    let taught = match args.template {
        None => taught::of(&args.model, &args.data)?,
        Some(_) => None,
    };
    let from = taught.as_ref().map(|taught| taught.from.clone());
    let sets = read(args, taught.map(|taught| taught.options), &console)?;
    let protocol = args.protocol.as_deref().map(Protocol::parse).transpose()?;

    let started = Instant::now();
    let (session, model) = opened(args, guard, &console)?;
    let booster = args.adapter.as_deref().map(|path| model.load_adapter(path, true)).transpose()?;
    let load_seconds = started.elapsed().as_secs_f64();

    let max_length = longest(args, model.max_length())?;
    let predictions = args.predictions.is_some();
    let options = EvaluateOptions {
        booster,
        protocol,
        predictions,
        max_length,
        ..EvaluateOptions::default()
    };
    let (mut tasks, mut all) = (vec![], vec![]);
    for task in &sets {
        let items = args.items.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let set = task.set(items, max_length, model.max_length());
        let mut one = model.measure(&set, &EvaluateOptions { items, ..options.clone() })?;
        // It stands beside the metrics.
        one.metrics.remove("template");
        tasks.push((task.name.clone(), one.metrics.clone()));
        all.push(one);
    }
    drop(session);
    drop(console);
    if let Some(path) = &args.predictions {
        let lines = all.iter().flat_map(|one| &one.told).map(|told| json!(told).to_string() + "\n");
        atomic::write(path, lines.collect::<String>().as_bytes())?;
    }

    let metrics = match tasks.len() {
        1 => tasks.remove(0).1,
        _ if sets.iter().all(TaskItems::is_mmlu) => average_by_group(&tasks, mmlu::group),
        _ => average(&tasks),
    };
    let sum = |of: fn(&Measurement) -> usize| all.iter().map(of).sum::<usize>();
    let (tokens, items, left_out) = (sum(|m| m.tokens), sum(|m| m.items), sum(|m| m.left_out));
    let seconds: f64 = all.iter().map(|m| m.seconds).sum();
    let shots = sets.iter().map(TaskItems::shots).max().filter(|shots| *shots > 0);
    let answer = json!({
        "model": args.model,
        "data": args.data,
        "split": sets[0].split.map(Split::name),
        "template": sets[0].wording.as_ref().map(|wording| wording.name()),
        "template_from": from.filter(|_| sets[0].wording.is_some()),
        "shots": shots,
        "adapter": args.adapter,
        "metrics": metrics,
        "counts": { "items": items, "left_out": left_out },
        "tokens": tokens,
        "timing": {
            "seconds": seconds,
            "load_seconds": load_seconds,
            "tokens_per_second": tokens as f64 / seconds,
            "peak_rss_mib": sys::peak_rss_mib(),
        },
    });
    let text = if args.json { format!("{answer}\n") } else { readable(&answer, &metrics) };
    Ok(stdout().write_all(text.as_bytes())?)
}

/// The model, or that which a run ended with. Errors: those of loading; (class usage) an option
/// that a run has decided.
fn opened(args: &EvalArgs, guard: Guard, console: &Arc<dyn Console>) -> Result<(Session, Model)> {
    let date = args.date.as_deref().map(Date::parse).transpose()?;
    if !taught::is_run(&args.model) {
        let session = Session::unrecorded(args.compute.settings()?, guard, console.clone());
        let (pre_tokenizer, merge_mode) = (args.pre_tokenizer.clone(), MergeMode::default());
        let model = session.load(&args.model, &LoadOptions { merge_mode, pre_tokenizer, date })?;
        return Ok((session, model));
    }
    if args.pre_tokenizer.is_some() {
        bail!(Usage, "`--pre-tokenizer` is what the run in `{}` had", args.model);
    }
    let kept = FinishedRun::open(&source::expanded(&args.model))?;
    let places = places::of_model(&kept, &[])?;
    let settings = args.compute.settings_as(&kept.manifest.dtype, places)?;
    let session = Session::unrecorded(settings, guard, console.clone());
    let model = session.base_of_run(&kept, date)?;
    for (path, weight) in &kept.boosters() {
        model.add_booster(path, *weight)?;
    }
    model.agrees(&kept)?;
    Ok((session, model))
}

/// Items of a task to be measured, and where they are from.
struct TaskItems {
    name: String,
    items: Vec<Item>,
    /// Which part of a folder; `None` for a single file.
    split: Option<Split>,
    /// `None` where there is nothing to word.
    wording: Option<Arc<PromptFormat>>,
}

/// The sets that are asked for: one, or one of each task. Errors: a split or template that is not
/// known or does not apply (class usage); data that cannot be read.
fn read(
    args: &EvalArgs,
    taught: Option<DataOptions>,
    console: &Arc<dyn Console>,
) -> Result<Vec<TaskItems>> {
    let split = args.split.as_deref().map(parse_split).transpose()?;
    let options = options(args, taught)?;
    let name = source::resolve(&args.data, &Grants::everything())?;
    let parts = match source::data_with(&name, &options.splits)? {
        DataFiles::File(file) => {
            if split.is_some() {
                bail!(
                    Usage,
                    "`--split` is for a data folder; `{}` is a single file and measured as it is",
                    args.data
                );
            }
            single(args, &file, &options, console)?
        }
        folder => parts_of(args, folder, split, &options, console)?,
    };
    let worded = |items: &[Item]| {
        items.iter().any(|item| matches!(item, Item::Instruction(_) | Item::Chat(_)))
    };
    if args.template.is_some() && !parts.iter().any(|(_, _, items)| worded(items)) {
        if !parts.iter().any(|(_, _, items)| matches!(items.first(), Some(Item::Tokens(_)))) {
            bail!(Usage, "`--template` words questions, but `{}` holds none", args.data);
        }
        console.note(&format!(
            "`{}` holds token ids, which are taken as they are: `--template` words none of them",
            args.data
        ));
    }
    let set = |(name, split, items): (String, Option<Split>, Vec<Item>)| {
        let wording = worded(&items).then(|| options.format.clone());
        TaskItems { name, items, split, wording }
    };
    Ok(parts.into_iter().map(set).collect())
}

/// How the files are read and worded. Errors (class usage): a format or template that is not known;
/// options of a template's file that do not apply.
fn options(args: &EvalArgs, taught: Option<DataOptions>) -> Result<DataOptions> {
    let mut options = match args.template.as_deref() {
        None => taught.unwrap_or_default(),
        Some(name) if Path::new(name).is_file() && PromptFormat::named(name).is_err() => {
            template_file(Path::new(name))?
        }
        Some(name) => DataOptions::worded(name).map_err(|error| no_file(name, error))?,
    };
    if options.stream {
        bail!(Usage, "`xgbrun eval` reads items into memory: leave out `stream`");
    }
    if let Some(format) = args.format.as_deref() {
        options.layout.format = Some(Format::parse(format)?);
    }
    if let Some(count) = args.shots {
        let from = args.shots_from.as_deref().map(ShotSource::parse).transpose()?;
        let given = options.shots.unwrap_or_else(|| ShotOptions::new(count));
        let (from, seed) = (from.or(given.from), args.shots_seed.or(given.seed));
        options.shots = Some(ShotOptions { count, from, seed, ..given });
    }
    Ok(options)
}

/// The error for a template that is not known; of one that is called as a file is, that there is
/// none.
fn no_file(name: &str, error: anyhow::Error) -> anyhow::Error {
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
    match ending {
        Some("json" | "jinja" | "jinja2" | "j2" | "txt") => {
            error!(Data, "there is no template file `{name}`").into()
        }
        _ => error,
    }
}

/// The items of a single file, by subject where they name theirs.
fn single(
    args: &EvalArgs,
    file: &Path,
    options: &DataOptions,
    console: &Arc<dyn Console>,
) -> Result<Vec<SplitItems>> {
    let read = formats::read_noted(file, &options.layout)?;
    read.notes.iter().for_each(|note| console.note(note));
    console::notes(console, &args.data, &read.unused.notes());
    let items = converted(read.items, &|item| options.format.convert(item))?;
    let name = source::stem_of(Path::new(&args.data));
    let task = Dataset { test: Some(items), ..Dataset::bare(&name) };
    let tasks = options.prepared(vec![task])?;
    Ok(tasks.into_iter().map(|task| (task.name, None, task.test.unwrap_or_default())).collect())
}

impl TaskItems {
    /// The items as a session takes them, at most `most`; `positions` are the tokens that the model
    /// sees.
    fn set(&self, most: Option<usize>, max_length: Option<usize>, positions: usize) -> Set {
        let wording = self.wording.clone().unwrap_or_else(|| DataOptions::default().format);
        let longest = wording.options.max_length.min(positions);
        let max_length = max_length.unwrap_or(longest);
        // A text is one item but many sequences: those are counted once they are made.
        let first = match (self.items.first(), most) {
            (Some(Item::Text(_)), _) | (_, None) => self.items.len(),
            (_, Some(most)) => most.min(self.items.len()),
        };
        let items = Arc::new(self.items[..first].to_vec());
        let options = EncodeOptions { max_length, ..wording.options };
        let part = Part::new(&self.name, ItemSource::Memory(items), wording.limited(options));
        Set::new(self.split.unwrap_or(Split::Test), vec![part], None)
    }

    /// How many solved examples stand before a question.
    fn shots(&self) -> usize {
        let shots = |item: &Item| match item {
            Item::Instruction(item) => item.solved().len(),
            _ => 0,
        };
        self.items.first().map_or(0, shots)
    }

    fn is_mmlu(&self) -> bool {
        self.wording.as_ref().is_some_and(|wording| wording.is_mmlu())
    }
}

/// The most tokens of a question or a sequence. Errors (class usage): more than the model sees.
fn longest(args: &EvalArgs, positions: usize) -> Result<Option<usize>> {
    let limit = args.max_length.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    if let Some(limit) = limit.filter(|&limit| limit > positions) {
        bail!(
            Usage,
            "`--max-length` {limit} is more than the {positions} tokens that the model can see"
        );
    }
    Ok(limit)
}

fn parse_split(name: &str) -> Result<Split> {
    match Split::parse(name) {
        Some(split) => Ok(split),
        None => {
            let near = did_you_mean(name, ["train", "validation", "test"]);
            bail!(Usage, "unknown split `{name}`{near}")
        }
    }
}

/// A task's name, which of its splits, and the items.
type SplitItems = (String, Option<Split>, Vec<Item>);

/// The items of a folder's split, for each task: the one asked for, else test, else validation with
/// a note.
fn parts_of(
    args: &EvalArgs,
    mut files: DataFiles,
    split: Option<Split>,
    options: &DataOptions,
    console: &Arc<dyn Console>,
) -> Result<Vec<SplitItems>> {
    let shown = options.shots.as_ref().is_some_and(|shots| shots.count > 0);
    let wanted = split.unwrap_or(Split::Test);
    let narrow = |files: &mut DataFiles| {
        // Without need the larger files are not read.
        if let DataFiles::Folder(files) = files
            && files.contains_key(Split::Test.name())
            && !shown
        {
            files.retain(|name, _| (name == Split::Test.name()) == (wanted == Split::Test));
            return !files.is_empty();
        }
        true
    };
    let any = match &mut files {
        DataFiles::Tasks(tasks) => {
            tasks.retain(|_, files| narrow(files));
            !tasks.is_empty()
        }
        files => narrow(files),
    };
    if !any {
        bail!(
            Data,
            "`{}` has no data for the split `{}`, only for `test`",
            args.data,
            wanted.name()
        );
    }
    // Where no validation file is, the items are those that a run with seed 0 holds out.
    let convert = |item| options.format.convert(item);
    let tasks = Dataset::open_all(&args.data, &files, 0, &options.layout, &convert)?;
    let mut out = vec![];
    for task in options.prepared(tasks)? {
        task.notes.iter().for_each(|note| console.note(note));
        console::notes(console, &args.data, &task.unused.notes());
        out.push(match (task.items(wanted), split, task.items(Split::Validation)) {
            (Err(_), None, Ok(items)) => {
                console.note(&format!(
                    "`{}` has no split `test`; measured is `validation`",
                    task.name
                ));
                (task.name.clone(), Some(Split::Validation), items.to_vec())
            }
            (Err(_), None, Err(_)) => {
                console
                    .note(&format!("`{}` has no splits but `train`; measured is that", task.name));
                (task.name.clone(), Some(Split::Train), task.items(Split::Train)?.to_vec())
            }
            (items, ..) => (task.name.clone(), Some(wanted), items?.to_vec()),
        });
    }
    Ok(out)
}

/// A few lines for people.
fn readable(answer: &Value, metrics: &Map<String, Value>) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let metric = |name: &str| metrics.get(name).map_or(f64::NAN, number);
    let (timing, counts) = (&answer["timing"], &answer["counts"]);
    let mut out = String::new();
    let text = |name: &str| metrics.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    out += &format!("protocol        {}\n", text("protocol"));
    if let Some(name) = answer["template"].as_str() {
        let from = answer["template_from"].as_str().map(|from| format!(", from {from}"));
        out += &format!("template        {name}{}\n", from.unwrap_or_default());
    }
    if metrics.contains_key("accuracy") {
        if let Some(tasks) = metrics.get("tasks").and_then(Value::as_object) {
            for (name, task) in tasks {
                let value = |key: &str| task.get(key).map_or(f64::NAN, number);
                out += &format!(
                    "  {name:<16} {:.4} ± {:.4} of {}\n",
                    value("accuracy"),
                    value("standard_error"),
                    task["items"]
                );
            }
        }
        if let Some(groups) = metrics.get("groups").and_then(Value::as_object) {
            for (name, group) in groups {
                let value = |key: &str| group.get(key).map_or(f64::NAN, number);
                out += &format!(
                    "{name:<18} {:.4} ± {:.4} of {}\n",
                    value("accuracy"),
                    value("standard_error"),
                    group["items"]
                );
            }
        }
        out += &format!(
            "accuracy        {:.4} ± {:.4}\n",
            metric("accuracy"),
            metric("standard_error")
        );
        for other in
            ["accuracy_norm", "unparsed", "majority", "f1", "matthews", "pearson", "spearman"]
        {
            if metrics.contains_key(other) {
                out += &format!("{other:<15} {:.4}\n", metric(other));
            }
        }
        out += &format!("items           {}", counts["items"]);
    } else {
        out += &format!("nll             {:.4} nats a token\n", metric("nll"));
        out += &format!("perplexity      {:.4}\n", metric("perplexity"));
        out += &format!(
            "sequences       {} with {} tokens that count",
            counts["items"],
            metric("tokens")
        );
    }
    if counts["left_out"] != 0 {
        out += &format!(", {} left out", counts["left_out"]);
    }
    out += &format!(
        "\ntime            {:.1} s at {:.0} tokens/s, {:.1} s to load, peak memory {:.0} MiB\n",
        number(&timing["seconds"]),
        number(&timing["tokens_per_second"]),
        number(&timing["load_seconds"]),
        number(&timing["peak_rss_mib"])
    );
    out
}
