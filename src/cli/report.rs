//! `xgbrun report RUN…`.

use std::io::{Write, stdout};
use std::path::PathBuf;

use anyhow::Result;

use super::args::ReportArgs;
use crate::io::atomic;
use crate::run::{Folder, report};

/// Writes the report and says where it is.
pub fn run(args: &ReportArgs) -> Result<()> {
    let (html, usual) = match args.runs.as_slice() {
        [run] => (report::of_run(&Folder::open(run)?)?, run.join(report::NAME)),
        runs => (report::of_runs(runs)?, PathBuf::from(report::NAME)),
    };
    let out = args.out.clone().unwrap_or(usual);
    atomic::placed(&out)?;
    report::write_to(&out, &html)?;
    Ok(writeln!(stdout(), "{}", out.display())?)
}
