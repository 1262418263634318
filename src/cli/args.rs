//! The command line as it is written: what follows a command.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use candle_core::{DType, Device};
use clap::Parser;

use super::{console, params_file, places, words};
use crate::device;
use crate::error::bail;
use crate::run::Manifest;
use crate::session::{Limits, Settings};
use crate::source::{Places, expanded};

const RUN_HELP: &str = "\
The word `run` may be left out: `xgbrun RECIPE`.

Examples:
  xgbrun recipes/commonsense.rhai -p model=models/smollm2 -p data=data/ARC-Easy -p rounds=16
  xgbrun mine.rhai -p model=owner/model@main -p data=data/boolq --seed 7 --out runs/boolq-7
  xgbrun mine.rhai --device cuda:1 --dtype bf16 --quiet
  xgbrun mine.rhai --params mine.json -p model=models/smollm2 --json > result.json

The result goes to standard output, all else to standard error.

Ctrl-C ends a run after the training step that it is in; what was done until then stays in the run \
folder, and `xgbrun --resume RUN` goes on with it; with `--from-round N`, after its first N \
boosters, also with a changed recipe or other parameters (`xgbrun help resume`).";

/// Run a recipe: train as its script says.
#[derive(Debug, Parser)]
#[command(
    name = "xgbrun",
    version,
    arg_required_else_help = true,
    max_term_width = 110,
    override_usage = "xgbrun [run] RECIPE [-p NAME=VALUE]... [OPTIONS]",
    after_help = RUN_HELP
)]
pub struct RunArgs {
    /// Folder to write the run to, new or empty [default: runs/NAME-TIME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub asked: RecipeArgs,
    #[command(flatten)]
    pub shown: ShownArgs,
}

/// What is said of a run beside its progress.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ShownArgs {
    /// Write the result to standard output as one JSON object: what `summary.json` holds, and the
    /// run folder
    #[arg(long)]
    pub json: bool,
    /// Show all metrics of every evaluation, a line a task, not the average alone
    #[arg(long, short, conflicts_with = "quiet")]
    pub verbose: bool,
}

/// A recipe, and what decides what it does.
#[derive(Debug, clap::Args)]
pub struct RecipeArgs {
    /// The recipe: a path that ends in `.rhai` or holds a `/`
    #[arg(value_parser = recipe)]
    pub recipe: PathBuf,
    /// Set a parameter that the recipe declares with `params`
    #[arg(short, value_name = "NAME=VALUE", value_parser = parameter)]
    pub param: Vec<(String, String)>,
    /// Set parameters to what a JSON object says, where `-p` does not; a path in it may not be read
    #[arg(long, value_name = "FILE")]
    params: Option<PathBuf>,
    /// Seed of all chance in the run
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub compute: ComputeArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Let the recipe fetch any model and data set from the Hugging Face hub, not only those that
    /// `-p` names
    #[arg(long)]
    pub allow_hub: bool,
    /// How long one fit goes on, in seconds, before it is kept as it is then, to be resumed from
    /// there
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub checkpoint: u64,
}

impl RecipeArgs {
    /// Whether the run is to be on a GPU.
    pub fn on_gpu(&self) -> bool {
        device::names_gpu(&self.compute.device)
    }

    /// What a session that plans a run on a GPU is started with: nothing is computed on it, so it
    /// need not be there.
    pub fn settings_for_gpu(&self) -> Result<Settings> {
        let dtype = device::storage_dtype_on(&self.compute.dtype, true)?;
        let (params, params_of_file) = (self.param.clone(), self.params_of_file()?);
        let (seed, limits, allow_hub) = (self.seed, self.limits.into(), self.allow_hub);
        let settings = Settings { params, params_of_file, seed, dtype, ..Settings::default() };
        Ok(Settings { allow_hub, limits, ..settings })
    }

    /// What `--params` gives. Errors: those of [`params_file::read`].
    fn params_of_file(&self) -> Result<serde_json::Map<String, serde_json::Value>> {
        self.params.as_deref().map_or(Ok(Default::default()), params_file::read)
    }

