//! `xgbrun export RUN`.

use std::io::{Write as _, stdout};
use std::path::Path;

use anyhow::Result;

use super::args::ExportArgs;
use super::interrupt::INTERRUPTED;
use super::{places, terminal};
use crate::error::bail;
use crate::io::atomic;
use crate::model::gguf_save::Storage;
use crate::model::save;
use crate::run::{CREATED, FinishedRun};
use crate::session::{Guard, Limits, Session, Silent};

pub fn run(args: &ExportArgs) -> Result<()> {
    let kept = FinishedRun::open(&args.run)?;
    let count = kept.ensemble.rounds();
    let rounds = args.round.unwrap_or(count);
    if rounds > count {
        bail!(Usage, "the run has no round {rounds}: its model is the sum of {count} boosters");
    }
    // Before the sum is formed, which takes its time.
    args.gguf.as_deref().map_or(Ok(()), atomic::fresh)?;
    let boosters = &kept.boosters()[..rounds];
    let places = places::of_model(&kept, &args.param)?;
    let settings = args.compute.settings_as(&kept.manifest.dtype, places)?;
    let guard = Guard::new(&Limits::endless(), &INTERRUPTED);
    let session = Session::unrecorded(settings, guard, std::sync::Arc::new(Silent));
    let model = session.base_of_run(&kept, None)?;
    let sum = || {
        boosters
            .iter()
            .try_for_each(|(path, weight)| model.add_booster(path, *weight).map(|_| ()))?;
        if rounds == count { model.agrees(&kept) } else { Ok(()) }
    };
    let written = match (&args.merged, &args.gguf, &args.peft) {
        (Some(folder), ..) => {
            sum()?;
            model.export_folder(folder, shard(args)?, kept.manifest.template.as_deref())?;
            folder
        }
        (_, Some(file), _) => {
            let storage =
                Storage::from_name(args.gguf_type.as_deref().unwrap_or(&kept.manifest.dtype))?;
            sum()?;
            model.export_gguf(file, storage)?;
            file
        }
        (.., Some(folder)) => {
            sum()?;
            model.export_adapter(folder, boosters)?;
            if let (false, Some(hint)) = (args.compute.quiet, base(&args.run, kept.model()?)) {
                terminal::eprint(&hint);
            }
            folder
        }
        _ => bail!(Usage, "say what to write: `--merged DIR`, `--peft DIR` or `--gguf FILE`"),
    };
    Ok(writeln!(stdout(), "{}", written.display())?)
}

/// What is said where the base of an adapter is `name`, which other programs cannot load.
fn base(run: &Path, name: &str) -> Option<String> {
    let alone = name == CREATED || name.starts_with("builtin:") || name.ends_with(".gguf");
    let run = run.display();
    alone.then(|| {
        format!(
            "the adapter's base is `{name}`, which PEFT cannot load: `xgbrun export {run} --merged \
             DIR --round 0` writes it, for `PeftModel.from_pretrained(base, adapter)`\n"
        )
    })
}

/// The most bytes of a file of weights.
fn shard(args: &ExportArgs) -> Result<usize> {
    match args.max_shard_mib {
        None => Ok(save::SHARD),
        Some(0) => bail!(Usage, "`--max-shard-mib` must be 1 or more"),
        Some(mib) => Ok(mib.saturating_mul(1 << 20)),
    }
}
