//! The command line: one file per verb.

mod args;
mod eval;
mod interrupt;
mod report;
mod run;
mod terminal;

use std::io::ErrorKind;

use anyhow::Result;

use args::Invocation;

use crate::device;
use crate::error::{class_of, hint_of};
use crate::host::Report;

/// Does what the command line asks for.
pub fn main() -> Result<()> {
    let invocation = args::parse(std::env::args_os())?;
    interrupt::install();
    device::keep_freed_memory();
    match invocation {
        Invocation::Run(args) => run::run(args),
        Invocation::Eval(args) => eval::run(&args),
        Invocation::Report(args) => report::run(&args),
    }
}

/// Says what went wrong and gives its exit code; a reader that closed its pipe is no failure.
pub fn report(error: &anyhow::Error) -> u8 {
    if error.chain().any(|e| e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)) {
        return 0;
    }
    match error.downcast_ref::<Report>() {
        Some(report) => terminal::complain(&report.to_string()),
        None => {
            let hint = hint_of(error).map(|h| format!("  = {h}\n")).unwrap_or_default();
            terminal::complain(&format!("error: {error:#}\n{hint}"));
        }
    }
    class_of(error).code()
}
