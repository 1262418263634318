//! The first word of the command line decides: a path that ends in `.rhai` or holds a `/` is a
//! recipe, anything else names a command.

use std::ffi::OsString;

use anyhow::Result;
use clap::{Command, CommandFactory, Parser};

use super::api::ApiArgs;
use super::args::{
    AskArgs, CheckArgs, EvalArgs, ExportArgs, PlanArgs, ReportArgs, ResumeArgs, RunArgs,
};
use super::new::NewArgs;
use super::terminal::eprint;
use super::words::{HELP, NAMES, is_recipe};
use crate::error::{Error, error, nearest};

/// What is asked for.
#[derive(Debug)]
pub enum Invocation {
    Run(RunArgs),
    Resume(ResumeArgs),
    New(NewArgs),
    Check(CheckArgs),
    Plan(PlanArgs),
    Ask(AskArgs),
    Eval(EvalArgs),
    Export(ExportArgs),
    Report(ReportArgs),
    Api(ApiArgs),
    #[cfg(feature = "cuda")]
    GpuCheck(super::gpu_check::GpuCheckArgs),
    /// A page to be shown.
    Help(String),
}

/// A command: its name, its page, and how the words from it on are read.
type Verb = (&'static str, fn() -> Command, fn(Vec<OsString>) -> Invocation);

/// The commands, as the first page lists them. A new one is a line here and in [`NAMES`], one in
/// [`Invocation`] and one in `cli::main`.
const COMMANDS: &[Verb] = &[
    ("run", RunArgs::command, |words| Invocation::Run(RunArgs::parse_from(words))),
    ("new", NewArgs::command, |words| Invocation::New(NewArgs::parse_from(words))),
    ("check", CheckArgs::command, |words| Invocation::Check(CheckArgs::parse_from(words))),
    ("plan", PlanArgs::command, |words| Invocation::Plan(PlanArgs::parse_from(words))),
    ("ask", AskArgs::command, |words| Invocation::Ask(AskArgs::parse_from(words))),
    ("eval", EvalArgs::command, |words| Invocation::Eval(EvalArgs::parse_from(words))),
    ("export", ExportArgs::command, |words| Invocation::Export(ExportArgs::parse_from(words))),
    ("report", ReportArgs::command, |words| Invocation::Report(ReportArgs::parse_from(words))),
    ("api", ApiArgs::command, |words| Invocation::Api(ApiArgs::parse_from(words))),
];

/// What goes on with a run.
const RESUME: &str = "--resume";

/// Reads the command line, whose first word is the program's name; clap answers `--help` and its
/// own complaints itself.
///
/// Errors (class usage): a first word that is neither a recipe nor a command.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Invocation> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let first = words.get(1).map(|w| w.to_string_lossy().into_owned());
    let Some(first) = first else {
        eprint(&page());
        std::process::exit(2);
    };
    if let Some((.., read)) = COMMANDS.iter().find(|(name, ..)| *name == first) {
        return Ok(read(words.split_off(1)));
    }
    match first.as_str() {
        // For whoever tries the program on a GPU; the page of commands leaves it out.
        #[cfg(feature = "cuda")]
        "gpu-check" => {
            use super::gpu_check::GpuCheckArgs;
            Ok(Invocation::GpuCheck(GpuCheckArgs::parse_from(words.split_off(1))))
        }
        word if word == RESUME || word.starts_with("--resume=") => {
            Ok(Invocation::Resume(ResumeArgs::parse_from(words)))
        }
        "-h" | "--help" => Ok(Invocation::Help(page())),
        HELP => help(words.get(2..).unwrap_or_default()),
        word if !word.starts_with('-') && !is_recipe(word) => Err(unknown(word).into()),
        _ => Ok(Invocation::Run(RunArgs::parse_from(words))),
    }
}

/// `xgbrun help`, or `xgbrun help VERB`.
fn help(about: &[OsString]) -> Result<Invocation> {
    let word = about.first().map(|w| w.to_string_lossy().into_owned());
    match word.as_deref() {
        None | Some(HELP | "-h" | "--help") => Ok(Invocation::Help(page())),
        Some(word) => match COMMANDS.iter().find(|(name, ..)| *name == word) {
            Some((_, command, _)) => Ok(Invocation::Help(command().render_help().to_string())),
            None if word == RESUME || word == &RESUME[2..] => {
                Ok(Invocation::Help(ResumeArgs::command().render_help().to_string()))
            }
            None => Err(unknown(word).into()),
        },
    }
}

