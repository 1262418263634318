//! The command line: one file per command.

mod api;
mod args;
mod ask;
mod check;
mod color;
mod commands;
mod completions;
mod console;
mod eval;
mod export;
#[cfg(feature = "cuda")]
mod gpu_check;
mod heatmap;
mod interrupt;
mod live;
mod mistakes;
mod new;
mod params_file;
mod places;
mod plan;
mod report;
mod results;
mod resume;
mod rounds;
mod run;
mod starting;
mod taught;
mod terminal;
mod words;

use std::io::{ErrorKind, Write, stdout};

use anyhow::Result;

use commands::Invocation;

use crate::device;
use crate::error::{Class, class_of, hint_of};
use crate::host::Report;
use crate::session::plain;

/// Does what the command line asks for.
pub fn main() -> Result<()> {
    let invocation = commands::parse(std::env::args_os())?;
    device::keep_freed_memory();
    interrupt::install()?;
    quiet_panics();
    match invocation {
        Invocation::Run(args) => run::run(args),
        Invocation::Resume(args) => resume::run(&args),
        Invocation::New(args) => new::run(&args),
        Invocation::Check(args) => check::run(args),
        Invocation::Plan(args) => plan::run(args),
        Invocation::Ask(args) => ask::run(&args),
        Invocation::Eval(args) => eval::run(&args),
        Invocation::Export(args) => export::run(&args),
        Invocation::Report(args) => report::run(&args),
        Invocation::Api(args) => api::run(&args),
        Invocation::Completions(args) => completions::run(&args, commands::whole()),
        Invocation::Man(args) => completions::man(&args, commands::pages()),
        #[cfg(feature = "cuda")]
        Invocation::GpuCheck(args) => gpu_check::run(&args),
        Invocation::Help(page) => Ok(stdout().write_all(page.as_bytes())?),
    }
}

/// A panic in the recipe's thread is caught where it happens and told as an error.
fn quiet_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() != Some("recipe") {
            usual(info);
        }
    }));
}

/// Says what went wrong and gives its exit code; a reader that closed its pipe is no failure.
pub fn report(error: &anyhow::Error) -> u8 {
    if error.chain().any(|e| {
        e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
    }) {
        return 0;
    }
    match error.downcast_ref::<Report>() {
        Some(report) => terminal::eprint(&color::labelled(&report.to_string())),
        None => {
            // Who stopped a run knows that it is no error.
            let kind = match class_of(error) {
                Class::Interrupted => interrupt::over(),
                _ => "error: ",
            };
            let hint = hint_of(error).map(|h| format!("  = {}\n", plain(h))).unwrap_or_default();
            let said = format!("{kind}{}\n{hint}", in_words(&plain(&format!("{error:#}"))));
            terminal::eprint(&color::labelled(&said));
        }
    }
    class_of(error).code()
}

/// `text` without the numbers that the system gives its errors: it says what they are in words.
fn in_words(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => out += rest,
            _ => out += &format!(" (os error {part}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_system_are_left_out() {
        let said = "cannot read `x`: No such file or directory (os error 2); more";
        assert_eq!(in_words(said), "cannot read `x`: No such file or directory; more");
        assert_eq!(in_words("a (os error x)"), "a (os error x)");
    }
}