    /// Opens the device; the run folder is `out`. Errors as [`ComputeArgs::open`] and
    /// [`params_file::read`].
    pub fn settings(&self, out: Option<PathBuf>) -> Result<Settings> {
        let params_of_file = self.params_of_file()?;
        let Compute { device, dtype, threads } = self.compute.open()?;
        let (params, limits, checkpoint) =
            (self.param.clone(), self.limits.into(), Duration::from_secs(self.checkpoint));
        let places = Places::default();
        Ok(Settings {
            out,
            params,
            params_of_file,
            seed: self.seed,
            threads,
            device,
            dtype,
            allow_hub: self.allow_hub,
            checkpoint,
            limits,
            places,
        })
    }
}

const RESUME_HELP: &str = "\
The recipe, its parameters, seed, threads and device are those in the run folder; model and data \
are looked for in the current folder and where they lay when the run was begun. The recipe runs \
again from its first line; what the run's journal tells of is answered from there, so it goes on \
where it stopped and ends with the same bytes as if it had never stopped, what a clock measured \
aside. A run that has ended is left as it is.

Examples:
  xgbrun --resume runs/commonsense-1
  xgbrun --resume runs/commonsense-1 --from-round 16
  xgbrun --resume runs/commonsense-1 --from-round 64 -p rounds=128
  xgbrun --resume moved/commonsense-1 -p model=/new/smollm2 -p data=/new/ARC-Easy";

