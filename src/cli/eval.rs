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
use crate::boost::adapter;
use crate::data::{self, ChoiceItem, EncodeOptions, Example, Item, Split, Task, Template, encode_choices, encode_train};
use crate::error::nearest;
use crate::eval::Encoded;
use crate::host::{Console, Guard, Progress};
use crate::model::{self, Overlay};
use crate::source::{self, DataFiles, Grants, Tokenizer};
use crate::{bail_data, bail_usage};

/// Tokens of a sequence, where nobody says: what `data::load` takes in recipes.
const MAX_LENGTH: usize = 256;

pub fn run(args: &EvalArgs) -> Result<()> {
    let guard = Guard::new(u64::MAX, &INTERRUPTED);
    let console = terminal::console(args.compute.quiet);
    // The data first: a mistake there should not wait for a model to load.
    let set = Set::read(args, &console)?;
    let compute = args.compute.open()?;

    let started = Instant::now();
    let grants = Grants::everything();
    let loaded = model::load::open(&args.model, &grants, &compute.device, compute.dtype)?;
    let network = loaded.model;
    let overlay = match &args.adapter {
        Some(folder) => adapter::load(&grants.check(folder)?, &network)?.overlay,
        None => Overlay::default(),
    };
    let load_seconds = started.elapsed().as_secs_f64();

    let ready = set.encode(args, &loaded.tokenizer, network.config().max_positions)?;
    console.note(&ready.report);
    let encoded = ready.encoded();
    let started = Instant::now();
    let measured = encoded.measure(&network, &overlay, |done| {
        let (done, total) = (done as u64, encoded.len() as u64);
        console.progress(&Progress { what: format!("evaluate {}", set.name()), done, total, detail: String::new() });
        Ok(guard.check()?)
    })?;
    let seconds = started.elapsed().as_secs_f64();
    drop(console);

    let metrics = measured.metrics;
    let answer = json!({
        "model": args.model,
        "data": args.data,
        "split": set.split.map(Split::name),
        "template": set.template.map(Template::name),
        "adapter": args.adapter,
        "metrics": metrics,
        "counts": { "items": encoded.len(), "left_out": ready.left_out },
        "tokens": measured.tokens,
        "timing": {
            "seconds": seconds,
            "load_seconds": load_seconds,
            "tokens_per_second": measured.tokens as f64 / seconds,
            "peak_rss_mib": crate::run::peak_rss_mib(),
        },
    });
    let text = if args.json { format!("{answer}\n") } else { readable(&answer, &metrics) };
    Ok(stdout().write_all(text.as_bytes())?)
}

/// Items to be measured, and where they are from.
struct Set {
    items: Vec<Item>,
    /// Which part of a folder; `None` for a single file.
    split: Option<Split>,
    /// `None` where there is nothing to word.
    template: Option<Template>,
    stem: String,
}

impl Set {
    /// Errors: a split or template that is not known or does not apply (class usage); data that cannot be read.
    fn read(args: &EvalArgs, console: &Arc<dyn Console>) -> Result<Self> {
        let split = args.split.as_deref().map(parse_split).transpose()?;
        let template = args.template.as_deref().map(Template::parse).transpose()?;
        let files = source::data(&source::resolve(&args.data, &Grants::everything())?)?;
        let stem = Path::new(&args.data).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (split, items) = match files {
            DataFiles::File(file) => {
                if split.is_some() {
                    bail_usage!("`--split` is for a data folder; `{}` is a single file and measured as it is", args.data);
                }
                (None, data::formats::read(&file)?)
            }
            folder => {
                let (split, items) = part_of(args, folder, split, console)?;
                (Some(split), items)
            }
        };
        let worded = items.iter().any(|item| matches!(item, Item::Instruction(_)));
        if !worded && template.is_some() {
            bail_usage!("`--template` words questions, but `{}` holds none", args.data);
        }
        Ok(Self { items, split, template: worded.then(|| template.unwrap_or(Template::Alpaca)), stem })
    }

    fn name(&self) -> &str {
        match self.split {
            Some(split) => split.name(),
            None => &self.stem,
        }
    }

