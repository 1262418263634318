//! `xgbrun RECIPE`.

use anyhow::Result;

use super::args::Args;
use super::interrupt::INTERRUPTED;
use super::terminal;
use crate::bail_usage;
use crate::host::Settings;
use crate::{device, host};

pub fn run(args: Args) -> Result<()> {
    let word = args.recipe.to_string_lossy();
    if !word.ends_with(".rhai") && !word.contains('/') {
        bail_usage!("unknown command `{word}`; a recipe is a path that ends in `.rhai` or holds a `/`");
    }
    let device = device::select(&args.device)?;
    let settings = Settings {
        out: args.out,
        params: args.param,
        seed: args.seed,
        threads: device::set_threads(args.threads.map(|n| n as usize))?,
        dtype: device::storage_dtype(&args.dtype, &device)?,
        device,
        limits: args.limits.into(),
    };
    let console = terminal::console(args.quiet);
    let finished = host::run(&args.recipe, settings, console.clone(), &INTERRUPTED)?;
    if !args.quiet {
        console.print(&format!("run folder: {}", finished.folder.display()));
    }
    Ok(())
}