/// Go on with a run that was stopped.
#[derive(Debug, Parser)]
#[command(
    name = "xgbrun --resume",
    bin_name = "xgbrun --resume",
    arg_required_else_help = true,
    override_usage = "xgbrun --resume RUN [OPTIONS]",
    max_term_width = 110,
    after_help = RESUME_HELP
)]
pub struct ResumeArgs {
    /// The run folder
    pub run: PathBuf,
    /// Keep the first N boosters only, and do what follows anew: also of a run that has ended, with
    /// a recipe that was changed in the run folder, or with other parameters
    #[arg(long, value_name = "N")]
    pub from_round: Option<usize>,
    /// Go on where the program's version, its threads, the device or its kernels are others:
    /// numbers may then differ in their last bits from those of the run had it not stopped
    #[arg(long)]
    pub allow_inexact: bool,
    /// Set a parameter; with `--from-round` to another value than the run had. Of a model or data
    /// it says where they are now
    #[arg(short, value_name = "NAME=VALUE", value_parser = parameter)]
    pub param: Vec<(String, String)>,
    /// Set parameters to what a JSON object says, where `-p` does not
    #[arg(long, value_name = "FILE")]
    params: Option<PathBuf>,
    /// Let the recipe fetch any model and data set from the Hugging Face hub
    #[arg(long)]
    allow_hub: bool,
    /// How long one fit goes on, in seconds, before it is kept as it is then
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub checkpoint: u64,
    /// Threads to compute with [default: as in the run]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    /// Show no progress: what the recipe prints, errors and the result alone
    #[arg(long)]
    pub quiet: bool,
    #[command(flatten)]
    pub shown: ShownArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

impl ResumeArgs {
    /// What a run was started with, `manifest`, and what is said otherwise now. Errors as
    /// [`ComputeArgs::open`] and [`params_file::read`].
    pub fn settings(&self, manifest: &Manifest) -> Result<Settings> {
        let device = device::select(&manifest.device)?.device;
        let threads = self.threads.map_or(manifest.threads, |n| n as usize);
        if !(1..=4096).contains(&threads) {
            bail!(Data, "the run's `run.json` wants {threads} threads; there can be 1 to 4096");
        }
        let threads = device::set_threads(Some(threads))?;
        let dtype = device::storage_dtype(&manifest.dtype, &device)?;
        let (mut params, mut places) = (manifest.given.clone(), places::of_run(manifest));
        let mut params_of_file = manifest.given_in_file.clone();
        for (name, value) in
            self.params.as_deref().map_or(Ok(Default::default()), params_file::read)?
        {
            // The same as `-p` gave is what it gave.
            params.retain(|(given, text)| *given != name || value.as_str() == Some(text));
            params_of_file.insert(name, value);
        }
        for (name, value) in &self.param {
            // What the run read keeps the name that it had.
            let before =
                params.iter().find(|(given, _)| given == name).map(|(_, before)| before.clone());
            if let Some(before) = before.filter(|before| {
                self.from_round != Some(0) && places::is_place(manifest, before, value)
            }) {
                places.moved.insert(before, expanded(value));
                continue;
            }
            params.retain(|(given, _)| given != name);
            params.push((name.clone(), value.clone()));
        }
        let (seed, limits, checkpoint) =
            (manifest.seed, self.limits.into(), Duration::from_secs(self.checkpoint));
        Ok(Settings {
            out: None,
            params,
            params_of_file,
            seed,
            threads,
            device,
            dtype,
            allow_hub: self.allow_hub,
            checkpoint,
            limits,
            places,
        })
    }
}

const EVAL_HELP: &str = "\
Questions that name their choices (`.json`) are measured by accuracy: the choice with the largest \
log-likelihood is the prediction; for accuracy_norm, the largest per character. All else is \
measured by its mean negative log-likelihood in nats a token and by perplexity: token ids \
(`.jsonl`), text (`.txt`), questions without choices.

Examples:
  xgbrun eval models/smollm2 --data data/ARC-Easy --items 200
  xgbrun eval runs/commonsense-1/model --data data/ARC-Easy/test.json --json
  xgbrun eval models/smollm2.gguf --data book.txt --max-length 1024
  xgbrun eval owner/model --adapter adapters/boolq --data data/boolq --split validation";

/// Measure a model on data: accuracy of choices, or perplexity of text.
#[derive(Debug, Parser)]
#[command(
    name = "xgbrun eval",
    bin_name = "xgbrun eval",
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = EVAL_HELP
)]
pub struct EvalArgs {
    /// A model folder, a GGUF file or a Hugging Face id
    pub model: String,
    /// A file, a folder with files for train, validation and test, or a folder of such folders:
    /// several tasks
    #[arg(long, value_name = "FILE|DIR")]
    pub data: String,
    /// How data files are read: json, jsonl, csv, tsv, parquet or text [default: by the ending of
    /// their names]
    #[arg(long, value_name = "NAME")]
    pub format: Option<String>,
    /// How questions are worded: alpaca, cloze, llm-adapters, none, chat (the model's own),
    /// lm-eval/TASK, mmlu, or a file with a template of your own: JSON with the map that
    /// `data::load` takes as `template`, or with its options; or Jinja [default: alpaca]
    #[arg(long, value_name = "NAME|FILE")]
    pub template: Option<String>,
    /// Solved examples before each question
    #[arg(long, value_name = "K")]
    pub shots: Option<usize>,
    /// Where they are from: train, validation or dev [default: what the data have for them, else
    /// train, else validation]
    #[arg(long, value_name = "SPLIT", requires = "shots")]
    pub shots_from: Option<String>,
    /// Draws them by this seed; the first are taken without
    #[arg(long, value_name = "N", requires = "shots")]
    pub shots_seed: Option<u64>,
    /// How answers are found: lm-eval (choices by their likelihood), llm-adapters (generated, 4
    /// beams) or perplexity [default: what suits the items]
    #[arg(long, value_name = "NAME")]
    pub protocol: Option<String>,
    /// A PEFT LoRA adapter to lay over the model
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<String>,
    /// How a GGUF file's tokenizer splits texts, by llama.cpp's name: llama-bpe, qwen2, … [default:
    /// as the file says]
    #[arg(long, value_name = "NAME")]
    pub pre_tokenizer: Option<String>,
    /// Which part of a data folder: train, validation or test [default: test, or validation if
    /// there is none, or train if it is all there is]
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<String>,
    /// Only the first N items; of text, the first N sequences
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub items: Option<u64>,
    /// The most tokens of a sequence: text is divided, other rows are cut, questions with choices
    /// left out [default: 256; for choices what the model can see]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    pub max_length: Option<u64>,
    /// The day that a chat template writes where it asks for today's, as 2026-01-31
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub date: Option<String>,
    /// Write what the model said to each item to this file, a JSON object a line
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,
    /// Write one JSON object to standard output
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

const CHECK_HELP: &str = "\
The recipe runs on shapes: every name, type, option, parameter, layer and data file is looked at, \
and no weights are read. A mistake is shown with its line; the exit code is 2 for the recipe, 3 \
for data or model.

Examples:
  xgbrun check recipes/commonsense.rhai
  xgbrun check my.rhai -p model=models/smollm2 -p data=data/ARC-Easy";

/// Find what is wrong with a recipe, without loading weights.
#[derive(Debug, Parser)]
#[command(
    name = "xgbrun check",
    bin_name = "xgbrun check",
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = CHECK_HELP
)]
pub struct CheckArgs {
    #[command(flatten)]
    pub asked: RecipeArgs,
}