    /// Encodes the items for a model that sees `positions` tokens.
    fn encode(&self, args: &EvalArgs, tokenizer: &Tokenizer, positions: usize) -> Result<Ready> {
        let most = args.items.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let limit = args.max_length.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        if let Some(limit) = limit.filter(|&limit| limit > positions) {
            bail_usage!("`--max-length` {limit} is more than the {positions} tokens that the model can see");
        }
        let template = self.template.unwrap_or(Template::Alpaca);
        let questions = self.template.is_some();
        // A text is one item but many sequences: those are counted once they are made.
        let first = if matches!(self.items.first(), Some(Item::Text(_))) { self.items.len() } else { most.min(self.items.len()) };
        let items = &self.items[..first];
        if questions && items.iter().any(Item::is_scorable) {
            let (choices, report) = encode_choices(items, template, tokenizer, limit.unwrap_or(positions))?;
            let left_out = report.items - report.scored;
            return Ok(Ready { what: What::Choices(choices), left_out, report: format!("{}: {report}", self.name()) });
        }
        let options = EncodeOptions { max_length: limit.unwrap_or(MAX_LENGTH.min(positions)), loss: template.default_loss() };
        let mut encoded = encode_train(items, template, tokenizer, &options)?;
        encoded.examples.truncate(most);
        let report = format!("{}: {}", self.name(), encoded.report);
        Ok(Ready { what: What::Sequences(encoded.examples), left_out: encoded.report.dropped, report })
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
    Sequences(Vec<Example>),
}

impl Ready {
    fn encoded(&self) -> Encoded<'_> {
        match &self.what {
            What::Choices(items) => Encoded::Choices(items),
            What::Sequences(examples) => Encoded::Sequences(examples),
        }
    }
}

fn parse_split(name: &str) -> Result<Split> {
    match Split::parse(name) {
        Some(split) => Ok(split),
        None => {
            let near = nearest(name, ["train", "validation", "test"]).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            bail_usage!("unknown split `{name}`{near}")
        }
    }
}

/// The items of a folder's split: the one asked for, else test, else validation with a note.
fn part_of(args: &EvalArgs, mut files: DataFiles, split: Option<Split>, console: &Arc<dyn Console>) -> Result<(Split, Vec<Item>)> {
    let wanted = split.unwrap_or(Split::Test);
    if let DataFiles::Folder(files) = &mut files
        && files.contains_key(Split::Test.name())
    {
        // Without need the larger files are not read.
        files.retain(|name, _| (name == Split::Test.name()) == (wanted == Split::Test));
        if files.is_empty() {
            bail_data!("`{}` has no data for the split `{}`, only for `test`", args.data, wanted.name());
        }
    }
    // Where no validation file is, the items are those that a run with seed 0 holds out.
    let task = Task::open(&args.data, &files, 0)?;
    match (task.items(wanted), split, task.items(Split::Validation)) {
        (Err(_), None, Ok(items)) => {
            console.note(&format!("`{}` has no split `test`; measured is `validation`", args.data));
            Ok((Split::Validation, items.to_vec()))
        }
        (items, ..) => Ok((wanted, items?.to_vec())),
    }
}

/// A few lines for people.
fn readable(answer: &Value, metrics: &Map<String, Value>) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let metric = |name: &str| metrics.get(name).map_or(f64::NAN, number);
    let (timing, counts) = (&answer["timing"], &answer["counts"]);
    let mut out = String::new();
    if metrics.contains_key("accuracy") {
        out += &format!("accuracy        {:.4} ± {:.4}\n", metric("accuracy"), metric("standard_error"));
        out += &format!("accuracy_norm   {:.4}\n", metric("accuracy_norm"));
        out += &format!("majority        {:.4}\n", metric("majority"));
        out += &format!("items           {}", counts["items"]);
    } else {
        out += &format!("nll             {:.4} nats a token\n", metric("nll"));
        out += &format!("perplexity      {:.4}\n", metric("perplexity"));
        out += &format!("sequences       {} with {} tokens that count", counts["items"], metric("tokens"));
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
