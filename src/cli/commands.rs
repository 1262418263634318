//! The first word of the command line decides: a path that ends in `.rhai` or holds a `/` is a
//! recipe, anything else names a command.

use std::ffi::OsString;

use anyhow::Result;
use clap::{Command, CommandFactory, Parser};

use super::api::ApiArgs;
use super::args::{
    AskArgs, CheckArgs, EvalArgs, ExportArgs, PlanArgs, ReportArgs, ResumeArgs, RunArgs,
};
use super::completions::{CompletionsArgs, ManArgs};
use super::new::NewArgs;
use super::terminal::eprint;
use super::words::{HELP, is_recipe};
use super::{color, mistakes};

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
    Completions(CompletionsArgs),
    Man(ManArgs),
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
    ("run", command::<RunArgs>, |words| Invocation::Run(read(words))),
    ("new", command::<NewArgs>, |words| Invocation::New(read(words))),
    ("check", command::<CheckArgs>, |words| Invocation::Check(read(words))),
    ("plan", command::<PlanArgs>, |words| Invocation::Plan(read(words))),
    ("ask", command::<AskArgs>, |words| Invocation::Ask(read(words))),
    ("eval", command::<EvalArgs>, |words| Invocation::Eval(read(words))),
    ("export", command::<ExportArgs>, |words| Invocation::Export(read(words))),
    ("report", command::<ReportArgs>, |words| Invocation::Report(read(words))),
    ("api", command::<ApiArgs>, |words| Invocation::Api(read(words))),
    ("completions", command::<CompletionsArgs>, |words| Invocation::Completions(read(words))),
    ("man", command::<ManArgs>, |words| Invocation::Man(read(words))),
];

/// What goes on with a run.
const RESUME: &str = "--resume";

/// A command as clap has it, with the options that all commands have.
fn command<A: CommandFactory>() -> Command {
    color::with(A::command())
}

/// Reads the words of a command, the first of which is its name; clap answers `--help` and its own
/// complaints itself.
fn read<A: Parser>(words: Vec<OsString>) -> A {
    let mut command = command::<A>();
    let read = command
        .try_get_matches_from_mut(&words)
        .and_then(|mut read| A::from_arg_matches_mut(&mut read));
    read.unwrap_or_else(|error| {
        let error = error.format(&mut command);
        mistakes::explained(error, &mut command, &words).exit()
    })
}

/// Reads the command line, whose first word is the program's name.
///
/// Errors (class usage): a first word that is neither a recipe nor a command.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Invocation> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    color::settle(&mut words)?;
    let first = words.get(1).map(|w| w.to_string_lossy().into_owned());
    let Some(first) = first else {
        eprint(&page());
        std::process::exit(2);
    };
    if let Some((.., read)) = COMMANDS.iter().find(|(name, ..)| *name == first) {
        return Ok(read(words.split_off(1)));
    }
    if let Some(words) = resumed(&words) {
        return Ok(Invocation::Resume(read(words)));
    }
    match first.as_str() {
        // For whoever tries the program on a GPU; the page of commands leaves it out.
        #[cfg(feature = "cuda")]
        "gpu-check" => Ok(Invocation::GpuCheck(read(words.split_off(1)))),
        "-h" | "--help" => Ok(Invocation::Help(page())),
        HELP => help(words.get(2..).unwrap_or_default()),
        word if !word.starts_with('-') && !is_recipe(word) => Err(mistakes::unknown(word).into()),
        _ => Ok(Invocation::Run(read(words))),
    }
}

/// The words of `--resume` without it, where the first are options and it is among them.
fn resumed(words: &[OsString]) -> Option<Vec<OsString>> {
    let mut behind = words.iter().skip(1).take_while(|word| *word != "--");
    if !words.get(1)?.to_string_lossy().starts_with('-') {
        return None;
    }
    let with_value = format!("{RESUME}=");
    let at = 1 + behind
        .position(|word| word == RESUME || word.to_string_lossy().starts_with(&with_value))?;
    let mut words = words.to_vec();
    match words[at].to_string_lossy().strip_prefix(&with_value).map(OsString::from) {
        Some(folder) => words[at] = folder,
        None => drop(words.remove(at)),
    }
    Some(words)
}

