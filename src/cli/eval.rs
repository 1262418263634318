//! `xgbrun eval MODEL --data FILE|DIR`.

use std::io::{Write, stdout};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::args::EvalArgs;
use super::interrupt::INTERRUPTED;
use super::terminal;
use crate::boost::adapter::{self, Weights};
use crate::data::formats::{self, Format, Layout};
use crate::data::{
    ChoiceItem, EncodeOptions, Example, GenerationItem, Item, Split, Task, Template,
    encode_choices, encode_questions, encode_train,
};
use crate::error::nearest;
use crate::eval::{Encoded, Protocol, average};
use crate::model::{self, Adapter};
use crate::session::{Console, Guard, Limits, Progress, Watched};
use crate::source::{self, DataFiles, Date, Grants, Tokenizer};
use crate::sys;
use crate::{bail_data, bail_usage};

/// Tokens of a sequence, where nobody says: what `data::load` takes in recipes.
const MAX_LENGTH: usize = 256;

pub fn run(args: &EvalArgs) -> Result<()> {
    let guard = Guard::new(&Limits { seconds: u64::MAX, ..Limits::default() }, &INTERRUPTED);
    let console = terminal::console(args.compute.quiet);
    // The data first: a mistake there should not wait for a model to load.
    let sets = read(args, &console)?;
    let protocol = args.protocol.as_deref().map(Protocol::parse).transpose()?;
    let compute = args.compute.open()?;

    let started = Instant::now();
    let grants = Grants::everything();
    let date = args.date.as_deref().map(Date::parse).transpose()?;
    let files = source::model(&source::resolve(&args.model, &grants)?)?
        .split_by(args.pre_tokenizer.as_deref())?;
    let mut loaded = model::load::load(&files, &compute.device, compute.dtype)?;
    loaded.tokenizer = loaded.tokenizer.with_date(date);
    terminal::notes(&console, &args.model, &loaded.notes);
    let network = loaded.model;
    let adapter = match &args.adapter {
        Some(folder) => {
            let adapter = adapter::load(&grants.check(folder)?, &network, Weights::Base)?;
            terminal::notes(&console, folder, &adapter.notes(&args.model));
            adapter.booster.adapter
        }
        None => Adapter::default(),
    };
    let load_seconds = started.elapsed().as_secs_f64();

    let (mut tasks, mut tokens, mut items, mut left_out, mut seconds) = (vec![], 0, 0, 0, 0.0);
    for set in &sets {
        let watched = Watched { guard: &guard, tokenizer: &loaded.tokenizer };
        let ready =
            set.encode(args, protocol, &watched, network.config().max_position_embeddings)?;
        console.note(&ready.report);
        let encoded = ready.encoded(&loaded.tokenizer);
        let started = Instant::now();
        let measured = encoded.measure(&network, &adapter, |done| {
            let (done, total) = (done as u64, encoded.len() as u64);
            console.progress(&Progress {
                what: format!("evaluate {}", set.label()),
                done,
                total,
                detail: String::new(),
            });
            Ok(guard.check()?)
        })?;
        seconds += started.elapsed().as_secs_f64();
        tokens += measured.tokens;
        items += encoded.len();
        left_out += ready.left_out;
        tasks.push((set.name.clone(), measured.metrics));
    }
    drop(console);

    let metrics = if tasks.len() == 1 { tasks.remove(0).1 } else { average(&tasks) };
    let answer = json!({
        "model": args.model,
        "data": args.data,
        "split": sets[0].split.map(Split::name),
        "template": sets[0].template.map(Template::name),
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

/// Items of a task to be measured, and where they are from.
struct Set {
    name: String,
    items: Vec<Item>,
    /// Which part of a folder; `None` for a single file.
    split: Option<Split>,
    /// `None` where there is nothing to word.
    template: Option<Template>,
}

/// The sets that are asked for: one, or one of each task. Errors: a split or template that is not
/// known or does not apply (class usage); data that cannot be read.
fn read(args: &EvalArgs, console: &Arc<dyn Console>) -> Result<Vec<Set>> {
    let split = args.split.as_deref().map(parse_split).transpose()?;
    let template = args.template.as_deref().map(Template::parse).transpose()?;
    let layout = layout(args)?;
    let parts = match source::data(&source::resolve(&args.data, &Grants::everything())?)? {
        DataFiles::File(file) => {
            if split.is_some() {
                bail_usage!(
                    "`--split` is for a data folder; `{}` is a single file and measured as it is",
                    args.data
                );
            }
            let read = formats::read_noted(&file, &layout)?;
            read.notes.iter().for_each(|note| console.note(note));
            terminal::notes(console, &args.data, &read.unused.notes());
            vec![(source::stem_of(Path::new(&args.data)), None, read.items)]
        }
        folder => parts_of(args, folder, split, &layout, console)?,
    };
    let worded = |items: &[Item]| {
        items.iter().any(|item| matches!(item, Item::Instruction(_) | Item::Chat(_)))
    };
    if template.is_some() && !parts.iter().any(|(_, _, items)| worded(items)) {
        if !parts.iter().any(|(_, _, items)| matches!(items.first(), Some(Item::Tokens(_)))) {
            bail_usage!("`--template` words questions, but `{}` holds none", args.data);
        }
        console.note(&format!(
            "`{}` holds token ids, which are taken as they are: `--template` words none of them",
            args.data
        ));
    }
    let set = |(name, split, items): (String, Option<Split>, Vec<Item>)| {
        let template = worded(&items).then(|| template.unwrap_or(Template::Alpaca));
        Set { name, items, split, template }
    };
    Ok(parts.into_iter().map(set).collect())
}

/// How the files are read. Errors (class usage): a format that is not known.
fn layout(args: &EvalArgs) -> Result<Layout> {
    Ok(Layout {
        format: args.format.as_deref().map(Format::parse).transpose()?,
        ..Layout::default()
    })
}

impl Set {
    fn label(&self) -> String {
        match self.split {
            Some(split) => format!("{} {}", self.name, split.name()),
            None => self.name.clone(),
        }
    }

    /// Encodes the items for a model that sees `positions` tokens.
    fn encode(
        &self,
        args: &EvalArgs,
        protocol: Option<Protocol>,
        tokenizer: &Watched,
        positions: usize,
    ) -> Result<Ready> {
        let most = args.items.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let limit = args.max_length.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        if let Some(limit) = limit.filter(|&limit| limit > positions) {
            bail_usage!(
                "`--max-length` {limit} is more than the {positions} tokens that the model can see"
            );
        }
        let template = self.template.unwrap_or(Template::Alpaca);
        // A text is one item but many sequences: those are counted once they are made.
        let first = if matches!(self.items.first(), Some(Item::Text(_))) {
            self.items.len()
        } else {
            most.min(self.items.len())
        };
        let items = &self.items[..first];
        let scorable = self.template.is_some() && items.iter().any(Item::is_scorable);
        match protocol.unwrap_or(if scorable { Protocol::Choices } else { Protocol::Likelihood }) {
            Protocol::Choices => {
                let (choices, report) =
                    encode_choices(items, template, tokenizer, limit.unwrap_or(positions))?;
                let left_out = report.items - report.scored;
                Ok(Ready {
                    what: What::Choices(choices),
                    left_out,
                    report: format!("{}: {report}", self.label()),
                })
            }
            Protocol::LlmAdapters => {
                let (questions, report) = encode_questions(
                    items,
                    template,
                    tokenizer,
                    limit.unwrap_or(positions).saturating_sub(Protocol::NEW_TOKENS),
                )?;
                let left_out = report.items - questions.len();
                Ok(Ready {
                    what: What::Questions(questions),
                    left_out,
                    report: format!("{}: {report}", self.label()),
                })
            }
            Protocol::Likelihood => {
                let options = EncodeOptions {
                    max_length: limit.unwrap_or(MAX_LENGTH.min(positions)),
                    loss: template.default_loss(),
                };
                let mut encoded = encode_train(items, template, tokenizer, &options)?;
                encoded.examples.truncate(most);
                let report = format!("{}: {}", self.label(), encoded.report);
                Ok(Ready {
                    what: What::Sequences(encoded.examples),
                    left_out: encoded.report.dropped,
                    report,
                })
            }
        }
    }
}

/// Encoded items, and what became of them.
struct Ready {
    what: What,
    left_out: usize,
    report: String,
}

enum What {
    Choices(Vec<ChoiceItem>),
    Questions(Vec<GenerationItem>),
    Sequences(Vec<Example>),
}

impl Ready {
    fn encoded<'a>(&'a self, tokenizer: &'a Tokenizer) -> Encoded<'a> {
        match &self.what {
            What::Choices(items) => Encoded::Choices(items),
            What::Questions(items) => Encoded::Questions(items, tokenizer),
            What::Sequences(examples) => Encoded::Sequences(examples),
        }
    }
}

fn parse_split(name: &str) -> Result<Split> {
    match Split::parse(name) {
        Some(split) => Ok(split),
        None => {
            let near = nearest(name, ["train", "validation", "test"])
                .map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            bail_usage!("unknown split `{name}`{near}")
        }
    }
}

/// A task's name, which of its splits, and the items.
type Part = (String, Option<Split>, Vec<Item>);

/// The items of a folder's split, for each task: the one asked for, else test, else validation with
/// a note.
fn parts_of(
    args: &EvalArgs,
    mut files: DataFiles,
    split: Option<Split>,
    layout: &Layout,
    console: &Arc<dyn Console>,
) -> Result<Vec<Part>> {
    let wanted = split.unwrap_or(Split::Test);
    let narrow = |files: &mut DataFiles| {
        // Without need the larger files are not read.
        if let DataFiles::Folder(files) = files
            && files.contains_key(Split::Test.name())
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
        bail_data!(
            "`{}` has no data for the split `{}`, only for `test`",
            args.data,
            wanted.name()
        );
    }
    // Where no validation file is, the items are those that a run with seed 0 holds out.
    let tasks = Task::open_all(&args.data, &files, 0, layout, &Ok)?;
    let mut out = vec![];
    for task in tasks {
        task.notes.iter().for_each(|note| console.note(note));
        terminal::notes(console, &args.data, &task.unused.notes());
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
