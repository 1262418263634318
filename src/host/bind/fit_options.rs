//! The options of `booster.fit`.

use std::collections::BTreeSet;

use rhai::Map;

use super::optimizer::{OptimizerOption, Rate};
use crate::error::Error;
use crate::host::options::Options;
use crate::session::MOST_SEQUENCES;
use crate::train::{Factor, FitOptions, GradientCheckpointing};

/// Reads them. Errors (class usage) name the option.
pub(super) fn parse(map: Map) -> Result<FitOptions, Error> {
    let mut o = Options::new("fit", map, &KEYS)?;
    let steps: usize = o.take("steps")?;
    o.check("steps", (1..=1_000_000_000).contains(&steps), "from 1 to 1000000000", steps)?;
    let OptimizerOption { kind: optimizer, lr } = o.take("optimizer")?;
    let batch = sequences(&mut o)?;
    let accumulate: usize = o.take_or("accumulate", 1)?;
    o.check(
        "accumulate",
        (1..=MOST_SEQUENCES / batch).contains(&accumulate),
        "1 or more, and a step of 65536 sequences at most",
        format!("{accumulate} batches of {batch}"),
    )?;
    let clip: Option<f64> = o.take_opt("clip")?;
    if let Some(clip) = clip {
        o.check("clip", clip > 0.0, "above 0", clip)?;
    }
    let l2: f64 = o.take_or("l2", 0.0)?;
    o.check("l2", l2 >= 0.0, "0 or more", l2)?;
    let gradient_checkpointing = gradient_checkpointing(&mut o)?;
    let lr_ratio: f64 = o.take_or("lr_ratio", 1.0)?;
    o.check("lr_ratio", lr_ratio > 0.0, "above 0", lr_ratio)?;
    let head_lr_ratio: f64 = o.take_or("head_lr_ratio", 1.0)?;
    o.check("head_lr_ratio", head_lr_ratio > 0.0, "above 0", head_lr_ratio)?;
    let (freeze, active) = (freeze(&mut o)?, active(&mut o, steps)?);
    let lr = rates(&o, lr, steps)?;
    Ok(FitOptions {
        steps,
        batch,
        accumulate,
        optimizer,
        lr,
        clip,
        l2,
        lr_ratio,
        head_lr_ratio,
        freeze,
        active,
        gradient_checkpointing,
    })
}

pub(super) const KEYS: [&str; 11] = [
    "steps",
    "optimizer",
    "batch",
    "accumulate",
    "clip",
    "l2",
    "lr_ratio",
    "head_lr_ratio",
    "freeze",
    "active",
    "gradient_checkpointing",
];

fn gradient_checkpointing(o: &mut Options) -> Result<GradientCheckpointing, Error> {
    const WHAT: &str = "\"off\", \"on\" or \"auto\"";
    let name: String = o.take_or("gradient_checkpointing", "auto".into())?;
    let setting = GradientCheckpointing::from_name(&name);
    o.check("gradient_checkpointing", setting.is_some(), WHAT, format!("{name:?}"))?;
    Ok(setting.unwrap_or(GradientCheckpointing::Auto))
}

/// The factor that stays as it is.
fn freeze(o: &mut Options) -> Result<Option<Factor>, Error> {
    let Some(name) = o.take_opt::<String>("freeze")? else { return Ok(None) };
    let factor = Factor::from_name(&name);
    o.check("freeze", factor.is_some(), "\"A\" or \"B\"", format!("{name:?}"))?;
    Ok(factor)
}

/// The layers that take part, for each step.
fn active(o: &mut Options, steps: usize) -> Result<Vec<BTreeSet<usize>>, Error> {
    let active: Vec<Vec<usize>> = o.take_or("active", vec![])?;
    o.check(
        "active",
        active.is_empty() || active.len() == steps,
        "an array of layers for each step",
        format!("{} for {steps} steps", active.len()),
    )?;
    Ok(active.into_iter().map(BTreeSet::from_iter).collect())
}

/// The learning rate: one for all steps, or one for each.
fn rates(o: &Options, lr: Rate, steps: usize) -> Result<Vec<f64>, Error> {
    let rates = match lr {
        Rate::Constant(lr) => return Ok(vec![lr]),
        Rate::PerStep(rates) => rates,
    };
    o.check(
        "optimizer",
        rates.len() == steps,
        "given a learning rate for each step",
        format!("{} for {steps} steps", rates.len()),
    )?;
    Ok(rates)
}

/// The option `batch`: sequences that go through the network together.
pub(super) fn sequences(o: &mut Options) -> Result<usize, Error> {
    let batch: usize = o.take_or("batch", 8)?;
    o.check("batch", (1..=MOST_SEQUENCES).contains(&batch), "from 1 to 65536", batch)?;
    Ok(batch)
}