/// `xgbrun help`, or `xgbrun help VERB`.
fn help(about: &[OsString]) -> Result<Invocation> {
    let word = about.first().map(|w| w.to_string_lossy().into_owned());
    match word.as_deref() {
        None | Some(HELP | "-h" | "--help") => Ok(Invocation::Help(page())),
        Some(word) => match COMMANDS.iter().find(|(name, ..)| *name == word) {
            Some((_, command, _)) => Ok(Invocation::Help(command().render_help().to_string())),
            None if word == RESUME || word == &RESUME[2..] => {
                Ok(Invocation::Help(command::<ResumeArgs>().render_help().to_string()))
            }
            None => Err(mistakes::unknown(word).into()),
        },
    }
}

/// All commands as one, for shells: beside them stand the options of `run` and of `--resume`, whose
/// names may be left out or are options themselves.
pub fn whole() -> Command {
    let resume = ResumeArgs::command();
    let run = command::<RunArgs>();
    let new = resume.get_arguments().filter(|arg| {
        let known = run.get_arguments().any(|own| own.get_id() == arg.get_id());
        !known && !arg.is_positional()
    });
    let folder = clap::Arg::new("resume")
        .long(&RESUME[2..])
        .value_name("RUN")
        .help(resume.get_about().cloned().unwrap_or_default());
    let all = run.clone().args(new.cloned()).arg(folder).name("xgbrun").about(ABOUT);
    all.subcommands(COMMANDS.iter().map(|(name, command, _)| command().name(*name)))
}

/// Each command's manual page, and one that lists them.
pub fn pages() -> Vec<Command> {
    let list = whole().override_usage(USAGE).after_help(EXAMPLES);
    let named = |command: Command, name: &'static str| {
        command.name(name).display_name(format!("xgbrun-{name}"))
    };
    let verbs = COMMANDS.iter().map(|(name, command, _)| named(command(), name));
    let resume = named(command::<ResumeArgs>(), "resume");
    std::iter::once(list).chain(verbs).chain([resume]).collect()
}

const ABOUT: &str = "Fine-tune language models by gradient boosting, driven by scripts";

const USAGE: &str = "\
xgbrun RECIPE [-p NAME=VALUE]... [OPTIONS]
       xgbrun --resume RUN [OPTIONS]
       xgbrun COMMAND ...";

const EXAMPLES: &str = "\
Examples:
  xgbrun recipes/commonsense.rhai
  xgbrun --resume runs/commonsense-1
  xgbrun new mine
  xgbrun eval models/smollm2 --data data/ARC-Easy --items 200
  xgbrun api fit

A first word that ends in `.rhai` or holds a `/` is a recipe, and the word `run` may be left out.";

/// The first page: what there is.
fn page() -> String {
    let line = |name: &str, about: &str| format!("  {name:<11} {about}\n");
    let commands = COMMANDS.iter().map(|(name, command, _)| {
        line(name, &command().get_about().map(ToString::to_string).unwrap_or_default())
    });
    format!(
        "\
{ABOUT}

Usage: {USAGE}

Commands:
{}{}
Options:
      --resume RUN   Go on with a run that was stopped; with `--from-round N`, after its first N
                     boosters, also of a run that has ended: `xgbrun help resume`
      --color WHEN   Colour what is said: auto, always or never
  -h, --help         Print this page; after a command, that of the command
  -V, --version      Print the version

{EXAMPLES}
",
        commands.collect::<String>(),
        line(HELP, "Say more about a command: `xgbrun help run`"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::words::NAMES;

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
                !about.ends_with('.') && page.contains(&format!("\n  {name:<11} {about}\n")),
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
            Ok(Invocation::Resume(args)) if args.from_round == Some(3) && args.run == *"runs/x"
        ));
        for words in [
            &["xgbrun", "--quiet", "--resume", "runs/x"][..],
            &["xgbrun", "--resume=runs/x", "--quiet"],
            &["xgbrun", "--resume", "--quiet", "runs/x"],
            &["xgbrun", "--color", "never", "--resume", "runs/x", "--quiet"],
        ] {
            assert!(
                matches!(
                    parsed(words),
                    Ok(Invocation::Resume(args)) if args.run == *"runs/x" && args.quiet
                ),
                "{words:?}"
            );
        }
        command::<ResumeArgs>().debug_assert();
        whole().debug_assert();
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