const PLAN_HELP: &str = "\
Memory is what the run will hold at most, by the same formula that training obeys. Time is that of \
an undisturbed machine, from a calibration of 0.3 s with two layers of the model's sizes. Where \
the plan needs more memory than is free, the exit code is 4 and the message says what to lower.

Examples:
  xgbrun plan recipes/commonsense.rhai
  xgbrun plan my.rhai -p model=models/smollm2 -p data=data/ARC-Easy --memory 8192";

/// Say what a recipe needs: layers, parameters, operations, memory and time of each round.
#[derive(Debug, Parser)]
#[command(
    name = "xgbrun plan",
    bin_name = "xgbrun plan",
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = PLAN_HELP
)]
pub struct PlanArgs {
    #[command(flatten)]
    pub asked: RecipeArgs,
    /// Show every round
    #[arg(long)]
    pub rounds: bool,
    /// The memory that the run may take, in MiB or as `24GiB`; on a GPU, the GPU's [default: what
    /// is free]
    #[arg(long, value_name = "MIB", value_parser = mebibytes)]
    pub memory: Option<u64>,
}

/// `8192`, `8192MiB`, `24GiB` or `24GB` in MiB.
fn mebibytes(text: &str) -> Result<u64, String> {
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let bytes: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err("a number of MiB, or one with MiB, GiB, MB or GB behind it".into()),
    };
    let number: u64 = number.parse().map_err(|_| "a whole number of MiB".to_owned())?;
    Ok(number.saturating_mul(bytes) >> 20)
}

const ASK_HELP: &str = "\
The model is the one that the run began with, by the name in its `run.json` or where it lay then; \
the boosters are those that the run kept. A question names its choices as the commonsense sets do: \
`Answer1: … Answer2: …` (or Solution, Ending, Option), \"true or false\", or at its end `Answer \
format: a/b`. Then each choice's share is shown, the softmax of the log-likelihood a token of \
\"the correct answer is …\", after every round asked for; and, from the answers after every single \
booster, the first round from which on the answer is always that of the last. Any other question \
is answered by text, the likeliest token each time; whether answers changed is then told of the \
rounds asked for only.

Examples:
  xgbrun ask runs/commonsense-1 \"Which is cold? Answer1: fire Answer2: snow\"
  xgbrun ask runs/commonsense-1 \"Is snow cold, true or false?\" --rounds 0,16,64
  xgbrun ask runs/stories-1 \"Tell me about a fox.\" --template none --max-tokens 64";

