//! `xgbrun completions SHELL` and `xgbrun man DIR`: what shells and `man` know of the program.

use std::fs;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Command, Parser, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::error::error;

const HELP: &str = "\
Examples:
  xgbrun completions bash > ~/.local/share/bash-completion/completions/xgbrun
  xgbrun completions zsh > ~/.zfunc/_xgbrun        with `fpath+=~/.zfunc` before `compinit`
  xgbrun completions fish > ~/.config/fish/completions/xgbrun.fish
  source <(xgbrun completions bash)                for this shell only";

/// Write a script that lets a shell complete command lines.
#[derive(Debug, Parser)]
#[command(
    name = "xgbrun completions",
    bin_name = "xgbrun completions",
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = HELP
)]
pub struct CompletionsArgs {
    /// The shell, to standard output
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

const MAN_HELP: &str = "\
Examples:
  xgbrun man ~/.local/share/man/man1
  xgbrun man . && man ./xgbrun-run.1";

/// Write manual pages, one a command.
#[derive(Debug, Parser)]
#[command(
    name = "xgbrun man",
    bin_name = "xgbrun man",
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = MAN_HELP
)]
pub struct ManArgs {
    /// The folder to write them to
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    folder: PathBuf,
}

/// Writes the script for a program whose commands `whole` has.
pub fn run(args: &CompletionsArgs, whole: Command) -> Result<()> {
    Ok(stdout().write_all(&script(args.shell, whole))?)
}

fn script(shell: Shell, whole: Command) -> Vec<u8> {
    let mut out = vec![];
    clap_complete::generate(shell, &mut completed(whole), "xgbrun", &mut out);
    if shell != Shell::Bash {
        return out;
    }
    // A recipe is completed as a file is, by what `complete -o default` does where nothing fits.
    let text = String::from_utf8_lossy(&out).replace(" [RECIPE]", "").replace(" <RECIPE>", "");
    text.into_bytes()
}

/// Values of options that the commands read themselves, so that they complain in their own words.
const VALUES: [(&str, &[&str]); 8] = [
    ("device", &["auto", "cpu", "cuda"]),
    ("dtype", &["auto", "f32", "bf16", "f16"]),
    ("format", &["json", "jsonl", "csv", "tsv", "parquet", "text"]),
    ("template", &["alpaca", "cloze", "llm-adapters", "none", "chat"]),
    ("protocol", &["lm-eval", "llm-adapters", "perplexity", "head"]),
    ("split", &["train", "validation", "test"]),
    ("gguf_type", &["f32", "f16", "bf16"]),
    ("color", &["auto", "always", "never"]),
];

/// What the values of options and arguments are: files and folders where not said otherwise here.
const HINTS: [(&str, ValueHint); 14] = [
    ("recipe", ValueHint::FilePath),
    ("out", ValueHint::AnyPath),
    ("params", ValueHint::FilePath),
    ("resume", ValueHint::DirPath),
    ("run", ValueHint::DirPath),
    ("runs", ValueHint::DirPath),
    ("model", ValueHint::AnyPath),
    ("data", ValueHint::AnyPath),
    ("adapter", ValueHint::DirPath),
    ("merged", ValueHint::DirPath),
    ("peft", ValueHint::DirPath),
    ("gguf", ValueHint::FilePath),
    ("definitions", ValueHint::DirPath),
    ("reference", ValueHint::DirPath),
];

/// `command` and those below it with what is known of their values.
fn completed(command: Command) -> Command {
    let known = |mut arg: clap::Arg| {
        let id = arg.get_id().as_str().to_owned();
        if let Some((_, values)) = VALUES.iter().find(|(name, _)| *name == id) {
            arg = arg.value_parser(clap::builder::PossibleValuesParser::new(*values));
        }
        match HINTS.iter().find(|(name, _)| *name == id) {
            Some((_, hint)) => arg.value_hint(*hint),
            None => arg,
        }
    };
    command.mut_args(known).mut_subcommands(completed)
}

/// Writes `pages` and says where they are.
///
/// Errors (class usage): the folder cannot be written.
pub fn man(args: &ManArgs, pages: Vec<Command>) -> Result<()> {
    let folder = &args.folder;
    let refused =
        |path: &Path, e: std::io::Error| error!(Usage, "cannot write `{}`: {e}", path.display());
    fs::create_dir_all(folder).map_err(|e| refused(folder, e))?;
    for page in pages {
        let page = page.disable_help_subcommand(true).version(env!("CARGO_PKG_VERSION"));
        let man = Man::new(page);
        let mut text = vec![];
        man.render(&mut text)?;
        let path = folder.join(man.get_filename());
        fs::write(&path, text).map_err(|e| refused(&path, e))?;
    }
    Ok(writeln!(stdout(), "{}", folder.display())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::whole;
    use crate::data::{Split, Template, formats::Format};
    use crate::device::{names_gpu, storage_dtype_on};
    use crate::eval::Protocol;
    use crate::model::gguf_save::Storage;

    #[test]
    fn values_that_are_completed_are_values_that_are_read() {
        for (option, values) in VALUES {
            for value in values {
                let read = match option {
                    "device" => ["auto", "cpu"].contains(value) || names_gpu(value),
                    "dtype" => storage_dtype_on(value, false).is_ok(),
                    "format" => Format::parse(value).is_ok(),
                    "template" => Template::parse(value).is_ok(),
                    "protocol" => Protocol::parse(value).is_ok(),
                    "split" => Split::parse(value).is_some(),
                    "gguf_type" => Storage::from_name(value).is_ok(),
                    _ => true,
                };
                assert!(read, "--{option} {value}");
            }
        }
    }

    #[test]
    fn every_value_and_hint_is_of_an_option_that_there_is() {
        let whole = whole();
        let all: Vec<&str> = std::iter::once(&whole)
            .chain(whole.get_subcommands())
            .flat_map(|c| c.get_arguments().map(|a| a.get_id().as_str()))
            .collect();
        let named = VALUES.iter().map(|(id, _)| id).chain(HINTS.iter().map(|(id, _)| id));
        for id in named {
            assert!(all.contains(id), "{id}");
        }
    }

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let script = String::from_utf8(script(shell, whole())).unwrap();
            for word in ["report", "from-round", "completions", "checkpoint"] {
                assert!(script.contains(word), "{shell} does not know {word}");
            }
        }
    }
}
