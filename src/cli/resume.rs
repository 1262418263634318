//! `xgbrun --resume RUN`.

use std::io::{Write, stdout};
use std::path::Path;

use anyhow::{Context, Result};

use super::args::ResumeArgs;
use super::console;
use super::interrupt::INTERRUPTED;
use super::run::{object, tell};
use crate::host;
use crate::run::{Left, Manifest};

/// Goes on with a run that was stopped; one that has ended is left as it is.
pub fn run(args: &ResumeArgs) -> Result<()> {
    let (folder, json) = (&args.run, args.shown.json);
    let manifest = Manifest::read(folder)?;
    if args.from_round.is_none() && Left::ended(folder) {
        return ended(folder, json);
    }
    let console = console::detailed(args.quiet, args.shown.verbose);
    let settings = args.settings(&manifest)?;
    let left = Left::open(folder, args.from_round, args.allow_inexact)?;
    let finished = host::resume(left, settings, console.clone(), &INTERRUPTED);
    console.finish();
    tell(&finished?, json, args.quiet, &*console)
}

/// Says that there is nothing to go on with.
fn ended(folder: &Path, json: bool) -> Result<()> {
    if json {
        let text = std::fs::read(folder.join("summary.json"))?;
        return object(folder, serde_json::from_slice(&text).context("`summary.json`")?);
    }
    let shown = folder.display();
    Ok(writeln!(
        stdout(),
        "the run in `{shown}` has ended; `--from-round N` would do it anew from a round on"
    )?)
}
