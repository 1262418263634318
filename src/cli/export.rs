//! `xgbrun export RUN`.

use std::io::{Write as _, stdout};
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::args::ExportArgs;
use super::base;
use crate::bail_usage;
use crate::boost::{Booster, BoosterKind, Stack, Update, adapter};
use crate::data::Template;
use crate::model::gguf_save::{self, Storage};
use crate::model::load::Loaded;
use crate::model::{Model, save};
use crate::run::Kept;

pub fn run(args: &ExportArgs) -> Result<()> {
    let kept = Kept::open(&args.run)?;
    let count = kept.ensemble.rounds();
    let rounds = args.round.unwrap_or(count);
    if rounds > count {
        bail_usage!("the run has no round {rounds}: its model is the sum of {count} boosters");
    }
    let boosters = &kept.boosters()[..rounds];
    let compute = args.compute.open_as(&kept.manifest.dtype)?;
    let mut loaded = base::open(&kept, &base::places_of_model(&kept, &args.param)?, &compute)?;
    let sum = |model: &mut Model| {
        Update::add_files(boosters, model)?;
        if rounds == count { base::agrees(&kept, model) } else { Ok(()) }
    };
    let written = match (&args.merged, &args.gguf, &args.peft) {
        (Some(folder), ..) => {
            sum(&mut loaded.model)?;
            merged(&kept, &loaded, shard(args)?, folder)?;
            folder
        }
        (_, Some(file), _) => {
            let storage =
                Storage::from_name(args.gguf_type.as_deref().unwrap_or(&kept.manifest.dtype))?;
            sum(&mut loaded.model)?;
            gguf_save::save(&loaded.model, &loaded.tokenizer, kept.model()?, storage, file)?;
            file
        }
        (.., Some(folder)) => {
            let mut stack = Stack::default();
            for (path, weight) in boosters {
                let update = Update::load(path, &loaded.model)?.scaled(*weight)?;
                if update.kind() == BoosterKind::FullRank {
                    bail_usage!(
                        "`{}` is a dense booster, which is no adapter; export with `--merged`",
                        path.display()
                    );
                }
                stack.push(&update)?;
            }
            sum(&mut loaded.model)?;
            let Some(adapter) = stack.adapter()? else {
                bail_usage!("an adapter of no boosters has no factors to hold")
            };
            adapter::save(&Booster::from_adapter(adapter), folder, kept.model()?)?;
            folder
        }
        _ => bail_usage!("say what to write: `--merged DIR`, `--peft DIR` or `--gguf FILE`"),
    };
    Ok(writeln!(stdout(), "{}", written.display())?)
}

/// The most bytes of a file of weights.
fn shard(args: &ExportArgs) -> Result<usize> {
    match args.max_shard_mib {
        None => Ok(save::SHARD),
        Some(0) => bail_usage!("`--max-shard-mib` must be 1 or more"),
        Some(mib) => Ok(mib.saturating_mul(1 << 20)),
    }
}

/// Writes weights, tokenizer and what came along with the base.
fn merged(kept: &Kept, loaded: &Loaded, shard: usize, folder: &Path) -> Result<()> {
    let template = kept
        .manifest
        .template
        .as_deref()
        .and_then(|name| Template::parse(name).ok().map(|t| (name, t)));
    let told = template.map(|(name, t)| {
        format!("{:#}\n", json!({ "name": name, "text": t.text(&loaded.tokenizer) }))
    });
    let more: Vec<(&str, &[u8])> =
        told.iter().map(|text| ("template.json", text.as_bytes())).collect();
    save::save(&loaded.model, &loaded.tokenizer, &loaded.extras, &more, shard, folder)
}
