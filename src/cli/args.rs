//! The command line as it is written. Its first word decides: a path that ends in `.rhai` or holds a `/`
//! is a recipe, anything else names a verb.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use candle_core::{DType, Device};
use clap::Parser;

use crate::device;
use crate::error::{Error, nearest};
use crate::host::Limits;

/// What is asked for.
#[derive(Debug)]
pub enum Invocation {
    Run(RunArgs),
    Eval(EvalArgs),
    Report(ReportArgs),
}

/// The verbs.
const VERBS: [&str; 2] = ["eval", "report"];

const RUN_HELP: &str = "\
Commands:
  xgbrun eval MODEL --data FILE|DIR    Measure a model: accuracy of choices, or perplexity of text
  xgbrun report RUN...                 Write the report of a run again, or compare several

Examples:
  xgbrun recipes/commonsense.rhai -p model=models/smollm2 -p data=data/ARC-Easy -p rounds=16
  xgbrun eval models/smollm2 --data data/ARC-Easy --items 200

`xgbrun COMMAND --help` says more about one.";

/// Fine-tune language models by gradient boosting, driven by scripts.
#[derive(Debug, Parser)]
#[command(
    name = "xgbrun",
    version,
    arg_required_else_help = true,
    max_term_width = 110,
    override_usage = "xgbrun [OPTIONS] RECIPE [-p NAME=VALUE]...\n       xgbrun COMMAND ...",
    after_help = RUN_HELP
)]
pub struct RunArgs {
    /// The recipe to run: a path that ends in `.rhai` or holds a `/`
    #[arg(value_parser = recipe)]
    pub recipe: PathBuf,
    /// Set a parameter that the recipe declares with `params`
    #[arg(short, value_name = "NAME=VALUE", value_parser = parameter)]
    pub param: Vec<(String, String)>,
    /// Folder to write the run to, new or empty [default: runs/NAME-TIME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Seed of all chance in the run
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub compute: ComputeArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
}

const EVAL_HELP: &str = "\
Questions that name their choices (`.json`) are measured by accuracy: the choice with the largest log-likelihood is the \
prediction; for accuracy_norm, the largest per character. All else is measured by its mean negative log-likelihood in nats \
a token and by perplexity: token ids (`.jsonl`), text (`.txt`), questions without choices.

Examples:
  xgbrun eval models/smollm2 --data data/ARC-Easy --items 200
  xgbrun eval runs/commonsense-1/model --data data/ARC-Easy/test.json --json
  xgbrun eval models/smollm2.gguf --data book.txt --max-length 1024
  xgbrun eval owner/model --adapter adapters/boolq --data data/boolq --split validation";

