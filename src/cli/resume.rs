//! `xgbrun --resume RUN`.

use anyhow::Result;

use super::args::ResumeArgs;
use super::console;
use super::interrupt::INTERRUPTED;
use super::run::{met, tell};
use crate::host;
use crate::run::{Left, Manifest};

/// Goes on with a run that was stopped; one that has ended is left as it is.
pub fn run(args: &ResumeArgs) -> Result<()> {
    let console = console::console(args.quiet);
    let folder = &args.resume;
    let manifest = Manifest::read(folder)?;
    if args.from_round.is_none() && Left::ended(folder) {
        if !args.quiet {
            let shown = folder.display();
            console.print(&format!(
                "the run in `{shown}` has ended; `--from-round N` would do it anew from a round on"
            ));
        }
        return Ok(());
    }
    let settings = args.settings(&manifest)?;
    let left = Left::open(folder, args.from_round, args.allow_inexact)?;
    let finished = host::resume(left, settings, console.clone(), &INTERRUPTED);
    console.finish();
    let finished = finished?;
    if !args.quiet {
        tell(&finished, &*console);
    }
    met(&finished)
}
