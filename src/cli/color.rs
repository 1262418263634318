//! `--color`: whether what is said is coloured.

use std::ffi::OsString;
use std::io::stderr;

use anstream::{AutoStream, ColorChoice};
use anyhow::Result;
use clap::{Arg, Command};

use crate::error::bail;

/// What `--color` can be.
const WHEN: [&str; 3] = ["auto", "always", "never"];

const OPTION: &str = "--color";

/// How much colour standard error gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colors {
    None,
    /// As many as the terminal claims to have.
    Claimed,
    /// Some in any case: somebody asked for them.
    Asked,
}

/// `command` with the option, which [`settle`] has read before.
pub fn with(command: Command) -> Command {
    let option = Arg::new("color")
        .long("color")
        .value_name("WHEN")
        .value_parser(WHEN)
        .hide_possible_values(true)
        .help(
            "Colour what is said: auto, always or never [default: auto, colours on a terminal, \
             unless NO_COLOR is set; CLICOLOR_FORCE asks for them elsewhere]",
        );
    command.next_help_heading(None).arg(option)
}

/// Settles for the whole process what `words`, a command line, say of colours: clap colours its own
/// pages and complaints. The option is taken from before a command, and left for clap behind it.
///
/// Errors (class usage): before a command, another value than there is.
pub fn settle(words: &mut Vec<OsString>) -> Result<()> {
    for (at, word) in words.iter().enumerate().take_while(|(_, word)| *word != "--") {
        if let Some((value, _)) = option(word, words.get(at + 1)) {
            choose(&value);
        }
    }
    while let Some((value, taken)) = words.get(1).and_then(|word| option(word, words.get(2))) {
        if !choose(&value) {
            bail!(Usage, "`{OPTION}` must be one of {}, found `{value}`", WHEN.join(", "));
        }
        words.drain(1..=taken);
    }
    Ok(())
}

/// The option's value where `word` is the option, and how many words it takes.
fn option(word: &OsString, next: Option<&OsString>) -> Option<(String, usize)> {
    let word = word.to_string_lossy();
    match word.strip_prefix(OPTION)?.strip_prefix('=') {
        Some(value) => Some((value.to_owned(), 1)),
        None if word == OPTION => {
            Some((next.map(|v| v.to_string_lossy().into_owned()).unwrap_or_default(), 2))
        }
        None => None,
    }
}

/// Whether `value` is one that there is, which then holds.
fn choose(value: &str) -> bool {
    let choice = match value {
        "auto" => ColorChoice::Auto,
        "always" => ColorChoice::Always,
        "never" => ColorChoice::Never,
        _ => return false,
    };
    choice.write_global();
    true
}

/// Those of standard error, as the option, `NO_COLOR`, `CLICOLOR_FORCE`, `CLICOLOR` and the
/// terminal say, the first of them first.
pub fn of_stderr() -> Colors {
    let forced = || std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty());
    match AutoStream::choice(&stderr()) {
        ColorChoice::Never => Colors::None,
        _ if ColorChoice::global() == ColorChoice::Always || forced() => Colors::Asked,
        _ => Colors::Claimed,
    }
}

/// `text`, whose first word of these is in clap's colour for it.
pub fn labelled(text: &str) -> String {
    const RED: &str = "\x1b[1m\x1b[31m";
    match text.strip_prefix("error:") {
        Some(rest) if of_stderr() != Colors::None => format!("{RED}error:\x1b[0m{rest}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_found_in_both_ways_of_writing_it() {
        let of = |word: &str, next: &str| option(&word.into(), Some(&next.into()));
        assert_eq!(of("--color", "never"), Some(("never".into(), 2)));
        assert_eq!(of("--color=never", "x"), Some(("never".into(), 1)));
        assert_eq!(of("--colors", "x"), None);
        assert_eq!(of("--colour=never", "x"), None);
        assert_eq!(option(&"--color".into(), None), Some((String::new(), 2)));
    }
}