/// Measure a model on data: accuracy of choices, or perplexity of text.
#[derive(Debug, Parser)]
#[command(name = "xgbrun eval", bin_name = "xgbrun eval", arg_required_else_help = true, max_term_width = 110, after_help = EVAL_HELP)]
pub struct EvalArgs {
    /// A model folder, a GGUF file or a Hugging Face id
    pub model: String,
    /// A file, a folder with files for train, validation and test, or a folder of such folders: several tasks
    #[arg(long, value_name = "FILE|DIR")]
    pub data: String,
    /// How questions are worded: alpaca, llm-adapters, none or chat, the model's own [default: alpaca]
    #[arg(long, value_name = "NAME")]
    pub template: Option<String>,
    /// How answers are found: lm-eval (choices by their likelihood), llm-adapters (generated, 4 beams) or perplexity
    /// [default: what suits the items]
    #[arg(long, value_name = "NAME")]
    pub protocol: Option<String>,
    /// A PEFT LoRA adapter to lay over the model
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<String>,
    /// Which part of a data folder: train, validation or test [default: test, or validation if there is none]
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<String>,
    /// Only the first N items; of text, the first N sequences
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub items: Option<u64>,
    /// The most tokens of a sequence: text is divided, other rows are cut, questions with choices left out
    /// [default: 256; for choices what the model can see]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    pub max_length: Option<u64>,
    /// Write one JSON object to standard output
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

const REPORT_HELP: &str = "\
A report is one HTML file that needs nothing else: curves of loss and accuracy, which layers were trained when and what it gained, \
tasks, parameters, the recipe. A run writes its own when it ends; a run that has not ended has what it recorded so far.

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
    /// The file to write [default: report.html in the run folder; of several runs, in the current folder]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What to compute with, and whether to show it.
#[derive(Debug, clap::Args)]
pub struct ComputeArgs {
    /// Where to compute: auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    device: String,
    /// Storage type of weights: auto, f32 or bf16
    #[arg(long, default_value = "auto")]
    dtype: String,
    /// Threads to compute with [default: the machine's cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    /// Show no progress
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
    /// Opens the device and sizes the thread pool. Errors (class usage): a name that is not known, a device that is not there.
    pub fn open(&self) -> Result<Compute> {
        let device = device::select(&self.device)?;
        let threads = device::set_threads(self.threads.map(|n| n as usize))?;
        Ok(Compute { dtype: device::storage_dtype(&self.dtype, &device)?, device, threads })
    }
}

/// Bounds on what a recipe may use.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits on the recipe")]
pub struct LimitArgs {
    /// Script operations
    #[arg(long = "limit-operations", value_name = "N", default_value_t = Limits::default().operations)]
    operations: u64,
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
    #[arg(long = "limit-variables", value_name = "N", default_value_t = Limits::default().variables)]
    variables: usize,
    /// Functions defined
    #[arg(long = "limit-functions", value_name = "N", default_value_t = Limits::default().functions)]
    functions: usize,
    /// Modules imported
    #[arg(long = "limit-modules", value_name = "N", default_value_t = Limits::default().modules)]
    modules: usize,
}

impl From<LimitArgs> for Limits {
    fn from(a: LimitArgs) -> Self {
        let LimitArgs { operations, seconds, calls, nesting, string, array, map, variables, functions, modules } = a;
        Self { operations, seconds, calls, nesting, string, array, map, variables, functions, modules }
    }
}

/// Reads the command line, whose first word is the program's name; clap answers `--help` and its own complaints itself.
///
/// Errors (class usage): a first word that is neither a recipe nor a verb.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Invocation> {
    let words: Vec<OsString> = words.into_iter().collect();
    let first = words.get(1).map(|w| w.to_string_lossy());
    match first.as_deref() {
        Some("report") => Ok(Invocation::Report(ReportArgs::parse_from(words.into_iter().skip(1)))),
        Some("eval") => Ok(Invocation::Eval(EvalArgs::parse_from(words.into_iter().skip(1)))),
        Some(word) if !word.starts_with('-') && !is_recipe(word) => Err(unknown(word).into()),
        _ => Ok(Invocation::Run(RunArgs::parse_from(words))),
    }
}

fn is_recipe(word: &str) -> bool {
    word.ends_with(".rhai") || word.contains('/')
}

fn unknown(word: &str) -> Error {
    let begins = |verb: &&str| !word.is_empty() && (word.starts_with(*verb) || verb.starts_with(word));
    let near = nearest(word, VERBS).or_else(|| VERBS.into_iter().find(begins));
    let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    Error::usage(format!("unknown command `{word}`{near}"))
        .hint(format!("commands are {}; a recipe is a path that ends in `.rhai` or holds a `/`", VERBS.join(", ")))
}

fn recipe(word: &str) -> Result<PathBuf, String> {
    if is_recipe(word) {
        Ok(word.into())
    } else if VERBS.contains(&word) {
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
    use clap::CommandFactory;

    use super::*;

    fn parsed(words: &[&str]) -> Result<Invocation> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        RunArgs::command().debug_assert();
        EvalArgs::command().debug_assert();
        ReportArgs::command().debug_assert();
    }

    #[test]
    fn the_first_word_decides() {
        for recipe in ["a.rhai", "./eval", "eval/x"] {
            assert!(matches!(parsed(&["xgbrun", recipe]), Ok(Invocation::Run(args)) if args.recipe == *recipe), "{recipe}");
        }
        assert!(matches!(parsed(&["xgbrun", "--quiet", "a.rhai"]), Ok(Invocation::Run(args)) if args.compute.quiet));
        assert!(matches!(parsed(&["xgbrun", "eval", "m", "--data", "d"]), Ok(Invocation::Eval(args)) if args.model == "m"));
        assert!(matches!(parsed(&["xgbrun", "report", "r/1", "r/2"]), Ok(Invocation::Report(args)) if args.runs.len() == 2));
        for (word, message) in [
            ("evla", "unknown command `evla`; did you mean `eval`?"),
            ("evaluate", "unknown command `evaluate`; did you mean `eval`?"),
            ("help", "unknown command `help`"),
            ("", "unknown command ``"),
        ] {
            assert_eq!(parsed(&["xgbrun", word]).unwrap_err().to_string(), message);
        }
        assert_eq!(recipe("eval"), Err("a command comes first: `xgbrun eval …`".into()));
        assert!(recipe("commonsense").is_err());
    }

    #[test]
    fn limits_default_to_those_of_the_host() {
        assert_eq!(Limits::from(RunArgs::parse_from(["xgbrun", "a.rhai"]).limits), Limits::default());
    }

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        assert_eq!(parameter("model=a=b"), Ok(("model".into(), "a=b".into())));
        assert!(parameter("model").is_err() && parameter("=x").is_err());
    }
}