/// Ask a run's model a question, as it was before, halfway and after boosting.
#[derive(Debug, Parser)]
#[command(
    name = "xgbrun ask",
    bin_name = "xgbrun ask",
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = ASK_HELP
)]
pub struct AskArgs {
    /// The folder of a run that has ended
    pub run: PathBuf,
    /// What to ask; of a model with a head, the text that it judges
    pub question: String,
    /// The second text of a pair, for a model with a head
    #[arg(long, value_name = "TEXT")]
    pub pair: Option<String>,
    /// After how many boosters to ask [default: 0, half of them, all]
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    pub rounds: Vec<usize>,
    /// The most tokens of an answer in text
    #[arg(
        long,
        value_name = "N",
        default_value_t = 32,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_tokens: u32,
    /// How the question is worded: alpaca, cloze, llm-adapters, none or chat, the model's own
    /// [default: as in the run]
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
    /// The day that a chat template writes where it asks for today's, as 2026-01-31
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub date: Option<String>,
    /// Where the run's model is now, by the parameter that named it: `-p model=PATH`
    #[arg(short, value_name = "NAME=PATH", value_parser = parameter)]
    pub param: Vec<(String, String)>,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

const EXPORT_HELP: &str = "\
The model is the base that the run began with and the boosters that its model is the sum of; with \
`--round N`, the first N of them. An adapter holds the factors of all boosters, stacked: the base \
with it is the run's model, exactly in f32.

Examples:
  xgbrun export runs/commonsense-1 --merged models/tuned
  xgbrun export runs/commonsense-1 --peft adapters/tuned
  xgbrun export runs/commonsense-1 --merged models/half --round 32
  xgbrun export runs/commonsense-1 --gguf tuned.gguf --gguf-type f16";

/// Write a run's model for other programs.
#[derive(Debug, Parser)]
#[command(
    name = "xgbrun export",
    bin_name = "xgbrun export",
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = EXPORT_HELP
)]
#[command(group = clap::ArgGroup::new("form").required(true))]
pub struct ExportArgs {
    /// The folder of a run that has ended
    pub run: PathBuf,
    /// Write a Hugging Face folder with the boosters merged into the weights
    #[arg(long, value_name = "DIR", group = "form")]
    pub merged: Option<PathBuf>,
    /// The most MiB of weights in a file of that folder; more are written as shards with an index
    /// [default: 5 GB]
    #[arg(long, value_name = "N", requires = "merged")]
    pub max_shard_mib: Option<usize>,
    /// Write a PEFT LoRA adapter for the base
    #[arg(long, value_name = "DIR", group = "form")]
    pub peft: Option<PathBuf>,
    /// Write a GGUF file with the boosters merged into the weights
    #[arg(long, value_name = "FILE", group = "form")]
    pub gguf: Option<PathBuf>,
    /// How a GGUF file stores weights: f32, f16 or bf16 [default: as the run did]
    #[arg(long, value_name = "TYPE", requires = "gguf")]
    pub gguf_type: Option<String>,
    /// After so many boosters [default: all]
    #[arg(long, value_name = "N")]
    pub round: Option<usize>,
    /// Where the run's model is now, by the parameter that named it: `-p model=PATH`
    #[arg(short, value_name = "NAME=PATH", value_parser = parameter)]
    pub param: Vec<(String, String)>,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

const REPORT_HELP: &str = "\
A report is one HTML file that needs nothing else: curves of loss and accuracy, which layers were \
trained when and what it gained, tasks, parameters, the recipe. A run writes its own when it ends; \
a run that has not ended has what it recorded so far.

Examples:
  xgbrun report runs/commonsense-1
  xgbrun report runs/commonsense-1 --out report-of-1.html
  xgbrun report runs/* --out comparison.html";

/// Write the report of a run again, or one that compares several.
#[derive(Debug, Parser)]
#[command(
    name = "xgbrun report",
    bin_name = "xgbrun report",
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = REPORT_HELP
)]
pub struct ReportArgs {
    /// Run folders
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// The file to write [default: report.html in the run folder; of several runs, in the current
    /// folder]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What to compute with, and whether to show it.
#[derive(Debug, clap::Args)]
pub struct ComputeArgs {
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: String,
    /// Storage type of weights: auto, f32, bf16 or f16
    #[arg(long, default_value = "auto")]
    dtype: String,
    /// Threads to compute with [default: the machine's cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    /// Show no progress: what the recipe prints, errors and the result alone
    #[arg(long)]
    pub quiet: bool,
}

/// What [`ComputeArgs`] mean on this machine.
pub struct Compute {
    pub device: Device,
    pub dtype: DType,
    pub threads: usize,
}

impl ComputeArgs {
    /// As [`ComputeArgs::open`], with the storage type `kept`. Errors (class usage) also where
    /// another one is asked for.
    fn open_as(&self, kept: &str) -> Result<Compute> {
        if self.dtype != "auto" && self.dtype != kept {
            bail!(
                Usage,
                "the run kept its weights in `{kept}`, not in `{}`; leave `--dtype` out",
                self.dtype
            );
        }
        let compute = self.open()?;
        Ok(Compute { dtype: device::storage_dtype(kept, &compute.device)?, ..compute })
    }

    /// What a session over the model of a run is started with, whose names lie at `places`.
    pub fn settings_as(&self, kept: &str, places: Places) -> Result<Settings> {
        let Compute { device, dtype, threads } = self.open_as(kept)?;
        Ok(Settings { device, dtype, threads, places, ..Settings::default() })
    }

    /// What a session that keeps nothing is started with.
    pub fn settings(&self) -> Result<Settings> {
        let Compute { device, dtype, threads } = self.open()?;
        Ok(Settings { device, dtype, threads, ..Settings::default() })
    }

    /// Opens the device and sizes the thread pool. Errors (class usage): a name that is not known,
    /// a device that is not there.
    fn open(&self) -> Result<Compute> {
        let device::Selected { device, note } = device::select(&self.device)?;
        if let Some(note) = note {
            console::console(self.quiet).note(&note);
        }
        let threads = device::set_threads(self.threads.map(|n| n as usize))?;
        Ok(Compute { dtype: device::storage_dtype(&self.dtype, &device)?, device, threads })
    }
}

/// Bounds on what a recipe may use.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Limits on the recipe")]
pub struct LimitArgs {
    /// Script operations since the last fit, evaluation, generation or load
    #[arg(
        long = "limit-operations",
        value_name = "N",
        default_value_t = Limits::default().operations
    )]
    operations: u64,
    /// Processor time of the script itself in the same stretch, in seconds
    #[arg(
        long = "limit-script-seconds",
        value_name = "N",
        default_value_t = Limits::default().script_seconds
    )]
    script_seconds: f64,
    /// Wall time in seconds
    #[arg(long = "limit-seconds", value_name = "N", default_value_t = Limits::default().seconds)]
    seconds: u64,
    /// Functions called within functions
    #[arg(long = "limit-calls", value_name = "N", default_value_t = Limits::default().calls)]
    calls: usize,
    /// Nesting of expressions and blocks
    #[arg(long = "limit-nesting", value_name = "N", default_value_t = Limits::default().nesting)]
    nesting: usize,
    /// Bytes in a string
    #[arg(long = "limit-string", value_name = "N", default_value_t = Limits::default().string)]
    string: usize,
    /// Elements in an array
    #[arg(long = "limit-array", value_name = "N", default_value_t = Limits::default().array)]
    array: usize,
    /// Entries in a map
    #[arg(long = "limit-map", value_name = "N", default_value_t = Limits::default().map)]
    map: usize,
    /// Variables in scope at once
    #[arg(
        long = "limit-variables",
        value_name = "N",
        default_value_t = Limits::default().variables
    )]
    variables: usize,
    /// Functions defined
    #[arg(
        long = "limit-functions",
        value_name = "N",
        default_value_t = Limits::default().functions
    )]
    functions: usize,
    /// Modules imported
    #[arg(long = "limit-modules", value_name = "N", default_value_t = Limits::default().modules)]
    modules: usize,
    /// MiB that the script's values hold together
    #[arg(
        id = "limit_memory",
        long = "limit-memory",
        value_name = "MIB",
        default_value_t = Limits::default().memory
    )]
    memory: usize,
    /// Models loaded or made
    #[arg(long = "limit-models", value_name = "N", default_value_t = Limits::default().models)]
    models: usize,
    /// Millions of parameters of a model that the recipe makes
    #[arg(long = "limit-created", value_name = "N", default_value_t = Limits::default().created)]
    created: usize,
    /// MiB of the run's journal
    #[arg(long = "limit-journal", value_name = "MIB", default_value_t = Limits::default().journal)]
    journal: usize,
}

impl From<LimitArgs> for Limits {
    fn from(a: LimitArgs) -> Self {
        let LimitArgs {
            operations,
            seconds,
            calls,
            nesting,
            string,
            array,
            map,
            variables,
            functions,
            modules,
            ..
        } = a;
        let LimitArgs { memory, models, created, journal, script_seconds, .. } = a;
        Self {
            operations,
            script_seconds,
            seconds,
            calls,
            nesting,
            string,
            array,
            map,
            variables,
            functions,
            modules,
            memory,
            models,
            created,
            journal,
        }
    }
}

fn recipe(word: &str) -> Result<PathBuf, String> {
    if words::is_recipe(word) {
        Ok(word.into())
    } else if words::is_command(word) {
        Err(format!("a command comes first: `xgbrun {word} …`"))
    } else {
        Err("a recipe is a path that ends in `.rhai` or holds a `/`".into())
    }
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("write it as NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_no_recipe() {
        assert_eq!(recipe("eval"), Err("a command comes first: `xgbrun eval …`".into()));
        assert!(recipe("commonsense").is_err());
    }

    #[test]
    fn limits_default_to_those_of_the_host() {
        assert_eq!(
            Limits::from(RunArgs::parse_from(["xgbrun", "a.rhai"]).asked.limits),
            Limits::default()
        );
    }

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        assert_eq!(parameter("model=a=b"), Ok(("model".into(), "a=b".into())));
        assert!(parameter("model").is_err() && parameter("=x").is_err());
    }
}