/// The first page: what there is.
fn page() -> String {
    let line = |name: &str, about: &str| format!("  {name:<6} {about}\n");
    let commands = COMMANDS.iter().map(|(name, command, _)| {
        line(name, &command().get_about().map(ToString::to_string).unwrap_or_default())
    });
    format!(
        "\
Fine-tune language models by gradient boosting, driven by scripts

Usage: xgbrun RECIPE [-p NAME=VALUE]... [OPTIONS]
       xgbrun --resume RUN [OPTIONS]
       xgbrun COMMAND ...

Commands:
{}{}
Options:
      --resume   Go on with a run that was stopped: `xgbrun --resume RUN`
  -h, --help     Print this page; after a command, that of the command
  -V, --version  Print the version

Examples:
  xgbrun recipes/commonsense.rhai
  xgbrun --resume runs/commonsense-1
  xgbrun new mine
  xgbrun eval models/smollm2 --data data/ARC-Easy --items 200
  xgbrun api fit

A first word that ends in `.rhai` or holds a `/` is a recipe, and the word `run` may be left out.
",
        commands.collect::<String>(),
        line(HELP, "Say more about a command: `xgbrun help run`"),
    )
}

fn unknown(word: &str) -> Error {
    let names = || NAMES.into_iter().chain([HELP]);
    let begins = |command: &&str| {
        !word.is_empty() && (word.starts_with(*command) || command.starts_with(word))
    };
    let near = nearest(word, names()).or_else(|| names().find(begins));
    let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    error!(
        Usage,
        "unknown command `{word}`{near}";
        hint: "commands are {}; a recipe is a path that ends in `.rhai` or holds a `/`",
        names().collect::<Vec<_>>().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Invocation> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn every_verb_is_well_formed_listed_and_has_a_page_with_examples() {
        let page = page();
        assert!(COMMANDS.iter().map(|(name, ..)| *name).eq(NAMES));
        for (name, command, _) in COMMANDS {
            command().debug_assert();
            let about = command().get_about().unwrap().to_string();
            assert!(
                !about.ends_with('.') && page.contains(&format!("\n  {name:<6} {about}\n")),
                "{name}: {page}"
            );
            let Ok(Invocation::Help(own)) = parsed(&["xgbrun", "help", name]) else {
                panic!("{name}")
            };
            assert!(
                own.contains("Usage: xgbrun") && own.contains("\nExamples:\n  xgbrun "),
                "{own}"
            );
        }
        for words in [
            &["xgbrun", "--help"][..],
            &["xgbrun", "-h"],
            &["xgbrun", "help"],
            &["xgbrun", "help", "help"],
        ] {
            assert!(
                matches!(parsed(words), Ok(Invocation::Help(text)) if text == page),
                "{words:?}"
            );
        }
        assert!(page.lines().all(|line| line.chars().count() <= 100), "{page}");
    }

    #[test]
    fn the_first_word_decides() {
        for recipe in ["a.rhai", "./eval", "eval/x"] {
            assert!(
                matches!(
                    parsed(&["xgbrun", recipe]),
                    Ok(Invocation::Run(args)) if args.asked.recipe == *recipe
                ),
                "{recipe}"
            );
            assert!(
                matches!(
                    parsed(&["xgbrun", "run", recipe]),
                    Ok(Invocation::Run(args)) if args.asked.recipe == *recipe
                ),
                "{recipe}"
            );
        }
        assert!(matches!(
            parsed(&["xgbrun", "--quiet", "a.rhai"]),
            Ok(Invocation::Run(args)) if args.asked.compute.quiet
        ));
        assert!(matches!(
            parsed(&["xgbrun", "eval", "m", "--data", "d"]),
            Ok(Invocation::Eval(args)) if args.model == "m"
        ));
        assert!(matches!(
            parsed(&["xgbrun", "--resume", "runs/x", "--from-round", "3"]),
            Ok(Invocation::Resume(args)) if args.from_round == Some(3)
        ));
        ResumeArgs::command().debug_assert();
        for (words, message) in [
            (&["evla"][..], "unknown command `evla`; did you mean `eval`?"),
            (&["evaluate"], "unknown command `evaluate`; did you mean `eval`?"),
            (&["help", "evla"], "unknown command `evla`; did you mean `eval`?"),
            (&["hlep"], "unknown command `hlep`; did you mean `help`?"),
            (&["commonsense"], "unknown command `commonsense`"),
            (&[""], "unknown command ``"),
        ] {
            assert_eq!(parsed(&[&["xgbrun"], words].concat()).unwrap_err().to_string(), message);
        }
    }
}
